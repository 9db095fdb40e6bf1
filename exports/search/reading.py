"""One type, batch by batch: searched, counted against the server's total, kept.

Several patients go into one search (`patient=a,b`) only once the server has shown that it
understands that: it may take the list for one id and answer, truly, that nothing matches. So
batches are read one patient at a time until the resources of one can be compared with the server's
count for the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Final

from exports.errors import FhirloomError
from exports.landing.screening import named_patients
from exports.search.compartment import REFERENCED
from exports.search.parts import Part, Parts
from exports.search.process import SearchProcess
from exports.search.protocol import NOT_OFFERED, NOT_UNDERSTOOD, Answer, Query, Refused

BATCH: Final = 20
"""Ids in one search: their URL stays below the 2,000 characters that every server takes."""
ATTEMPTS: Final = 3
BY_ID: Final = "_id"
GONE: Final = frozenset({404, 410})


@dataclass(frozen=True)
class TypeSearch:
    """How the resources of a type are found: by `parameter`, whose values are ids.

    `variants` are further parameters, each a search of its own: a resource is asked for where one
    of them finds it. `required`: a server that doesn't offer the type is an error. `may_widen`: a
    server that would not take the variants may be asked without.
    """

    type: str
    parameter: str
    variants: tuple[tuple[tuple[str, str], ...], ...] = ((),)
    required: bool = False
    may_widen: bool = False

    @property
    def wider(self) -> TypeSearch:
        """The same search without what narrows it."""
        return replace(self, variants=((),), may_widen=False)

    def queries(self, ids: Sequence[str]) -> list[Query]:
        """The searches for those ids."""
        by = (self.parameter, ",".join(ids))
        return [Query(self.type, (by, *variant)) for variant in self.variants]


class Lists:
    """By which parameters a server has shown to find what any of several ids finds."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def known(self, parameter: str) -> bool | None:
        """Whether it does; None while it is not known."""
        return self._known.get(parameter)

    def learn(self, parameter: str, understood: bool | None) -> None:
        """Keep what has been shown first."""
        if understood is not None:
            self._known.setdefault(parameter, understood)


class TypeReader:
    """Reads types by way of one process; `read` is called after each batch."""

    def __init__(
        self,
        process: SearchProcess,
        parts: Parts,
        lists: Lists,
        stop: Event,
        read: Callable[[], None],
    ) -> None:
        self._process = process
        self._parts = parts
        self._lists = lists
        self._stop = stop
        self._read = read

    def read(self, search: TypeSearch, ids: Sequence[str], first: int = 0) -> bool:
        """Read the type for `ids`, into parts numbered from `first`; whether it is offered at all.

        Raises `FhirloomError`: `server` where the server refuses, `incomplete` where what it
        counts doesn't come.
        """
        for number, batch in enumerate(batches(ids), start=first):
            if self._stop.is_set():
                break
            part = self._parts.part(search.type, number)
            if part is None:
                try:
                    part = self._kept_batch(search, number, batch)
                except Refused as refusal:
                    narrowed = search.variants != ((),) and refusal.status not in NOT_OFFERED
                    offered = number > 0 or narrowed or not refusal.disowns
                    if offered or search.required:
                        raise refusal.told(search.type) from None
                    return False
            self._lists.learn(search.parameter, part.lists)
            self._read()
        return True

    def _kept_batch(self, search: TypeSearch, number: int, batch: Sequence[str]) -> Part:
        try:
            return self._read_batch(search, number, batch)
        except Refused as refusal:
            understood = refusal.status not in NOT_UNDERSTOOD
            # A server may read a Medication and yet not search for it.
            if search.type in REFERENCED and refusal.status in NOT_OFFERED | NOT_UNDERSTOOD:
                return self._one_by_one(search, number, batch)
            if search.may_widen and not understood:
                return self._read_batch(search.wider, number, batch, wider=True)
            raise

    def _read_batch(
        self,
        search: TypeSearch,
        number: int,
        batch: Sequence[str],
        *,
        wider: bool = False,
    ) -> Part:
        pieces: list[Path] = []
        answers: list[Answer] = []
        lists = self._lists.known(search.parameter)
        if lists and len(batch) > 1:
            try:
                answers = [
                    counted(self._process, self._parts, query, pieces)
                    for query in search.queries(batch)
                ]
            except Refused as refusal:
                if refusal.status not in NOT_UNDERSTOOD:
                    raise
                pieces.clear()
        if not answers:
            each = [
                [
                    counted(self._process, self._parts, query, pieces)
                    for query in search.queries([one])
                ]
                for one in batch
            ]
            answers = [answer for of_one in each for answer in of_one]
            if lists is None and len(batch) > 1:
                lists = self._takes_lists(search, batch, [of_one[0] for of_one in each])
        if search.parameter != BY_ID:
            for piece in pieces:
                _check_patients(piece, search.type, batch)
        totals = [answer.total for answer in answers]
        part = Part(
            matches=sum(answer.matches for answer in answers),
            total=None if None in totals else sum(total or 0 for total in totals),
            unasked=sum(answer.unasked for answer in answers),
            searches=len(answers),
            asked=len(batch) if search.parameter == BY_ID and search.variants == ((),) else 0,
            lists=lists,
            wider=wider,
        )
        self._parts.keep(search.type, number, pieces, part)
        return part

    def _takes_lists(
        self, search: TypeSearch, batch: Sequence[str], singly: Sequence[Answer]
    ) -> bool | None:
        """Whether the list finds what its members find; None where they find nothing."""
        found = sum(answer.matches for answer in singly)
        if found == max(answer.matches for answer in singly):
            return None
        try:
            return self._process.count(search.queries(batch)[0]) == found
        except Refused as refusal:
            if refusal.status not in NOT_UNDERSTOOD:
                raise
            return False

    def _one_by_one(self, search: TypeSearch, number: int, batch: Sequence[str]) -> Part:
        """The batch by reads instead of a search; those that aren't there are passed over."""
        pieces: list[Path] = []
        for resource_id in batch:
            piece = self._parts.scratch()
            try:
                self._process.read(search.type, resource_id, piece)
            except Refused as refusal:
                if refusal.status not in GONE:
                    raise
            pieces.append(piece)
        found = sum(piece.stat().st_size > 0 for piece in pieces)
        part = Part(found, found, 0, len(batch), len(batch), None)
        self._parts.keep(search.type, number, pieces, part)
        return part


def counted(process: SearchProcess, parts: Parts, query: Query, pieces: list[Path]) -> Answer:
    """A search's answer, its file added to `pieces`; asked again while it disagrees with the count.

    Raises `Refused`, and `FhirloomError` (incomplete) where it disagrees to the end.
    """
    for _ in range(ATTEMPTS):
        piece = parts.scratch()
        answer = process.search(query, piece)
        total = answer.total
        if answer.matches != total:
            # A total may be an estimate, or missing: the server's count decides.
            with suppress(Refused):
                count = process.count(query)
                total = total if count is None else count
        if total is None or answer.matches == total:
            pieces.append(piece)
            return replace(answer, total=total)
        piece.unlink()
    raise FhirloomError(
        "incomplete",
        f"{answer.matches} of {total} resources came, {ATTEMPTS} times",
        where=f"the search for {query.type}",
        fix="Run again to continue; if it stays so, the server's paging or count is wrong.",
    )


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids by the batch."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _check_patients(piece: Path, resource_type: str, batch: Sequence[str]) -> None:
    """Raise `FhirloomError` (server) for a resource that names other patients alone."""
    asked = {patient.encode() for patient in batch}
    with piece.open("rb") as lines:
        for line in lines:
            named = named_patients(line)
            if named and named.isdisjoint(asked):
                raise FhirloomError(
                    "server",
                    "The server answers with resources of patients that weren't asked for",
                    where=f"the search for {resource_type}",
                    fix="Leave the type out: this server doesn't search it by patient.",
                )


def references(path: Path, types: frozenset[str], base: str) -> Iterator[tuple[str, str]]:
    """(type, id) of each reference to one of `types` on the server at `base`, as it comes."""
    kinds = "|".join(sorted(types))
    written = re.compile(
        rf'"reference"\s*:\s*"(?:{re.escape(base)}/)?({kinds})/([A-Za-z0-9.\-]{{1,64}})["/]'.encode()
    )
    with path.open("rb") as lines:
        for line in lines:
            for kind, resource_id in written.findall(line):
                yield kind.decode(), resource_id.decode()
