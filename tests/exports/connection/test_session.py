"""A session: who is told who we are, by which road, and what a failure of either says."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from starlette.responses import PlainTextResponse, Response

from exports.access import OPEN, Access
from exports.connection.origins import Trust, in_clear, origin_of
from exports.connection.session import Session, open_session
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from tests.exports.serving import Answer, Asked, proxying, serving

QUICK = Patience(retries=1, first_wait=0.01, longest_wait=0.02)
SECRET = "s3cret-v4lue"  # noqa: S105 - opens nothing
BEARER = f"Bearer {SECRET}"


class Server:
    """One of two servers, that notes what it is asked and answers as the test at hand wants."""

    def __init__(self) -> None:
        self.root = ""
        self.seen: list[Asked] = []
        self.answer: Answer = lambda asked: PlainTextResponse("here")

    def __call__(self, asked: Asked) -> Response:
        self.seen.append(asked)
        return self.answer(asked)

    @property
    def credentials(self) -> list[str]:
        return [asked.credentials for asked in self.seen]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    own, other = Server(), Server()
    with serving(own) as own.root, serving(other) as other.root:
        yield own, other


@pytest.fixture
def own(servers: tuple[Server, Server]) -> Server:
    own, _ = servers
    own.seen, own.answer = [], lambda asked: PlainTextResponse("here")
    return own


@pytest.fixture
def other(servers: tuple[Server, Server]) -> Server:
    _, other = servers
    other.seen, other.answer = [], lambda asked: PlainTextResponse("there")
    return other


@pytest.fixture
def bearer(tmp_path: Path) -> Path:
    path = tmp_path / "bearer"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.fixture
def opened() -> Iterator[Callable[..., Session]]:
    with ExitStack() as stack:

        def opened(base: str, access: Access = OPEN) -> Session:
            return stack.enter_context(open_session(base, access, QUICK))

        yield opened


def get(session: Session, url: str, **more: Any) -> httpx.Response:
    return session.send("GET", url, what="a request", headers={}, **more)


Opened = Callable[..., Session]


def test_a_server_that_asks_nobody_is_told_nothing(own: Server, opened: Opened) -> None:
    assert get(opened(own.root), own.root).text == "here"
    assert own.credentials == [""]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_basic_takes_the_password_without_its_line_end(
    own: Server, opened: Opened, tmp_path: Path, end: str
) -> None:
    path = tmp_path / "password"
    path.write_bytes(f" {SECRET}Ü ".encode() + end.encode())
    get(opened(own.root, Access(user="weaver", password_file=path)), own.root)
    scheme, _, packed = own.credentials[0].partition(" ")
    assert (scheme, base64.b64decode(packed).decode()) == ("Basic", f"weaver: {SECRET}Ü ")


def test_a_bearer_file_is_read_for_every_request(own: Server, opened: Opened, bearer: Path) -> None:
    session = opened(own.root, Access(bearer_file=bearer))
    get(session, own.root)
    bearer.write_text("another")
    get(session, own.root)
    assert own.credentials == [BEARER, "Bearer another"]


def test_a_bearer_renewed_meanwhile_is_tried_once_more(
    own: Server, opened: Opened, bearer: Path
) -> None:
    def renew(asked: Asked) -> Response:
        bearer.write_text("another")
        return Response(status_code=200 if asked.credentials == "Bearer another" else 401)

    own.answer = renew
    assert get(opened(own.root, Access(bearer_file=bearer)), own.root).is_success
    assert own.credentials == [BEARER, "Bearer another"]


@pytest.mark.parametrize("content", ["", "\n", "two words", "line\nline", "grün"])
def test_a_file_without_a_token_is_bad_input(tmp_path: Path, opened: Opened, content: str) -> None:
    path = tmp_path / "bearer"
    path.write_text(content)
    with pytest.raises(FhirloomError, match="no secret") as raised:
        opened("https://ehr.example", Access(bearer_file=path))
    assert raised.value.code == "bad-input"
    missing = Access(user="u", password_file=tmp_path / "missing")
    with pytest.raises(FhirloomError, match="no secret"):
        opened("https://ehr.example", missing)


@pytest.mark.parametrize("kind", ["bearer", "basic"])
def test_a_refused_secret_is_not_sent_again_and_never_shown(
    own: Server, opened: Opened, bearer: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own.answer = lambda asked: PlainTextResponse(f"no {asked.credentials}", 401)
    access = (
        Access(bearer_file=bearer)
        if kind == "bearer"
        else Access(user="weaver", password_file=bearer)
    )
    session = opened(own.root, access)
    with pytest.raises(FhirloomError, match="answered 401") as raised:
        get(session, f"{own.root}/Patient/jane")
    assert len(own.seen) == 1
    packed = own.credentials[0].partition(" ")[2]
    error: BaseException | None = raised.value
    shown = caplog.text + repr(access) + repr(session) + repr(vars(session))
    while error is not None:
        shown += str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in shown
    assert packed not in shown
    assert "jane" not in shown


def test_a_request_without_token_is_sent_without(own: Server, opened: Opened, bearer: Path) -> None:
    session = opened(own.root, Access(bearer_file=bearer))
    get(session, own.root, with_token=False)
    own.answer = lambda asked: Response(status_code=401)
    with pytest.raises(FhirloomError, match="no token is needed"):
        get(session, own.root, with_token=False)
    assert own.credentials == ["", ""]
    assert get(session, own.root, answers=frozenset({401})).status_code == 401


def test_another_origin_sees_the_token_only_where_it_is_named(
    own: Server, other: Server, opened: Opened, bearer: Path
) -> None:
    get(opened(own.root, Access(bearer_file=bearer)), other.root)
    named = Access(bearer_file=bearer, file_origins=(other.root,))
    get(opened(own.root, named), other.root)
    get(opened(own.root, named), other.root, with_token=False)
    assert other.credentials == ["", BEARER, ""]
    other.answer = lambda asked: Response(status_code=401)
    with pytest.raises(FhirloomError, match="--file-origin"):
        get(opened(own.root, Access(bearer_file=bearer)), other.root)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leaves_the_token_behind_unless_the_origin_is_named(
    own: Server, other: Server, opened: Opened, bearer: Path, status: int
) -> None:
    own.answer = lambda asked: (
        Response(status_code=status, headers={"Location": f"{other.root}/file"})
        if asked.path != "/end"
        else PlainTextResponse("end")
    )
    access = Access(bearer_file=bearer)
    assert get(opened(own.root, access), f"{own.root}/file").text == "there"
    named = Access(bearer_file=bearer, file_origins=(other.root,))
    assert get(opened(own.root, named), f"{own.root}/file").text == "there"
    assert other.credentials == ["", BEARER]
    other.answer = lambda asked: Response(status_code=307, headers={"Location": f"{own.root}/end"})
    assert get(opened(own.root, access), f"{own.root}/file").text == "end"
    assert other.credentials == ["", BEARER, ""]
    assert own.credentials == [BEARER] * 4


def test_a_session_cookie_is_sent_nowhere(own: Server, other: Server, opened: Opened) -> None:
    own.answer = lambda asked: (
        Response(status_code=307, headers={"Location": f"{other.root}/file"})
        if asked.path == "/file"
        else PlainTextResponse("here", headers={"Set-Cookie": f"session={SECRET}; Path=/"})
    )
    session = opened(own.root)
    get(session, own.root)
    get(session, f"{own.root}/file")
    get(session, other.root)
    assert len(other.seen) == 2
    assert all("cookie" not in asked.headers for asked in (*own.seen, *other.seen))


def test_localhost_is_another_origin_than_its_address(
    own: Server, opened: Opened, bearer: Path
) -> None:
    session = opened(own.root, Access(bearer_file=bearer))
    get(session, own.root.replace("127.0.0.1", "localhost"))
    assert own.credentials == [""]


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("https://ehr.example/fhir/x", True),
        ("https://EHR.example:443", True),
        ("https://user@ehr.example", True),
        ("http://ehr.example/fhir", False),
        ("https://ehr.example:8443/fhir", False),
        ("https://ehr.example.evil.example", False),
        ("https://evil.example/ehr.example", False),
        ("https://ehr.example@evil.example", False),
        ("https://evil.example#ehr.example", False),
        ("https://ehr.example\\@evil.example", False),
        ("https://ehr.example.", False),
        ("https://sub.ehr.example", False),
        ("//ehr.example", False),
        ("https://files.example:444/x", True),
        ("https://files.example/x", False),
    ],
)
def test_origins_are_compared_exactly(url: str, covered: bool) -> None:
    trust = Trust.of("https://ehr.example/fhir", ("https://files.example:444",), False)
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL:
        assert not covered
        return
    assert trust.covers(read) == covered


def test_origins_of_the_same_host_are_the_same_however_it_is_written() -> None:
    assert origin_of("https://bücher.example") == origin_of("https://XN--BCHER-KVA.example:443/")
    assert in_clear("http://ehr.example")
    assert not in_clear("http://[::1]:80/")


def test_records_do_not_travel_in_clear_unless_allowed(
    own: Server, other: Server, opened: Opened
) -> None:
    with pytest.raises(FhirloomError, match="--plain-http") as raised:
        get(opened(own.root), "http://files.example/jane")
    own.answer = lambda asked: Response(
        status_code=302, headers={"Location": "http://files.example/jane"}
    )
    with pytest.raises(FhirloomError, match="--plain-http"):
        get(opened(own.root), own.root)
    assert "jane" not in str(raised.value)


def test_a_query_may_repeat_a_name_and_a_body_is_sent(own: Server, opened: Opened) -> None:
    session = opened(own.root)
    filters = [("_typeFilter", "Observation?code=a,b"), ("_typeFilter", "Patient?active=true")]
    session.send(
        "POST",
        f"{own.root}/$export?kept=1",
        what="a request",
        headers={"Content-Type": "application/fhir+json"},
        params=filters,
        content=b"{}",
    )
    (asked,) = own.seen
    assert httpx.QueryParams(asked.query).multi_items() == [("kept", "1"), *filters]
    assert (asked.method, asked.body) == ("POST", b"{}")
    assert asked.headers["content-type"] == "application/fhir+json"


# --- TLS


def certified(
    subject: str, issuer: tuple[x509.Certificate, Any] | None = None, **dates: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate of its own CA, or of `issuer` for a host or an address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates.get("start", now - timedelta(days=2)))
        .not_valid_after(dates.get("end", now + timedelta(days=2)))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        address = subject.replace(".", "").isdigit()
        host = x509.IPAddress(ip_address(subject)) if address else x509.DNSName(subject)
        builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(key: Any, password: bytes = b"") -> bytes:
    sealed = BestAvailableEncryption(password) if password else NoEncryption()
    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed)
    return content


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, servers' certificates by what is the matter with them, and a client's."""
    folder = tmp_path_factory.mktemp("pki")
    authority = certified("Test CA")
    past = datetime.now(UTC) - timedelta(days=1)
    made = {
        "server": certified("127.0.0.1", authority),
        "host": certified("ehr.example", authority),
        "expired": certified("127.0.0.1", authority, end=past),
        "client": certified("weaver", authority),
        "ca": authority,
        "stranger": certified("127.0.0.1", certified("Other CA")),
    }
    for name, (certificate, key) in made.items():
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{name}-key.pem").write_bytes(pem(key))
    (folder / "sealed-key.pem").write_bytes(pem(made["client"][1], b"password"))
    both = (folder / "client.pem").read_bytes() + (folder / "client-key.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)
    (folder / "nonsense.pem").write_bytes(b"nonsense")
    return folder


def tls(pki: Path, name: str) -> dict[str, Any]:
    return {"ssl_certfile": pki / f"{name}.pem", "ssl_keyfile": pki / f"{name}-key.pem"}


def test_a_server_of_the_operator_s_own_ca_is_trusted(pki: Path, opened: Opened) -> None:
    with serving(lambda asked: PlainTextResponse("safe"), **tls(pki, "server")) as root:
        assert get(opened(root, Access(ca=pki / "ca.pem")), root).text == "safe"


@pytest.mark.parametrize(
    ("name", "ca", "told"),
    [
        ("server", None, "isn't trusted.*--ca"),
        ("stranger", "ca.pem", "isn't trusted.*--ca"),
        ("expired", "ca.pem", "has expired"),
        ("host", "ca.pem", "is for another name"),
    ],
)
def test_a_certificate_that_does_not_hold_is_told_as_such_and_at_once(
    pki: Path, opened: Opened, name: str, ca: str | None, told: str
) -> None:
    access = Access(ca=pki / ca if ca else None)
    with serving(lambda asked: Response(), **tls(pki, name)) as root:
        session = opened(root, access)
        with pytest.raises(FhirloomError, match=told) as raised:
            # Were it tried again, this would take longer than anyone waits.
            get(session, root, patience=Patience(retries=9, first_wait=1e6, longest_wait=1e6))
    assert raised.value.code == "server"


def test_https_of_a_server_that_speaks_plain_http_is_told_as_such(
    own: Server, opened: Opened
) -> None:
    with pytest.raises(FhirloomError, match="TLS"):
        get(opened(own.root), own.root.replace("http:", "https:"))


@pytest.fixture(scope="module")
def closed_shop(pki: Path) -> Iterator[str]:
    """A server that speaks to clients with a certificate alone."""
    wanted: dict[str, Any] = {"ssl_ca_certs": pki / "ca.pem", "ssl_cert_reqs": ssl.CERT_REQUIRED}
    with serving(lambda asked: PlainTextResponse("come in"), **tls(pki, "server"), **wanted) as it:
        yield it


@pytest.mark.parametrize(
    ("certificate", "key"), [("client.pem", "client-key.pem"), ("both.pem", None)]
)
def test_our_own_certificate_opens_the_door(
    pki: Path, closed_shop: str, opened: Opened, certificate: str, key: str | None
) -> None:
    access = Access(
        ca=pki / "ca.pem", certificate=pki / certificate, certificate_key=pki / key if key else None
    )
    assert get(opened(closed_shop, access), closed_shop).text == "come in"


@contextmanager
def turning_away(pki: Path) -> Iterator[str]:
    """As the closed shop, but with the alert of RFC 8446 that asyncio's servers don't send."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki / "ca.pem")
    context.load_cert_chain(pki / "server.pem", pki / "server-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def turn_away() -> None:
        with suppress(OSError):
            while True:
                visitor = listener.accept()[0]
                with visitor.dup() as kept:
                    with suppress(ssl.SSLError):
                        context.wrap_socket(visitor, server_side=True).close()
                    # Closed with a request unread, the alert would be lost with it.
                    kept.shutdown(socket.SHUT_WR)
                    while kept.recv(65536):
                        pass

    thread = threading.Thread(target=turn_away, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize("name", [None, "stranger"])
def test_without_the_right_certificate_the_server_s_wish_is_told(
    pki: Path, opened: Opened, name: str | None
) -> None:
    access = Access(
        ca=pki / "ca.pem",
        certificate=pki / f"{name}.pem" if name else None,
        certificate_key=pki / f"{name}-key.pem" if name else None,
    )
    with (
        turning_away(pki) as root,
        pytest.raises(FhirloomError, match=r"client certificate.*--certificate"),
    ):
        get(opened(root, access), root)


@pytest.mark.parametrize(
    "files",
    [
        {"ca": "missing.pem"},
        {"ca": "nonsense.pem"},
        {"ca": "client-key.pem"},
        {"certificate": "missing.pem"},
        {"certificate": "nonsense.pem", "certificate_key": "client-key.pem"},
        {"certificate": "client.pem"},
        {"certificate": "client.pem", "certificate_key": "server-key.pem"},
        {"certificate": "client.pem", "certificate_key": "sealed-key.pem"},
    ],
    ids=str,
)
def test_files_that_are_no_certificates_are_bad_input(
    pki: Path, opened: Opened, files: dict[str, str]
) -> None:
    access = Access(**{name: pki / file for name, file in files.items()})  # type: ignore[arg-type]
    with pytest.raises(FhirloomError, match="can't be used") as raised:
        opened("https://ehr.example", access)
    assert raised.value.code == "bad-input"


def test_https_never_becomes_http(pki: Path, own: Server, opened: Opened) -> None:
    def down(asked: Asked) -> Response:
        return Response(status_code=307, headers={"Location": f"{own.root}/jane"})

    with serving(down, **tls(pki, "server")) as root:
        session = opened(root, Access(ca=pki / "ca.pem", plain_http=True))
        with pytest.raises(FhirloomError, match="from https to plain http"):
            get(session, root)
    assert own.seen == []


# --- Proxies


def test_a_proxy_is_gone_through_with_and_without_tls(
    pki: Path, own: Server, opened: Opened
) -> None:
    with (
        proxying() as proxy,
        serving(lambda asked: PlainTextResponse("safe"), **tls(pki, "host")) as root,
    ):
        secure = root.replace("127.0.0.1", "ehr.example")
        access = Access(proxy=proxy.url, ca=pki / "ca.pem", plain_http=True)
        assert get(opened(secure, access), secure).text == "safe"
        plain = own.root.replace("127.0.0.1", "ehr.example")
        assert get(opened(plain, access), plain).text == "here"
        assert get(opened(own.root, access), own.root).text == "here"
    host = secure.removeprefix("https://")
    assert proxy.lines[0] == f"CONNECT {host} HTTP/1.1"
    assert proxy.lines[1].startswith(f"GET {plain}")
    assert len(proxy.lines) == 3


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_s_login_is_used_and_never_shown(
    pki: Path, own: Server, opened: Opened, secure: bool
) -> None:
    root = own.root.replace("127.0.0.1", "ehr.example")
    with ExitStack() as stack:
        if secure:
            options = tls(pki, "host")
            root = stack.enter_context(serving(lambda asked: PlainTextResponse("here"), **options))
            root = root.replace("127.0.0.1", "ehr.example")
        proxy = stack.enter_context(proxying(login=f"weaver:{SECRET}"))
        knocking = proxy.url.replace("//", f"//weaver:{SECRET}@")
        ca = pki / "ca.pem"
        session = opened(root, Access(proxy=knocking, ca=ca, plain_http=True))
        assert get(session, root).text == "here"
        stranger = proxy.url.replace("//", f"//weaver:not-{SECRET}@")
        with pytest.raises(FhirloomError, match=r"proxy refuses \(407\)") as raised:
            get(opened(root, Access(proxy=stranger, ca=ca, plain_http=True)), root)
        assert len(proxy.lines) == 2
    assert SECRET not in str(raised.value)


def test_the_environment_s_proxy_is_honoured_but_not_for_loopback(
    own: Server, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    beyond = own.root.replace("127.0.0.1", "ehr.example")
    with proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        session = opened(own.root, Access(plain_http=True))
        assert get(session, own.root).text == "here"
        assert proxy.lines == []
        assert get(session, beyond).text == "here"
        assert len(proxy.lines) == 1


def test_an_environment_s_proxy_that_is_none_is_bad_input(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"gopher://weaver:{SECRET}@proxy.example")
    with pytest.raises(FhirloomError, match="environment's proxy") as raised:
        opened("https://ehr.example")
    assert raised.value.code == "bad-input"
    assert SECRET not in str(raised.value)
