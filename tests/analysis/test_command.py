"""`taketurns analyze`: from an evaluation's folder to a report, in a real browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from taketurns.errors import DataError
from taketurns.evaluation.analysis.answers import AnalysisInput, read_answers
from taketurns.evaluation.analysis.trace_browser import sample
from taketurns.evaluation.report.blocks import Chart, DataPoint, Paragraph
from taketurns.evaluation.report.section import Section, write_section
from taketurns.runs.records import encode_record, trace_to_json
from taketurns.types import Patch, Query, RejectedPatch, Trace

from .conftest import POOL, Folder, Row, answer, method_answers, patch

pytest.importorskip("statsmodels", reason="needs the eval extra")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> &amp; <b>"
Invoke = Callable[..., tuple[int, str, str]]


def trace(task: str, number: int, seed: int, *speakers: int, text: str = " word") -> Trace:
    query = Query(f"q{number}", text=f"what is {number} of {task}?", reference=str(number))
    return Trace(query, tuple(patch(who, text) for who in speakers), seed)


def methods(tasks: tuple[str, ...] = ("sums", "names")) -> dict[str, list[Row]]:
    """The team solves what the checkpoints do not; 12 questions a task under two seeds."""
    rng = Random(0)
    found: dict[str, list[Row]] = {"base": [], "tuned": [], "aligned": [], "random": []}
    found["switch"] = []
    for task in tasks:
        for number in range(12):
            for seed in range(2):
                for name in ("base", "tuned", "aligned"):
                    score = float(number % 4 == 0)
                    found[name].append((task, trace(task, number, seed, 0), score))
                drawn = [rng.randrange(3) for _ in range(3)]
                found["random"].append((task, trace(task, number, seed, *drawn), 0.0))
                who = (0, 1, 2) if rng.random() < 0.5 else (0, 0)
                text = EVIL if number == seed == 0 else " word"
                right = float(who == (0, 1, 2))
                found["switch"].append((task, trace(task, number, seed, *who, text=text), right))
    return found


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.evaluation.analysis.effects.SHUFFLES", 199)
    monkeypatch.setattr("taketurns.evaluation.bootstrap.FEW_RESAMPLES", 200)
    monkeypatch.setattr("taketurns.evaluation.statistics.RESAMPLES", 199)


def test_a_candidate_that_wrote_nothing_has_its_name(evaluation: Folder) -> None:
    """So its answers alone are found, and questions that no checkpoint solves are known."""
    found = methods()
    drawn = (0.5, 0.4, 0.1)
    found["switch"] = [
        (task, replace(t, patches=(patch(0, " a", drawn), patch(1, " b", drawn))), score)
        for task, t, score in found["switch"]
    ]
    read = read_answers(evaluation(found))
    assert read.subject.pool == POOL
    assert read.solved_alone is not None


def test_one_command_makes_the_whole_report(evaluation: Folder, invoke: Invoke) -> None:
    folder = evaluation(methods())
    code, out, err = invoke("analyze", "--run", folder)
    assert (code, out) == (0, "")
    assert f"wrote the report {folder / 'analysis' / 'report.html'}" in err
    made = folder / "analysis"
    sections = {path.stem for path in (made / "sections").iterdir()}
    assert sections == {"shares", "sequences", "effects", "beyond", "skills", "switcher", "signs"}
    text = (made / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!#)""", text)
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 2
    words = (made / "report.md").read_text(encoding="utf-8")
    assert "switch solves" in words
    assert "observed, not randomised" in words
    assert "no labels by people" not in words  # nor was anything labelled: no rules for these tasks
    figures = re.findall(r"\(figures/([\w-]+)\.svg\)", words)
    assert len(figures) == len(set(figures)) >= 6
    for name in figures:
        ElementTree.parse(made / "figures" / f"{name}.svg")
        with (made / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(float(row["value"]) == float(row["value"]) for row in rows)
    found = json.loads((made / "sections" / "beyond.json").read_text(encoding="utf-8"))["data"]
    assert {one["name"]: one["share"] for one in found["tried"]}["base"] == 0


def test_the_same_answers_give_the_same_report_with_others_sections_in_it(
    evaluation: Folder, invoke: Invoke
) -> None:
    folder = evaluation(methods(("sums",)))
    out = folder / "analysis"
    assert invoke("analyze", "--run", folder)[0] == 0
    first = (out / "report.html").read_bytes()
    assert invoke("analyze", "--run", folder)[0] == 0
    assert (out / "report.html").read_bytes() == first
    marks = tuple(
        DataPoint("", y, who, x=x) for who, x, y in (("base", 0.1, 0.4), ("tuned", 0.5, 0.2))
    )
    chart = Chart("plan", "scatter", "What was forced.", marks, reference="diagonal")
    grid = Chart("cells", "grid", "Who gains.", (DataPoint("base", 0.5, "sums"),))
    forced = Section("forced", "And if forced?", "It helps.", (Paragraph("Said."), chart, grid))
    write_section(out, forced)
    assert invoke("analyze", "--run", folder)[0] == 0
    words = (out / "report.md").read_text(encoding="utf-8")
    assert words.index("## Signs of failure") < words.index("## And if forced?")
    assert "**And if forced?** It helps." in words
    assert (out / "data" / "forced-plan.csv").is_file()


def test_what_lacks_is_said_in_one_sentence(
    evaluation: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    folder = evaluation(methods(("sums",)))
    assert_says(invoke("analyze", "--run", tmp_path), "has no results.json of an evaluation")
    missing = invoke("analyze", "--run", folder, "--method", "swich")
    assert_says(missing, "has no answers of the method 'swich'; it has base, tuned")
    alone = invoke("analyze", "--run", folder, "--method", "base")
    assert_says(alone, "one candidate writes all answers of 'base'")
    assert_says(invoke("analyze", "--run", tmp_path / "no"), "does not exist or is not a file")
    written = tmp_path / "answers.jsonl"
    lines = [trace_to_json(trace("a", n, s, 0, n % 3), POOL) for n in range(3) for s in (0, 1)]
    written.write_bytes(b"".join(map(encode_record, lines)))
    assert_says(invoke("analyze", "--run", written), "has traces without scores")
    assert_says(invoke("analyze", "--run", folder, "--out", tmp_path), "holds other files already")
    written.write_bytes(b"".join(encode_record({**one, "score": 1.0}) for one in lines))
    code, _, err = invoke("analyze", "--run", written)
    assert code == 0, err
    words = (tmp_path / "answers-analysis" / "report.md").read_text(encoding="utf-8")
    assert "Not measured: the run lacks answers of some checkpoint alone." in words


def assert_says(result: tuple[int, str, str], words: str) -> None:
    code, _, err = result
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_people_label_patches_of_the_run(
    evaluation: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    folder, table = evaluation(methods(("sums",))), tmp_path / "patches.csv"
    code, _, err = invoke("analyze", "--run", folder, "--annotate", table, "--patches", 7)
    assert (code, "wrote 7 patches to label to" in err) == (0, True)
    assert not (folder / "analysis").exists()
    assert len(table.read_text(encoding="utf-8").splitlines()) >= 8


def test_a_large_run_keeps_what_only_the_team_solves_and_some_of_each_task() -> None:
    answers = [
        answer((0, 1), float(number == 7), question=f"q{number}", task=task)
        for task in ("a", "b")
        for number in range(500)
    ]
    run = AnalysisInput(method_answers(answers), solved_alone=frozenset({"b/q7"}))
    kept = sample(run, 21)
    assert len(kept) == 21
    assert [one.question for one in kept if one.right and one.task == "a"] == ["a/q7"]
    assert abs(sum(one.task == "a" for one in kept) - 10.5) < 2
    assert sample(run, 1000) == answers
    assert sample(run, 21) == kept


def test_what_a_guards_candidate_wrote_is_part_of_the_answer(evaluation: Folder) -> None:
    """An end that nobody was allowed to write is not."""
    instead = replace(patch(2, " kept"), reason="guard", withheld=(RejectedPatch(0, 2),))
    ended = Patch(2, (), "", "guard", "guard")
    guarded = Trace(Query("q0", text="?"), (patch(0), instead, patch(1), ended), 0)
    (found,) = read_answers(evaluation({"switch": [("sums", guarded, 1.0)]})).subject.answers
    assert found.speakers == (0, 2, 1)
    assert found.text == " word kept word"


def test_only_what_the_results_are_about_is_looked_at(evaluation: Folder) -> None:
    """An answer that was kept with a score by other rules is none of theirs."""
    folder = evaluation(methods(("sums",)))
    path = folder / "answers" / "switch.jsonl"
    before = read_answers(folder).subject
    stale = json.loads(path.read_text().splitlines()[0])
    stale |= {"id": stale["id"].replace("@0#", "@1#"), "score": 1.0 - stale["score"]}
    path.write_bytes(path.read_bytes() + encode_record(stale))
    assert read_answers(folder).subject == before
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(
        json.dumps({**results, "schema": "taketurns.evaluation/1"})
    )
    with pytest.raises(DataError, match="written by an older version of taketurns"):
        read_answers(folder)


def test_failed_answers_are_counted_and_a_second_try_stands(
    evaluation: Folder, tmp_path: Path
) -> None:
    folder = evaluation(methods(("sums",)))
    path = folder / "answers" / "switch.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    failed = [encode_record({"id": json.loads(line)["id"], "error": "broke"}) for line in lines[:2]]
    path.write_bytes(b"".join([*failed, *lines[1:]]))
    subject = read_answers(folder).subject
    assert (subject.failed, len(subject.answers)) == (1, 23)


@pytest.fixture
def page(evaluation: Folder, invoke: Invoke) -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium-driver)")
    folder = evaluation(methods())
    assert invoke("analyze", "--run", folder)[0] == 0
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    chrome.get((folder / "analysis" / "report.html").as_uri())
    yield chrome
    complaints = [entry["message"] for entry in chrome.get_log("browser")]
    chrome.quit()
    assert complaints == []


def test_the_answers_are_browsed_and_never_taken_for_html(page: webdriver.Chrome) -> None:
    def all_of(selector: str) -> list[Any]:
        return page.find_elements(By.CSS_SELECTOR, selector)

    def one(name: str) -> Any:
        return page.find_element(By.ID, name)

    def comes(what: Callable[[], bool]) -> None:
        WebDriverWait(page, 20, poll_frequency=0.05).until(lambda _: what())

    def counts(words: str) -> None:
        comes(lambda: one("count").text.startswith(words))

    assert page.title.startswith("Analysis of the answers of switch")
    assert not all_of("#shown img, #shown b, #shown script")
    assert EVIL in all_of(".trace .wrote")[0].text.replace("●", "")
    counts("20 of 48 matching answers shown, 48 on this page")

    Select(one("task")).select_by_visible_text("names")
    counts("20 of 24 matching answers shown, 48 on this page")
    one("more").click()
    comes(lambda: len(all_of(".trace")) == 24)
    assert page.switch_to.active_element == all_of(".trace")[20]

    Select(one("second")).select_by_visible_text("tuned")
    comes(lambda: len(all_of(".trace")) < 20)
    assert all(len(wrote.find_elements(By.CSS_SELECTOR, ".s1")) for wrote in all_of(".wrote"))
    right = len(all_of(".trace"))
    assert right == len(all_of(".trace .right"))
    Select(one("result")).select_by_value("only")
    comes(lambda: 0 < len(all_of(".trace")) < right)
    assert all("no checkpoint alone" in trace.text for trace in all_of(".trace"))
    Select(one("result")).select_by_value("wrong")
    counts("0 of 0 matching")

    page.execute_script("document.activeElement.blur()")
    ActionChains(page).send_keys("/").perform()
    comes(lambda: page.switch_to.active_element == one("words"))
    page.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    counts("20 of 48")
    page.execute_script("document.activeElement.blur()")
    ActionChains(page).send_keys("jjk").perform()
    comes(lambda: page.switch_to.active_element == all_of(".trace")[0])
    all_of(".trace summary")[0].click()
    comes(lambda: bool(all_of(".trace details tbody tr")))
    rows = all_of(".trace details tbody tr")
    assert [cell.text for cell in rows[0].find_elements(By.TAG_NAME, "td")] == [
        "● base", "2", "0.60", "0.30", "0.10"
    ]  # fmt: skip


def test_it_reads_well_in_light_and_dark_and_on_a_phone(page: webdriver.Chrome) -> None:
    for scheme in ("light", "dark"):
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        for selector in ("h2", ".trace .patch", ".trace .quiet", ".browser select", ".patch .mark"):
            ink, paper = (
                luminance(page.execute_script(COLOUR, selector, which))
                for which in ("color", "background")
            )
            ratio = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
            assert ratio > 4.5, f"{selector} in {scheme}: {ratio:.1f}"
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360


COLOUR = """
const element = document.querySelector(arguments[0]);
if (arguments[1] === "color") return getComputedStyle(element).color;
const canvas = document.createElement("canvas").getContext("2d");
const behind = [];
for (let at = element; at; at = at.parentElement) {
  behind.unshift(getComputedStyle(at).backgroundColor);
}
for (const colour of behind) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
return "rgb(" + [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join(",") + ")";
"""


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
