"""The key pair by which a client proves who it is: made, read, and its public half shown.

Sources: RFC 7517 (JWK), RFC 7638 (thumbprints), SMART App Launch 2.2, "Asymmetric
(private_key_jwt) authentication": RS384, or ES384 over the curve P-384.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from exports.durable import sync_folder, write_durably
from exports.errors import FhirloomError

PRIVATE_NAME: Final = "private-key.pem"
PUBLIC_NAME: Final = "jwks.json"
RSA_BITS: Final = 3072
SMALLEST_RSA_BITS: Final = 2048
FAMILIES: Final = {"RSA": "RS384", "EC": "ES384"}

Algorithm = Literal["ES384", "RS384"]


@dataclass(frozen=True)
class SigningKey:
    """A client's private key, and how the server knows it."""

    private: RSAPrivateKey | EllipticCurvePrivateKey
    algorithm: str
    kid: str

    def public_jwk(self) -> dict[str, Any]:
        """The JWK to register with the server (RFC 7517)."""
        return {
            **_public_shape(self.private),
            "kid": self.kid,
            "alg": self.algorithm,
            "use": "sig",
            "key_ops": ["verify"],
        }


@dataclass(frozen=True)
class KeyFiles:
    """A new key pair: the `private` key stays here, the `public` JWKS is for the server."""

    private: Path
    public: Path


def make_keys(folder: Path, algorithm: Algorithm = "ES384", kid: str = "") -> KeyFiles:
    """A new key pair in `folder`: a private PEM for its owner's eyes (0600), and a public JWKS.

    `kid` is the key's id, its thumbprint by default. Raises `FhirloomError` (bad-input) where
    either file is there already: a key that a server knows is never overwritten.
    """
    files = KeyFiles(folder / PRIVATE_NAME, folder / PUBLIC_NAME)
    if files.private.exists() or files.public.exists():
        raise _taken()
    private = generate_private_key(SECP384R1()) if algorithm == "ES384" else _new_rsa_key()
    key = SigningKey(private, algorithm, kid or _thumbprint(private))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_secret(files.private, pem)
    jwks = orjson.dumps({"keys": [key.public_jwk()]}, option=orjson.OPT_INDENT_2)
    write_durably(files.public, jwks + b"\n")
    return files


def public_jwks(path: Path) -> dict[str, Any]:
    """The JWKS to register with a server for the private keys in a file.

    Raises `FhirloomError` (bad-input) as `read_keys` does.
    """
    return {"keys": [key.public_jwk() for key in read_keys(path)]}


def read_key(path: Path) -> SigningKey:
    """The first of `read_keys`."""
    return read_keys(path)[0]


def read_keys(path: Path) -> tuple[SigningKey, ...]:
    """The private keys of a PEM file (PKCS #8, PKCS #1 or SEC 1), a JWK or a JWKS.

    A JWK's id is its own; a PEM key's is the one that `jwks.json` beside it knows it by, else its
    RFC 7638 thumbprint. Members of a JWKS that can't sign RS384 or ES384 are passed over. Raises
    `FhirloomError` (bad-input) where no RSA (2048 bits or more) or P-384 private key is left.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise _unusable() from None
    if content.lstrip().startswith(b"{"):
        keys = tuple(filter(None, map(_read_jwk, _members(content))))
    else:
        keys = (_read_pem(content, path.with_name(PUBLIC_NAME)),)
    if not keys:
        raise _unusable()
    return keys


def _read_pem(content: bytes, registered: Path) -> SigningKey:
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable() from None
    key = _signing_key(private, "")
    if key is None:
        raise _unusable()
    with suppress(OSError):
        known = _members(registered.read_bytes())
        return next((named for jwk in known if (named := _named(key, jwk))), key)
    return key


def _named(key: SigningKey, jwk: Mapping[str, Any]) -> SigningKey | None:
    """The key under the id of its public half; None where that is another key's."""
    kid = jwk.get("kid")
    same = _public_shape(key.private).items() <= jwk.items()
    return replace(key, kid=kid) if same and isinstance(kid, str) and kid else None


def _read_jwk(jwk: Mapping[str, Any]) -> SigningKey | None:
    algorithm = FAMILIES.get(str(jwk.get("kty")))
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or jwk.get("use") == "enc":
        return None
    try:
        private = jwt.PyJWK(dict(jwk), algorithm=algorithm).key
    except (ValueError, TypeError, jwt.PyJWTError):
        return None
    return _signing_key(private, str(jwk.get("kid", "")))


def _signing_key(private: object, kid: str) -> SigningKey | None:
    if isinstance(private, RSAPrivateKey) and private.key_size >= SMALLEST_RSA_BITS:
        return SigningKey(private, "RS384", kid or _thumbprint(private))
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP384R1):
        return SigningKey(private, "ES384", kid or _thumbprint(private))
    return None


def _members(content: bytes) -> Iterator[Mapping[str, Any]]:
    """The JWKs of a JWKS, or the one that stands alone."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return
    members = value.get("keys", [value]) if isinstance(value, dict) else []
    if isinstance(members, list):
        yield from (jwk for jwk in members if isinstance(jwk, dict))


def _new_rsa_key() -> RSAPrivateKey:
    return generate_rsa(public_exponent=65537, key_size=RSA_BITS)


def _write_secret(path: Path, content: bytes) -> None:
    """A new file, whole or not at all, readable by its owner alone."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        aside.touch(mode=0o600, exist_ok=False)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)  # unlike a rename, never over another key
    except FileExistsError:
        raise _taken() from None
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def _public_shape(private: RSAPrivateKey | EllipticCurvePrivateKey) -> dict[str, Any]:
    if isinstance(private, RSAPrivateKey):
        shape = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        return {"kty": "RSA", "n": shape["n"], "e": shape["e"]}
    shape = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {"kty": "EC", "crv": shape["crv"], "x": shape["x"], "y": shape["y"]}


def _thumbprint(private: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    members = orjson.dumps(_public_shape(private), option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(members).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _taken() -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "There is a key pair already, and a server may know it",
        where="keys",
        fix="Use it, or name another folder.",
    )


def _unusable() -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "The key can't be used to sign",
        where="key",
        fix="Give an RSA (2048 bits or more) or P-384 private key, as PEM or JWK, unencrypted.",
    )
