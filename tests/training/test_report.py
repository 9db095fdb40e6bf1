from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deid.policy import SAFE_HARBOR
from training.registry import RegisteredModel
from training.report import ReportFacts, render, write_report
from training.train import NotTrained, TrainedModel

MATRIX = {
    "policy": SAFE_HARBOR.facts(),
    "task": "readmission_30d",
    "died_first": 31,
    "attrition": [
        {"step": "inpatient_stays", "stays": 5200, "patients": 1700},
        {"step": "discharged_alive", "stays": 4000, "patients": 1500},
    ],
}
PROOFS = [
    {"name": "Leak scan", "passed": True, "detail": "0 of 9,000 identifiers"},
    {"name": "Presidio <second> opinion", "passed": False, "detail": "2 hits"},
]


@pytest.fixture
def facts(trained: TrainedModel) -> ReportFacts:
    return ReportFacts(
        MATRIX,
        trained,
        counts=[{"name": "Rows landed", "value": 412345}],
        proofs=PROOFS,
        lineage={"models": trained.sealed.digest},
        registered=RegisteredModel("readmission_30d", 3, "challenger"),
    )


class Tags(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    VOID = frozenset({"meta", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_says_what_a_reader_must_know(facts: ReportFacts) -> None:
    page = " ".join(render(facts).split())
    assert SAFE_HARBOR.label in page
    assert "one calendar year per patient" in page
    for text in (
        "Readmissions to other hospitals are unseen",
        "In <strong>31</strong> stays the patient died first",
        "patient-clustered",
        "412,345",
        "Presidio &lt;second&gt; opinion",
        "✗ failed",
        "version 3",
        "too few",
    ):
        assert text in page
    assert page.count("<svg") == 5


def test_the_page_is_well_formed_and_needs_nothing_else(facts: ReportFacts) -> None:
    page = render(facts)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    assert not re.search(r"<(script|link|img|iframe)|url\(['\"]?http|@import|@font-face", page)
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ElementTree.fromstring(svg)  # noqa: S314
        used = re.findall(r'(?:xlink:href="|url\()#([^")]+)', svg)
        ids = {element.get("id") for element in root.iter()}
        assert set(used) <= ids


def test_the_same_facts_give_the_same_page(facts: ReportFacts, tmp_path: Path) -> None:
    path = write_report(facts, tmp_path)
    assert path.parent.parent == (tmp_path / "reports").resolve()
    assert path.read_text() == render(facts)
    assert write_report(facts, tmp_path) == path


def test_a_run_without_a_model_says_why(tmp_path: Path) -> None:
    reason = "No model was trained: there are too few events to train on (3, where 50 are needed)."
    page = write_report(ReportFacts(MATRIX, NotTrained(reason, 101, 3)), tmp_path).read_text()
    assert reason in page
    assert "Readmissions to other hospitals are unseen" in page
    assert "AUROC" not in page
