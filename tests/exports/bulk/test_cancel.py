"""An export that is given up leaves nothing behind, and says whether the server knows."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from exports.bulk.export import cancel, export
from exports.connection.transport import Patience
from exports.errors import FhirloomError

HASTE = Patience(retries=1, first_wait=0.01, longest_wait=0.02)


@pytest.fixture
def phi(tmp_path: Path) -> Path:
    return tmp_path / "work" / "phi"


@pytest.fixture
def begun(ehr: Any, phi: Path) -> Any:
    """An export of which one file has not come yet."""
    ehr.meddle = lambda request: (
        Response(status_code=500) if "Observation" in request.url.path else None
    )
    with pytest.raises(FhirloomError):
        export(ehr.request, phi, patience=HASTE)
    ehr.seen.clear()
    ehr.meddle = lambda request: None
    return ehr


def left(phi: Path) -> set[str]:
    return {path.suffix for path in (phi / "export-job").iterdir()}


def test_the_job_the_record_and_the_downloads_go(begun: Any, phi: Path) -> None:
    assert left(phi) == {".json", ".lock", ""}
    assert cancel(begun.request, phi).confirmed
    assert len(begun.paths("DELETE", "/jobs/")) == 1
    assert left(phi) == {".lock"}
    with pytest.raises(FhirloomError, match="No export of this request") as raised:
        cancel(begun.request, phi)
    assert raised.value.code == "bad-input"


@pytest.mark.parametrize(
    ("status", "confirmed"), [(202, True), (404, True), (410, True), (405, False), (500, False)]
)
def test_the_server_s_answer_is_told(begun: Any, phi: Path, status: int, confirmed: bool) -> None:
    def answer(request: Request) -> Response | None:
        return Response(status_code=status) if request.method == "DELETE" else None

    begun.meddle = answer
    assert cancel(begun.request, phi).confirmed is confirmed
    assert left(phi) == {".lock"}


def test_a_job_that_could_not_be_told_stays(begun: Any, phi: Path) -> None:
    (record,) = (phi / "export-job").glob("*.json")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    record.write_text(record.read_text().replace(begun.root, nobody))
    with pytest.raises(FhirloomError, match="can't be reached"):
        cancel(begun.request, phi, patience=HASTE)
    assert record.exists()


def test_an_export_that_is_complete_can_t_be_given_up(ehr: Any, phi: Path) -> None:
    with pytest.raises(FhirloomError, match="No export of this request"):
        cancel(ehr.request, phi)
    export(ehr.request, phi)
    with pytest.raises(FhirloomError, match="No export of this request"):
        cancel(ehr.request, phi)
    assert (phi / "landing" / "current").exists()


def test_after_it_the_same_request_begins_anew(begun: Any, phi: Path) -> None:
    cancel(begun.request, phi)
    export(begun.request, phi)
    assert len(begun.paths("GET", "$export")) == 1
