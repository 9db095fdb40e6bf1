"""A folder of everything that should not be in an export: each element in each wrong shape."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.deid.resources import Resource, condition, encounter, observation, patient

WRONG: Final[tuple[Any, ...]] = (
    *(5, -0.0, 2**70, 1e308, True, None, "", "x", "NaN", "\u0000", "'; DROP TABLE x; --"),
    *([], {}, [[]], [None], ["x"], {"a": 1}, [{"a": []}], {"value": "x"}, {"reference": 5}),
)
RAW: Final = ("1e999", "-1e999", "-0", "1E-999", "123456789012345678901234567890.5")
"""Numbers as only text can tell them."""
IDS: Final = ("a'b", 'a"b', "a;b", "a/b", "a\nb", "../../b", "é", " ", "x" * 500, "Patient/1")
DATES: Final = (
    *("2020-02-30", "9999-99-99", "0000-00-00", "20200101", "2020", "2020-13", "99999-01-01"),
    *("2020-01-01T25:00:00", "2020-01-01T00:00:60Z", "2020-01-01T10:00", "infinity", "epoch"),
)
MARK: Final = '"@"'
PART: Final = 4
"""Wrong shapes that are tried in each place; their turns go round."""


def bases() -> list[Resource]:
    """One good resource of each type, with what views read filled in."""
    meta = {"lastUpdated": "2021-01-01T00:00:00Z"}
    drug = {"reference": "Medication/m1"}
    return [
        patient(gender="male", meta=meta, link=[], name=[{"family": "Quillfeather"}]),
        encounter("e1", "2020-03-01T10:00:00", "2020-03-04T12:00:00", meta=meta),
        observation("o1", "2020-03-02T08:00:00", encounter={"reference": "Encounter/e1"}),
        condition("c1", onsetDateTime="2020-03-02", recordedDate="2020-03-02"),
        {"resourceType": "Medication", "id": "m1", "code": {"coding": [{"code": "x"}]}},
        {
            "resourceType": "MedicationRequest",
            "id": "r1",
            "subject": {"reference": "Patient/p1"},
            "authoredOn": "2020-03-02",
            "medicationReference": drug,
            "contained": [{"resourceType": "Medication", "id": "m2"}],
        },
    ]


def misshapen() -> Iterator[str]:
    """Each place of each resource in some wrong shapes, every line with an id of its own."""
    turn = 0
    for base in bases():
        for steps in _places(base):
            if steps[0] in ("id", "resourceType"):
                continue
            for wrong in (*(WRONG[(turn + each) % len(WRONG)] for each in range(PART)), "@"):
                made = _with(base, steps, wrong)
                made["id"] = f"{base['id']}-{turn}"
                yield json.dumps(made).replace(MARK, RAW[turn % len(RAW)])
                turn += 1


def broken() -> Iterator[bytes]:
    """Lines that are no resource, or hardly one."""
    good = json.dumps(observation("o2", "2020-03-02T08:00:00")).encode()
    yield from (b"{", b"}", b"[]", b"null", b"5", b"not json", b"{}", good[:-5], b"\x00" * 50)
    yield from (good.replace(b"final", b"fi\xffnal"), good.replace(b"final", b"fi\x00nal"))
    yield from (good + good, good + b"\r", b"\r", b"", b"   ")
    yield good.replace(b'"status"', b'"status": "entered-in-error", "status"', 1)
    yield good.replace(b'"id"', b'"id": "other", "id"', 1)
    for depth in (100, 400, 1000, 5000):
        nested = b"[" * depth + b"]" * depth
        for member in (b"extension", b"contained", b"component", b"meta", b"unknown"):
            name = b'"%d-%s", "%s": %s, ' % (depth, member, member, nested)
            yield good.replace(b'"o2", ', name, 1)
    kinds: tuple[Any, ...] = (None, 5, [], "", "Nope", "observation")
    for kind in kinds:
        yield json.dumps({**json.loads(good), "resourceType": kind}).encode()
    keys: tuple[Any, ...] = (None, 5, [], {}, "", *IDS)
    for key in keys:
        yield json.dumps({**json.loads(good), "id": key}).encode()
        yield json.dumps(patient(key)).encode()
    for who in ("Patient/nobody", "Patient/", "#", "urn:uuid:", *IDS):
        told = observation(f"of {who}", "2020-03-02", subject={"reference": who})
        yield json.dumps(told).encode()
    for day in DATES:
        yield json.dumps(observation(f"on {day}", day)).encode()
        yield json.dumps(patient(f"born {day}", birthDate=day)).encode()
        yield json.dumps(condition(f"at {day}", meta={"lastUpdated": day})).encode()


def repeated() -> Iterator[Resource]:
    """Patients that come again: the same bytes, another version, two of one instant."""
    yield from (patient("same"), patient("same"))
    for when in ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "2021-01-01T01:00:00+01:00"):
        for gender in ("male", "female"):
            yield patient("several", gender=gender, meta={"lastUpdated": when})


def nasty_folder(folder: Path) -> int:
    """Write it; returns how many lines there are that are not blank."""
    folder.mkdir(parents=True)
    good = [json.dumps(each).encode() for each in bases()]
    again = [json.dumps(each).encode() for each in repeated()]
    wrong = [line.encode() for line in misshapen()]
    files = {
        "bom.ndjson": [b"\xef\xbb\xbf" + good[0], *good[1:]],
        "wrong.ndjson": wrong[::2],
        "wrong.ndjson.gz": wrong[1::2],
        "broken.ndjson": [*broken()],
        "again.ndjson": again,
        "windows.ndjson": [line.replace(b'1"', b'9"') + b"\r" for line in good],
        "empty.ndjson": [],
        "blank.ndjson": [b"", b"\r", b" "],
        "only-a-mark.ndjson": [b"\xef\xbb\xbf"],
    }
    for name, lines in files.items():
        content = b"\n".join(lines)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    told = (line.removeprefix(b"\xef\xbb\xbf") for lines in files.values() for line in lines)
    return sum(bool(line.strip()) for line in told)


def _places(value: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inside:
        yield (*steps, key)
        if isinstance(item, dict | list):
            yield from _places(item, (*steps, key))


def _with(resource: Resource, steps: tuple[Any, ...], wrong: Any) -> Resource:
    made = copy.deepcopy(resource)
    place: Any = made
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = wrong
    return made
