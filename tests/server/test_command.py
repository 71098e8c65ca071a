"""What the command says of a team before it is served."""

from __future__ import annotations

import pytest

from taketurns.server.config import default_name


@pytest.mark.parametrize(
    ("team", "called"),
    [
        ("pocket", "pocket"),
        ("teams/tulu/team.yaml", "tulu"),
        ("teams/tulu", "tulu"),
        ("a.yaml", "a"),
    ],
)
def test_a_team_is_called_as_its_file_or_folder(team: str, called: str) -> None:
    assert default_name(team) == called
