"""Where the recipe's questions and texts come from: data inside the wheel of OpenAI's `evals`."""

from __future__ import annotations

from taketurns.checkpoints.wheels import WheelPart

PACKAGE, VERSION = "evals", "3.0.1.post1"
REGISTRY = "evals/registry/data"


def _part(member: str, size: int, sha256: str) -> WheelPart:
    return WheelPart(PACKAGE, VERSION, f"{REGISTRY}/{member}", size, sha256)


LOGIQA = _part(
    "logiqa/logiqa.jsonl",
    2_192_544,
    "0fcd58f776f5a49ccd4da8d21b4496873a6291e4d976be5d6bdd43df48cabd52",
)
QUARTZ = _part(
    "quartz/samples.jsonl",
    1_279_106,
    "e439668cc38aa157bb1a746d9540f61f29d7f494a6618a955c8e3b5f55a363e7",
)
SOCIALIQA = _part(
    "theory_of_mind/socialiqa/test.jsonl",
    534_549,
    "33e5a7e1f8270934fcff115f18ca51aede77987d1225cf3ac718a22fb1715714",
)
WIKIPEDIA = _part(
    "schelling_point/wikipedia_5.jsonl",
    6_794_520,
    "be1805cd801ba9c486a2919da8513cc36ca97d7c4f0c324d3be935d1a34c1b9f",
)
