import io

import pytest
from rich.console import Console

from taketurns.cli.terminal import AnswerPrinter, Speakers, shown
from taketurns.runs.progress import Progress
from taketurns.types import Delta, Patch, Query, Timing, Trace
from taketurns.utils.colours import COLOURS

NAMES = ("pretrained", "sft", "aligned")


def console(colour: bool = False) -> Console:
    return Console(file=io.StringIO(), width=60, color_system="truecolor" if colour else None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def patch(speaker: int | None, words: str, **more) -> Patch:
    return Patch(speaker, (1,), words, "length", "chosen", timing=Timing(), **more)


def test_every_patch_has_its_speakers_mark_and_colour() -> None:
    speakers, out = Speakers(NAMES), console(colour=True)
    trace = Trace(Query("q", text="?"), (patch(2, "So"), patch(0, " it"), patch(None, " is")), 0)
    out.print(speakers.answer(trace))
    red, green, blue = (int(COLOURS[2][at : at + 2], 16) for at in (1, 3, 5))
    assert f"38;2;{red};{green};{blue}m" in text(out)
    assert speakers.answer(trace).plain == "■So ●it +is"


def test_an_answer_is_printed_as_it_is_written_and_exactly_once() -> None:
    out = console()
    printer = AnswerPrinter(out, Speakers(NAMES))
    for part in (
        Delta(0, "one"),
        Delta(0, " two"),
        patch(0, "one two three"),  # what was held back shows with the patch
        Delta(1, " "),
        Delta(1, "four"),
        patch(1, " four"),
        patch(None, " five"),
        patch(1, ""),
    ):
        printer.show(part)
    assert text(out) == "●one two three ▲four +five"


def test_long_answers_are_not_broken_by_the_printer() -> None:
    out = console()
    AnswerPrinter(out, Speakers(NAMES)).show(patch(0, "word " * 50))
    assert "\n" not in text(out)


def test_a_terminal_without_unicode_gets_letters() -> None:
    out = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    speakers = Speakers.on(out, NAMES)
    assert speakers.legend().plain == "[a] pretrained   [b] sft   [c] aligned"
    assert Speakers.on(console(), NAMES).legend().plain == "● pretrained   ▲ sft   ■ aligned"


def test_more_candidates_than_marks_stay_apart() -> None:
    speakers = Speakers(tuple(map(str, range(20))))
    assert len({speakers.mark(index) for index in range(20)}) == 20


def test_decisions_are_a_line_a_patch() -> None:
    trace = Trace(
        Query("q", text="?"),
        (patch(2, "So", probabilities=(0.1, 0.2, 0.7)), patch(None, "!")),
        0,
    )
    assert Speakers(NAMES).decisions(trace).plain.splitlines() == [
        "■ aligned    chosen   pretrained 10% · sft 20% · aligned 70%",
        "+ forced     chosen   ",
    ]


@pytest.mark.parametrize(
    ("written", "seen"),
    [("a\tb\n", "a\tb\n"), ("\x1b[2J", "␛[2J"), ("\x7f\x9b", "␡␡"), ("[red]käse", "[red]käse")],
)
def test_what_a_model_writes_does_not_steer_the_terminal(written: str, seen: str) -> None:
    assert shown(written) == seen


def test_progress_off_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("taketurns.runs.progress.time.monotonic", lambda: now)
    with Progress("generating", 100, done=20) as progress:
        for now in range(1, 25):  # noqa: B007  (the clock)
            progress.advance(tokens=50)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "generating: 30 of 100, 50 tokens/s, about 70 s left",
        "generating: 40 of 100, 50 tokens/s, about 60 s left",
    ]
