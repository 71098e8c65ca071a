"""Which questions belong to which split, so that none is in two.

A file with a `dev` and a `test` gives three splits: its dev is divided, four parts of five for
labels (train), one for choosing settings (dev), by a hash of the question. What dev shares with
test is taken out of dev; the test is left as it is, duplicates and all, since results are compared
on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from taketurns.tasks.base import Split
from taketurns.types import Query
from taketurns.utils.seeds import derive

FOR_DEV = 5  # one question in so many of a file's dev is for choosing settings


@dataclass(frozen=True, slots=True)
class IdentifiedQuery:
    """A query and what it asks: two with the same `stem` are the same question, whatever options
    are offered with it."""

    query: Query
    stem: str


def divided(
    rows: Mapping[str, Iterable[IdentifiedQuery]],
) -> tuple[dict[Split, tuple[Query, ...]], int]:
    """The splits of a file's rows by its own split names ("train", "dev", "test"), and how many
    rows were left out as duplicates."""
    test = list(rows.get("test", ()))
    seen = {_squeezed(asked.stem) for asked in test}
    left_out = 0
    kept: dict[str, list[IdentifiedQuery]] = {}
    for name in ("dev", "train"):
        texts: set[str] = set()
        stems = set()
        kept[name] = []
        for asked in rows.get(name, ()):
            stem = _squeezed(asked.stem)
            text = _squeezed(asked.query.conversation[-1].content)
            if stem in seen or text in texts:
                left_out += 1
                continue
            texts.add(text)
            stems.add(stem)
            kept[name].append(asked)
        seen |= stems
    dev, train = kept["dev"], kept["train"]
    if "train" not in rows:
        train = [asked for asked in dev if not _is_dev(asked)]
        dev = [asked for asked in dev if _is_dev(asked)]
    splits: dict[Split, tuple[Query, ...]] = {
        "train": _queries(train),
        "dev": _queries(dev),
        "test": _queries(test),
    }
    return splits, left_out


def distinct_ids(
    name: str, rows: Mapping[str, Iterable[IdentifiedQuery]]
) -> dict[str, list[IdentifiedQuery]]:
    """Ids of the form `task/id`; where the data uses an id again, `#2`, `#3` … is added, the test's
    first."""
    uses: dict[str, int] = {}
    distinct: dict[str, list[IdentifiedQuery]] = {}
    for split in sorted(rows, key=lambda split: split != "test"):
        distinct[split] = []
        for asked in rows[split]:
            data_id = asked.query.id
            uses[data_id] = uses.get(data_id, 0) + 1
            again = f"#{uses[data_id]}" if uses[data_id] > 1 else ""
            query = replace(asked.query, id=f"{name}/{data_id}{again}")
            distinct[split].append(replace(asked, query=query))
    return distinct


def _is_dev(asked: IdentifiedQuery) -> bool:
    return derive(0, "split", _squeezed(asked.stem)) % FOR_DEV == 0


def _queries(rows: Iterable[IdentifiedQuery]) -> tuple[Query, ...]:
    return tuple(asked.query for asked in rows)


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())
