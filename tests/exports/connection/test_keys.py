"""Keys: made for their owner's eyes, read in each form they come in, shown by their public half."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from exports.connection.keys import make_keys, public_jwks, read_key, read_keys
from exports.errors import FhirloomError

EC = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(private: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    content: bytes = private.private_bytes(Encoding.PEM, form, NoEncryption())
    return content


def jwk(private: Any, **members: str) -> dict[str, Any]:
    shape = RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else ECAlgorithm
    return {**shape.to_jwk(private, as_dict=True), **members}


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_new_pair_signs_what_its_jwks_verifies(
    tmp_path: Path, algorithm: Literal["ES384", "RS384"]
) -> None:
    files = make_keys(tmp_path / "keys", algorithm)
    assert files.private.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in files.private.parent.iterdir()) == [
        "jwks.json",
        "private-key.pem",
    ]
    jwks = json.loads(files.public.read_bytes())
    assert jwks == public_jwks(files.private)
    key = read_key(files.private)
    assert key.algorithm == algorithm
    signed = jwt.encode({"sub": "c"}, key.private, key.algorithm, headers={"kid": key.kid})
    registered = jwt.PyJWKSet.from_dict(jwks)[key.kid]
    assert jwt.decode(signed, registered, algorithms=[algorithm]) == {"sub": "c"}


def test_a_public_jwks_holds_nothing_private(tmp_path: Path) -> None:
    private = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    for number, key in enumerate((EC, RSA)):
        path = tmp_path / f"{number}.pem"
        path.write_bytes(pem(key))
        (shown,) = public_jwks(path)["keys"]
        assert not private & set(shown)
        assert (shown["use"], shown["key_ops"]) == ("sig", ["verify"])


def test_a_key_s_own_id_is_kept(tmp_path: Path) -> None:
    files = make_keys(tmp_path, kid="hospital-2026")
    assert read_key(files.private).kid == "hospital-2026"
    assert public_jwks(files.private)["keys"][0]["kid"] == "hospital-2026"


def test_another_key_s_jwks_beside_a_pem_names_it_not(tmp_path: Path) -> None:
    files = make_keys(tmp_path, kid="of-the-first")
    other = tmp_path / "other.pem"
    other.write_bytes(pem(EC))
    assert read_key(other).kid not in ("", "of-the-first")
    files.public.write_text("[1, {}]")
    assert read_key(files.private).kid != "of-the-first"


@pytest.mark.parametrize("present", ["private-key.pem", "jwks.json"])
def test_no_key_is_ever_overwritten(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("in use")
    with pytest.raises(FhirloomError, match="a key pair already"):
        make_keys(tmp_path)
    assert (tmp_path / present).read_text() == "in use"
    assert [path.name for path in tmp_path.iterdir()] == [present]


@pytest.mark.parametrize(
    "content",
    [
        pem(EC),
        pem(EC, PrivateFormat.TraditionalOpenSSL),
        b"-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"
        + pem(EC, PrivateFormat.TraditionalOpenSSL),
        b"Bag Attributes\n    friendlyName: key\n" + pem(EC),
        json.dumps(jwk(EC)).encode(),
        b" \n" + json.dumps({"keys": [jwk(EC)]}).encode(),
    ],
    ids=["PKCS #8", "SEC 1", "with parameters", "with attributes", "JWK", "JWKS"],
)
def test_a_curve_key_is_read_in_every_form(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    key = read_key(path)
    assert key.algorithm == "ES384"
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    assert key.private.private_numbers() == EC.private_numbers()


@pytest.mark.parametrize(
    "content",
    [pem(RSA), pem(RSA, PrivateFormat.TraditionalOpenSSL), json.dumps(jwk(RSA)).encode()],
    ids=["PKCS #8", "PKCS #1", "JWK"],
)
def test_an_rsa_key_is_read_in_every_form(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    key = read_key(path)
    assert key.algorithm == "RS384"
    assert isinstance(key.private, rsa.RSAPrivateKey)
    assert key.private.private_numbers() == RSA.private_numbers()


def test_the_default_id_is_the_thumbprint_of_rfc_7638(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(pem(RSA))
    # The example of RFC 7638, section 3.1, is a public key: its rule is applied here to ours.
    shape = json.loads(RSAAlgorithm.to_jwk(RSA.public_key()))
    text = f'{{"e":"{shape["e"]}","kty":"RSA","n":"{shape["n"]}"}}'
    assert read_key(path).kid == urlsafe_b64encode(sha256(text.encode()).digest())[:-1].decode()


def test_a_jwks_gives_the_private_keys_that_can_sign_here(tmp_path: Path) -> None:
    small = ec.generate_private_key(ec.SECP256R1())
    public = jwk(EC, kid="public")
    del public["d"]
    path = tmp_path / "jwks"
    keys = [
        jwk(small, kid="small"),
        public,
        jwk(RSA, kid="for-sealing", use="enc"),
        jwk(RSA, kid="other-algorithm", alg="RS256"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        "no key",
        jwk(EC, kid="ec", alg="ES384", use="sig"),
        jwk(RSA, kid="rsa"),
    ]
    path.write_text(json.dumps({"keys": keys}))
    assert [(key.kid, key.algorithm) for key in read_keys(path)] == [
        ("ec", "ES384"),
        ("rsa", "RS384"),
    ]


P256 = ec.generate_private_key(ec.SECP256R1())
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - is refused


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        b"{}",
        b'{"kty": "EC"}',
        b'{"keys": []}',
        b'{"keys": 7}',
        b'{"keys": [{}]}',
        b"{",
        pem(P256),
        pem(WEAK),
        pem(ed25519.Ed25519PrivateKey.generate()),
        EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        json.dumps({**jwk(EC), "d": "AAAA"}).encode(),
    ],
    ids=lambda content: content[:24].decode(),
)
def test_unusable_keys_are_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(FhirloomError, match="can't be used to sign") as raised:
        read_keys(path)
    assert raised.value.code == "bad-input"


def test_a_missing_key_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FhirloomError, match="can't be used to sign"):
        read_key(tmp_path / "missing")


def test_a_key_s_secret_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(json.dumps(jwk(EC)))
    assert jwk(EC)["d"] not in repr(read_key(path))
    assert str(EC.private_numbers().private_value) not in repr(read_key(path))
