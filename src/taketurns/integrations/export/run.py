"""Exports a team: a folder per candidate, with the head folded in, and team files to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taketurns.checkpoints.model_config import end_token_ids, read_config
from taketurns.checkpoints.text import SharedVocabulary, TextCodec
from taketurns.checkpoints.weight_files import weight_files
from taketurns.config.team_config import EngineConfig, TeamConfig
from taketurns.config.team_file import team_yaml
from taketurns.errors import ConfigError, DataError, one_line
from taketurns.integrations.export.cures import merge_command, widen_command
from taketurns.integrations.export.fold import check_foldable, fold, folded_rows, load_model, save
from taketurns.integrations.export.spare import spare_tokens
from taketurns.runs.description import describe_run
from taketurns.runs.manifest import path_for
from taketurns.runs.progress import Progress
from taketurns.switchers.head import Head, describe_blind
from taketurns.types import Candidate, Endpoint, ModelSpec
from taketurns.utils.files import make_folder, require_room, trial_folder, write_text
from taketurns.utils.locks import lock_now

_FIRST_PORT = 8001


def export_folded(
    config: TeamConfig, output: Path, say: Callable[[str], None] = lambda sentence: None
) -> None:
    """Write `output`: every candidate with the team's head in its output matrix, `team.yaml` for
    servers, `local.yaml` for this process.

    A killed run continues after the last complete checkpoint. `say` receives messages for the user.
    Raises ConfigError for a team whose switcher cannot be folded, DataError for an output that
    holds something else.
    """
    names = [candidate.name for candidate in config.candidates]
    head = _head(config, names)
    if (blind := describe_blind(head)) is not None:
        say(f"the head: {blind}")
    codecs = [TextCodec.load(candidate.spec) for candidate in config.candidates]
    tokens = _choose(config.candidates, codecs)
    folders = [output / _folder_name(name) for name in names]
    local, last = output / "local.yaml", output / "team.yaml"
    ours = [local.name, path_for(local).name, last.name]
    _check_names(names, ours)
    _claim(output, [*(folder.name for folder in folders), *ours])
    with lock_now(local):
        manifest = describe_run("export", config, b"").claim(local)
        if last.exists():
            say(f"{output} is finished; nothing to do")
            return
        # The first file claims the folder for this run, and the last one marks it as finished.
        write_text(local, "# taketurns export has not finished.\n")
        missing = [at for at, folder in enumerate(folders) if not folder.exists()]
        _rehearse([(config.candidates[at], codecs[at]) for at in missing], output)
        with Progress("writing checkpoints", len(names)) as progress:
            for candidate, codec, folder in zip(config.candidates, codecs, folders, strict=True):
                if not folder.exists():
                    model = load_model(candidate.name, candidate.spec)
                    fold(candidate.name, model, codec, folded_rows(head, candidate.name), tokens)
                    save(model, codec, folder)
                progress.advance()
        served, here = _teams(config, folders)
        entry = {
            "kind": "folded",
            "tokens": dict(zip(names, tokens, strict=True)),
            "reader": head.config.reader,
        }
        write_text(local, team_yaml(here, entry, output, "export"))
        write_text(last, team_yaml(served, entry, output, "export"))
        manifest.finish(local)
    listed = ", ".join(f"{name} {token}" for name, token in zip(names, tokens, strict=True))
    say(f"{output} is written; the candidates' tokens are {listed}")


def _check_names(names: Sequence[str], taken: Sequence[str]) -> None:
    """Raise ConfigError for names that do not give each candidate its own folder."""
    made: dict[str, str] = dict.fromkeys((".", "..", *taken), "another file of the export")
    for name in names:
        folder = _folder_name(name)
        if folder in made:
            raise ConfigError(
                f"the folder of the candidate {name!r} would be {folder!r}, which is also the name "
                f"for {made[folder]}; rename the candidate"
            )
        made[folder] = f"the candidate {name!r}"


def _rehearse(wanted: Sequence[tuple[Candidate, TextCodec]], output: Path) -> None:
    """Before any weights are written, raise ConfigError for a tokenizer that cannot be saved, and
    DataError if the disk has no room for the weights."""
    local = [Path(c.spec.model).expanduser() for c, _ in wanted if c.spec.gguf_file is None]
    files = [file for path in local if path.is_dir() for file in weight_files(path)]
    require_room(output, sum(file.stat().st_size for file in files), "the checkpoints")
    for candidate, codec in wanted:
        try:
            with trial_folder(output) as folder:
                codec.tokenizer.save_pretrained(folder)
        except Exception as error:  # any type: a tokenizer may have its own code
            raise ConfigError(
                f"the tokenizer of {candidate.name} cannot be saved: {one_line(error)}"
            ) from error


def _head(config: TeamConfig, names: Sequence[str]) -> Head:
    if config.switcher.kind != "head" or config.switcher.path is None:
        raise ConfigError(
            "only a head can be folded, and the team's switcher is of kind "
            f"{config.switcher.kind}: train a head first (taketurns train --switcher head)"
        )
    for candidate in config.candidates:
        if candidate.spec.adapter is not None:
            raise ConfigError(
                f"{candidate.name} is an adapter, which has no output matrix: merge it into its "
                f"base with this command, then name {candidate.name}-merged as its model: "
                + merge_command(candidate.spec, f"{candidate.name}-merged")
            )
        if candidate.spec.quantization_config is not None:
            raise ConfigError(
                f"{candidate.name} is quantised when it is loaded: remove quantization_config, "
                "export, and quantise the exported checkpoint"
            )
    head = Head.load(config.switcher.path).ordered(names)
    check_foldable(head)
    for candidate in config.candidates:
        read, depth = head.config.layers[candidate.name][0], _shape(candidate.spec).depth
        if read != depth:
            raise ConfigError(
                f"the head reads layer {read} of {candidate.name}, and the output matrix reads the "
                f"last, {depth}: train the head with --layer -1"
            )
    return head


def _choose(candidates: Sequence[Candidate], codecs: Sequence[TextCodec]) -> list[int]:
    """A token for each candidate that is spare in all candidates' models. Raises ConfigError."""
    if SharedVocabulary.of(codecs) is None:
        raise ConfigError(
            f"the tokenizers of {', '.join(candidate.name for candidate in candidates)} differ, so "
            "no token can stand for the same candidate in all of them: use the head unfolded"
        )
    spare = [
        spare_tokens(
            codec,
            candidate.spec,
            end_token_ids(candidate.spec, codec.tokenizer),
            _shape(candidate.spec).rows,
            len(candidates),
        )
        for candidate, codec in zip(candidates, codecs, strict=True)
    ]
    common = [token for token in spare[0] if all(token in other for other in spare[1:])]
    if (missing := len(candidates) - len(common)) > 0:
        rows = max(_shape(candidate.spec).rows for candidate in candidates) + missing
        raise ConfigError(
            f"the candidates have {len(common)} spare tokens in common and the head needs "
            f"{len(candidates)}: their tokenizers have no more entries with a reserved name, and "
            "their output matrices have no more rows than the tokenizers have entries; give each "
            "candidate more rows and name the new checkpoint as its model, as in: "
            + widen_command(candidates[0].spec, rows, f"{candidates[0].name}-wide")
        )
    return common[: len(candidates)]


@dataclass(frozen=True, slots=True)
class _ModelShape:
    """The number of a model's layers, and of the rows of its output matrix."""

    depth: int
    rows: int


def _shape(spec: ModelSpec) -> _ModelShape:
    config = read_config(spec).get_text_config()
    return _ModelShape(int(config.num_hidden_layers), int(config.vocab_size))


def _teams(config: TeamConfig, folders: Sequence[Path]) -> tuple[TeamConfig, TeamConfig]:
    """The team on servers, and the team in this process. A team without servers gets one on this
    host for each candidate."""
    served = config.engine.kind == "http"
    written = [
        Candidate(
            old.name,
            old.spec.with_model(str(folder.resolve())),
            old.endpoint or Endpoint((f"http://127.0.0.1:{_FIRST_PORT + index}",)),
        )
        for index, (old, folder) in enumerate(zip(config.candidates, folders, strict=True))
    ]
    here = [replace(candidate, endpoint=None) for candidate in written]
    return (
        replace(
            config,
            candidates=tuple(written),
            engine=config.engine if served else EngineConfig(kind="http"),
        ),
        replace(
            config,
            candidates=tuple(here),
            engine=EngineConfig() if served else config.engine,
        ),
    )


def _claim(output: Path, ours: Sequence[str]) -> None:
    known = {*ours, *(f"{name}.draft" for name in ours)}  # drafts of an older version
    if strangers := sorted(make_folder(output) - known):
        raise DataError(
            f"{output} holds other files already ({strangers[0]}); choose another output"
        )


def _folder_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
