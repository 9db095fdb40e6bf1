"""Who gets a token from the sandbox, and how a client comes by its token on any server."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.responses import HTMLResponse, JSONResponse, Response

from exports.access import Access
from exports.connection.discovery import ALGORITHMS, OAUTH_URIS
from exports.connection.keys import SigningKey, read_key, read_keys
from exports.connection.session import Session, open_session
from exports.connection.smart import CLIENT_ASSERTION_TYPE, assertion
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from tests.exports.serving import Answer, Asked, serving

CLIENT = "test-client"
QUICK = Patience(retries=3, first_wait=0.01, longest_wait=0.02)


def ask(root: str, signed: str, **changed: str) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "scope": "system/*.read",
        "client_assertion_type": CLIENT_ASSERTION_TYPE,
        "client_assertion": signed,
        **changed,
    }
    return httpx.post(f"{root}/token", data=form, trust_env=False)


def sign(ehr: Any, key: SigningKey | None = None, kid: str = "", **changed: Any) -> str:
    key = key or ehr.key
    claims = {
        "iss": CLIENT,
        "sub": CLIENT,
        "aud": f"{ehr.root}/token",
        "exp": int(time.time()) + 200,
        "jti": uuid.uuid4().hex,
        **changed,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key.private, key.algorithm, headers={"kid": kid or key.kid})


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
@pytest.mark.parametrize("scope", ["system/*.read", "system/*.rs"])
def test_a_registered_key_gets_a_token(
    ehr: Any, keys: dict[str, Path], algorithm: str, scope: str
) -> None:
    key = read_key(keys[algorithm])
    assert key.algorithm == algorithm
    response = ask(ehr.root, assertion(key, CLIENT, f"{ehr.root}/token"), scope=scope)
    assert response.status_code == 200
    granted = response.json()
    assert (granted["token_type"], granted["expires_in"]) == ("bearer", 300)
    assert granted["scope"] == scope
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 1},
        {"exp": int(time.time()) + 3600},
        {"exp": None},
        {"jti": None},
        {"aud": "https://elsewhere.example/token"},
        {"aud": None},
        {"iss": "nobody"},
        {"sub": "somebody-else"},
    ],
    ids=[
        *("expired", "lives too long", "without exp", "without jti", "for another server"),
        *("without aud", "other issuer", "other subject"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(ehr: Any, claims: dict[str, Any]) -> None:
    response = ask(ehr.root, sign(ehr, **claims))
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_an_assertion_is_good_once(ehr: Any) -> None:
    signed = sign(ehr)
    assert ask(ehr.root, signed).status_code == 200
    again = ask(ehr.root, signed)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


def test_a_stranger_s_key_is_refused_whatever_kid_it_claims(
    ehr: Any, keys: dict[str, Path]
) -> None:
    stranger = read_key(keys["stranger"])
    for kid in (stranger.kid, ehr.key.kid):
        assert ask(ehr.root, sign(ehr, key=stranger, kid=kid)).status_code == 401


def test_other_algorithms_are_refused(ehr: Any, keys: dict[str, Path]) -> None:
    key = read_key(keys["RS384"])
    weaker = SigningKey(key.private, "RS256", key.kid)
    assert ask(ehr.root, sign(ehr, key=weaker)).status_code == 401
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": f"{ehr.root}/token", "jti": "1"}
    unsigned = jwt.encode({**claims, "exp": int(time.time()) + 60}, "", algorithm="none")
    assert ask(ehr.root, unsigned).status_code == 401
    assert ask(ehr.root, "no jwt").status_code == 401


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_assertion_type": "basic"}, "invalid_request"),
        ({"scope": "system/Nothing.rs"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
    ],
)
def test_a_wrong_form_is_refused(ehr: Any, changed: dict[str, str], error: str) -> None:
    response = ask(ehr.root, sign(ehr), **changed)
    assert (response.status_code, response.json()["error"]) == (400, error)


class Granting:
    """A FHIR server and its token server, whose habits are its fields."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = {key.kid: key for key in keys}
        self.configuration: dict[str, Any] | None = {"token_endpoint": "/token"}
        self.statement: dict[str, Any] = {}
        self.known: set[str] | None = None  # None: every scope
        self.response: dict[str, Any] = {"token_type": "bearer", "expires_in": 300}
        self.ahead = 0.0
        self.broken = 0
        self.good: set[str] = set()
        self.assertions: list[dict[str, Any]] = []
        self.scopes: list[str] = []
        self.lock = threading.Lock()

    @property
    def asked(self) -> int:
        return len(self.scopes)

    def __call__(self, asked: Asked) -> Response:
        with self.lock:
            if asked.path.endswith("/.well-known/smart-configuration"):
                if self.configuration is None:
                    return HTMLResponse("<h1>Welcome</h1>")
                return JSONResponse(self.configuration)
            if asked.path.endswith("/metadata"):
                return JSONResponse(self.statement)
            if asked.path.endswith("/token"):
                return self.grant(asked.form)
            good = asked.credentials.removeprefix("Bearer ") in self.good
            return Response(status_code=200 if good else 401)

    def grant(self, form: dict[str, str]) -> Response:
        self.scopes.append(form["scope"])
        signed = form["client_assertion"]
        header = jwt.get_unverified_header(signed)
        key = self.keys[header["kid"]]
        claims = jwt.decode(
            signed,
            jwt.PyJWK(key.public_jwk()),
            algorithms=[key.algorithm],
            options={"verify_aud": False, "verify_exp": False},
        )
        self.assertions.append({**header, **claims})
        if self.broken > 0:
            self.broken -= 1
            return Response(status_code=503)
        now = time.time() + self.ahead
        headers = {"Date": formatdate(now, usegmt=True)}
        if not now < claims["exp"] <= now + 300:
            return JSONResponse({"error": "invalid_client"}, 401, headers)
        if self.known is not None and not set(form["scope"].split()) <= self.known:
            return JSONResponse({"error": "invalid_scope"}, 400, headers)
        token = uuid.uuid4().hex
        self.good.add(token)
        return JSONResponse({"access_token": token, **self.response}, headers=headers)


@pytest.fixture
def key(keys: dict[str, Path]) -> SigningKey:
    return read_key(keys["ES384"])


@pytest.fixture
def granting(key: SigningKey, keys: dict[str, Path]) -> Granting:
    return Granting(key, read_key(keys["RS384"]))


class Place:
    """One server for all the tests here, that answers as the test at hand wants."""

    def __init__(self) -> None:
        self.root = ""
        self.answer: Answer = lambda asked: Response(status_code=500)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    place = Place()
    # The answers are dated by the tests.
    with serving(lambda asked: place.answer(asked), date_header=False) as place.root:
        yield place


Open = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def session_with(place: Place) -> Open:
    @contextmanager
    def session_with(answer: Granting, key: Path, **more: Any) -> Iterator[Session]:
        place.answer = answer
        options = {name: more.pop(name) for name in ("types", "scope_style") if name in more}
        base, access = f"{place.root}/fhir", Access(CLIENT, key, **more)
        with open_session(base, access, QUICK, **options) as session:
            session.base = base  # type: ignore[attr-defined]
            yield session

    return session_with


def use(session: Any) -> httpx.Response:
    response = session.send("GET", f"{session.base}/Patient", what="a request", headers={})
    assert isinstance(response, httpx.Response)
    return response


@pytest.mark.parametrize("endpoint", ["/token", "token", "../oauth/token", "//127.0.0.1/token"])
def test_a_relative_token_endpoint_is_found_from_the_base(
    granting: Granting, keys: dict[str, Path], endpoint: str
) -> None:
    with serving(granting) as root:
        endpoint = endpoint.replace("//127.0.0.1", root.removeprefix("http:"))
        granting.configuration = {"token_endpoint": endpoint}
        url = str(httpx.URL(f"{root}/fhir/").join(endpoint))
        with open_session(f"{root}/fhir", Access(CLIENT, keys["ES384"]), QUICK) as session:
            assert session.send("GET", f"{root}/fhir/x", what="x", headers={}).is_success
    assert [claims["aud"] for claims in granting.assertions] == [url]


def test_without_a_smart_configuration_the_capability_statement_tells(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    uris = [{"url": "authorize", "valueUri": "/no"}, {"url": "token", "valueUri": "/old/token"}]
    extension = [{"url": "other"}, {"url": OAUTH_URIS, "extension": uris}]
    granting.statement = {"rest": [{"mode": "server", "security": {"extension": extension}}]}
    for absent in (None, {}, {"token_endpoint": ""}, {"token_endpoint": 7}):
        granting.configuration = absent
        with session_with(granting, keys["ES384"]) as session:
            assert use(session).is_success
    assert [urlsplit(claims["aud"]).path for claims in granting.assertions] == ["/old/token"] * 4


@pytest.mark.parametrize("statement", [{}, {"rest": [{"security": []}, 7]}, {"rest": {}}])
def test_the_operator_may_name_the_token_url(
    granting: Granting, keys: dict[str, Path], statement: dict[str, Any]
) -> None:
    granting.configuration, granting.statement = None, statement
    with serving(granting) as root:
        for url, match in ((f"{root}/token", None), ("", "--token-url")):
            access = Access(CLIENT, keys["ES384"], token_url=url)
            with open_session(f"{root}/fhir", access, QUICK) as session:
                raises = pytest.raises(FhirloomError, match=match) if match else nullcontext()
                with raises:
                    session.send("GET", f"{root}/fhir/x", what="x", headers={})


@pytest.mark.parametrize("endpoint", ["http://ehr.example/token", "ftp://x/token", "http://[x"])
def test_a_token_is_not_asked_for_in_clear(
    session_with: Open, granting: Granting, keys: dict[str, Path], endpoint: str
) -> None:
    granting.configuration = {"token_endpoint": endpoint}
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError, match="--token-url"),
    ):
        use(session)


def test_every_attempt_has_a_new_jti(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    granting.broken = 2
    with session_with(granting, keys["ES384"]) as session:
        use(session)
    assert len({claims["jti"] for claims in granting.assertions}) == 3
    assert {claims["typ"] for claims in granting.assertions} == {"JWT"}


@pytest.mark.parametrize(
    ("algorithms", "kid"), [(None, "ec"), ([], "ec"), (["RS384"], "rsa"), (["ES384"], "ec")]
)
def test_of_several_keys_the_one_that_the_server_verifies_signs(
    session_with: Open,
    tmp_path: Path,
    keys: dict[str, Path],
    algorithms: list[str] | None,
    kid: str,
) -> None:
    elliptic = ECAlgorithm.to_jwk(_private(keys["ES384"]), as_dict=True)
    other = RSAAlgorithm.to_jwk(_private(keys["RS384"]), as_dict=True)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**elliptic, "kid": "ec"}, {**other, "kid": "rsa"}]}))
    granting = Granting(*read_keys(path))
    granting.configuration = {"token_endpoint": "/token", ALGORITHMS: algorithms}
    with session_with(granting, path) as session:
        use(session)
    assert [claims["kid"] for claims in granting.assertions] == [kid]


def test_a_key_that_the_server_does_not_verify_is_bad_input(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    granting.configuration = {"token_endpoint": "/token", ALGORITHMS: ["RS384"]}
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError, match="doesn't verify ES384") as raised,
    ):
        use(session)
    assert raised.value.code == "bad-input"


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 30.0])
def test_a_server_whose_clock_is_wrong_gets_its_own_time(
    session_with: Open, granting: Granting, keys: dict[str, Path], ahead: float
) -> None:
    granting.ahead = ahead
    with session_with(granting, keys["ES384"]) as session:
        use(session)
        granting.good.clear()
        use(session)
    assert granting.asked == (3 if abs(ahead) > 60 else 2)


@pytest.mark.parametrize("code", ["invalid_client", "invalid_grant"])
def test_a_client_that_is_unknown_is_told_so_after_one_correction(
    session_with: Open, granting: Granting, keys: dict[str, Path], code: str
) -> None:
    times = iter(range(10))

    def refuse(form: dict[str, str]) -> Response:
        granting.scopes.append(form["scope"])
        date = formatdate(time.time() + 3600 * next(times), usegmt=True)
        body = {"error": code, "error_description": "Jane"}
        return JSONResponse(body, 400, {"Date": date})

    granting.grant = refuse  # type: ignore[method-assign]
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError, match="Register the key's public JWKS") as raised,
    ):
        use(session)
    assert granting.asked == 1
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError, match=code) as raised,
    ):
        use(session)
    assert granting.asked == 3
    assert "Jane" not in str(raised.value)


@pytest.mark.parametrize(
    ("known", "tried"),
    [
        ({"system/*.rs"}, 1),
        ({"system/*.read"}, 2),
        ({"system/Patient.rs", "system/Condition.rs"}, 3),
        ({"system/Patient.read", "system/Condition.read"}, 4),
    ],
    ids=["all-v2", "all-v1", "types-v2", "types-v1"],
)
def test_an_unknown_scope_leads_to_the_next_and_is_remembered(
    session_with: Open, granting: Granting, keys: dict[str, Path], known: set[str], tried: int
) -> None:
    granting.known = known
    types = ("Patient", "Condition")
    with session_with(granting, keys["ES384"], types=types) as session:
        use(session)
        assert granting.asked == tried
        assert set(session.granted) == known
        assert session.unreadable(types) == ()
        granting.good.clear()
        use(session)
    assert granting.asked == tried + 1


def test_where_no_scope_is_known_the_operator_is_asked_for_one(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    granting.known = {"system/Special.read"}
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError, match="--scope"),
    ):
        use(session)
    assert granting.asked == 2
    scopes = ("system/Special.read",)
    with session_with(granting, keys["ES384"], scopes=scopes) as session:
        use(session)
    assert granting.asked == 3


def test_a_server_s_list_and_a_vendor_s_habit_choose_the_scopes(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    listed = ["system/Patient.read", "system/*.read", "system/Patient.rs"]
    granting.configuration = {"token_endpoint": "/token", "scopes_supported": listed}
    with session_with(granting, keys["ES384"], types=["Patient"], scope_style="per-type v1") as s:
        use(s)
    assert granting.scopes == ["system/Patient.read"]
    with session_with(granting, keys["ES384"], types=["Goal"]) as session:
        use(session)
    assert granting.scopes[1:] == ["system/*.read"]
    listed.remove("system/*.read")
    with (
        session_with(granting, keys["ES384"], types=["Goal"]) as session,
        pytest.raises(FhirloomError, match="lists no scope"),
    ):
        use(session)


@pytest.mark.parametrize(
    ("scope", "granted", "missing"),
    [
        ("system/Patient.rs Jane", ("system/Patient.rs",), ("Goal",)),
        ("system/*.rs", ("system/*.rs",), ()),
        (None, ("system/*.rs",), ()),
        ("", ("system/*.rs",), ()),
        (7, ("system/*.rs",), ()),
    ],
)
def test_what_was_granted_is_known(
    session_with: Open,
    granting: Granting,
    keys: dict[str, Path],
    scope: object,
    granted: tuple[str, ...],
    missing: tuple[str, ...],
) -> None:
    granting.response["scope"] = scope
    with session_with(granting, keys["ES384"], types=("Patient", "Goal")) as session:
        assert (session.granted, session.unreadable(["Goal"])) == ((), ())
        use(session)
        assert session.granted == granted
        assert session.unreadable(["Patient", "Goal"]) == missing


@pytest.mark.parametrize(
    "expires", [None, "soon", "300", 300.0, 0, -1, True, "nan", "inf", [], 1e300, 1]
)
def test_a_token_s_life_may_be_told_badly(
    session_with: Open, granting: Granting, keys: dict[str, Path], expires: object
) -> None:
    if expires is None:
        del granting.response["expires_in"]
    else:
        granting.response["expires_in"] = expires
    with session_with(granting, keys["ES384"]) as session:
        use(session)
        assert granting.asked == 1


@pytest.mark.parametrize(
    ("told", "good"),
    [(1, 0.5), (20, 10.0), (300, 285.0), ("300", 285.0), (0, 15.0), (-5, 15.0), ("x", 285.0)],
)
def test_a_token_is_renewed_before_its_end(
    session_with: Open,
    granting: Granting,
    keys: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    told: object,
    good: float,
) -> None:
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time)
    monkeypatch.setattr("exports.connection.smart.time", clock)
    granting.response["expires_in"] = told
    with session_with(granting, keys["ES384"]) as session:
        use(session)
        now[0] += good - 0.01
        use(session)
        assert granting.asked == 1
        now[0] += 0.02
        use(session)
        assert granting.asked == 2


@pytest.mark.parametrize("kind", ["Bearer", "BEARER", "bearer"])
def test_the_token_type_is_read_in_any_case(
    session_with: Open, granting: Granting, keys: dict[str, Path], kind: str
) -> None:
    granting.response["token_type"] = kind
    with session_with(granting, keys["ES384"]) as session:
        use(session)


@pytest.mark.parametrize(
    "response",
    [
        {"token_type": "mac"},
        {"token_type": None},
        {"access_token": ""},
        {"access_token": None},
        {"access_token": "two\r\nX-Lines: Jane"},
    ],
    ids=str,
)
def test_a_token_that_is_none_is_the_server_s_error(
    session_with: Open, granting: Granting, keys: dict[str, Path], response: dict[str, Any]
) -> None:
    granting.response |= response
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError) as raised,
    ):
        use(session)
    assert raised.value.code == "server"
    assert "Jane" not in str(raised.value)


def test_many_threads_ask_for_one_token(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    threads = 12
    with (
        session_with(granting, keys["ES384"]) as session,
        ThreadPoolExecutor(threads) as pool,
    ):
        for expected in (1, 2):
            start = threading.Barrier(threads)

            def at_once(_: int, start: threading.Barrier = start) -> int:
                start.wait()
                return use(session).status_code

            assert list(pool.map(at_once, range(threads))) == [200] * threads
            assert granting.asked == expected
            granting.good.clear()


def test_a_token_that_stays_refused_is_renewed_once(
    session_with: Open, granting: Granting, keys: dict[str, Path]
) -> None:
    granting.good = Forgetful()
    with (
        session_with(granting, keys["ES384"]) as session,
        pytest.raises(FhirloomError, match="401"),
    ):
        use(session)
    assert granting.asked == 2


class Forgetful(set[str]):
    """A token server that never knows a token of its own."""

    def add(self, token: str) -> None:
        pass


def _private(path: Path) -> Any:
    return read_key(path).private
