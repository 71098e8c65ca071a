"""The split of each question; no question is in two splits.

A file with `dev` and `test` gives three splits: a hash of the question divides its dev into four
fifths for labels (train) and one fifth for choosing settings (dev). Questions that are also in test
are removed from dev. The test is not changed, not even its duplicates, because published results
are on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from taketurns.tasks.base import Split
from taketurns.types import Query
from taketurns.utils.seeds import derive

FOR_DEV = 5  # one in five questions of a file's dev stays in dev


@dataclass(frozen=True, slots=True)
class IdentifiedQuery:
    """A query and its `stem`: queries with the same stem are the same question, also with different
    options."""

    query: Query
    stem: str


def divided(
    rows: Mapping[str, Iterable[IdentifiedQuery]],
) -> tuple[dict[Split, tuple[Query, ...]], int]:
    """The splits from a file's rows by its own split names ("train", "dev", "test"), and the number
    of rows that were left out as duplicates."""
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
    """Queries with ids of the form `task/id`. Repeated ids get `#2`, `#3` …; the rows of test are
    counted first."""
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
