"""Who gets a token from the sandbox, and what the client signs."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from exports.errors import FhirloomError
from exports.smart import CLIENT_ASSERTION_TYPE, SigningKey, assertion, read_key

CLIENT = "test-client"


def ask(root: str, signed: str, **changed: str) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "scope": "system/*.read",
        "client_assertion_type": CLIENT_ASSERTION_TYPE,
        "client_assertion": signed,
        **changed,
    }
    return httpx.post(f"{root}/token", data=form, trust_env=False)


def sign(ehr: Any, key: SigningKey | None = None, kid: str = "", **changed: Any) -> str:
    key = key or ehr.key
    claims = {
        "iss": CLIENT,
        "sub": CLIENT,
        "aud": f"{ehr.root}/token",
        "exp": int(time.time()) + 200,
        "jti": uuid.uuid4().hex,
        **changed,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key.private, key.algorithm, headers={"kid": kid or key.kid})


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
@pytest.mark.parametrize("scope", ["system/*.read", "system/*.rs"])
def test_a_registered_key_gets_a_token(
    ehr: Any, keys: dict[str, Path], algorithm: str, scope: str
) -> None:
    key = read_key(keys[algorithm])
    assert key.algorithm == algorithm
    response = ask(ehr.root, assertion(key, CLIENT, f"{ehr.root}/token"), scope=scope)
    assert response.status_code == 200
    granted = response.json()
    assert (granted["token_type"], granted["expires_in"]) == ("bearer", 300)
    assert granted["scope"] == scope
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 1},
        {"exp": int(time.time()) + 3600},
        {"exp": None},
        {"jti": None},
        {"aud": "https://elsewhere.example/token"},
        {"aud": None},
        {"iss": "nobody"},
        {"sub": "somebody-else"},
    ],
    ids=[
        *("expired", "lives too long", "without exp", "without jti", "for another server"),
        *("without aud", "other issuer", "other subject"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(ehr: Any, claims: dict[str, Any]) -> None:
    response = ask(ehr.root, sign(ehr, **claims))
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_an_assertion_is_good_once(ehr: Any) -> None:
    signed = sign(ehr)
    assert ask(ehr.root, signed).status_code == 200
    again = ask(ehr.root, signed)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


def test_a_stranger_s_key_is_refused_whatever_kid_it_claims(
    ehr: Any, keys: dict[str, Path]
) -> None:
    stranger = read_key(keys["stranger"])
    for kid in (stranger.kid, ehr.key.kid):
        assert ask(ehr.root, sign(ehr, key=stranger, kid=kid)).status_code == 401


def test_other_algorithms_are_refused(ehr: Any, keys: dict[str, Path]) -> None:
    key = read_key(keys["RS384"])
    weaker = SigningKey(key.private, "RS256", key.kid)
    assert ask(ehr.root, sign(ehr, key=weaker)).status_code == 401
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": f"{ehr.root}/token", "jti": "1"}
    unsigned = jwt.encode({**claims, "exp": int(time.time()) + 60}, "", algorithm="none")
    assert ask(ehr.root, unsigned).status_code == 401
    assert ask(ehr.root, "no jwt").status_code == 401


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_assertion_type": "basic"}, "invalid_request"),
        ({"scope": "system/*.cruds"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
    ],
)
def test_a_wrong_form_is_refused(ehr: Any, changed: dict[str, str], error: str) -> None:
    response = ask(ehr.root, sign(ehr), **changed)
    assert (response.status_code, response.json()["error"]) == (400, error)


def test_a_jwk_file_is_a_key_under_its_own_kid(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    jwk = ECAlgorithm.to_jwk(private, as_dict=True)
    path = tmp_path / "key.jwk"
    path.write_text(json.dumps({**jwk, "kid": "named-by-the-server"}))
    key = read_key(path)
    assert (key.kid, key.algorithm) == ("named-by-the-server", "ES384")
    assert "d" not in key.public_jwk()


def test_unusable_keys_are_bad_input(tmp_path: Path, keys: dict[str, Path]) -> None:
    pem = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    contents = [
        b"",
        b"no key",
        b"{}",
        b'{"kty": "EC"}',
        ec.generate_private_key(ec.SECP256R1()).private_bytes(*pem),
        ed25519.Ed25519PrivateKey.generate().private_bytes(*pem),
        json.dumps(read_key(keys["ES384"]).public_jwk()).encode(),
    ]
    for content in contents:
        path = tmp_path / "key"
        path.write_bytes(content)
        with pytest.raises(FhirloomError, match="can't be used to sign"):
            read_key(path)
    with pytest.raises(FhirloomError, match="can't be used to sign"):
        read_key(tmp_path / "missing")
