"""What arrived against what was asked for and what the server said: every disagreement a finding.

Source: FHIR Bulk Data Access, "Output Manifest" (`count`, STU4's `fileSize` and `countSeverity`).
The server's own OperationOutcomes are counted by severity and code; their words are never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, TypedDict, cast, get_args

import msgspec
import orjson

from exports.connection.outcomes import ISSUE_CODES
from exports.connection.outcomes import SEVERITIES as FHIR_SEVERITIES
from exports.errors import FhirloomError
from exports.landing.deletions import read_deletions
from exports.landing.delivery import file_chunks
from exports.landing.identities import repeated as in_several
from exports.landing.narrowing import NOTHING_NARROWED, Narrowing
from exports.landing.ndjson import is_header, read_lines, read_resource, unpack

if TYPE_CHECKING:
    from exports.bulk.manifest import ExportManifest, RemoteFile
    from exports.download.downloads import Downloaded
    from exports.landing.zone import Arrival
    from exports.request import ExportRequest

Kind = Literal[
    "missing-rows",  # fewer lines than the server counted
    "extra-rows",  # more lines than the server counted
    "uncounted",  # the server counted no rows
    "wrong-type",  # rows of another type than the file's
    "duplicate",  # rows whose id was in the same file before
    "repeated",  # rows whose id is in another file of the export too
    "missing-type",  # a type that was asked for, and of which there is no file
    "extra-type",  # rows of a type that was not asked for
    "unasked-rows",  # rows that a parameter the server accepted should have left out
    "cut-line",  # a file that ends in the middle of a line
    "bad-line",  # lines that are no resource
    "size",  # another number of bytes than the server said
    "outcome",  # what the server says went wrong, by severity and code
    "outcome-count",  # fewer or more OperationOutcomes of a severity than the server said
    "not-found",  # resources that were asked for by their ids, and that the server doesn't give
    "deletion",  # entries of `deleted` that name no resource
]
Severity = Literal["info", "warning", "failure"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SEVERITIES: Final[Mapping[str, Severity]] = {
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "fail": "failure",
    "failure": "failure",
}
FAILING: Final[frozenset[Kind]] = frozenset({"missing-rows", "cut-line"})
"""By default what means lost rows fails; whatever else is found is told."""
TOLD: Final[frozenset[Kind]] = frozenset({"uncounted"})


class _Head(TypedDict):
    """What tells when a resource last changed."""

    resourceType: str
    id: str
    meta: NotRequired[Any]


_read_head: Final = msgspec.json.Decoder(_Head).decode
GRAVE: Final = frozenset({"fatal", "error"})


@dataclass(frozen=True)
class Finding:
    """One disagreement: of how many rows (lines, bytes, outcomes) `expected`, how many `found`.

    `file` is a landed file's name or "" for the export as a whole; `type` a resource type, or
    "severity/code" of an outcome.
    """

    kind: Kind
    severity: Severity
    type: str
    file: str
    expected: int | None
    found: int


@dataclass(frozen=True)
class Policy:
    """Which kinds of finding fail an export, and which are only told."""

    fail: frozenset[Kind] = FAILING
    info: frozenset[Kind] = TOLD

    @classmethod
    def of(cls, text: str) -> Policy:
        """The default, changed by an operator's `duplicate=fail,missing-rows=warn`.

        Raises `FhirloomError` (bad-input) for an unknown kind or severity.
        """
        fail, info = set(FAILING), set(TOLD)
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, told = part.partition("=")
            kind = next((kind for kind in KINDS if kind == name.strip()), None)
            severity = SEVERITIES.get(told.strip())
            if kind is None or severity is None:
                raise FhirloomError(
                    "bad-input",
                    "There is no such finding, or no such severity",
                    where="policy",
                    fix=f"Write kind=fail, =warn or =info; kinds are {', '.join(KINDS)}.",
                )
            fail.discard(kind)
            info.discard(kind)
            if severity != "warning":
                (fail if severity == "failure" else info).add(kind)
        return cls(frozenset(fail), frozenset(info))

    def severity(self, kind: Kind, of: str = "") -> Severity:
        """How grave a finding is; what the server tells without calling it an error is not.

        Unless it tells that it passed over something: then more came than was asked for.
        """
        grave, _, code = of.partition("/")
        if kind == "outcome" and grave not in GRAVE:
            return "warning" if code == "not-supported" else "info"
        return "failure" if kind in self.fail else "info" if kind in self.info else "warning"

    def finding(
        self, kind: Kind, found: int, *, expected: int | None = None, of: str = "", file: str = ""
    ) -> Finding:
        """A finding of that kind, of a resource type (or of what else is counted)."""
        return Finding(kind, self.severity(kind, of), of, file, expected, found)


DEFAULT_POLICY: Final = Policy()


def reconcile(
    request: ExportRequest,
    manifest: ExportManifest,
    files: Sequence[Downloaded],
    policy: Policy = DEFAULT_POLICY,
    *,
    repeated: Mapping[str, int] | None = None,
    heeded: Narrowing = NOTHING_NARROWED,
) -> list[Finding]:
    """Every disagreement between request, manifest and files, in the order of the files.

    `repeated` are rows by type whose id is in several files (`landing.identities.repeated`);
    `heeded` is what the server took on to leave out (`Narrowing.of_heeded`). What the lines of one
    file tell by themselves is `told_by_lines`.
    """
    landed = [file for file in files if file.remote.kind == "files"]
    findings = [found for file in landed for found in _of_file(file, manifest, policy)]
    findings += [
        policy.finding("cut-line", 1, expected=0, of=file.remote.type, file=file.path.name)
        for file in files
        if file.delivered.judged.cut
    ]
    findings += _of_types(request, landed, policy)
    findings += _of_unasked(landed, heeded, policy)
    findings += _of_repeated(repeated or {}, policy)
    outcomes = [file for file in files if file.remote.kind == "errors"]
    findings += [found for file in outcomes for found in _of_outcomes(file, policy)]
    deletions = [file for file in files if file.remote.kind == "deleted"]
    return findings + [found for file in deletions for found in _of_deletions(file, policy)]


def told_by_lines(arrivals: Iterable[Arrival], policy: Policy) -> Iterator[Finding]:
    """What the lines of all files tell: bad ones, and ids that come twice, in one file or two."""
    identities = []
    for arrival in arrivals:
        judged = arrival.delivered.judged
        if judged.bad and (judged.rows or arrival.declared_type):
            bad = sum(judged.bad.values())
            yield policy.finding("bad-line", bad, expected=0, file=arrival.name)
        for kind, rows in judged.rows.items():
            if twice := rows - judged.ids.get(kind, rows):
                yield policy.finding("duplicate", twice, expected=0, of=kind, file=arrival.name)
        if arrival.identities is not None and arrival.identities.is_file():
            identities.append(arrival.identities)
    yield from _of_repeated(in_several(identities), policy)


def _of_repeated(repeated: Mapping[str, int], policy: Policy) -> Iterator[Finding]:
    for kind, rows in repeated.items():
        yield policy.finding("repeated", rows, expected=0, of=kind)


def refuse(findings: Iterable[Finding], policy: Policy = DEFAULT_POLICY) -> None:
    """Raise `FhirloomError` (incomplete) where one of the findings is a failure by `policy`."""
    failures = [found for found in findings if policy.severity(found.kind, found.type) == "failure"]
    if failures:
        raise FhirloomError(
            "incomplete",
            f"What arrived is not what was announced: {told(failures)}",
            where="the export",
            fix="Run again with --fresh; if it stays so, tell the server's operator, or let it "
            f"pass with --policy {failures[0].kind}=warn.",
        )


def told(findings: Iterable[Finding]) -> str:
    """Findings in a few words: kinds, types and counts, and no file's name."""
    counted: Counter[tuple[Kind, str]] = Counter()
    for found in findings:
        lost = abs((found.expected or 0) - found.found)
        counted[found.kind, found.type] += lost
    return ", ".join(
        f"{kind} {count:,}" + (f" of {of}" if of else "")
        for (kind, of), count in sorted(counted.items())
    )


def _of_file(file: Downloaded, manifest: ExportManifest, policy: Policy) -> Iterator[Finding]:
    remote, judged, name = file.remote, file.delivered.judged, file.path.name
    if remote.count is None:
        yield policy.finding("uncounted", judged.lines, of=remote.type, file=name)
    elif remote.count != judged.lines:
        kind: Kind = "missing-rows" if judged.lines < remote.count else "extra-rows"
        yield policy.finding(kind, judged.lines, expected=remote.count, of=remote.type, file=name)
    # Nobody says whether a packed file's size is meant packed or unpacked.
    sizes = (None, file.delivered.bytes, file.delivered.unpacked)
    if remote.size not in sizes and not file.delivered.unwrapped:
        arrived = file.delivered.bytes
        yield policy.finding("size", arrived, expected=remote.size, of=remote.type, file=name)
    if remote.type and not manifest.organized_by:
        for kind_of_rows, rows in judged.rows.items():
            if kind_of_rows != remote.type:
                yield policy.finding("wrong-type", rows, expected=0, of=kind_of_rows, file=name)


def _of_deletions(file: Downloaded, policy: Policy) -> Iterator[Finding]:
    entries = [entry is None for entry in read_deletions([file.path])]
    lines, expected, name = file.delivered.judged.lines, file.remote.count, file.path.name
    # Some count the Bundles, which are lines, and some what these delete.
    if expected is not None and expected not in (lines, len(entries)):
        kind: Kind = "missing-rows" if lines < expected else "extra-rows"
        yield policy.finding(kind, lines, expected=expected, of="Bundle", file=name)
    if unread := sum(entries):
        yield policy.finding("deletion", unread, file=name)


def _of_types(
    request: ExportRequest, landed: Sequence[Downloaded], policy: Policy
) -> Iterator[Finding]:
    if not request.types:
        return
    rows: Counter[str] = Counter()
    for file in landed:
        rows.update(file.delivered.judged.rows)
    told = {file.remote.type for file in landed} | set(rows)
    # Of what changed since then, a type may well have nothing.
    expected = set() if request.since is not None else set(request.types)
    for kind in sorted(expected - told):
        yield policy.finding("missing-type", 0, of=kind)
    for kind in sorted(set(rows) - set(request.types)):
        yield policy.finding("extra-type", rows[kind], expected=0, of=kind)


def _of_unasked(
    landed: Sequence[Downloaded], heeded: Narrowing, policy: Policy
) -> Iterator[Finding]:
    """Rows that are kept all the same: a server may add what the others refer to."""
    unasked: Counter[str] = Counter()
    for file in landed:
        judged = file.delivered.judged
        if not any(map(heeded.concerns, judged.rows)):
            continue
        heads = heeded.of_times_alone and judged.readable
        for _, _, line in read_lines(unpack(file_chunks(file.path))):
            resource = _head(line) if heads else read_resource(line)
            if isinstance(resource, dict) and not is_header(resource) and heeded.refused(resource):
                unasked[resource["resourceType"]] += 1
    for kind, rows in sorted(unasked.items()):
        yield policy.finding("unasked-rows", rows, expected=0, of=kind)


def _head(line: bytes) -> dict[str, Any] | str | None:
    """Of a file of good lines alone: what tells time, read some times as fast as the whole."""
    try:
        return cast("dict[str, Any]", _read_head(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return read_resource(line)


def _of_outcomes(file: Downloaded, policy: Policy) -> Iterator[Finding]:
    name = file.path.name
    issues, by_severity = count_outcomes(file.path)
    for (severity, code), found in sorted(issues.items()):
        yield policy.finding("outcome", found, of=f"{severity}/{code}", file=name)
    yield from _of_severities(file.remote, by_severity, name, policy)
    if file.remote.count is not None and file.remote.count != file.delivered.judged.lines:
        yield policy.finding(
            "outcome-count",
            file.delivered.judged.lines,
            expected=file.remote.count,
            of="OperationOutcome",
            file=name,
        )


def _of_severities(
    remote: RemoteFile, found: Mapping[str, int], name: str, policy: Policy
) -> Iterator[Finding]:
    for severity, expected in remote.severities:
        if found.get(severity, 0) != expected:
            told = severity if severity in FHIR_SEVERITIES else "other"
            count = found.get(severity, 0)
            yield policy.finding("outcome-count", count, expected=expected, of=told, file=name)


def count_outcomes(file: Path) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """Issues by (severity, code) in a file of OperationOutcomes, and outcomes by severity.

    Source: FHIR R4, OperationOutcome. Whatever is in no list of the standard is told as `other`.
    """
    issues: Counter[tuple[str, str]] = Counter()
    outcomes: Counter[str] = Counter()
    for _, _, line in read_lines(unpack(file_chunks(file))):
        severities: set[str] = set()
        for issue in _issues(line):
            severity = _listed(issue.get("severity"), FHIR_SEVERITIES)
            code = _listed(issue.get("code"), ISSUE_CODES)
            issues[severity, code] += 1
            severities.add(severity)
        outcomes.update(severities)
    return dict(issues), dict(outcomes)


def _issues(line: bytes) -> Collection[Mapping[str, Any]]:
    try:
        outcome = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ()
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    return (
        [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else ()
    )


def _listed(value: Any, known: frozenset[str]) -> str:
    return value if isinstance(value, str) and value in known else "other"
