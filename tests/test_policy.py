import pytest

from taketurns.config.policy import PatchRule, Policy
from taketurns.errors import ConfigError


def test_defaults_are_the_papers() -> None:
    policy = Policy()
    assert (policy.patch_size, policy.top_p, policy.max_tokens) == (50, 0.7, 512)
    assert (policy.temperature, policy.speaker_top_p) == (0.7, 0.9)
    assert policy.opening is None
    assert policy.closing is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"patch_size": 0}, "patch_size must be at least 1, not 0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.01}, "top_p must be above 0"),
        ({"speaker_top_p": float("nan")}, "speaker_top_p must be"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"temperature": float("inf")}, "temperature must be 0 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"stop": ("",)}, "stop must not contain an empty string"),
        ({"closing": -1}, "closing must be a candidate's index"),
        ({"closing_on_end": True}, "closing_on_end needs a closing speaker"),
        ({"closing_cue": "So"}, "closing_cue needs a closing speaker"),
        ({"closing_cue": "", "closing": 0}, "closing_cue must not be empty"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Policy(**settings)


def test_another_switcher_gets_random_lengths_where_the_head_would_decide_them() -> None:
    rule = PatchRule("switcher", min=3, max=9)
    assert Policy(patch=rule).unfollowed.patch == PatchRule("random", min=3, max=9)
    for other in (None, PatchRule("sentence")):
        assert Policy(patch=other).unfollowed == Policy(patch=other)


def test_lengths_are_drawn_evenly() -> None:
    rule = PatchRule("random", min=3, max=6)
    assert [rule.draw(i / 8) for i in range(8)] == [3, 3, 4, 4, 5, 5, 6, 6]
    assert (Policy(patch=rule).shortest, Policy(patch=rule).longest) == (3, 6)
    assert (Policy(patch_size=7).shortest, Policy(patch_size=7).longest) == (7, 7)
