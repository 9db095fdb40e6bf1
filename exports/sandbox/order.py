"""What a client ordered with `$export`, and which version of the specification knows which words.

Source: FHIR Bulk Data Access 2.0.0, 3.0.0 and 4.0.0-ballot, "Bulk Data Kick-off Request".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from exports.sandbox.manner import Version

Level = Literal["system", "patient", "group"]
LISTS: Final = frozenset({"_type", "_elements", "includeAssociatedData", "_typeFilter", "patient"})
_STU2: Final = LISTS | {"_outputFormat", "_since"}
_STU3: Final = _STU2 | {"_until", "organizeOutputBy", "allowPartialManifests"}
PARAMETERS: Final[Mapping[Version, frozenset[str]]] = {
    "STU2": _STU2,
    "STU3": _STU3,
    "STU4": _STU3,
}
ORDER: Final = "sandbox.order"
"""In a request's scope: members of the order that are changed behind the client's back."""


@dataclass(frozen=True)
class ExportOrder:
    """One accepted `$export`. Empty members narrow nothing; `since` and `until` are instants.

    `ignored` are the parameters that the server does not know and was allowed to pass over;
    `separate_status`: the job's status is told apart from the request's own (STU4).
    """

    level: Level = "system"
    group: str = ""
    types: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    associated: tuple[str, ...] = ()
    organize_by: str = ""
    partial: bool = False
    separate_status: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the files can be served as they lie: nothing narrows them, except by type."""
        narrowed = (self.since, self.until, self.filters, self.elements, self.patients)
        extra = (self.organize_by, self.ignored)
        return not any(narrowed) and not any(extra) and self.group in ("", "all")

    @property
    def since_time(self) -> datetime | None:
        """`since` as a time with zone."""
        return datetime.fromisoformat(self.since) if self.since else None

    @property
    def until_time(self) -> datetime | None:
        """`until` as a time with zone."""
        return datetime.fromisoformat(self.until) if self.until else None

    def wants(self, resource_type: str) -> bool:
        """Whether resources of that type were asked for."""
        return not self.types or resource_type in self.types

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExportOrder:
        """From what `to_json` made."""
        lists = {name: tuple(given) for name, given in value.items() if isinstance(given, list)}
        return cls(**{**value, **lists})
