"""The paper's benchmarks by name (arXiv 2510.09913, section 4), with their formats and scorers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from taketurns.errors import DataError
from taketurns.tasks import hub
from taketurns.tasks.authors_format import Form, SourceRow, asked, read_file
from taketurns.tasks.hub import Source, fetch
from taketurns.tasks.scored import ScoredTask, scored_task
from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.moco import Moco, MocoKind
from taketurns.tasks.splits import IdentifiedQuery, distinct_ids, divided

Options = Callable[[str, str], Mapping[str, str] | None]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: `kind` is the authors' task type, `form` the format of its rows, `scorer` the
    name of its scorer, `source` the data set on the hub (None: only the authors' file)."""

    name: str
    about: str
    category: str
    form: Form
    scorer: str
    kind: MocoKind | None
    source: Source | None = None
    options: Options | None = None
    stem: Callable[[str], str] = lambda question: question

    def load(self, data: Path | None, scorer: Scorer) -> ScoredTask:
        """The task from the authors' file or a folder with it, else from the hub.

        Raises DataError for data that cannot be used.
        """
        if data is not None:
            path = data / f"{self.name}.json" if data.is_dir() else data
            rows, place = read_file(path), str(path)
        elif self.source is not None:
            rows, place = fetch(self.source), self.source.path
        else:
            raise DataError(
                f"no data set on the hub is known for the benchmark {self.name!r}: give the "
                "authors' file with --data"
            )
        return self._task(rows, place, scorer)

    def moco(self) -> Scorer:
        """The authors' scoring. Raises DataError if it is not implemented for this benchmark."""
        if self.kind is None:
            raise DataError(
                f"the authors' scoring of {self.name!r} is not available for comparison: leave out "
                "--scoring moco"
            )
        return Moco(self.kind)

    def _task(self, rows: Mapping[str, list[SourceRow]], place: str, scorer: Scorer) -> ScoredTask:
        queries: dict[str, list[IdentifiedQuery]] = {}
        notes = []
        for split, listed in rows.items():
            queries[split] = []
            for number, row in enumerate(listed, start=1):
                where = f"{place}, {split} row {number}"
                query = asked(self.name, self.form, row, where, self.options, self.stem)
                if query is None:
                    notes.append(f"{where} has no answer and is left out")
                    continue
                try:
                    scorer.check(query.query)
                except DataError as error:
                    raise DataError(f"{where}: {error}") from error
                queries[split].append(query)
        splits, left_out = divided(distinct_ids(self.name, queries))
        if left_out:
            notes.append(
                f"{place}: {left_out} rows of dev are left out as duplicates of test or dev"
            )
        return scored_task(self.name, self.category, splits, scorer, notes)


LETTERED = re.compile(r"^\(([A-Z])\)\s*(.+)$", re.MULTILINE)
DASHED = re.compile(r"^- *(.+?) *$", re.MULTILINE)
OPPOSITES = (("yes", "no"), ("true", "false"), ("valid", "invalid"))


def bbh_options(question: str, answer: str) -> Mapping[str, str] | None:
    """The options in BBH's text: lettered ones, a list of words, or a word and its opposite."""
    _, _, options = question.partition("Options:\n")
    if lettered := dict(LETTERED.findall(options)):
        return lettered
    words: list[str] = DASHED.findall(options)
    for pair in OPPOSITES if not words else ():
        if answer.casefold() in pair:
            words = [_cased_like(answer, word) for word in pair]
    return {word: word for word in words} or None


def sciriff_options(question: str, answer: str) -> Mapping[str, str] | None:
    """The labels of a classification, which its text has as a JSON list."""
    match = re.search(r"list of options:\s*(\[[^\]]*\])", question)
    try:
        labels = json.loads(match[1]) if match else []
    except ValueError:
        return None
    return {str(label): str(label) for label in labels} or None


def blend_stem(question: str) -> str:
    """A question of BLEnD without its options."""
    return question.partition("Without any explanation")[0]


def _cased_like(model: str, word: str) -> str:
    return word.capitalize() if model[:1].isupper() else word


HARNESS = "lm-evaluation-harness"
MATH_SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory",
    "prealgebra", "precalculus",
)  # fmt: skip
BBH_SUBSETS = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa",
    "dyck_languages", "formal_fallacies", "geometric_shapes", "hyperbaton",
    "logical_deduction_five_objects", "logical_deduction_seven_objects",
    "logical_deduction_three_objects", "movie_recommendation", "multistep_arithmetic_two",
    "navigate", "object_counting", "penguins_in_a_table", "reasoning_about_colored_objects",
    "ruin_names", "salient_translation_error_detection", "snarks", "sports_understanding",
    "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects",
    "web_of_lies", "word_sorting",
)  # fmt: skip

_ALL = (
    Benchmark(
        "truthfulqa", "TruthfulQA, multiple choice (2109.07958)", "truthfulness",
        "choice", "choice", "multiple_choice",
        Source("truthfulqa/truthful_qa", hub.truthfulqa, ("multiple_choice",),
               {"test": "validation"}, f"{HARNESS}: truthfulqa_mc1"),
    ),
    Benchmark(
        "gsm8k", "GSM8k, word problems (2110.14168)", "reasoning",
        "answer", "mathematics", "exact_match",
        Source("openai/gsm8k", hub.gsm8k, ("main",), {"dev": "train", "test": "test"},
               f"{HARNESS}: gsm8k"),
    ),
    Benchmark(
        "bbh", "BIG-Bench Hard (2210.09261)", "reasoning",
        "answer", "closed", "exact_match",
        Source("lukaemon/bbh", hub.bbh, BBH_SUBSETS, {"test": "test"}),
        options=bbh_options,
    ),
    Benchmark(
        "math", "MATH, competition problems (2103.03874)", "reasoning",
        "answer", "mathematics", "exact_match",
        Source("EleutherAI/hendrycks_math", hub.math, MATH_SUBJECTS,
               {"dev": "train", "test": "test"}, "public evaluation code: problem, solution"),
    ),
    Benchmark(
        "agieval", "AGIEval, entrance exams (2304.06364)", "knowledge and reasoning",
        "choice", "choice", "multiple_choice",
        Source("hails/agieval-aqua-rat", hub.agieval, (None,), {"test": "test"},
               f"{HARNESS}: agieval_aqua_rat (this part alone)"),
    ),
    Benchmark(
        "arc_challenge", "ARC-Challenge, science exams (1803.05457)", "knowledge and reasoning",
        "choice", "choice", "multiple_choice",
        Source("allenai/ai2_arc", hub.arc, ("ARC-Challenge",),
               {"dev": "validation", "test": "test"}, f"{HARNESS}: arc_easy"),
    ),
    Benchmark(
        "mmlu_redux", "MMLU-Redux, the parts found sound (2406.04127)", "knowledge",
        "choice", "choice", "multiple_choice",
        Source("edinburgh-dawg/mmlu-redux-2.0", hub.mmlu_redux, ("*",), {"test": "test"},
               "public evaluation code: question, choices, answer, error_type"),
    ),
    Benchmark(
        "popqa", "PopQA, rare facts, right or wrong (2212.10511)", "knowledge",
        "answer", "alias", "f1_match",
        Source("akariasai/PopQA", hub.popqa, (None,), {"test": "test"},
               "public evaluation code: question, possible_answers"),
    ),
    Benchmark(
        "wikidyk", "WikiDYK, new facts of Wikipedia, token F1 (2505.12306)", "knowledge",
        "answer", "f1", "f1_match",
    ),
    Benchmark(
        "sciencemeter", "ScienceMeter, claims and papers (2505.24302)", "science",
        "choice", "choice", "multiple_choice",
    ),
    Benchmark(
        "blend", "BLEnD, everyday knowledge of many cultures (2406.09948)", "culture",
        "choice", "choice", "multiple_choice",
        Source("nayeon212/BLEnD", hub.blend, ("multiple-choice-questions",), {"test": "test"},
               "public evaluation code: MCQID, prompt, answer_idx"),
        stem=blend_stem,
    ),
    Benchmark(
        "kaleidoscope", "value kaleidoscope, pluralism (2309.00779)", "pluralism",
        "choice", "choice", "multiple_choice",
        Source("allenai/ValuePrism", hub.kaleidoscope, ("full",), {"test": "train"}),
    ),
    Benchmark(
        "coconot", "CoCoNot, requests not to comply with (2407.12043)", "safety and honesty",
        "open", "noncompliance", "noncompliance",
        Source("allenai/coconot", hub.coconot, ("original",), {"dev": "train", "test": "test"},
               "public evaluation code: prompt, category"),
    ),
    Benchmark(
        "sciriff", "SciRIFF, reading papers (2406.07835)", "science",
        "answer", "closed", "exact_match",
        Source("allenai/SciRIFF", hub.sciriff, ("4096",), {"dev": "validation", "test": "test"},
               "public training code: config 4096, input, output"),
        options=sciriff_options,
    ),
    Benchmark(
        "alpacaeval", "AlpacaEval, instructions, by a reward model", "instruction following",
        "open", "reward", None,
        Source("tatsu-lab/alpaca_eval", hub.alpacaeval, ("alpaca_eval",), {"test": "eval"},
               "public evaluation code: instruction"),
    ),
    Benchmark(
        "human_interest", "human interest, by a reward model (2410.11163)",
        "instruction following", "open", "reward", None,
    ),
    Benchmark(
        "wildchat", "WildChat, users' requests, by a reward model (2405.01470)",
        "instruction following", "open", "reward", None,
        Source("allenai/WildChat-1M", hub.wildchat, (None,), {"test": "train"},
               "public code: conversation, language, toxic (the first 1,000)", most=1000),
    ),
    Benchmark(
        "infinite_chat_diversity", "open requests, by diversity of answers (2510.22954)",
        "creativity", "open", "diversity", None,
    ),
)  # fmt: skip
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({one.name: one for one in _ALL})
