"""SMART Backend Services, the client's side: a signed assertion for a short-lived access token.

Source: SMART App Launch 2.2, "Backend Services" and "Asymmetric (private_key_jwt)
authentication": RS384 or ES384, `iss` = `sub` = client id, `aud` = the token URL, at most five
minutes, a `jti` never used again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from exports.errors import FhirloomError
from exports.transport import Patience, send

ASSERTION_SECONDS: Final = 240
TOKEN_MARGIN_SECONDS: Final = 15.0
CLIENT_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SCOPES: Final = ("system/*.rs", "system/*.read")


@dataclass(frozen=True)
class SigningKey:
    """A client's private key, and how the server knows it."""

    private: RSAPrivateKey | EllipticCurvePrivateKey
    algorithm: str
    kid: str

    def public_jwk(self) -> dict[str, Any]:
        """The JWK to register with the server (RFC 7517)."""
        shape = _public_shape(self.private)
        return {
            **shape,
            "kid": self.kid,
            "alg": self.algorithm,
            "use": "sig",
            "key_ops": ["verify"],
        }


def read_key(path: Path) -> SigningKey:
    """A private key from a PEM or JWK file; a PEM key's id is its RFC 7638 thumbprint.

    Raises `FhirloomError` (bad-input) for anything but an RSA or a P-384 private key.
    """
    kid = ""
    try:
        content = path.read_bytes()
        if content.lstrip().startswith(b"{"):
            jwk = json.loads(content)
            kid = str(jwk.get("kid", ""))
            private = jwt.PyJWK(jwk, algorithm=_algorithm_of(jwk)).key
        else:
            private = load_pem_private_key(content, password=None)
    except (OSError, ValueError, TypeError, jwt.PyJWTError):
        raise _bad_key() from None
    if isinstance(private, RSAPrivateKey) and private.key_size >= 2048:
        return SigningKey(private, "RS384", kid or _thumbprint(private))
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP384R1):
        return SigningKey(private, "ES384", kid or _thumbprint(private))
    raise _bad_key()


def assertion(key: SigningKey, client_id: str, token_url: str) -> str:
    """A fresh signed JWT by which the client proves who it is, valid for four minutes."""
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_url,
        "exp": int(time.time()) + ASSERTION_SECONDS,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.kid})


class BackendServices:
    """A registered client at one server: discovers the token endpoint, and keeps a token fresh."""

    def __init__(
        self, http: httpx.Client, base: str, client_id: str, key: SigningKey, patience: Patience
    ) -> None:
        self._http = http
        self._base = base
        self._client_id = client_id
        self._key = key
        self._patience = patience
        self._configuration: Mapping[str, Any] | None = None
        self._token = ""
        self._renew_at = 0.0

    def token(self) -> str:
        """A token that is good for a while. Raises `FhirloomError` (server)."""
        if time.monotonic() >= self._renew_at:
            self._token, seconds = self._ask()
            self._renew_at = time.monotonic() + seconds - min(TOKEN_MARGIN_SECONDS, seconds / 2)
        return self._token

    def renew(self) -> None:
        """Forget the token: the server took it no longer."""
        self._renew_at = 0.0

    def _ask(self) -> tuple[str, float]:
        if self._configuration is None:
            self._configuration = self._discover()
        url = str(self._configuration["token_endpoint"])
        offered = self._configuration.get("scopes_supported") or SCOPES[1:]

        def request() -> httpx.Request:
            form = {
                "grant_type": "client_credentials",
                "scope": next((scope for scope in SCOPES if scope in offered), SCOPES[1]),
                "client_assertion_type": CLIENT_ASSERTION_TYPE,
                "client_assertion": assertion(self._key, self._client_id, url),
            }
            return self._http.build_request(
                "POST", url, data=form, headers={"Accept": "application/json"}
            )

        granted = self._json(request, "the token request", "access_token")
        seconds = granted.get("expires_in", 300)
        return str(granted["access_token"]), float(seconds) if seconds else 300.0

    def _discover(self) -> Mapping[str, Any]:
        url = f"{self._base}/.well-known/smart-configuration"
        headers = {"Accept": "application/json"}
        return self._json(
            lambda: self._http.build_request("GET", url, headers=headers),
            "the SMART configuration",
            "token_endpoint",
        )

    def _json(self, request: Any, what: str, member: str) -> Mapping[str, Any]:
        response = send(self._http, request, what=what, patience=self._patience)
        try:
            value = orjson.loads(response.read())
        except (orjson.JSONDecodeError, httpx.RequestError):
            value = None
        finally:
            response.close()
        if not isinstance(value, dict) or not isinstance(value.get(member), str):
            raise FhirloomError(
                "server",
                f"The answer has no {member}",
                where=what,
                fix="Check that the server's URL is its FHIR base, and that it speaks SMART.",
            )
        return value


def _public_shape(private: RSAPrivateKey | EllipticCurvePrivateKey) -> dict[str, Any]:
    if isinstance(private, RSAPrivateKey):
        shape = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        return {"kty": "RSA", "n": shape["n"], "e": shape["e"]}
    shape = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {"kty": "EC", "crv": shape["crv"], "x": shape["x"], "y": shape["y"]}


def _thumbprint(private: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    members = json.dumps(_public_shape(private), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(members.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _algorithm_of(jwk: Mapping[str, Any]) -> str:
    return "RS384" if jwk.get("kty") == "RSA" else "ES384"


def _bad_key() -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "The key can't be used to sign",
        where="key",
        fix="Give an RSA (2048 bits or more) or P-384 private key, as PEM or JWK, unencrypted.",
    )
