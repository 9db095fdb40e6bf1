"""Which scopes to ask a server for, and which types the granted ones let us read.

Sources: SMART App Launch 1.0 (v1: `system/Patient.read`) and 2.2 (v2: `system/Patient.rs`),
"Scopes for requesting FHIR resources"; RFC 6749, section 3.3. Many servers refuse a token request
whole for one scope that they don't know, so none is asked for that a server leaves out of its list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exports.resource_types import RESOURCE_TYPES

SCOPE: Final = re.compile(r"system/(\*|[A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)")
READS: Final = {1: "read", 2: "rs"}
"""What reading and searching is called in scopes of version 1 and 2."""


@dataclass(frozen=True)
class Proposal:
    """Scopes to ask for in one token request, all of one `version` (1 or 2)."""

    scopes: tuple[str, ...]
    version: int
    wildcard: bool


def propose(
    types: Sequence[str],
    supported: Iterable[str] = (),
    capabilities: Iterable[str] = (),
    style: str = "",
) -> list[Proposal]:
    """What to ask for, best first; the next one when the server answers `invalid_scope`.

    `types` are the resource types to read (none: all that there are); `supported` and
    `capabilities` are the server's `scopes_supported` and `capabilities`, empty where it doesn't
    tell; `style` names a vendor's habit by the words "wildcard", "per-type", "v1" and "v2", which
    come first then. Empty where the server lists scopes, and none of them reads what is asked.
    """
    listed = frozenset(scope for scope in supported if scope.startswith("system/"))
    told = frozenset(capabilities)
    newest_first = (1, 2) if "permission-v1" in told and "permission-v2" not in told else (2, 1)
    proposals = list(
        filter(
            None,
            (
                *(_wildcard(listed, version) for version in newest_first),
                *_by_number(_per_type(types, listed, version) for version in newest_first),
            ),
        )
    )
    return sorted(proposals, key=lambda proposal: _strangeness(proposal, style))


def unreadable(granted: Iterable[str], types: Iterable[str]) -> tuple[str, ...]:
    """Those of `types` that the granted scopes don't let a client both read and search, sorted.

    A scope that is narrowed by a query (`system/Observation.rs?category=laboratory`) doesn't
    count: rows would be missing.
    """
    allowed: dict[str, set[str]] = {}
    for scope in granted:
        if (read := SCOPE.fullmatch(scope)) is not None:
            allowed.setdefault(read[1], set()).update(_reads(read[2]))
    everywhere = allowed.get("*", set())
    return tuple(
        sorted(type_ for type_ in types if not {"r", "s"} <= everywhere | allowed.get(type_, set()))
    )


def _wildcard(listed: frozenset[str], version: int) -> Proposal | None:
    scopes = _asked("*", listed, version)
    return Proposal(scopes, version, wildcard=True) if scopes else None


def _per_type(types: Sequence[str], listed: frozenset[str], version: int) -> Proposal | None:
    wanted = types or (RESOURCE_TYPES if listed else ())
    scopes = tuple(scope for type_ in sorted(wanted) for scope in _asked(type_, listed, version))
    return Proposal(scopes, version, wildcard=False) if scopes else None


def _asked(type_: str, listed: frozenset[str], version: int) -> tuple[str, ...]:
    """The scopes that read one type, as the server lists them; none where it lists others."""
    whole = f"system/{type_}.{READS[version]}"
    if not listed or whole in listed:
        return (whole,)
    halves = (f"system/{type_}.r", f"system/{type_}.s")
    if version == 2 and listed.issuperset(halves):
        return halves
    # Part of what the server lists: it lets a client do more than we want to.
    wider = f"system/{type_}.{'*' if version == 1 else 'cruds'}"
    return (whole,) if wider in listed else ()


def _by_number(proposals: Iterable[Proposal | None]) -> list[Proposal]:
    """Those that cover more types first: a server may list few of its types in one version."""
    present = [proposal for proposal in proposals if proposal is not None]
    return sorted(present, key=lambda proposal: -len(_types(proposal)))


def _types(proposal: Proposal) -> set[str]:
    return {scope.partition(".")[0] for scope in proposal.scopes}


def _strangeness(proposal: Proposal, style: str) -> int:
    """How many words of a vendor's habit the proposal goes against, the shape counting double."""
    other_shape = "per-type" if proposal.wildcard else "wildcard"
    other_version = f"v{3 - proposal.version}"
    return 2 * (other_shape in style) + (other_version in style)


def _reads(permission: str) -> Iterator[str]:
    yield from {"read": "rs", "*": "rs", "write": ""}.get(permission, permission)
