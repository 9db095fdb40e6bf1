"""Files over real sockets, from servers that break, lie, expire and get tired: all arrive whole."""

from __future__ import annotations

import base64
import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from exports.access import OPEN
from exports.bulk.manifest import ExportManifest, RemoteFile
from exports.connection.session import open_session
from exports.connection.transport import Patience
from exports.download.downloads import Downloaded, download_all
from exports.errors import FhirloomError
from exports.landing.export_log import NO_LOG
from exports.landing.identities import repeated

HASTE = Patience(retries=3, first_wait=0.01, longest_wait=0.02)
Answer = Callable[[BaseHTTPRequestHandler], None]


def rows(count: int, start: int = 0, filler: int = 0) -> bytes:
    return b"".join(
        orjson.dumps({"resourceType": "Patient", "id": f"{number}", "text": "x" * filler}) + b"\n"
        for number in range(start, start + count)
    )


PLAIN = rows(3000, filler=400)
PACKED = gzip.compress(rows(60_000), mtime=0)
ZIPPED = {"Content-Encoding": "gzip"}
TAGGED = {"ETag": '"v1"', "Accept-Ranges": "bytes"}


def sent(body: bytes, status: int = 200, **headers: str) -> Answer:
    """A whole answer, with its length unless another is given."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def with_headers(body: bytes, headers: Mapping[str, str], status: int = 200) -> Answer:
    return sent(body, status, **{name.replace("-", "_"): text for name, text in headers.items()})


def cut(body: bytes, at: int, headers: Mapping[str, str]) -> Answer:
    """The first bytes of a body, then the end of the connection."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        with_headers(body[:at], {"Content-Length": str(len(body)), **headers})(handler)
        handler.close_connection = True

    return answer


def ranged(body: bytes, headers: Mapping[str, str]) -> Answer:
    """A server that goes on where it is asked to, if the version is still the same."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        if not asked or handler.headers.get("If-Range") != headers["ETag"]:
            with_headers(body, headers)(handler)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        told = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", **headers}
        with_headers(body[start:], told, 206)(handler)

    return answer


@dataclass
class Store:
    """A file server: each path has answers, given in turn, the last for ever."""

    root: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def put(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def asked(self, path: str) -> list[dict[str, str]]:
        """The headers of each request for a path."""
        return [headers for asked, headers in self.seen if asked == path]

    def manifest(self, *paths: str, **changed: Any) -> ExportManifest:
        files = tuple(
            RemoteFile("files", f"Patient.{number:04d}", "Patient", f"{self.root}{path}", None)
            for number, path in enumerate(paths, start=1)
        )
        return ExportManifest(
            datetime(2026, 1, 1, tzinfo=UTC),
            with_token=False,
            files=tuple(replace(file, **changed) for file in files),
        )


@pytest.fixture
def store() -> Iterator[Store]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            with lock:
                found.seen.append((self.path, dict(self.headers.items())))
                left = found.answers.get(self.path, [sent(b"", 404)])
                answer = left.pop(0) if len(left) > 1 else left[0]
            answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        found = Store(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


def fetch(manifest: ExportManifest, folder: Path, **options: Any) -> list[Downloaded]:
    def never() -> ExportManifest:
        raise AssertionError("nothing has expired")

    given = {"patience": HASTE, "log": NO_LOG, "renew": never, **options}
    with open_session("http://127.0.0.1", OPEN, HASTE) as session:
        return download_all(session, manifest, folder, **given)


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.part*"))


def test_every_file_arrives_as_it_was_sent_and_only_once(store: Store, folder: Path) -> None:
    bodies = {f"/{number}": gzip.compress(rows(50, number * 50), mtime=0) for number in range(9)}
    for path, body in bodies.items():
        store.put(path, with_headers(body, ZIPPED))
    heard: list[tuple[int, int | None, str]] = []
    manifest = store.manifest(*bodies, count=50)
    found = fetch(manifest, folder, progress=lambda *told: heard.append(told))
    assert [file.remote for file in found] == list(manifest.files)
    assert [file.path.read_bytes() for file in found] == list(bodies.values())
    assert {file.path.suffix for file in found} == {".gz"}
    assert all(file.delivered.judged.ids == {"Patient": 50} for file in found)
    assert repeated(file.identities for file in found) == {}
    assert heard == [(done, 9, "files") for done in range(10)]
    assert parts(folder) == []

    store.seen.clear()
    assert fetch(manifest, folder) == found
    assert store.seen == []


def test_ids_that_come_in_two_files_are_found(store: Store, folder: Path) -> None:
    store.put("/a", sent(rows(100)))
    store.put("/b", sent(rows(100, start=90)))
    found = fetch(store.manifest("/a", "/b"), folder)
    assert repeated(file.identities for file in found) == {"Patient": 10}


@pytest.mark.parametrize(
    ("body", "headers"), [(PLAIN, TAGGED), (PACKED, {**TAGGED, **ZIPPED})], ids=["plain", "gzip"]
)
def test_a_broken_file_goes_on_where_it_broke(
    store: Store, folder: Path, body: bytes, headers: dict[str, str]
) -> None:
    store.put("/a", cut(body, len(body) // 2, headers), ranged(body, headers))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.read_bytes() == body
    first, second = store.asked("/a")
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == (f"bytes={len(body) // 2}-", '"v1"')

    store.put("/b", with_headers(body, headers))
    (undisturbed,) = fetch(store.manifest("/b"), folder.with_name("undisturbed"))
    assert found.delivered == undisturbed.delivered
    assert found.identities.read_bytes() == undisturbed.identities.read_bytes()


def test_the_next_run_goes_on_where_the_last_one_broke(store: Store, folder: Path) -> None:
    headers = {**TAGGED, **ZIPPED}
    store.put("/a", cut(PACKED, 20_000, headers), sent(b"", 500))
    with pytest.raises(FhirloomError) as raised:
        fetch(store.manifest("/a"), folder)
    assert raised.value.code == "server"
    store.seen.clear()
    store.put("/a", ranged(PACKED, headers))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.read_bytes() == PACKED
    assert found.delivered.judged.rows == {"Patient": 60_000}
    assert [headers["Range"] for headers in store.asked("/a")] == ["bytes=20000-"]


def test_a_part_from_before_the_machine_went_down_is_not_trusted(
    store: Store, folder: Path
) -> None:
    store.put("/a", cut(PLAIN, 20_000, TAGGED), sent(b"", 500))
    with pytest.raises(FhirloomError):
        fetch(store.manifest("/a"), folder)
    (note,) = folder.rglob("*.part.json")
    note.write_bytes(orjson.dumps({**orjson.loads(note.read_bytes()), "boot": "an earlier one"}))
    store.seen.clear()
    store.put("/a", ranged(PLAIN, TAGGED))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.read_bytes() == PLAIN
    assert "Range" not in store.asked("/a")[0]


HALF = len(PLAIN) // 2
REST = f"bytes {HALF}-{len(PLAIN) - 1}/{len(PLAIN)}"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(with_headers(PLAIN, TAGGED), id="range ignored"),
        pytest.param(sent(b"", 416), id="out of range"),
        pytest.param(
            with_headers(PLAIN[9:], {"Content-Range": f"bytes 9-{len(PLAIN) - 1}/*"}, 206),
            id="another start",
        ),
        pytest.param(with_headers(PLAIN[HALF:], {}, 206), id="no place told"),
        pytest.param(
            with_headers(PLAIN[HALF:-9], {"Content-Range": f"bytes {HALF}-9999999/*"}, 206),
            id="less than told",
        ),
        pytest.param(
            with_headers(
                PLAIN[HALF:-9], {"Content-Range": f"bytes {HALF}-{len(PLAIN) - 10}/*"}, 206
            ),
            id="less than the first answer told",
        ),
        pytest.param(
            with_headers(PLAIN[HALF:-9], {"Content-Range": REST}, 206), id="less than the rest"
        ),
        pytest.param(
            with_headers(PLAIN[HALF:], {"Content-Range": REST, "ETag": '"v2"'}, 206),
            id="another version",
        ),
        pytest.param(
            with_headers(gzip.compress(PLAIN)[HALF:], {"Content-Range": REST, **ZIPPED}, 206),
            id="packed otherwise",
        ),
    ],
)
def test_a_rest_that_does_not_fit_is_never_put_together(
    store: Store, folder: Path, answer: Answer
) -> None:
    store.put("/a", cut(PLAIN, HALF, TAGGED), answer, with_headers(PLAIN, TAGGED))
    (found,) = fetch(store.manifest("/a", count=3000), folder)
    assert found.path.read_bytes() == PLAIN
    assert found.delivered.judged.rows == {"Patient": 3000}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"v1"'},
        {"ETag": '"v1"', "Accept-Ranges": "none"},
        {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:20 GMT"},
    ],
    ids=str,
)
def test_a_part_of_a_version_without_a_name_is_not_continued(
    store: Store, folder: Path, headers: dict[str, str]
) -> None:
    store.put("/a", cut(PLAIN, HALF, headers), with_headers(PLAIN, headers))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.read_bytes() == PLAIN
    assert all("Range" not in asked for asked in store.asked("/a"))


def test_an_unrequested_part_is_not_taken_for_the_whole(store: Store, folder: Path) -> None:
    part = with_headers(rows(5), {"Content-Range": "bytes 0-9/*"}, 206)
    store.put("/a", part, sent(rows(9)))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.delivered.judged.rows == {"Patient": 9}


def unended(body: bytes) -> Answer:
    """A chunked body that ends as it should, whatever is in it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    return answer


DAMAGES = {
    "gzip cut, ending cleanly": unended(PACKED[:-9]),
    "gzip cut, its length right": with_headers(PACKED[: len(PACKED) // 2], ZIPPED),
    "socket cut": cut(PACKED, 1000, ZIPPED),
    "gzip corrupt": with_headers(PACKED[:500] + b"\0\0\0" + PACKED[503:], ZIPPED),
    "gzip with another checksum": with_headers(PACKED[:-8] + b"\1" * 8, ZIPPED),
    "no gzip after all": with_headers(rows(60_000), ZIPPED),
    "packed as nobody asked": sent(PACKED, Content_Encoding="br"),
    "empty": with_headers(b"", ZIPPED),
    "a web page": sent(b"<html>\n<h1>Sorry</h1>\n</html>", Content_Type="text/html"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_fetched_again_but_not_for_ever(
    store: Store, folder: Path, damage: str
) -> None:
    store.put("/a", DAMAGES[damage], with_headers(PACKED, ZIPPED))
    manifest = store.manifest("/a", count=60_000)
    (found,) = fetch(manifest, folder)
    assert found.path.read_bytes() == PACKED

    again = folder.with_name("again")
    store.put("/a", DAMAGES[damage])
    store.seen.clear()
    with pytest.raises(FhirloomError) as raised:
        fetch(manifest, again)
    assert raised.value.code == ("server" if damage == "a web page" else "incomplete")
    assert "Sorry" not in str(raised.value)
    assert len(store.seen) == 4
    assert not list(again.rglob("*.ndjson*.gz"))


def test_a_count_that_stays_wrong_is_a_disagreement_and_no_damage(
    store: Store, folder: Path
) -> None:
    store.put("/a", sent(rows(99)))
    (found,) = fetch(store.manifest("/a", count=100), folder)
    assert found.delivered.judged.rows == {"Patient": 99}
    assert len(store.seen) == 3

    store.put("/b", *(sent(rows(number)) for number in (5, 6, 7, 8)))
    with pytest.raises(FhirloomError, match="each time with other lines") as raised:
        fetch(store.manifest("/b", count=100), folder)
    assert raised.value.code == "incomplete"


@pytest.mark.parametrize(
    "wrong",
    [PLAIN[:-9], b"", b'{"resourceType":"Patient"}\n' * 3],
    ids=["cut within a line", "empty", "bad lines alone"],
)
def test_what_looks_wrong_is_fetched_again_though_nobody_counts(
    store: Store, folder: Path, wrong: bytes
) -> None:
    store.put("/a", _ended_by_the_connection(wrong), sent(PLAIN))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.read_bytes() == PLAIN

    store.put("/b", _ended_by_the_connection(wrong))
    (found,) = fetch(store.manifest("/b"), folder)
    assert found.path.read_bytes() == wrong
    assert len(store.asked("/b")) == 3


def _ended_by_the_connection(body: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def test_fewer_bytes_than_announced_are_fetched_again_where_no_rows_are_counted(
    store: Store, folder: Path
) -> None:
    store.put("/a", sent(rows(5)), sent(rows(9)))
    (found,) = fetch(store.manifest("/a", size=len(rows(9))), folder)
    assert found.delivered.judged.rows == {"Patient": 9}
    store.put("/b", with_headers(PACKED, ZIPPED))
    fetch(store.manifest("/b", size=len(PACKED)), folder)
    assert len(store.asked("/b")) == 1


def test_a_file_that_is_not_made_yet_is_no_empty_file(store: Store, folder: Path) -> None:
    store.put("/a", sent(b"", 202), sent(rows(5)))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.delivered.judged.rows == {"Patient": 5}


def test_gzip_of_nothing_is_damage_unless_nothing_was_announced(store: Store, folder: Path) -> None:
    store.put("/a", with_headers(b"", ZIPPED), with_headers(PACKED, ZIPPED))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.delivered.judged.rows == {"Patient": 60_000}


@pytest.mark.parametrize(
    "said",
    [
        b'{"error":"try later"}',
        b'{"resourceType":"OperationOutcome","id":"1","issue":[{"code":"exception"}]}',
    ],
)
def test_an_error_that_comes_as_a_success_is_no_file(
    store: Store, folder: Path, said: bytes
) -> None:
    store.put("/a", sent(said), sent(PLAIN))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.read_bytes() == PLAIN
    store.put("/b", sent(said))
    with pytest.raises(FhirloomError, match="something else"):
        fetch(store.manifest("/b"), folder)


def test_files_without_rows_are_files(store: Store, folder: Path) -> None:
    store.put("/a", sent(b""))
    store.put("/b", with_headers(gzip.compress(b""), ZIPPED))
    store.put("/c", sent(b"\n\n"))
    found = fetch(store.manifest("/a", "/b", "/c", count=0), folder)
    assert [file.delivered.judged.lines for file in found] == [0, 0, 0]


def test_gzip_is_known_by_its_bytes_whatever_it_is_called(store: Store, folder: Path) -> None:
    store.put("/a", sent(PACKED, Content_Type="application/gzip"))
    (found,) = fetch(store.manifest("/a"), folder)
    assert found.path.name == "Patient.0001.ndjson.gz"
    assert found.delivered.judged.rows == {"Patient": 60_000}


@pytest.mark.parametrize("indent", [None, orjson.OPT_INDENT_2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_rows_inside_of_a_binary_are_taken_out_of_it(
    store: Store, folder: Path, indent: int | None, pack: Callable[[bytes], bytes]
) -> None:
    inside = pack(rows(30_000))
    binary = {
        "resourceType": "Binary",
        "id": "b",
        "contentType": "application/fhir+ndjson",
        "data": base64.b64encode(inside).decode(),
    }
    wrapped = orjson.dumps(binary, option=indent).replace(b"/", b"\\/")
    store.put("/a", sent(wrapped))
    (found,) = fetch(store.manifest("/a", count=30_000), folder)
    assert found.path.read_bytes() == inside
    assert found.delivered.unwrapped
    assert found.delivered.judged.ids == {"Patient": 30_000}
    assert fetch(store.manifest("/a", count=30_000), folder) == [found]


def test_a_binary_that_was_asked_for_stays_one(store: Store, folder: Path) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": "x/ndjson", "data": "e30K"}
    store.put("/a", sent(orjson.dumps(binary)))
    (found,) = fetch(store.manifest("/a", type="Binary"), folder)
    assert found.path.read_bytes() == orjson.dumps(binary)
    picture = {**binary, "contentType": "image/png"}
    store.put("/b", sent(orjson.dumps(picture)))
    (found,) = fetch(store.manifest("/b"), folder.with_name("other"))
    assert found.path.read_bytes() == orjson.dumps(picture)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_expired_urls_are_renewed_once_for_all(store: Store, folder: Path, status: int) -> None:
    together = threading.Barrier(4)

    def expired(handler: BaseHTTPRequestHandler) -> None:
        together.wait(10)
        sent(b"", status)(handler)

    old = [f"/{number}?signature=old" for number in range(4)]
    new = [path.replace("old", "new") for path in old]
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        store.put(before, expired)
        store.put(after, sent(rows(5, start=number)))
    renewals: list[int] = []

    def renew() -> ExportManifest:
        renewals.append(1)
        return store.manifest(*new)

    found = fetch(store.manifest(*old), folder, renew=renew)
    assert [file.delivered.judged.rows for file in found] == [{"Patient": 5}] * 4
    assert len(renewals) == 1
    store.seen.clear()
    assert len(fetch(store.manifest(*new), folder)) == 4
    assert store.seen == []


@pytest.mark.parametrize("renewed", [False, True])
def test_files_that_their_query_alone_tells_apart(
    store: Store, folder: Path, renewed: bool
) -> None:
    old = [f"/dl?file={number}&signature=old" for number in range(4)]
    new = [path.replace("old", "new") for path in old]
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        content = sent(rows(5, start=5 * number))
        store.put(before, sent(b"", 403) if renewed else content)
        store.put(after, content)
    found = fetch(store.manifest(*old), folder, renew=lambda: store.manifest(*new))
    assert repeated(file.identities for file in found) == {}

    # The same names, in another order: what was kept under one is not taken for another's.
    turned = store.manifest(*reversed(new))
    found = fetch(turned, folder)
    assert repeated(file.identities for file in found) == {}
    assert found[0].path.read_bytes() == rows(5, start=15)


def test_a_place_in_another_order_tells_nothing(store: Store, folder: Path) -> None:
    for path in ("/old-a", "/old-b"):
        store.put(path, sent(b"", 410))
    store.put("/new-a", sent(rows(5)))
    store.put("/new-b", sent(rows(7, start=5)))
    before, after = store.manifest("/old-a", "/old-b"), store.manifest("/new-b", "/new-a")
    counted = [
        replace(manifest, files=tuple(map(_counted, manifest.files, counts)))
        for manifest, counts in ((before, (5, 7)), (after, (7, 5)))
    ]
    with pytest.raises(FhirloomError, match="410"):
        fetch(counted[0], folder, renew=lambda: counted[1])


def _counted(file: RemoteFile, count: int) -> RemoteFile:
    return replace(file, count=count)


def test_a_file_that_stays_refused_is_told(store: Store, folder: Path) -> None:
    store.put("/a", sent(b"Jane Roe", 404))
    manifest = store.manifest("/a")
    with pytest.raises(FhirloomError, match="404") as raised:
        fetch(manifest, folder, renew=lambda: manifest)
    assert raised.value.code == "server"
    assert "Jane" not in str(raised.value)


@pytest.mark.parametrize("status", [429, 503])
def test_a_tired_server_gets_its_rest(store: Store, folder: Path, status: int) -> None:
    for number in range(8):
        tired = [sent(b"", status, Retry_After="0")] if number % 2 else []
        store.put(f"/{number}", *tired, sent(rows(5)))
    found = fetch(store.manifest(*(f"/{number}" for number in range(8))), folder)
    assert len(found) == 8
    assert Counter(path for path, _ in store.seen)["/1"] == 2

    store.put("/a", sent(b"", status))
    with pytest.raises(FhirloomError, match="busy") as raised:
        fetch(store.manifest("/a"), folder)
    assert raised.value.code == "server"


def test_one_failure_ends_all_and_what_has_arrived_stays(store: Store, folder: Path) -> None:
    begun, gone = threading.Event(), threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        with_headers(PLAIN[:HALF], {**TAGGED, "Content-Length": str(len(PLAIN))})(handler)
        begun.set()
        try:
            while True:
                handler.wfile.write(b"\n" * 70_000)
        except OSError:
            gone.set()

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        begun.wait(10)
        sent(b"", 400)(handler)

    long = RemoteFile("files", "Long", "Patient", f"{store.root}/slow", None)
    manifest = store.manifest("/good", "/bad")
    manifest = replace(manifest, files=(*manifest.files, long))
    store.put("/good", sent(rows(5)))
    store.put("/slow", cut(PLAIN, HALF, TAGGED), slowly)
    store.put("/bad", refuse)
    with pytest.raises(FhirloomError, match="400"):
        fetch(manifest, folder)
    assert "Long.part" in parts(folder)
    store.seen.clear()
    store.put("/bad", sent(rows(5)))
    store.put("/slow", ranged(PLAIN, TAGGED))
    assert len(fetch(manifest, folder)) == 3
    assert store.asked("/good") == []


def test_what_a_kill_tore_or_took_is_made_again(store: Store, folder: Path) -> None:
    for path in ("/a", "/b", "/c"):
        store.put(path, sent(rows(5)))
    manifest = store.manifest("/a", "/b", "/c")
    found = fetch(manifest, folder)
    journal = folder / "receipts.ndjson"
    torn = sorted(journal.read_bytes().splitlines(keepends=True))
    journal.write_bytes(torn[0] + torn[1] + torn[2][:40])
    found[0].identities.unlink()
    found[1].path.write_bytes(b"")
    store.seen.clear()
    assert fetch(manifest, folder) == found
    assert sorted(path for path, _ in store.seen) == ["/b", "/c"]
    assert repeated(file.identities for file in found) == {"Patient": 10}
    assert [orjson.loads(line)["name"] for line in journal.read_bytes().splitlines()]


def test_another_export_s_files_are_not_taken_for_these(store: Store, folder: Path) -> None:
    store.put("/a", sent(rows(5)))
    store.put("/b", sent(rows(6)))
    fetch(store.manifest("/a"), folder)
    (found,) = fetch(store.manifest("/b"), folder)
    assert found.delivered.judged.rows == {"Patient": 6}


def test_another_snapshot_s_files_are_not_taken_for_these(store: Store, folder: Path) -> None:
    store.put("/a", sent(rows(5)), sent(rows(6)))
    manifest = store.manifest("/a")
    fetch(manifest, folder)
    later = replace(manifest, transaction_time=datetime(2026, 1, 2, tzinfo=UTC))
    (found,) = fetch(later, folder)
    assert found.delivered.judged.rows == {"Patient": 6}


def test_a_record_that_a_full_disk_tore_is_none(store: Store, folder: Path) -> None:
    store.put("/a", sent(rows(5)))
    manifest = store.manifest("/a")
    fetch(manifest, folder)
    journal = folder / "receipts.ndjson"
    journal.write_bytes(b'{"name":"files/Pat' + journal.read_bytes() * 2)
    found = fetch(manifest, folder)
    assert len(store.seen) == 1
    assert found[0].delivered.judged.rows == {"Patient": 5}


def test_the_log_tells_each_step_and_no_signature(store: Store, folder: Path) -> None:
    told: list[tuple[str, Mapping[str, Any]]] = []

    class Log:
        def event(self, name: str, detail: Mapping[str, Any]) -> None:
            told.append((name, detail))

    store.put("/a?signature=secret", cut(PLAIN, HALF, {}), sent(PLAIN))
    fetch(store.manifest("/a?signature=secret"), folder, log=Log())
    names: Sequence[str] = [name for name, _ in told]
    assert names == [
        "download_request",
        "download_error",
        "download_request",
        "download_complete",
    ]
    assert told[-1][1]["resourceCount"] == 3000
    assert told[-1][1]["fileSize"] == len(PLAIN)
    assert "secret" not in str(told)


def test_a_disk_too_small_is_told_before_anything_is_asked(store: Store, folder: Path) -> None:
    manifest = store.manifest("/a", size=10**18)
    with pytest.raises(FhirloomError, match="1000 PB") as raised:
        fetch(manifest, folder)
    assert raised.value.code == "bad-input"
    assert store.seen == []
