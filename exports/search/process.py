"""The process that searches: asked for one query at a time, judged on every failure."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Final

import httpx
import orjson

from exports.connection.login import Login
from exports.connection.transport import Patience
from exports.connection.waiting import retry_after
from exports.search.protocol import Answer, Query, Refused, Way

WORKER: Final = Path(__file__).with_name("worker.py")
PAGE: Final = 200
"""Resources asked for a page; a server may give fewer."""


class SearchProcess:
    """A running worker in the environment of `python`. Not for several threads at once.

    It gives up once `stop` is set. Its stderr is `detail`, a file below `phi/logs`. Authorizations
    go through its stdin alone, where neither a list of processes nor its environment shows them.
    """

    def __init__(
        self,
        python: Path,
        way: Way,
        login: Login,
        *,
        patience: Patience,
        detail: Path,
        stop: Event,
    ) -> None:
        self._login = login
        self._patience = patience
        self._stop = stop
        self._given = ""
        self._renewed = False
        detail.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        detail.touch(mode=0o600)
        with detail.open("ab") as stderr:
            # Isolated, with no environment: nothing but `way` says where it connects to. A session
            # of its own: a Ctrl-C reaches this process, which ends it.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [str(python), "-I", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={},
                start_new_session=True,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("both are pipes")
        self._to, self._from = self._process.stdin, self._process.stdout
        # Where it is dead already, the first query tells.
        with suppress(Refused):
            self._say(asdict(way))

    def __enter__(self) -> SearchProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._process.communicate()

    def kill(self) -> None:
        """End it now; whoever waits for an answer is `Refused`."""
        self._process.kill()

    def search(self, query: Query, into: Path) -> Answer:
        """The resources that match, one a line in the new file `into`. Raises `Refused`."""
        asked = {"do": "search", **self._asked(query), "into": str(into), "count": PAGE}
        return Answer(**self._ask(asked))

    def read(self, resource_type: str, resource_id: str, into: Path) -> Answer:
        """One resource by its id, in the new file `into`. Raises `Refused`."""
        asked = {"do": "read", "type": resource_type, "id": resource_id, "into": str(into)}
        return Answer(**self._ask(asked))

    def count(self, query: Query) -> int | None:
        """How many match, as the server says; None where it doesn't. Raises `Refused`."""
        total = self._ask({"do": "count", **self._asked(query)})["total"]
        return None if total is None else int(total)

    @staticmethod
    def _asked(query: Query) -> dict[str, Any]:
        return {"type": query.type, "params": query.parameters}

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._given = self._login.authorization()
        self._say({**request, "authorization": self._given})
        while True:
            heard = self._hear()
            if "done" in heard:
                done: dict[str, Any] = heard["done"]
                return done
            if "failed" in heard:
                raise Refused(heard["failed"])
            self._say({"again": self._again(heard["trouble"])})

    def _again(self, trouble: Mapping[str, Any]) -> str | None:
        """The authorization to try again with, after the pause that is due; None: give up."""
        status, attempt = trouble.get("status", 0), int(trouble["attempt"])
        self._renewed &= attempt > 0
        if status == 401:
            if self._renewed:
                return None
            self._login.refused(self._given)
            self._renewed = True
        elif attempt >= self._patience.retries or not _may_pass(trouble["kind"], status):
            return None
        else:
            told = httpx.Response(429, headers={"Retry-After": trouble.get("retry_after", "")})
            self._stop.wait(retry_after(told) or self._patience.wait(attempt))
        if self._stop.is_set():
            return None
        self._given = self._login.authorization()
        return self._given

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            self._to.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
            self._to.flush()
        except BrokenPipeError:
            raise Refused({"kind": "defect"}) from None

    def _hear(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line.endswith(b"\n"):
            raise Refused({"kind": "defect"})
        heard: dict[str, Any] = orjson.loads(line)
        return heard


def _may_pass(kind: str, status: int) -> bool:
    """Whether the same request may succeed later; any failure of the server's own may."""
    return kind in ("unreachable", "damaged") or status == 429 or (status >= 500 and status != 501)
