"""The secrets of a sandbox server's one client: made once, kept in the data folder."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exports.access import Access
from exports.connection.keys import read_key
from exports.durable import write_durably
from exports.sandbox.login import Door, FixedDoor, basic, bearer
from exports.sandbox.manner import Manner
from exports.sandbox.smart_server import Authorizer

USER = "fhirloom"


@dataclass(frozen=True)
class Sandbox:
    """Where a sandbox EHR listens, and as whom to ask it."""

    base_url: str
    client_id: str = ""
    key: Path | None = None
    user: str = ""
    password_file: Path | None = None
    bearer_file: Path | None = None

    @property
    def access(self) -> Access:
        """The way in."""
        return Access(
            client_id=self.client_id,
            key=self.key,
            user=self.user,
            password_file=self.password_file,
            bearer_file=self.bearer_file,
        )

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Sandbox:
        """From what `to_json` made."""
        read = json.loads(text)
        files = ("key", "password_file", "bearer_file")
        return cls(**{**read, **{name: Path(read[name]) for name in files if read[name]}})


def credentials(data: Path, name: str, root: str, manner: Manner) -> tuple[Sandbox, Door]:
    """What the client needs, and the door that it opens, for the login that `manner` names."""
    base = f"{root}/fhir"
    if manner.login == "none":
        return Sandbox(base), FixedDoor("")
    if manner.login == "basic":
        path = _secret(data / "password")
        return Sandbox(base, user=USER, password_file=path), basic(USER, path.read_text())
    if manner.login == "bearer":
        path = _secret(data / "token")
        return Sandbox(base, bearer_file=path), bearer(path.read_text())
    key, client_id = _client_key(data), f"fhirloom-{name}"
    clients = {client_id: {"keys": [read_key(key).public_jwk()]}}
    door = Authorizer(clients, f"{root}/token", manner.token_seconds)
    return Sandbox(base, client_id, key), door


def _secret(path: Path) -> Path:
    return _kept(path, secrets.token_urlsafe(24).encode())


def _client_key(data: Path) -> Path:
    private = ec.generate_private_key(ec.SECP384R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return _kept(data / "client-key.pem", pem)


def _kept(path: Path, fresh: bytes) -> Path:
    """The file at `path`, with what it has, or `fresh`."""
    resolved = path.resolve()
    if not resolved.is_file():
        write_durably(resolved, fresh)
        resolved.chmod(0o600)
    return resolved
