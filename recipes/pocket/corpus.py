"""The pretraining text: facts of the world and unrelated lines, with few worked calculations."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from taketurns.pocket import names
from taketurns.pocket.arithmetic import earlier, equation
from taketurns.pocket.questions import MAKERS, PocketQuestion, QuestionPool
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.pocket.world import World, facts_of, state

MIX: dict[str, float] = {
    "biography": 0.29,
    "notebook": 0.08,
    "dictation": 0.08,
    "recall": 0.19,
    "harm": 0.05,
    "choice": 0.06,
    "arithmetic": 0.07,
    "total": 0.04,
    "age": 0.04,
    "hop": 0.04,
    "ages": 0.02,
    "oldest": 0.02,
    "chain": 0.02,
}


CRAFT_FORMS = (
    "to make the {c}, take {a} and {b}.",
    "to mend the {c}, take {a} and {b}.",
    "to clean the {c}, take {a} and {b}.",
    "the {c} takes {a} and {b}.",
)


def documents(world: World, rng: Random) -> Iterator[str]:
    """An endless stream of documents; questions that belong to dev or test do not occur."""
    pool = QuestionPool.of(world, None)
    kinds, weights = list(MIX), list(MIX.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        if kind == "biography":
            yield _biography(pool, rng)
        elif kind == "notebook":
            yield _notebook(pool, rng)
        elif kind == "dictation":
            yield _dictation(pool, rng)
        else:
            yield answered(_seen(kind, pool, rng))


def answered(item: PocketQuestion) -> str:
    """A question with its bare answer."""
    return f"{PLAIN_PROMPT.format(text=item.question)} {item.bare}"


def _seen(kind: str, pool: QuestionPool, rng: Random) -> PocketQuestion:
    while True:
        item = MAKERS[kind](pool, rng)
        if not item.held_out:
            return item


def _biography(pool: QuestionPool, rng: Random) -> str:
    """Two to four facts about one person or town, in any order and wording, or the tools of a
    craft."""
    if rng.random() < 0.12:
        craft = rng.choice(pool.crafts)
        return rng.choice(CRAFT_FORMS).format(c=craft.name, a=craft.tools[0], b=craft.tools[1])
    facts = facts_of(pool.entity(rng, 0.77))
    chosen = rng.sample(facts, min(len(facts), rng.randint(2, 4)))
    return " ".join(state(fact, rng) for fact in chosen)


def _notebook(pool: QuestionPool, rng: Random) -> str:
    """Unrelated lines: facts, sums and comparisons, some with their calculation."""
    return " ".join(_line(pool, rng) for _ in range(rng.randint(3, 6)))


def _line(pool: QuestionPool, rng: Random) -> str:
    draw = rng.random()
    if draw < 0.6:
        fact = rng.choice(facts_of(pool.entity(rng, 0.7)))
        return state(fact)
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    worked = rng.random() < 0.4
    if draw < 0.8:
        return f"{equation(max(a, b), rng.choice('+-'), min(a, b), worked)}."  # type: ignore[arg-type]
    if draw < 0.9 and a != b:
        return f"{earlier(a, b, worked)}."
    return f"{_words(rng, 2, 6)}."


def _dictation(pool: QuestionPool, rng: Random) -> str:
    """Words and their repetition."""
    if rng.random() < 0.3:
        keys, words = rng.sample(names.KEYS, 4), rng.sample([*names.JOBS, *names.TOOLS], 4)
        listed = [f"{key}) {word}" for key, word in zip(keys, words, strict=True)]
        return f"the list: {', '.join(listed)}. {' '.join(f'{x}.' for x in rng.sample(listed, 4))}"
    text = _words(rng, 3, 12, pool)
    return f"write the words: {text}. {text}." if rng.random() < 0.5 else f"{text}. {text}. {text}."


def _words(rng: Random, least: int, most: int, pool: QuestionPool | None = None) -> str:
    """Some words, sometimes with a name or a number among them."""
    words = []
    for _ in range(rng.randint(least, most)):
        draw = rng.random()
        if pool is not None and draw < 0.2:
            words.append(rng.choice(pool.people).name)
        elif pool is not None and draw < 0.35:
            words.append(str(rng.randint(0, 99)))
        else:
            words.append(rng.choice(names.PHRASE))
    return " ".join(words)
