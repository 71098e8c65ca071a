"""A team in Python: who may speak, who decides, and what runs the models."""

from importlib.resources import files

from taketurns import Candidate, LocalEngine, ModelSpec, Policy, Query, Team
from taketurns.switchers import RandomSwitcher

weights = files("taketurns") / "pocket" / "weights"  # folders of yours, or names on the hub
specs = {
    "pretrained": ModelSpec(str(weights / "pretrained"), prompt="question: {text} answer:"),
    "sft": ModelSpec(str(weights / "sft")),
    "aligned": ModelSpec(str(weights / "aligned")),
}
candidates = [Candidate(name, spec) for name, spec in specs.items()]
policy = Policy(patch_size=16, max_tokens=120)

with Team(candidates, LocalEngine(specs), RandomSwitcher(), policy) as team:
    for question in ("what is 23 + 48?", "what does rebol fonul work as?"):
        trace = team.generate(Query(question, text=question), seed=1)
        print(question)
        for patch in trace.patches:
            print(f"  {patch.name:>10}: {patch.text!r}")
