"""Every method by name, with its description and the function that makes it for a team."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import getdoc
from typing import Any, Literal, cast

from taketurns.config.pair_rules import MentorRule
from taketurns.errors import UsageError
from taketurns.evaluation.methods.base import Method, MethodContext
from taketurns.evaluation.methods.candidates import Single
from taketurns.evaluation.methods.cascade import Cascade
from taketurns.evaluation.methods.logits import (
    Contrastive,
    Fusion,
    average_logprobs,
    average_probabilities,
)
from taketurns.evaluation.methods.merging import DareTies, GreedySoup
from taketurns.evaluation.methods.refinement import (
    BaseRefines,
    MultiagentFeedback,
    MultiagentRefine,
)
from taketurns.evaluation.methods.routing import PromptRouting, TrainedRouter
from taketurns.evaluation.methods.switching import FixedSequence, SwitchingTeam
from taketurns.evaluation.methods.token_level import TokenLevelPair, routed_tokens
from taketurns.evaluation.methods.trained import TrainedSwitchers
from taketurns.evaluation.methods.voting import BestOfN, SelfConsistency
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import RandomSwitcher
from taketurns.utils.parts import (
    describe_part,
    load_part,
    make_part,
    names_part,
    require_methods,
)

Kind = Literal["single", "baseline", "control", "switch"]
ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method's name, kind and description in one line. A method with `hindsight` uses the scores
    of the test answers. `make` is None if the method is computed from other methods' answers;
    `part` describes the code of a user's own method."""

    name: str
    kind: Kind
    about: str
    make: Callable[[MethodContext], Method] | None
    hindsight: bool = False
    part: Mapping[str, Any] | None = None


def methods(
    candidates: list[str], by_team: TrainedSwitchers, trained: Mapping[str, TrainedSwitchers]
) -> dict[str, MethodEntry]:
    """Every method that can be named for a team. `by_team` is the team's switcher, `trained` are
    further switchers by method name. Raises UsageError for two methods with the same name."""
    whole = by_team.switchers()
    first = next(iter(whole.values()))
    entries = [
        *(
            MethodEntry(name, "single", "a checkpoint alone", partial(Single, name=name))
            for name in candidates
        ),
        _baseline("prompt-routing", "a checkpoint is asked who should answer", PromptRouting),
        _baseline("trained-router", "a router trained on dev chooses who answers", TrainedRouter),
        _baseline("cascade", "checkpoints in turn until a judge accepts", Cascade),
        _baseline("refine", "all answer, all refine beside the others' answers", MultiagentRefine),
        _baseline("feedback", "the last answers again with reviews", MultiagentFeedback),
        _baseline("fuse-probs", "mean of next-token probabilities",
                  partial(Fusion, combine=average_probabilities)),
        _baseline("fuse-logprobs", "mean of next-token log-probabilities",
                  partial(Fusion, combine=average_logprobs)),
        _baseline("contrastive", "best against worst checkpoint, token by token", Contrastive),
        _baseline("nudging", "the last checkpoint writes words where the first is unsure",
                  TokenLevelPair.nudging),
        _baseline("baco", "the first checkpoint writes where it is unsure, not punctuation",
                  TokenLevelPair.baco),
        _baseline("mentorcollab", "the last checkpoint offers the first patches, which it judges",
                  TokenLevelPair.mentorcollab),
        _baseline("soup", "greedy average of weights", GreedySoup),
        _baseline("dare-ties", "sparse task vectors with elected signs", DareTies),
        _control("vote", "majority of n answers of the best checkpoint",
                 lambda context: SelfConsistency(context, first)),
        _control("best-of-n", "the best of n answers of the best checkpoint, at equal compute",
                 lambda context: BestOfN(context, first), hindsight=True),
        _control("base-refines", "the first checkpoint rewrites the last one's answer",
                 BaseRefines),
        _control("per-token", "the team's switcher, asked before every token",
                 lambda context: SwitchingTeam.token_by_token(context, first)),
        _control("fixed", "the best order of speakers on dev",
                 partial(FixedSequence, by_task=False)),
        _control("fixed-task", "the best order of speakers on dev for each task",
                 partial(FixedSequence, by_task=True)),
        MethodEntry(ORACLE, "control", "the best checkpoint for each question", None,
                    hindsight=True),
        _control("random", "every speaker is drawn with equal probability",
                 lambda context: SwitchingTeam.everywhere(context, RandomSwitcher())),
        _control("untuned", "the last checkpoint as switcher, untrained", _untuned),
        MethodEntry("switch", "switch", "the team as its file says",
              lambda context: SwitchingTeam(context, whole)),
    ]  # fmt: skip
    for name, switchers in trained.items():
        about = f"switching by the trained switcher {name}"
        make = _token_level(name, switchers) or _switching(switchers.switchers())
        entries.append(MethodEntry(name, "switch", about, make))
    by_name: dict[str, MethodEntry] = {}
    for entry in entries:
        if entry.name in by_name:
            raise UsageError(
                f"two methods are called {entry.name!r}: give the candidate or the --switcher "
                "another name"
            )
        by_name[entry.name] = entry
    return by_name


def own_methods(names: Sequence[str]) -> dict[str, MethodEntry]:
    """The user's methods among these names: "package.module:Class", or an entry point. Each is
    imported. Raises UsageError for one that cannot be imported."""
    entries = {}
    for name in names:
        if names_part("methods", name):
            about = (getdoc(load_part("methods", name)) or "a method of your own").partition("\n")[
                0
            ]
            part, make = describe_part("methods", name), partial(_make_own, name)
            entries[name] = replace(_baseline(name, about.rstrip("."), make), part=part)
    return entries


def _make_own(name: str, context: MethodContext) -> Method:
    method: Method = make_part("methods", name, {}, context)
    require_methods(f"the method {name!r}", method, ("check", "prepare", "answer"))
    return method


def _baseline(name: str, about: str, make: Callable[[MethodContext], Method]) -> MethodEntry:
    return MethodEntry(name, "baseline", about, make)


def _control(
    name: str, about: str, make: Callable[[MethodContext], Method], hindsight: bool = False
) -> MethodEntry:
    return MethodEntry(name, "control", about, make, hindsight)


def _untuned(context: MethodContext) -> Method:
    """The last candidate as an LM switcher, asked in the same form as for answers: with its chat
    template unless the team file gives a plain prompt."""
    plain = context.config.candidates[-1].spec.prompt is not None
    chats = False if plain else None
    return SwitchingTeam.everywhere(context, LMSwitcher(context.last, chat_template=chats))


def _token_level(
    name: str, switchers: TrainedSwitchers
) -> Callable[[MethodContext], Method] | None:
    """The method of one deferral head, or one judge, for all tasks, whose threshold or rate is
    chosen on dev, or of routers of single tokens; None for other switchers."""
    first, *others = switchers.by_task.values()
    if all(config.kind == "fusionroute" for config in (first, *others)):
        return partial(routed_tokens, switchers=switchers.switchers())
    if first.path is None or any(config != first for config in others):
        return None
    if first.kind == "deferral":
        return partial(TokenLevelPair.deferral, name=name, head=first.path)
    if first.kind == "mentorcollab":
        rule = cast(MentorRule | None, first.pair)
        return partial(TokenLevelPair.mentorcollab, name=name, rule=rule, judge=first.path)
    return None


def _switching(switchers: Mapping[str, Switcher]) -> Callable[[MethodContext], Method]:
    return lambda context: SwitchingTeam(context, switchers)
