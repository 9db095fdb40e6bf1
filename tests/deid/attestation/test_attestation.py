"""An attestation says what a run did; whatever is changed afterwards is found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deid.attestation.canonical import canonical
from deid.attestation.compare import compare
from deid.attestation.content import proof_facts
from deid.attestation.issue import ATTESTATION, PUBLIC_KEY, SIGNATURE, attestation_of, issue
from deid.attestation.keys import key_id, public_pem
from deid.attestation.paths import UNKNOWN
from deid.attestation.statements import SENTENCE, state
from deid.attestation.verify import Checked, verify
from deid.deidentify import Deidentified
from deid.policy import LIMITED_DATA_SET
from deid.research import open_tables
from deid.rules import PACKAGED, Rules, load_rules
from exports.errors import FhirloomError
from exports.sealed import hash_file, hash_json
from tests.deid.attestation.conftest import PLANTED, attest, stays


def attestation(work: Path) -> Path:
    return (work / "research" / "attestation" / "current").resolve()


def tables(work: Path) -> Path:
    return (work / "research" / "tables" / "current").resolve()


def check(work: Path, **more: Any) -> Checked:
    return verify(work / "research", **more)


def test_a_fresh_run_is_attested_and_holds(made: Deidentified) -> None:
    checked = verify(made.attestation.sealed.path)
    assert checked.mismatches == ()
    assert checked.rows == sum(made.tables.sealed.facts["tables"].values()) > 0
    assert (checked.known, checked.stated) == (False, False)


def test_it_says_what_the_run_did(made: Deidentified) -> None:
    told = made.attestation.content
    assert told["policy"]["name"] == "safe-harbor"
    assert told["export"] == "2024-07-02"
    assert told["lineage"]["tables"] == made.tables.sealed.digest
    assert set(told["rules"]["views"]) == {path.stem for path in (PACKAGED / "views").iterdir()}
    assert [item["letter"] for item in told["identifiers"]] == list("ABCDEFGHIJKLMNOPQR")
    assert all(item["proofs"] for item in told["identifiers"])
    assert {proof["name"] for proof in told["proofs"]} == {proof.name for proof in made.proofs}
    assert all(proof["negative_control"] != "not found" for proof in told["proofs"])
    assert told["code"]["engines"].keys() == {"duckdb", "pyarrow"}
    (file,) = [file for file in told["counts"]["files"] if file["type"] == "Patient"]
    assert file["rows"] == 13
    assert file["views"]["patient"]["out"] == 13
    names = [each for each in told["counts"]["paths"] if each["path"] == "name.family"]
    assert [(each["resources"], each["read_by"]) for each in names] == [(12, [])]
    page = made.attestation.page.read_text()
    for said in ("name.family", "Biometric", "not stated", "duckdb", told["lineage"]["landing"]):
        assert said in page
    assert not re.search(r"<script|https?://(?!hl7)|src=|url\(", page)


def test_it_is_found_by_its_tables_alone(made: Deidentified) -> None:
    sealed = made.tables.sealed
    found = attestation_of(sealed)
    assert found is not None
    assert sealed.path.parents[1] / found.place == made.attestation.page
    assert attestation_of(replace(sealed, digest="0" * 64)) is None


def test_a_copy_without_phi_is_checked_elsewhere(made: Deidentified, tmp_path: Path) -> None:
    shutil.copytree(made.tables.sealed.path.parents[1], tmp_path / "r", symlinks=True)
    assert verify(tmp_path / "r").mismatches == ()
    moved = tmp_path / "moved"
    (tmp_path / "r" / "tables").rename(moved)
    with pytest.raises(FhirloomError, match="tables are not there"):
        verify(tmp_path / "r")
    assert verify(tmp_path / "r", tables=moved).mismatches == ()


def test_openssl_checks_the_signature_too(made: Deidentified) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    asked = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", PUBLIC_KEY, "-rawin"]
    place = made.attestation.sealed.path
    done = subprocess.run([*asked, "-in", ATTESTATION, "-sigfile", SIGNATURE], cwd=place)
    assert done.returncode == 0


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def parquet(work: Path) -> Path:
    return next(path for path in sorted(tables(work).rglob("*.parquet")) if rows_of(path))


def rows_of(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def edit(path: Path, change: Callable[[dict[str, Any]], None], write: Any = canonical) -> None:
    read = json.loads(path.read_bytes())
    change(read)
    path.write_bytes(write(read))


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def more_rows(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)


def to_link(path: Path) -> None:
    aside = path.parents[3] / "elsewhere"
    path.rename(aside)
    path.symlink_to(aside)


def fewer_codes(attested: dict[str, Any]) -> None:
    attested["content"]["vocabulary"]["codes"] -= 1


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte of a Parquet file": (lambda work: flip(parquet(work)), "tables/.*: changed"),
    "more rows": (lambda work: more_rows(parquet(work)), r"rows, and [\d,]+ were attested"),
    "a Parquet file gone": (lambda work: parquet(work).unlink(), "tables/.*: missing"),
    "an extra table": (
        lambda work: shutil.copyfile(parquet(work), tables(work) / "patient" / "extra.parquet"),
        "tables/patient/extra.parquet: a file that was not attested",
    ),
    "a changed rule": (
        lambda work: flip(tables(work) / "rules" / "views" / "patient.json"),
        "tables/rules/views/patient.json: changed",
    ),
    "a link for a file": (lambda work: to_link(parquet(work)), "no file of its own"),
    "the tables' manifest": (
        lambda work: edit(tables(work) / "manifest.json", lambda m: m.update(digest="0" * 64)),
        "tables: not the tables that were attested",
    ),
    "an extra file": (
        lambda work: (attestation(work) / "proofs" / "note.txt").write_text("x"),
        "proofs/note.txt: a file that was not attested",
    ),
    "a changed figure": (
        lambda work: edit(attestation(work) / ATTESTATION, fewer_codes),
        "attestation.sig: not the signature",
    ),
    "another spelling": (
        lambda work: edit(
            attestation(work) / ATTESTATION, lambda a: None, lambda a: json.dumps(a).encode()
        ),
        "not an attestation in canonical form",
    ),
    "swapped proofs": (
        lambda work: swap(*sorted((attestation(work) / "proofs").iterdir())[:2]),
        "does not say what the attestation says of",
    ),
    "another proof's detail": (
        lambda work: edit(
            attestation(work) / "proofs" / "closed-domain.json",
            lambda proof: proof["detail"].update(columns=1),
        ),
        "proofs/closed-domain.json: changed",
    ),
    "the page gone": (
        lambda work: (attestation(work) / "attestation.html").unlink(),
        "attestation.html: missing",
    ),
    "the page changed": (
        lambda work: flip(attestation(work) / "attestation.html"),
        "attestation.html: changed",
    ),
    "no signature": (
        lambda work: (attestation(work) / SIGNATURE).unlink(),
        "one of them is missing",
    ),
    "another key beside it": (
        lambda work: (attestation(work) / PUBLIC_KEY).write_bytes(
            public_pem(Ed25519PrivateKey.generate().public_key())
        ),
        "not the key that the attestation names",
    ),
    "the manifest": (
        lambda work: edit(attestation(work) / "manifest.json", lambda m: m.update(version=99)),
        "manifest.json: not the manifest of this attestation",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_is_changed_is_named(what: str, work: Path) -> None:
    assert check(work).mismatches == ()
    change, named = TAMPERED[what]
    change(work)
    mismatches = check(work).mismatches
    assert any(re.search(named, mismatch) for mismatch in mismatches), mismatches


def resign(work: Path, change: Callable[[dict[str, Any]], None], key: Ed25519PrivateKey) -> None:
    """A forger's work, done well: every hash and the signature are right, by the forger's key."""
    place = attestation(work)
    (place / PUBLIC_KEY).write_bytes(public_pem(key.public_key()))
    attested = json.loads((place / ATTESTATION).read_bytes())
    change(attested["content"])
    attested["key"] = attested["inputs"]["key"] = key_id(key.public_key())
    attested["files"][PUBLIC_KEY] = hash_file(place / PUBLIC_KEY)
    (place / ATTESTATION).write_bytes(canonical(attested))
    (place / SIGNATURE).write_bytes(key.sign(canonical(attested)))
    manifest = json.loads((place / "manifest.json").read_bytes())
    manifest["inputs"] = attested["inputs"]
    manifest["files"] = {name: hash_file(place / name) for name in manifest["files"]}
    names = ("stage", "version", "inputs", "spec")
    manifest["key"] = hash_json({name: manifest[name] for name in names})
    manifest["digest"] = hash_json({name: manifest[name] for name in ("key", "files", "facts")})
    (place / "manifest.json").write_text(json.dumps(manifest))


def test_only_a_key_from_elsewhere_shows_who_signed(work: Path, tmp_path: Path) -> None:
    kept = tmp_path / "public.pem"
    shutil.copyfile(attestation(work) / PUBLIC_KEY, kept)
    assert check(work, key=kept).mismatches == ()
    assert check(work, key=kept).known
    forger = Ed25519PrivateKey.generate()
    resign(work, lambda told: told["vocabulary"].update(codes=7), forger)
    assert check(work).mismatches == (), "in itself the folder is whole"
    named = check(work, key=kept).mismatches
    assert any("signed by the key" in mismatch for mismatch in named)
    assert any("not the signature" in mismatch for mismatch in named)


def test_a_proof_that_does_not_hold_or_lost_its_control_is_no_attestation(work: Path) -> None:
    resign(work, lambda told: told["proofs"][0].update(passed=False), Ed25519PrivateKey.generate())
    assert any("does not hold" in mismatch for mismatch in check(work).mismatches)
    found = {"name": "x", "passed": True, "detail": {"negative_control_found": True}}
    assert proof_facts(found)["negative_control"] == "found"
    lost = {"negative_controls_planted": 5, "negative_controls_found": 4}
    assert proof_facts({**found, "detail": lost})["negative_control"] == "not found"
    each = {"negative_controls_planted": {"a": 2, "b": 0}, "negative_controls_found": {"a": 2}}
    assert proof_facts({**found, "detail": each})["negative_control"] == "not found"
    each["negative_controls_found"] = each["negative_controls_planted"]
    assert proof_facts({**found, "detail": each})["negative_control"] == "found"
    assert proof_facts({**found, "detail": {}})["negative_control"] == "none"


@pytest.mark.parametrize("lost", ["tables", "proofs", "lineage", "policy"])
def test_a_signed_file_that_is_no_attestation_is_broken_and_no_defect(
    lost: str, work: Path
) -> None:
    resign(work, lambda told: told.pop(lost), Ed25519PrivateKey.generate())
    expected = ("attestation.json: lacks what an attestation has",)
    assert check(work).mismatches == expected
    with pytest.raises(FhirloomError, match="lacks what an attestation has"):
        compare(attestation(work), attestation(work))


@pytest.mark.parametrize(
    "written",
    [b"", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000, b'{"format":1,"format":2}'],
    ids=len,
)
def test_what_is_no_json_or_no_attestation_is_broken_too(written: bytes, work: Path) -> None:
    (attestation(work) / ATTESTATION).write_bytes(written)
    assert check(work).mismatches == (f"{ATTESTATION}: not an attestation in canonical form",)
    with pytest.raises(FhirloomError, match="no attestation of this version"):
        compare(attestation(work), attestation(work))


def test_equal_inputs_give_equal_bytes(work: Path) -> None:
    def bytes_of(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    place = attestation(work)
    before = bytes_of(place)
    shutil.rmtree(place.parent)
    issued = issue(open_tables(work / "research").sealed, work / "phi")
    assert issued.sealed.fresh
    assert issued.sealed.path == place
    assert bytes_of(place) == before
    assert not issue(open_tables(work / "research").sealed, work / "phi").sealed.fresh


def test_the_statement_is_recorded_and_attested_for_these_tables_alone(work: Path) -> None:
    current = open_tables(work / "research").sealed
    state(work / "phi", "0" * 64, "Someone Else", "Intern")
    assert not issue(current, work / "phi").stated
    state(work / "phi", current.digest, " Ada  Officer ", "Privacy <officer>")
    issued = issue(current, work / "phi")
    assert check(work).stated
    said = issued.content["statement"]
    assert (said["name"], said["role"]) == ("Ada Officer", "Privacy <officer>")
    assert said["sentence"] == SENTENCE
    assert "Privacy &lt;officer&gt;" in issued.page.read_text()
    assert (work / "phi" / "statements.ndjson").stat().st_mode & 0o777 == 0o600
    assert issued.content["changed"] is None, "it is the same attestation, with a statement"


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\x00b", "a\u202eb"])
def test_a_name_that_cannot_be_printed_states_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(FhirloomError, match="can't be printed"):
        state(tmp_path, "0" * 64, name, "Officer")
    assert not list(tmp_path.iterdir())


def test_tables_that_were_sealed_otherwise_are_not_signed(work: Path) -> None:
    edit(tables(work) / "manifest.json", lambda read: read["facts"].update(counts=[]))
    with pytest.raises(FhirloomError, match="not the one that was sealed"):
        issue(open_tables(work / "research").sealed, work / "phi")


def narrowed(folder: Path) -> Rules:
    """The shipped rules, but for one range."""
    for part in ("views", "domains"):
        shutil.copytree(PACKAGED / part, folder / part)
    edit(
        folder / "domains" / "quantities.json",
        lambda read: read["loinc:2160-0"].update(high=1.0),
        lambda read: json.dumps(read).encode(),
    )
    return load_rules(folder)


def test_what_changed_since_the_last_attestation_is_told(work: Path, tmp_path: Path) -> None:
    first = attestation(work)
    again = attest(work, stays())
    assert again.attestation.sealed.path == first
    second = attest(work, stays(13, maritalStatus={"text": "x"}), narrowed(tmp_path / "rules"))
    told = second.attestation.content
    assert told["previous"] == json.loads((first / "manifest.json").read_text())["digest"]
    changed = told["changed"]
    assert changed["rules"].keys() == {"domains.quantities"}
    assert changed["rows"]["patient"] == {"before": 12, "after": 13}, "one has no dated record"
    assert {"landing", "tables"} <= changed["inputs"].keys()
    assert "columns" not in changed
    assert "code" not in changed
    assert "codes" not in changed
    assert compare(first, second.attestation.sealed.path) == changed
    assert "domains.quantities" in second.attestation.page.read_text()
    assert check(work).mismatches == ()
    back = compare(second.attestation.sealed.path, first)
    assert back["rows"]["patient"] == {"before": 13, "after": 12}


def test_a_limited_data_set_is_attested_as_what_it_is(work: Path) -> None:
    done = attest(work, stays(), load_rules(policy=LIMITED_DATA_SET))
    place = done.attestation.sealed.path
    assert place.is_relative_to(work / "phi" / "limited" / "attestation")
    checked = verify(work / "phi" / "limited")
    assert (checked.folder, checked.mismatches, checked.stated) == (place, (), None)
    told = done.attestation.content
    assert told["policy"]["name"] == "limited-data-set"
    assert "Dates stay" in told["identifiers"][2]["treatment"]
    assert {item["id"] for item in told["interpretations"]} >= {"limited-agreement"}
    assert "A limited data set: not de-identified" in done.attestation.page.read_text()
    assert verify(work).folder == attestation(work), "the other's stands as it stood"


def test_codes_that_come_and_go_are_listed(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(attestation(work), other)
    edit(other / "vocabulary.json", lambda read: read["codes"].remove("loinc:2160-0"))
    assert compare(attestation(work), other) == {
        "codes": {"added": [], "removed": ["loinc:2160-0"]}
    }


def test_nothing_that_was_planted_is_in_any_file(made: Deidentified) -> None:
    """Names, ids, dates, members that FHIR does not have, and the name of a landed file."""
    content = b"".join(
        path.read_bytes() for path in made.attestation.sealed.path.rglob("*") if path.is_file()
    )
    for secret in (*PLANTED.split(), "Jana", "1950-06-15", "export.ndjson", "p77"):
        assert secret.encode() not in content
    assert UNKNOWN in made.attestation.page.read_text()


def test_the_code_is_known_by_every_file_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deid.attestation import code

    before = code.code_facts()
    shutil.copytree(code.PACKAGE, tmp_path / "deid", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "deid")
    assert code.code_facts() == before
    with (tmp_path / "deid" / "domains" / "enums.json").open("a") as file:
        file.write("\n")
    assert code.code_facts()["sha256"] != before["sha256"]


def test_tables_of_an_earlier_version_are_attested_with_what_is_known(work: Path) -> None:
    sealed = open_tables(work / "research").sealed
    facts = {name: value for name, value in sealed.facts.items() if name != "origin"}
    manifest = json.loads((sealed.path / "manifest.json").read_text())
    manifest["facts"] = facts
    manifest["digest"] = hash_json({name: manifest[name] for name in ("key", "files", "facts")})
    (sealed.path / "manifest.json").write_text(json.dumps(manifest))
    older = replace(sealed, facts=facts, digest=manifest["digest"])
    issued = issue(older, work / "phi")
    assert issued.content["code"] is None
    assert "Not recorded by the version" in issued.page.read_text()
    assert verify(issued.sealed.path).mismatches == ()
