"""The key that signs attestations: Ed25519, kept in `phi/keys`, or named by reference.

    file:/path    a PEM file that only its owner can read (0600)
    env:NAME      an environment variable that holds the PEM

The reference in force is kept in `phi/keys`, so that a scheduled run signs with the same key. Where
none was given, a key is made beside it at first use. A key's id is its JWK thumbprint (RFC 7638,
and RFC 8037 for Ed25519), in base64url.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from deid.attestation.canonical import canonical
from exports.durable import write_durably
from exports.errors import FhirloomError

FOLDER: Final = "keys"
OWN: Final = "attestation.pem"
REFERENCE: Final = "attestation.reference"
WHERE: Final = "the signing key"


def signing_key(phi: Path) -> Ed25519PrivateKey:
    """The key that the reference in `phi/keys` leads to, else the folder's own, made where missing.

    Raises `FhirloomError` (bad-input) where there is no unencrypted Ed25519 key in PEM, and for a
    file that others can read.
    """
    kept, own = phi / FOLDER / REFERENCE, phi / FOLDER / OWN
    if kept.exists():
        return _referred(kept.read_text().strip())
    if not own.exists():
        made = Ed25519PrivateKey.generate()
        write_durably(own, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return _private(own)


def use_key(phi: Path, reference: str) -> None:
    """Sign with the key of that reference from now on; raises as `signing_key` does."""
    scheme, _, place = reference.partition(":")
    lasting = f"file:{Path(place).absolute()}" if scheme == "file" else reference
    _referred(lasting)
    write_durably(phi / FOLDER / REFERENCE, f"{lasting}\n".encode())


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file; raises `FhirloomError` (bad-input) where there is none."""
    try:
        key = load_pem_public_key(_bytes(path, str(path)))
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(str(path)) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _unusable(str(path))
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as PEM (SubjectPublicKeyInfo, RFC 8410)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PublicKey) -> str:
    """The thumbprint by which a key is known."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}
    return _base64url(hashlib.sha256(canonical(members)).digest())


def _referred(reference: str) -> Ed25519PrivateKey:
    scheme, _, place = reference.partition(":")
    if scheme == "file":
        return _private(Path(place))
    if scheme == "env" and os.environ.get(place):
        # Where a variable can hold no line break, it is written as it is in C.
        return _loaded(os.environ[place].replace("\\n", "\n").encode())
    raise _unusable(WHERE)


def _private(path: Path) -> Ed25519PrivateKey:
    pem = _bytes(path, WHERE)
    if path.stat().st_mode & 0o077:
        raise FhirloomError(
            "bad-input",
            "Others than its owner can read the signing key",
            where=WHERE,
            fix="Take their rights away: chmod 600.",
        )
    return _loaded(pem)


def _loaded(pem: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable(WHERE) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(WHERE)
    return key


def _bytes(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise _unusable(where) from None


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unusable(where: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "There is no Ed25519 key to use",
        where=where,
        fix="Name an unencrypted PEM key as file:PATH or env:NAME; `openssl genpkey -algorithm "
        "ed25519` makes one.",
    )
