#!/usr/bin/env bash
# evals 3.0.1.post1 (the newest wheel of OpenAI's evals): its LogiQA has every question twice, and its QuaRTz has sixteen
# questions twice with opposite answers. All 677 lines of logiqa.jsonl stand there two times, so a split of its 1,354 lines
# puts the same question on both sides, and an interval from 1,354 answers is narrower by the root of two than it may be.
# In QuaRTz the sixteen pairs are equal to the last letter, options included, but for the answer: one of each pair is always
# wrong. Social IQA has 21 lines twice. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$here" evals==3.0.1.post1
python3 - "$here"/evals-*.whl <<'PYTHON'
import json
import sys
import zipfile
from collections import Counter, defaultdict

WHEEL = zipfile.ZipFile(sys.argv[1])
FILES = {
    "logiqa": "logiqa/logiqa.jsonl",
    "quartz": "quartz/samples.jsonl",
    "socialiqa": "theory_of_mind/socialiqa/test.jsonl",
}
seen = {}
for name, path in FILES.items():
    lines = WHEEL.read(f"evals/registry/data/{path}").decode().splitlines()
    rows = [json.loads(line) for line in lines]
    copies = Counter(json.dumps(row, sort_keys=True) for row in rows)
    answers = defaultdict(set)
    for row in rows:
        answers[row["input"][-1]["content"]].add(row["ideal"])
    contradicted = sum(len(ideals) > 1 for ideals in answers.values())
    seen[name] = (len(rows), len(copies), contradicted)
    print(f"{name}: {len(rows)} lines, {len(copies)} different, {contradicted} questions with two answers")
    if name == "logiqa":
        assert set(copies.values()) == {2}, "not every line stands twice any more"
assert seen == {"logiqa": (1354, 677, 0), "quartz": (3860, 3860, 16), "socialiqa": (2224, 2203, 0)}
PYTHON
