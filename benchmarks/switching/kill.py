"""Do `rollout` and `train` give the same result after kill -9 at three random moments?

    python -m benchmarks.switching.kill [--prefixes N] [--seed S]

Each command runs once undisturbed, to measure its time. Then it is started again, killed at a
random moment of its first, second and third quarter, and run to its end.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

KILLS = 3


def run(command: Sequence[object], kill_after: float | None = None) -> float:
    """Run a command, killed after this many seconds; return the seconds that it ran."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "taketurns", *map(str, command)], stderr=subprocess.DEVNULL
    )
    try:
        code = process.wait(kill_after)
        assert code == 0, f"exit code {code}"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return time.monotonic() - began


def compare(what: str, command: Sequence[object], folder: Path, made: str) -> None:
    """Run `command` undisturbed and killed, each with its own output, and compare the file `made`
    of both."""
    whole, killed = folder / f"{what}-whole", folder / f"{what}-killed"
    seconds = run([*command, "--output", whole])
    moments = [seconds * (quarter + random.random()) / (KILLS + 1) for quarter in range(KILLS)]
    for moment in moments:
        run([*command, "--output", killed], moment)
    run([*command, "--output", killed])
    same = (whole / made).read_bytes() == (killed / made).read_bytes()
    times = ", ".join(f"{moment:.1f}" for moment in moments)
    print(
        f"{what}: {seconds:.0f} s undisturbed, killed after {times} s: "
        f"{'equal' if same else 'NOT EQUAL'}",
        flush=True,
    )


def main() -> None:
    """Rollouts, then both kinds of switcher trained on them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefixes", type=int, default=260)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = ["rollout", "--team", "pocket", "--prefixes", options.prefixes, "--k", 4]
        compare("rollout", command, folder, "")
        labels = folder / "rollout-whole"
        for kind, made in (("lm", "model.safetensors"), ("head", "head.safetensors")):
            command = ["train", "--team", "pocket", "--labels", labels, "--switcher", kind]
            compare(kind, command, folder, made)


if __name__ == "__main__":
    main()
