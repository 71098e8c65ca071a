"""Small real models: random Llamas with a byte tokenizer, saved where `from_pretrained` finds
them."""

from __future__ import annotations

import functools
import gc
import io
import logging
import os
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Small models run fastest on one thread, and results must not depend on the machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_collection_finish() -> None:
    """What was imported stays: `gc.collect` in a test takes a second if it looks at all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _proofs_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was proved of models in another run says nothing of the code of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKETURNS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def agreements() -> dict[Any, Any]:
    """In how many rows products agree, by the kind and shape of their layer."""
    return {}


@pytest.fixture(scope="session")
def _known_agreements() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(autouse=True)
def _measured_once(agreements: dict[Any, Any], _known_agreements: pytest.MonkeyPatch) -> None:
    """Whether rows agree depends on the kernel and the shape, which most models here share, so a
    run measures each only once: that takes longer than the answers of so small a model. Tests of
    the measuring itself empty `agreements`."""
    exact: Any = sys.modules.get("taketurns.engines.local.batch_invariant")
    if exact is None or hasattr(exact._Product._agrees, "__wrapped__"):
        return
    import torch

    packed = exact.packed_products
    measure, compare = exact._Product._agrees, packed._agrees

    @functools.wraps(measure)
    def measured(product: Any, rows: int, batches: Sequence[int]) -> int:
        layer = product.layer
        if type(layer) is not torch.nn.Linear:
            return int(measure(product, rows, batches))
        multiply = getattr(vars(layer).get("forward"), "_multiply", None)
        used = getattr(multiply, "__qualname__", None) if packed.multiplies(layer) else None
        key = (*_kind(layer.weight, layer.bias), type(layer).forward, used)
        key = (*key, product.is_output, rows, tuple(batches))
        if key not in agreements:
            agreements[key] = measure(product, rows, batches)
        return int(agreements[key])

    @functools.wraps(compare)
    def compared(kind: Any, rows: Any, bias: Any) -> bool:
        key = (kind, *_kind(rows, bias))
        if key not in agreements:
            agreements[key] = compare(kind, rows, bias)
        return bool(agreements[key])

    _known_agreements.setattr(exact._Product, "_agrees", measured)
    _known_agreements.setattr(packed, "_agrees", compared)


def _kind(weight: Any, bias: Any) -> tuple[Any, ...]:
    """What the kernel of a product depends on."""
    import torch

    layout = (tuple(weight.shape), weight.stride(), weight.dtype, weight.device)
    return (*layout, bias is None, torch.get_num_threads())


@pytest.fixture(scope="session", autouse=True)
def _one_tls_context() -> Iterator[None]:
    """Every HTTP client reads all root certificates, of which none is used here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


class _Deprecations(logging.Handler):
    """Of some of what it will drop transformers warns in its log. That is an error in tests, as its
    warnings are."""

    def emit(self, record: logging.LogRecord) -> None:
        if "deprecated" in (said := record.getMessage()):
            raise FutureWarning(said)


@pytest.fixture(scope="session", autouse=True)
def _logged_deprecations() -> Iterator[None]:
    log, handler = logging.getLogger("transformers"), _Deprecations(logging.WARNING)
    log.addHandler(handler)
    yield
    log.removeHandler(handler)


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """One token a byte, so that characters beyond ASCII are spread over several tokens."""
    return _tokenizer(merges=[])


@pytest.fixture(scope="session")
def other_tokenizer() -> Any:
    """Another vocabulary: common letter pairs are one token, and ids differ from the byte ones."""
    return _tokenizer(merges=[("t", "h"), ("e", "r"), ("a", "n"), ("th", "e"), ("Ã", "©")], skip=7)


@pytest.fixture(scope="session")
def spacing_tokenizer() -> Any:
    """One token a letter, and a space before the first word of whatever it is given, as Llama 2's
    and others of SentencePiece have it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = "\u2581\nabcdefghijklmnopqrstuvwxyzQS:?."
    vocabulary = {letter: i for i, letter in enumerate(["<unk>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def make_model(
    tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any
) -> Callable[..., Path]:
    """Save a small random model and its tokenizer; keyword arguments change its configuration."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    def make(
        seed: int = 0,
        tokenizer: Any = byte_tokenizer,
        config_class: Any = LlamaConfig,
        **changes: Any,
    ) -> Path:
        settings = {
            "vocab_size": len(tokenizer) + 4,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.15,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_class(**settings | changes))
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def three_models(make_model: Callable[..., Path]) -> dict[str, str]:
    """Three checkpoints of one architecture and tokenizer, by name."""
    return {f"m{seed}": str(make_model(seed)) for seed in range(3)}


def _tokenizer(merges: list[tuple[str, str]], skip: int = 0) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) + [a + b for a, b in merges]
    letters = letters[skip:] + letters[:skip]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(letters)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def invoke(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `taketurns` here; its exit code, standard output and standard error."""
    from taketurns.cli import app

    def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["taketurns", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(caught.value.code or 0), out, err

    return run
