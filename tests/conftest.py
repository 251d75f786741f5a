"""What all tests share: an environment without a network, one vLLM engine, and the directory of real data."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest


# A busy machine is no failure: no deadline for one example.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

# Read by torch, vLLM and the Hub client when they are imported, so before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"

from usermirrorer.llm.engines.engine import close  # noqa: E402
from usermirrorer.llm.engines.vllm import VLLMModel  # noqa: E402
from usermirrorer.llm.paths import TINY_BASE  # noqa: E402


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def random_model(directory: Path, merges: tuple[str, ...] = (), words: tuple[str, ...] = ()) -> str:
    """A Qwen2 of random weights with a byte-level BPE of no merges but `merges`, or trained on `words`; its directory.

    Its logits are wide apart, so that samples differ and a wrong position shows in the probabilities.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(merge[0], merge[1:]) for merge in merges]
    vocabulary = {piece: token for token, piece in enumerate([*pieces, *(a + b for a, b in pairs)])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(words))
    if words:
        trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=pieces, show_progress=False)
        core.train_from_iterator(words, trainer)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM's kernels refuse heads narrower than 32
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the engine, directly or through another fixture."""
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")


def pytest_collection_finish() -> None:
    """Exempt all that the imports created from garbage collection: a tenth of the time of `make quick`."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., str]:
    return random_model


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The packaged tiny base; a random model if the package has none."""
    if (TINY_BASE / "model.safetensors").is_file():
        return str(TINY_BASE)
    return random_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def engine(model_dir: str) -> Iterator[VLLMModel]:
    """A real model under vLLM. Its engine starts at the first request and serves the whole session."""
    yield VLLMModel(model_dir)
    close()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The directory of raw data sets: USERMIRRORER_TEST_DATA, else `../shared/data` beside the repository."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    path = Path(os.environ.get("USERMIRRORER_TEST_DATA", default))
    if not path.is_dir():
        pytest.skip(f"NO REAL DATA at {path}: set USERMIRRORER_TEST_DATA to the directory of the raw data sets")
    return path
