"""A scorer and a task of one's own. On the command line, in this folder:
taketurns evaluate --team pocket --task scorer_and_task:Sums --output report"""

import re

from taketurns import Query, Score, Team


def last_number(query, answer):
    """1 for the right number, half for one that is at most 5 away."""
    numbers = re.findall(r"-?\d+", answer)
    if not numbers:
        return Score(0.0, None, "there is no number", parsed=False)
    away = abs(int(numbers[-1]) - int(query.reference))
    return Score(1.0 if away == 0 else 0.5 if away <= 5 else 0.0, numbers[-1])


class Sums:
    """Sums of two numbers. A split has questions of its own."""

    name, category = "sums", "arithmetic"

    def queries(self, split):
        first = {"train": 11, "dev": 31, "test": 51}[split]
        sums = [(first + i, 40 - i) for i in range(10)]
        asked = [(f"{a}", f"what is {a} + {b}?", f"{a + b}") for a, b in sums]
        return tuple(Query(i, text=text, reference=right) for i, text, right in asked)

    def score(self, query, answer):
        return last_number(query, answer)


if __name__ == "__main__":
    task = Sums()
    with Team.load("pocket") as team:
        traces = team.generate(list(task.queries("test")))
    scores = [task.score(trace.query, trace.text).value for trace in traces]
    print(f"{sum(scores):g} of {len(scores)} sums")
