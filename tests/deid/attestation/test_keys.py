"""The signing key: made once, or named; and known by its thumbprint."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deid.attestation.keys import key_id, public_key, public_pem, signing_key, use_key
from exports.errors import FhirloomError


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def id_of(key: Ed25519PrivateKey) -> str:
    return key_id(key.public_key())


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    raw = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    known = Ed25519PublicKey.from_public_bytes(raw)
    assert key_id(known) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = signing_key(tmp_path)
    path = tmp_path / "keys" / "attestation.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert pem(signing_key(tmp_path)) == pem(made)


def test_a_named_key_stays_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phi, own, other = tmp_path / "phi", signing_key(tmp_path / "phi"), Ed25519PrivateKey.generate()
    path = tmp_path / "other.pem"
    path.touch(mode=0o600)
    path.write_bytes(pem(other))
    monkeypatch.chdir(tmp_path)
    use_key(phi, "file:other.pem")
    monkeypatch.chdir("/")
    assert id_of(signing_key(phi)) == id_of(other) != id_of(own)
    monkeypatch.setenv("SIGNER", pem(own).decode().replace("\n", "\\n"))
    use_key(phi, "env:SIGNER")
    assert id_of(signing_key(phi)) == id_of(own)
    monkeypatch.delenv("SIGNER")
    with pytest.raises(FhirloomError, match="no Ed25519 key"):
        signing_key(phi)


@pytest.mark.parametrize("reference", ["file:none.pem", "env:NOT_SET", "none.pem", "", "file:"])
def test_a_reference_that_leads_to_no_key_is_not_put_in_force(
    reference: str, tmp_path: Path
) -> None:
    with pytest.raises(FhirloomError, match="no Ed25519 key"):
        use_key(tmp_path, reference)
    assert not (tmp_path / "keys").exists()


def test_keys_of_other_kinds_and_open_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(FhirloomError, match="no Ed25519 key"):
        use_key(tmp_path, f"file:{path}")
    path.write_bytes(pem(Ed25519PrivateKey.generate()))
    path.chmod(0o644)
    with pytest.raises(FhirloomError, match="Others than its owner"):
        use_key(tmp_path, f"file:{path}")


def test_a_public_key_goes_through_pem(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "public.pem"
    path.write_bytes(public_pem(key.public_key()))
    assert key_id(public_key(path)) == id_of(key)
    path.write_bytes(pem(key))
    with pytest.raises(FhirloomError, match="no Ed25519 key"):
        public_key(path)
