"""Tables at rest: Parquet files encrypted with AES-256-GCM, and hashed as what they say.

Each file is encrypted (Apache Parquet, Modular Encryption) with a random key of its own, used for
nothing else, so that no nonce ever meets the same key for other content. That key stands in the
file, encrypted with the crosswalk's, under a random nonce and bound to the table's name: one table
can't be put in another's place. Pages are decrypted as they are read.

The bytes of such a file differ each time that it is written. Its content is hashed instead: a
digest tells of the same rows, under whichever key.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from exports.errors import FhirloomError

NONCE: Final = 12
"""Bytes (NIST SP 800-38D, section 8.2.2: random, for fewer than 2^32 uses of a key)."""
ENCRYPTED: Final = b"PARE"
"""How a Parquet file begins whose footer is encrypted."""


class _Wrapping(pe.KmsClient):  # type: ignore[misc]
    """Encrypts the key of a file with the crosswalk's key, bound to the table's name."""

    def __init__(self, key: bytes, table: str) -> None:
        super().__init__()
        self._cipher, self._table = AESGCM(key), table.encode()

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        """The file's key, encrypted, in hex."""
        nonce = os.urandom(NONCE)
        sealed = self._cipher.encrypt(nonce, key_bytes, self._table)
        return (nonce + sealed).hex().encode()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """The file's key; raises `InvalidTag` under a wrong one."""
        read = bytes.fromhex(wrapped_key)
        return self._cipher.decrypt(read[:NONCE], read[NONCE:], self._table)


class _Digest(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        return len(content)


def write_encrypted(table: pa.Table, path: Path, key: bytes) -> str:
    """Write a table to `path`, named as the file is; returns the hash of its content."""
    layout = pe.EncryptionConfiguration(
        footer_key=path.stem,
        uniform_encryption=True,
        encryption_algorithm="AES_GCM_V1",
        data_key_length_bits=256,
        double_wrapping=False,
    )
    properties = _factory(key, path.stem).file_encryption_properties(
        pe.KmsConnectionConfig(), layout
    )
    pq.write_table(table, path, encryption_properties=properties)
    digest = _Digest()
    pq.write_table(table, pa.PythonFile(digest, mode="w"))
    return digest.sha256.hexdigest()


def read_encrypted(path: Path, key: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns of the table at `path`, or all.

    Raises `FhirloomError` (bad-input) where the key is another one, or the file was changed.
    """
    if not is_encrypted(path):
        raise damaged(path)
    properties = _factory(key, path.stem).file_decryption_properties(pe.KmsConnectionConfig())
    try:
        with pq.ParquetFile(path, decryption_properties=properties) as file:
            return file.read(columns=columns)
    except (InvalidTag, OSError, ValueError):
        raise _closed(path) from None


def is_encrypted(path: Path) -> bool:
    """Whether a Parquet file is there, and an encrypted one, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(ENCRYPTED)) == ENCRYPTED
    except OSError:
        return False


def _factory(key: bytes, table: str) -> Any:
    return pe.CryptoFactory(lambda _: _Wrapping(key, table))


def damaged(path: Path) -> FhirloomError:
    """What is told of a crosswalk of which `path` is missing, or is not what was written."""
    return FhirloomError(
        "bad-input",
        "A file of the crosswalk is missing or damaged",
        where=f"phi/{path.parents[1].name}, {path.name}",
        fix="Put the crosswalk back from a backup: nothing else tells who has which surrogate. "
        "Without one, remove its folder; everybody then gets a new surrogate and a new zero.",
    )


def _closed(path: Path) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "The crosswalk does not open with this key",
        where=f"phi/{path.parents[1].name}, {path.name}",
        fix="Give the key that it was written with (--crosswalk-key file:/path or env:NAME); "
        "an interrupted `fhirloom deid rekey` is ended by running it again. If the file is "
        "damaged, put the crosswalk back from a backup.",
    )
