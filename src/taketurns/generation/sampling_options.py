"""What of a policy's sampling options a patch is given, and where a team cannot follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.sampling import sampling_entry
from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError
from taketurns.types import SamplingOptions

PLAIN = SamplingOptions()


def patch_options(options: SamplingOptions | None, written: int) -> SamplingOptions:
    """Those of a patch that begins after so many tokens of the answer."""
    if options is None:
        return PLAIN
    if not options.min_tokens:
        return options
    return replace(options, min_tokens=max(0, options.min_tokens - written))


@dataclass(frozen=True, slots=True)
class Unfit:
    """An option that a team cannot follow: its `name`, and `why`, a sentence with the cure."""

    name: str
    why: str


def unfit(
    options: SamplingOptions | None, infos: Sequence[ModelInfo], *, formatted: bool = False
) -> Unfit | None:
    """The first option that the models of a team cannot follow in an answer that is `formatted` or
    not; None where they can follow all."""
    if formatted and options is not None and options.min_tokens:
        for info in infos:
            if "format" not in info.capabilities:
                return Unfit(
                    "min_tokens",
                    f"min_tokens is not supported together with a format here: the server of "
                    f"{info.name} has no token left where the format is complete and no end is "
                    "allowed; leave one of the two out",
                )
    for name, value in sampling_entry(options).items():
        for info in infos:
            if name not in info.options:
                had = ", ".join(sorted(info.options)) or "none"
                return Unfit(
                    name,
                    f"{name} is not supported here: what runs {info.name} does not have it, of "
                    f"these options it has {had}; leave {name} out",
                )
        if name in ("logit_bias", "stop_token_ids"):
            why = _unlike(name, list(value), infos)
            if why is not None:
                return Unfit(name, why)
        if name == "skip_special_tokens" and len(infos) > 1:
            return Unfit(
                name,
                "skip_special_tokens: false is for a single candidate: control tokens are not the "
                "same to all candidates, so they are no part of what these hand on; name one as "
                "the model, or leave it out",
            )
    return None


def check_options(
    options: SamplingOptions | None, infos: Sequence[ModelInfo], *, formatted: bool = False
) -> None:
    """Raise ConfigError for an option that the models of a team cannot follow."""
    if (misfit := unfit(options, infos, formatted=formatted)) is not None:
        raise ConfigError(misfit.why)


def _unlike(name: str, ids: Sequence[int], infos: Sequence[ModelInfo]) -> str | None:
    """Why these ids do not mean the same to all models; None where they do."""
    for info in infos:
        size = info.codec.size if info.vocabulary is None else info.vocabulary
        if beyond := [token for token in ids if token >= size]:
            return f"{name} names the token {beyond[0]}, and {info.name} knows 0 to {size - 1}"
    if SharedVocabulary.of(info.codec for info in infos) is None:
        return (
            f"{name} is by token id, and the candidates' tokenizers differ, so an id means "
            "something else to each: name one candidate as the model, or leave it out"
        )
    for token in ids:
        spelled = {info.codec.tokenizer.convert_ids_to_tokens(token) for info in infos}
        if len(spelled) > 1:
            meanings = " and ".join(sorted(map(repr, spelled)))
            return (
                f"{name} names the token {token}, which is {meanings} to different candidates: "
                "name one candidate as the model, or leave the token out"
            )
    return None
