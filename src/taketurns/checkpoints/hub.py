"""Finds the files of a model: in a folder, or in a repository on the Hugging Face hub.

Each library that loads a part of a model (transformers, PEFT, huggingface_hub) reports a gated
repository, a wrong name or a lost connection differently, some after half a minute of retries. Here
the hub is asked first, once per model, and every failure becomes one sentence that names the model,
the cause and the cure. All parts of a model come from one commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from taketurns.checkpoints.diagnosis import find_bad_file, foreign
from taketurns.errors import ConfigError, TakeTurnsError, one_line

ASKED_FOR = "config.json"  # fetched to find out whether a repository may be read
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class NoModelError(ConfigError):
    """A name that is neither a folder nor a repository that may be read."""


@contextmanager
def loading(what: str, name: str, revision: str | None = None) -> Iterator[dict[str, Any]]:
    """Find a model and yield the arguments for `from_pretrained`: none for a folder, otherwise the
    commit, and whether only the cache may be read.

    `what` is what is being loaded: "the model", "the tokenizer of". Raises NoModelError if `name`
    is not found, and ConfigError for anything that a library raises inside.
    """
    try:
        where = _where(name, revision)
    except Exception as error:
        reason = explain(error, name, revision)
        raise NoModelError(f"cannot load {what} {name!r}: {reason}") from error
    try:
        yield where
    except TakeTurnsError:
        raise
    except Exception as error:
        reason = explain(error, name, revision, what)
        raise ConfigError(f"cannot load {what} {name!r}: {reason}") from error


def fetch(what: str, name: str, filename: str, revision: str | None = None) -> Path | None:
    """A file of a model, fetched from the hub if `name` is not a folder; None if the model has no
    such file. Raises ConfigError as `loading` does."""
    with loading(what, name, revision) as where:
        path = Path(name).expanduser() / filename
        if not where:
            return path if path.is_file() else None
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError

        cached = try_to_load_from_cache(name, filename, revision=where["revision"])
        if cached is not None:  # the cache also knows which files do not exist
            return Path(cached) if isinstance(cached, str) else None
        with suppress(EntryNotFoundError):
            return Path(hf_hub_download(name, filename, **where))
    return None


def explain(
    error: BaseException, name: str, revision: str | None = None, what: str | None = None
) -> str:
    """The cause and the cure of a library's error, in one line; with `what` was being loaded, its
    files are examined too."""
    if isinstance(error, _NoFilesError):
        return str(error)
    from huggingface_hub import errors

    for cause in _chain(error):
        if isinstance(cause, errors.GatedRepoError):
            return _gated(cause, name)
        if isinstance(cause, errors.RepositoryNotFoundError) or _without_token(cause):
            return (
                f"there is no such folder, and no such model at {_endpoint()}; check the name, or, "
                f"if the model is private, {_LOG_IN}"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"it has no revision {revision!r}; {_page(name)}/commits/main lists what it has"
        if isinstance(cause, errors.HfHubHTTPError) and not isinstance(
            cause, errors.EntryNotFoundError
        ):
            return _refused(cause)
        if isinstance(cause, errors.HFValidationError):
            return "there is no such folder, and a name on the hub is written owner/model"
        if isinstance(cause, errors.HTTPError):  # type: ignore[attr-defined]
            return _broken_off(cause)
    here = Path(name).expanduser()
    if what is not None:
        folder = here if here.is_dir() else _snapshot(name, revision)
        if folder is not None and (problem := find_bad_file(folder, what, whole=folder == here)):
            return problem
        if problem := foreign(error, what):
            return problem
    if _offline() and not Path(name).expanduser().is_dir():
        return f"{one_line(error)} (HF_HUB_OFFLINE is set; {_fetch_first(name, revision)})"
    return one_line(error)


class _NoFilesError(Exception):
    """A name is not found; the text is the reason, and the caller adds what was being loaded."""


def _where(name: str, revision: str | None) -> dict[str, Any]:
    path = Path(name).expanduser()
    if path.is_dir():
        return {}
    if path.is_file():
        raise _NoFilesError(f"it is a file; name the folder that holds it, {path.parent}")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise _NoFilesError("there is no such folder")
    return dict(_on_the_hub(name, revision))


@cache  # so that a push in the meantime does not mix the parts of two commits
def _on_the_hub(name: str, revision: str | None) -> tuple[tuple[str, Any], ...]:
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    validate_repo_id(name)
    cached = _cached(name, revision)
    if _offline():
        if cached is None:
            raise _NoFilesError(
                f"there is no such folder, the cache {constants.HF_HUB_CACHE} has no files of it, "
                f"and HF_HUB_OFFLINE is set; {_fetch_first(name, revision)}"
            )
        return ("revision", cached), ("local_files_only", True)
    try:
        return (("revision", _ask(name, revision)),)
    except errors.RevisionNotFoundError:
        raise
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        answer = getattr(error, "response", None)
        if cached is not None:
            down = answer is None or answer.status_code >= 500
            return ("revision", cached), ("local_files_only", down)
        if answer is not None:
            raise
        raise _NoFilesError(
            f"there is no such folder, the cache {constants.HF_HUB_CACHE} has no files of it, and "
            f"{_endpoint()} cannot be reached: {one_line(error)}"
        ) from error


def _ask(name: str, revision: str | None) -> str | None:
    """The current commit of a revision, which is then in the cache. Without retries, because the
    server may be unreachable."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        commit = get_hf_file_metadata(hf_hub_url(name, ASKED_FOR, revision=revision)).commit_hash
    except RemoteEntryNotFoundError as error:  # an adapter, or a tokenizer alone
        commit = error.response.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT)
    with suppress(RemoteEntryNotFoundError):
        hf_hub_download(name, ASKED_FOR, revision=revision)
    return _cached(name, revision) or commit


def _cached(name: str, revision: str | None) -> str | None:
    """The commit of a revision, if the cache has files of it."""
    from huggingface_hub import constants

    root = _cache(name)
    reference = root / "refs" / (revision or constants.DEFAULT_REVISION)
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if commit and (root / "snapshots" / commit).is_dir() else None


def _cache(name: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _snapshot(name: str, revision: str | None) -> Path | None:
    """The cache's folder with the files of a revision; None if it has none."""
    commit = _cached(name, revision)
    return None if commit is None else _cache(name) / "snapshots" / commit


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _without_token(error: Any) -> bool:
    """Whether the hub refused because no token was sent; its answer for a model that does not
    exist is the same."""
    response = getattr(error, "response", None)
    return (
        response is not None
        and response.status_code == 401
        and "authorization" not in response.request.headers
    )


def _gated(error: Any, name: str) -> str:
    if _without_token(error):
        return f"it is gated: accept its licence at {_page(name)}, then {_LOG_IN}"
    return (
        "it is gated, and the account of the token that was sent has no access: accept its licence "
        f"at {_page(name)} with that account (some owners approve by hand), or {_LOG_IN} as another"
    )


def _refused(error: Any) -> str:
    reason = error.server_message or one_line(error)
    if error.response.status_code == 401:
        return f"{_endpoint()} refuses the token that was sent ({reason}); {_LOG_IN} again"
    return f"{_endpoint()} answered {error.response.status_code}: {reason}"


def _broken_off(error: BaseException) -> str:
    return (
        f"the connection to {_endpoint()} broke ({one_line(error)}); run the command again: "
        "files that were fetched whole are not fetched again"
    )


def _fetch_first(name: str, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"unset it, or run `hf download {name}{at}` where there is a network"


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _page(name: str) -> str:
    return f"{_endpoint()}/{name}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
