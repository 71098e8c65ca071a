#!/usr/bin/env bash
# torch 2.13.0, torch.set_num_threads on a CPU: each Python thread has a number of its own, but a number that a thread
# sets before it has asked or computed anything does not last. When another thread sets one afterwards, the first has
# that one, and its operations use as many cores. If the thread has called get_num_threads once before it sets, its
# number stays. So a server with a thread for each model must let each thread ask before it sets. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
"$here/venv/bin/python" - <<'PYTHON'
import threading

import torch


def kept(asks_first: bool) -> int:
    """The number that a thread has after it set 1 and another thread then set 3."""
    found: list[int] = []
    is_set, is_replaced = threading.Event(), threading.Event()

    def first() -> None:
        if asks_first:
            torch.get_num_threads()
        torch.set_num_threads(1)
        is_set.set()
        is_replaced.wait()
        found.append(torch.get_num_threads())

    def second() -> None:
        is_set.wait()
        torch.set_num_threads(3)
        is_replaced.set()

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[0]


print("torch", torch.__version__)
outcome = {"sets at once": kept(False), "asks, then sets": kept(True)}
print(outcome)
assert outcome == {"sets at once": 3, "asks, then sets": 1}, "it has changed"
PYTHON
