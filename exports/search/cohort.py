"""Whose resources are read: those that the request names, a group's members, or all patients.

Source: FHIR R4, Group (`member.entity`, `member.inactive`, `quantity`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import orjson

from exports.errors import FhirloomError
from exports.request import FHIR_ID, ExportRequest
from exports.search.parts import Parts, Plan
from exports.search.process import SearchProcess
from exports.search.protocol import Answer, Query, Refused
from exports.search.reading import counted

DEEPEST: Final = 10
"""Groups in groups, before they are taken to be in each other."""


def make_plan(process: SearchProcess, parts: Parts, request: ExportRequest, export_id: str) -> Plan:
    """The patients, sorted by id, and the server's time before anything else is read.

    Raises `FhirloomError`: `server` where it refuses, or names nobody; `incomplete` where it
    counts more patients than it gives.
    """
    started = datetime.now(UTC)
    members = None
    if request.level == "group":
        piece = parts.scratch()
        answer = _read_group(process, request.group_id, piece)
        patients, members = _members_of(process, parts, piece, 0)
        if request.patients:
            patients &= set(request.patients)
            members = None
    elif request.patients:
        # Asked for one, the server tells its time.
        answer, piece = _search_patients(process, parts, (("_id", request.patients[0]),))
        patients = set(request.patients)
    else:
        answer, piece = _search_patients(process, parts, ())
        ids = (str(resource.get("id", "")) for resource in _resources(piece))
        patients = set(filter(FHIR_ID.fullmatch, ids))
    piece.unlink()
    if not patients:
        raise FhirloomError(
            "server",
            "The server names no patient",
            where="the group" if request.level == "group" else "the search for Patient",
            fix="Check the group's id, and what this client may read on that server.",
        )
    differs = None if members in (None, len(patients)) else members
    return Plan(tuple(sorted(patients)), server_time(answer.date, started), export_id, differs)


def server_time(date: str, otherwise: datetime) -> datetime:
    """An HTTP date as a time; `otherwise` where the server told none."""
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return otherwise
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _search_patients(
    process: SearchProcess, parts: Parts, parameters: tuple[tuple[str, str], ...]
) -> tuple[Answer, Path]:
    pieces: list[Path] = []
    try:
        answer = counted(process, parts, Query("Patient", parameters), pieces)
    except Refused as refusal:
        raise refusal.told("Patient") from None
    return answer, pieces[0]


def _read_group(process: SearchProcess, group: str, into: Path) -> Answer:
    try:
        return process.read("Group", group, into)
    except Refused as refusal:
        raise refusal.told("Group") from None


def _members_of(
    process: SearchProcess, parts: Parts, group: Path, depth: int
) -> tuple[set[str], int | None]:
    """The patients of the Group in a file and of the groups in it; and the group's own count."""
    patients: set[str] = set()
    (resource,) = _resources(group)
    groups = 0
    for member in resource.get("member") or []:
        reference = str((member.get("entity") or {}).get("reference", ""))
        kind, _, member_id = reference.partition("/_history/")[0].rpartition("/")
        if member.get("inactive") is True or not FHIR_ID.fullmatch(member_id):
            continue
        if kind.rpartition("/")[2] == "Patient":
            patients.add(member_id)
        elif kind.rpartition("/")[2] == "Group" and depth < DEEPEST:
            groups += 1
            inner = parts.scratch()
            _read_group(process, member_id, inner)
            patients |= _members_of(process, parts, inner, depth + 1)[0]
            inner.unlink()
    quantity = resource.get("quantity")
    return patients, quantity if isinstance(quantity, int) and not groups else None


def _resources(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            resource = orjson.loads(line)
            if resource.get("resourceType") != "OperationOutcome":
                yield resource
