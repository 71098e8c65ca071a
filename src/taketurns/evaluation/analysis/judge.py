"""A judge model labels the skill of a patch: the most probable number as its next token. No text is
sampled, so the same patch always gets the same label."""

from __future__ import annotations

from collections.abc import Callable

from taketurns.checkpoints.prompts import digit_ids, speaker_ids
from taketurns.engines.base import Engine, ModelInfo
from taketurns.errors import ConfigError
from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.evaluation.analysis.skills import SKILLS, SkillLabel
from taketurns.types import ModelSpec, Query
from taketurns.utils.finite import check_choice

QUESTION = """Somebody answers a question piece by piece. What does the marked piece do?

Question: {question}

Answer up to here: {before}

The piece: {patch}

{skills}

Reply with the number alone."""


async def label_by_judge(
    subject: MethodAnswers,
    engine: Engine,
    model: str,
    spec: ModelSpec,
    on_done: Callable[[], None] = lambda: None,
) -> list[SkillLabel]:
    """The skill of each patch, with one forward pass per patch. The judge sees neither speaker nor
    task. `engine` runs `model`, whose prompt `spec` describes. Raises ConfigError for a judge that
    gives no log-probabilities or has no single token for a number, PromptError for a patch that
    does not fit its context."""
    info = await engine.info(model)
    if "score" not in info.capabilities:
        raise ConfigError(
            f"the judge {model} gives no log-probabilities, which its labels are read from: name "
            "another model with --judge"
        )
    digits = digit_ids(info.codec, len(SKILLS))
    names = list(SKILLS)
    labels = []
    for answer in subject.answers:
        for number in range(len(answer.patches)):
            prompt = _prompt(info, spec, answer, number)
            async with engine.session(0, len(prompt) + 1) as session:
                scores = await session.score(model, prompt, digits)
            check_choice(scores, f"the judge {model}")
            best = max(range(len(names)), key=scores.__getitem__)
            labels.append(SkillLabel(answer.question, answer.seed, number, names[best]))
            on_done()
    return labels


def _prompt(info: ModelInfo, spec: ModelSpec, answer: ScoredAnswer, number: int) -> list[int]:
    text = QUESTION.format(
        question=answer.query.conversation[-1].content,
        before="".join(patch.text for patch in answer.patches[:number]) or "(nothing yet)",
        patch=answer.patches[number].text,
        skills="\n".join(f"{at} it {what}" for at, what in enumerate(SKILLS.values())),
    )
    asked = Query(id=answer.query.id, text=text)
    return speaker_ids(spec, info.codec, asked)
