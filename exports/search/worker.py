"""Searches a FHIR server through fhir-kindling, in that library's own environment.

Run by `exports.search.process`, and imports nothing of ours. It reads one JSON object a line and
answers with one, free of any value: resources go to the file that a request names. The library
builds the query and follows the pages; what it would do to a page is kept from it. Its models
would drop what they don't know, its JSON parser turn 1.10 into 1.1, its paging take an error page
for the last one. So the transport below takes each resource out of the page as the server wrote
it, has the asking process judge every failure, and hands the library only the page's links.

Source: FHIR R4, "Search", sections 3.1.1.4 (paging, total) and 3.1.1.7 (errors).
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import IO, Any, Final
from urllib.parse import quote, urljoin, urlsplit

import httpx
from fhir_kindling import FhirQuerySync
from fhir_kindling.fhir_query.query_parameters import FhirQueryParameters, FieldParameter

# Numbers stay the text that they are: a decimal's last zero is part of it.
DECODER: Final = json.JSONDecoder(parse_float=str, parse_int=str)
BLANKS: Final = re.compile(r"[ \t\r\n]*")
# No JSON string holds a raw line break, so a line break stands between two tokens.
LINE_BREAKS: Final = re.compile(r"[\r\n][ \t\r\n]*")
OUTCOME_CODE: Final = re.compile(r"[a-z][a-z_\-]{1,40}")
HEADERS: Final = {
    "Accept": "application/fhir+json",
    # A parameter that the server doesn't know shall be refused, not passed over.
    "Prefer": "handling=strict",
}


class GaveUpError(Exception):
    """A request has failed for good; its one argument is the trouble, as a JSON object."""


class Cursor:
    """A place in a JSON text, moved on by what is read there. Raises `ValueError`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def value(self) -> tuple[Any, str]:
        """The value that is next, and how it is written."""
        start = self._after_blanks(self.at)
        value, self.at = DECODER.raw_decode(self.text, start)
        return value, self.text[start : self.at]

    def names(self) -> Iterator[str]:
        """The names in the object that is next; whoever asks reads the value of each."""
        for _ in self._members("{", "}"):
            name, _written = self.value()
            self._expect(":")
            yield str(name)

    def items(self) -> Iterator[None]:
        """One None for each item in the array that is next; whoever asks reads the item."""
        yield from self._members("[", "]")

    def end(self) -> None:
        """Nothing may follow."""
        if self._after_blanks(self.at) != len(self.text):
            raise ValueError

    def _members(self, opening: str, closing: str) -> Iterator[None]:
        self._expect(opening)
        if self._take(closing):
            return
        while True:
            yield None
            if not self._take(","):
                self._expect(closing)
                return

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise ValueError

    def _take(self, sign: str) -> bool:
        start = self._after_blanks(self.at)
        found = self.text.startswith(sign, start)
        self.at = start + found
        return found

    def _after_blanks(self, at: int) -> int:
        match = BLANKS.match(self.text, at)
        return match.end() if match else at


class Kept:
    """What one request has brought so far; resources are in the file."""

    def __init__(self, file: IO[bytes] | None, resource_type: str) -> None:
        self._file = file
        self._type = resource_type
        self._ids: set[str] = set()
        self.rows = 0
        self.unasked = 0
        self.pages = 0
        self.total: int | None = None
        self.date = ""

    @property
    def told(self) -> dict[str, Any]:
        """The counts: `matches` are distinct ids, `rows` lines, `unasked` resources not kept."""
        return {
            "rows": self.rows,
            "matches": len(self._ids),
            "unasked": self.unasked,
            "pages": self.pages,
            "total": self.total,
            "date": self.date,
        }

    def resource(self, body: bytes) -> dict[str, Any]:
        """Take the one resource that a read answers with."""
        cursor = Cursor(body.decode("utf-8-sig"))
        resource, written = cursor.value()
        cursor.end()
        if resource.get("resourceType") != self._type:
            raise ValueError
        self._take(*named(resource), "match", written)
        return {}

    def page(self, body: bytes) -> dict[str, Any]:
        """Take the entries out of a searchset Bundle; its other members are returned."""
        cursor = Cursor(body.decode("utf-8-sig"))
        rest: dict[str, Any] = {}
        entries: list[tuple[str, str, str, str]] = []
        for name in cursor.names():
            if name != "entry":
                rest[name] = cursor.value()[0]
                continue
            for _ in cursor.items():
                entry = {member: cursor.value() for member in cursor.names()}
                if "resource" in entry:
                    resource, written = entry["resource"]
                    search, _written = entry.get("search", ({}, ""))
                    entries.append((*named(resource), search.get("mode", "match"), written))
        cursor.end()
        if rest.get("resourceType") != "Bundle":
            raise ValueError
        total = rest.get("total")
        if self.total is None and total is not None:
            self.total = int(total)
        for found in entries:
            self._take(*found)
        self.pages += 1
        return rest

    def _take(self, found: str, resource_id: str, mode: str, written: str) -> None:
        if found == self._type and mode == "match":
            self._ids.add(resource_id)
        elif found != "OperationOutcome":
            self.unasked += 1
            return
        if self._file is not None:
            self._file.write(LINE_BREAKS.sub("", written).encode() + b"\n")
        self.rows += 1


def named(resource: dict[str, Any]) -> tuple[str, str]:
    """A resource's type and id, as they are."""
    return str(resource.get("resourceType")), str(resource.get("id"))


class KeptPages(httpx.BaseTransport):
    """The way to the server: keeps what comes, and has `judge` decide about every failure.

    `judge` is told the trouble and gives the authorization to try again with, or None.
    """

    def __init__(
        self, wire: httpx.BaseTransport, base: str, judge: Callable[[dict[str, Any]], str | None]
    ) -> None:
        self._wire = wire
        self._base = base
        self._judge = judge
        self._asked: set[str] = set()
        self.authorization = ""
        self.kept = Kept(None, "")
        self.read: Callable[[bytes], dict[str, Any]] = self.kept.page

    def expect(self, kept: Kept, *, one: bool) -> None:
        """What comes next is for `kept`: `one` resource, or the pages of a search."""
        self.kept, self.read = kept, kept.resource if one else kept.page
        self._asked.clear()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The page without its entries. Raises `GaveUpError`."""
        self._check(request.url)
        attempt = 0
        while True:
            if self.authorization:
                request.headers["Authorization"] = self.authorization
            rest, trouble = self._attempt(request)
            if not trouble:
                return httpx.Response(200, json=self._left_over(rest))
            again = self._judge({**trouble, "attempt": attempt})
            if again is None:
                raise GaveUpError(trouble)
            self.authorization = again
            attempt += 1

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def _check(self, url: httpx.URL) -> None:
        # The authorization is for one origin, and a page that comes twice comes for ever.
        if origin(url) != origin(httpx.URL(self._base)):
            raise GaveUpError({"kind": "foreign-page"})
        if str(url) in self._asked:
            raise GaveUpError({"kind": "endless"})
        self._asked.add(str(url))

    def _attempt(self, request: httpx.Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is left of the page, or the trouble."""
        try:
            response = self._wire.handle_request(request)
            try:
                body = response.read()
            finally:
                response.close()
        except (httpx.TransportError, httpx.DecodingError) as failure:
            return {}, {"kind": "unreachable", "reason": type(failure).__name__}
        if not response.is_success:
            return {}, {
                "kind": "status",
                "status": response.status_code,
                "retry_after": response.headers.get("retry-after", ""),
                "code": outcome_code(body),
            }
        self.kept.date = self.kept.date or response.headers.get("date", "")
        try:
            return self.read(body), {}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}, {"kind": "damaged"}

    def _left_over(self, rest: dict[str, Any]) -> dict[str, Any]:
        links = [
            {"relation": "next", "url": self._own(link["url"])}
            for link in rest.get("link") or []
            if link.get("relation") == "next"
        ]
        # Without an entry the library takes a page for the last one.
        return {"total": self.kept.total, "link": links, "entry": [{}]}

    def _own(self, url: str) -> str:
        """The URL as this side reaches it: a server behind a gateway may not know how."""
        base, parts = urlsplit(self._base), urlsplit(urljoin(self._base + "/", url))
        if parts.hostname == base.hostname:
            parts = parts._replace(scheme=base.scheme, netloc=base.netloc)
        return parts.geturl()


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port; httpx leaves a scheme's own port out."""
    return url.scheme, url.host, url.port


def outcome_code(body: bytes) -> str:
    """The code of an OperationOutcome's first issue; "" where there is none."""
    try:
        code = json.loads(body)["issue"][0]["code"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) and OUTCOME_CODE.fullmatch(code) else ""


def parameters(resource_type: str, pairs: list[tuple[str, str]]) -> FhirQueryParameters:
    """The library's query; what it would read a number or a prefix out of is passed as text."""
    fields = [
        FieldParameter(field=name, operator="eq", value=quote(value, safe=",:"))
        for name, value in pairs
    ]
    return FhirQueryParameters(resource=resource_type, resource_parameters=fields)


def answer(
    client: httpx.Client, pages: KeptPages, base: str, request: dict[str, Any]
) -> dict[str, Any]:
    """Do what one request asks: `count`, `search` or `read`."""
    pages.authorization = request["authorization"]
    resource_type = request["type"]
    if request["do"] == "count":
        pages.expect(Kept(None, resource_type), one=False)
        query = parameters(resource_type, request["params"])
        return {"total": FhirQuerySync(base, query_parameters=query, client=client).count()}
    descriptor = os.open(request["into"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        kept = Kept(file, resource_type)
        pages.expect(kept, one=request["do"] == "read")
        if request["do"] == "read":
            client.get(f"{base}/{resource_type}/{request['id']}")
        else:
            query = parameters(resource_type, request["params"])
            FhirQuerySync(base, query_parameters=query, client=client).all(count=request["count"])
    return kept.told


def main() -> None:
    """Answer until the asking process closes its end."""
    lines, channel = sys.stdin, os.fdopen(os.dup(1), "w")
    # Nothing but an answer may get into the channel, whatever a library prints.
    sys.stdout = sys.stderr

    def tell(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    def judge(trouble: dict[str, Any]) -> str | None:
        tell({"trouble": trouble})
        again: str | None = json.loads(lines.readline())["again"]
        return again

    way = json.loads(lines.readline())
    certificate = (way["certificate"], way["certificate_key"]) if way["certificate"] else None
    tls = httpx.create_ssl_context(verify=way["ca"] or True, cert=certificate)
    wire = httpx.HTTPTransport(verify=tls, proxy=way["proxy"] or None)
    pages = KeptPages(wire, way["base"], judge)
    timeout = httpx.Timeout(60.0, connect=10.0)
    with httpx.Client(transport=pages, headers=HEADERS, timeout=timeout) as client:
        for line in lines:
            try:
                tell({"done": answer(client, pages, way["base"], json.loads(line))})
            except GaveUpError as failure:
                tell({"failed": failure.args[0]})
            except Exception as failure:
                traceback.print_exc()
                tell({"failed": {"kind": "defect", "reason": type(failure).__name__}})


if __name__ == "__main__":
    main()
