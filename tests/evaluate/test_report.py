"""The report says what was found, stands alone, and draws what its tables say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from taketurns.config.loading import load_team_config
from taketurns.evaluation.findings import findings
from taketurns.evaluation.methods.registry import Kind
from taketurns.evaluation.report import write_report
from taketurns.evaluation.results import Cost, MethodResult
from taketurns.evaluation.run import EvaluationJob
from taketurns.evaluation.tasks import load
from taketurns.runs.description import describe_run


def measured(name: str, kind: Kind, right: float, tokens: float, **more: Any) -> MethodResult:
    """Of 40 questions in each of two tasks the first share is right, under both seeds."""
    values = {
        task: [[float(i < 40 * share)] * 2 for i in range(40)]
        for task, share in (("<sums>", right), ("names", right / 2))
    }
    return MethodResult(
        name=name,
        kind=kind,
        about="",
        hindsight=more.get("hindsight", False),
        values=values,
        cost=Cost(tokens / 2, tokens / 2, tokens, tokens / 1000),
        missing=0,
        unscored=0,
        chosen=more.get("chosen", {}),
        work=more.get("work", name),
    )


def reported(methods: dict[str, MethodResult], categories: dict[str, str], subject: str) -> Any:
    """The findings, with what the foot of a report says."""
    config = load_team_config("pocket")
    about = describe_run("evaluate", config, b"").about
    plan = EvaluationJob(load(["recall"]), None, 2, 40, 30, 8)
    found = findings(methods, categories, subject)
    return found | {"settings": {**about, **plan.settings(), "workers": 2}}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    methods = [
        measured("alone", "single", 0.3, 10),
        measured("soup", "baseline", 0.4, 10, chosen={"ingredients": ["alone", "other"]}),
        measured("bound", "control", 0.95, 20, hindsight=True),
        measured("switch", "switch", 0.9, 30),
    ]
    categories = {"<sums>": "reasoning", "names": "knowledge"}
    return reported({one.name: one for one in methods}, categories, "switch")


@pytest.fixture(scope="module")
def folder(found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(found, out)
    return out


class Page(HTMLParser):
    """What a page holds, and whether its tags are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "use", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.rows[-1][-1] += data


def test_the_findings_are_those_that_were_planted(found: dict[str, Any]) -> None:
    every = {"tasks": ["<sums>", "names"], "sure": ["<sums>", "names"]}
    assert found["leaders"]["subject"] == {"single": every, "baseline": every}
    assert found["gains"]["singles"]["best"]["relative"] == pytest.approx(2.0)
    assert found["comparisons"]["soup"]["p_holm"] < 0.01
    assert "p_holm" not in found["comparisons"]["bound"]
    assert found["frontier"]["tokens"] == ["soup", "switch"]
    even = found["worth"]["tokens"]["alone"]
    assert (even["cost"], even["pays"]) == (3.0, True)  # three times as often right
    assert found["worth"]["tokens"]["soup"]["pays"] is False


def test_a_lead_is_over_the_controls_too_and_is_sure_or_not(tmp_path: Path) -> None:
    """Fault: switching was "best of all" where a majority of one checkpoint scored as much."""
    methods = [
        measured("alone", "single", 0.3, 10),
        measured("soup", "baseline", 0.85, 10),
        measured("vote", "control", 0.9, 20),
        measured("switch", "switch", 0.9, 30),
        measured("other", "switch", 0.95, 30),
    ]
    categories = {"<sums>": "reasoning", "names": "knowledge"}
    found = reported({one.name: one for one in methods}, categories, "switch")
    both = ["<sums>", "names"]
    assert found["leaders"]["switching"] == {"single": both, "baseline": both, "control": both}
    assert found["leaders"]["subject"] == {
        "single": {"tasks": both, "sure": both},
        "baseline": {"tasks": both, "sure": []},
        "control": {"tasks": [], "sure": []},
    }
    write_report(found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert (
        "switch is above each single checkpoint on 2 tasks (2 significantly); each single "
        "checkpoint and baseline on 2 tasks (0 significantly); each single checkpoint, baseline "
        "and control on 0 tasks (0 significantly)."
    ) in text
    best = "The best switching method per task, selected on these same test questions, is above"
    assert best in text


def test_what_gives_no_answer_is_not_cheap(tmp_path: Path) -> None:
    """A method that failed at everything has no cost: it is neither on the frontier nor compared
    by cost, also as the subject."""
    methods = [
        measured("alone", "single", 0.3, 10),
        measured("broken", "baseline", 0.0, 0),
        measured("switch", "switch", 0.9, 30),
    ]
    categories = {"<sums>": "reasoning", "names": "knowledge"}
    for subject, others in (("switch", ["alone"]), ("broken", [])):
        found = reported({one.name: one for one in methods}, categories, subject)
        assert found["frontier"]["tokens"] == ["alone", "switch"]
        assert list(found["worth"]["tokens"]) == others
        write_report(found, tmp_path)


def test_one_model_under_two_names_is_one_on_the_frontier(tmp_path: Path) -> None:
    """Fault: a soup of one checkpoint beat it by seconds, which was a clock's noise."""
    methods = [
        measured("alone", "single", 0.3, 10, work="the same"),
        measured("soup", "baseline", 0.3, 9.9, work="the same"),
        measured("switch", "switch", 0.9, 30),
    ]
    categories = {"<sums>": "reasoning", "names": "knowledge"}
    found = reported({one.name: one for one in methods}, categories, "switch")
    assert found["alike"] == {"soup": "alone"}
    assert found["frontier"] == {cost: ["alone", "switch"] for cost in ("tokens", "seconds")}
    write_report(found, tmp_path)
    assert "and counted once: soup as alone." in (tmp_path / "report.md").read_text()


def test_tasks_left_out_of_a_mean_of_ratios_are_counted_in_every_row(tmp_path: Path) -> None:
    methods = [
        measured("soup", "baseline", 0.0, 10),
        measured("vote", "baseline", 0.4, 10),
        measured("switch", "switch", 0.9, 30),
    ]
    categories = {"<sums>": "reasoning", "names": "knowledge"}
    write_report(reported({one.name: one for one in methods}, categories, "switch"), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| over each of the baselines, mean | +125.0 % (2) |" in text


def test_the_page_needs_nothing_else_and_is_well_formed(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith("#") for link in page.links)
    assert "<sums>" not in text
    assert "&lt;sums&gt;" in text
    assert text.count("<svg") == 5
    scores = [row for row in page.rows if row[:2] == ["switch", "switch"]]
    assert scores[0][2].startswith("0.675 (")
    assert ["bound *", "control"] in [row[:2] for row in page.rows]


def test_it_is_readable_in_light_and_dark(folder: Path) -> None:
    """Every ink is a variable that both settings give, so nothing is black on black."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    used = set(re.findall(r"var\((--[a-z]+)\)", text))
    light, dark = text.split("@media(prefers-color-scheme:dark)")[0:2]
    assert all(f"{name}:" in light and f"{name}:" in dark for name in used)
    assert {"--ink", "--grid", "--accent", "--paper"} <= used
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.findall(r"#(?:000000|ffffff)\b", drawn)


def test_figures_are_files_too(folder: Path, found: dict[str, Any]) -> None:
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    names = re.findall(r"\(figures/([\w-]+)\.svg\)", markdown)
    frontiers = ["frontier-tokens", "frontier-seconds"]
    assert names == ["averages", "tasks", "differences", *frontiers]
    for name in names:
        drawing = ElementTree.parse(folder / "figures" / f"{name}.svg").getroot()
        words = " ".join(text.strip() for text in drawing.itertext())
        assert "prefers-color-scheme" in words
        if name not in frontiers:
            assert all(method in words for method in ("alone", "soup"))
    assert "\\<sums\\>" in markdown


def test_the_same_findings_give_the_same_report(
    found: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    write_report(found, tmp_path)
    for file in ("report.html", "report.md", "figures/tasks.svg"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
