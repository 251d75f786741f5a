"""The vLLM engine, in this process: started when first needed, at most one at a time, shared by all steps."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

from usermirrorer.console import verbose
from usermirrorer.console.libraries import quiet_libraries
from usermirrorer.errors import UserError
from usermirrorer.llm.engines.local import SMALL, adapter_base, adapter_rank, max_length, model_config
from usermirrorer.llm.prompts import LABELS
from usermirrorer.steps import EngineSettings


if TYPE_CHECKING:
    from vllm import LLM

# (model directory or Hub id, runner, settings) -> the engine; at most one entry, since a GPU holds no two.
_engines: dict[tuple[str, str, EngineSettings], LLM] = {}
_cpu_threads: list[tuple[Any, int]] = []


def engine(path: str, runner: str = "generate", settings: EngineSettings | None = None) -> LLM:
    """The engine of a model, started at the first call; any other model's engine is closed first.

    Without a GPU it runs in float32, eagerly, and without chunked prefill, with which seeded requests crash on a CPU.
    Text and probabilities are then the same bits alone and in any batch. On a GPU, rounding depends on the batch.
    """
    key = (path, runner, settings or EngineSettings())
    if key not in _engines:
        close()
        _engines[key] = _start(*key)
    return _engines[key]


def close() -> None:
    """Free the engines, their memory and their processes. The next request starts them again."""
    from usermirrorer.llm.engines.pools import close_pools

    close_pools()
    while _engines:
        _, llm = _engines.popitem()
        try:
            llm.llm_engine.engine_core.shutdown()
        except ValueError as error:
            # A training in this process has destroyed torch's process groups, the engine's among them.
            if "process group" not in str(error):
                raise
            _forget_groups()
    gc.collect()
    if _cpu_threads:
        import torch

        # vLLM reduces torch to one thread and disables the setter; a training that follows needs both back.
        torch.set_num_threads, threads = _cpu_threads.pop()
        torch.set_num_threads(threads)


def _forget_groups() -> None:
    """Let vLLM make process groups anew: it keeps those that are gone, and the next engine would ask them."""
    from vllm.distributed import parallel_state

    for name, value in list(vars(parallel_state).items()):
        if isinstance(value, parallel_state.GroupCoordinator):
            setattr(parallel_state, name, None)


def _start(path: str, runner: str, chosen: EngineSettings) -> LLM:
    on_cpu = _prepare_environment()
    import torch
    from vllm import LLM

    base = adapter_base(path)
    model = base or path
    settings: dict[str, Any] = {"model": model, "runner": runner, "seed": 0, "enable_prefix_caching": True}
    settings |= {"use_tqdm_on_load": verbose(), "tensor_parallel_size": chosen.tensor_parallel_size}
    settings |= {name: getattr(chosen, name) for name in ("max_num_seqs", "quantization") if getattr(chosen, name)}
    if runner == "generate":
        settings |= {
            "max_model_len": chosen.max_model_len or max_length(path),
            # vLLM's default gives probabilities from before masking, without labels outside the top ones.
            "logprobs_mode": "processed_logprobs",
            "max_logprobs": len(LABELS),
        }
    if base:
        settings |= {"enable_lora": True, "max_lora_rank": max(8, 1 << (adapter_rank(path) - 1).bit_length())}
    if on_cpu:
        settings |= {"dtype": "float32" if chosen.dtype == "auto" else chosen.dtype, "enforce_eager": True}
        if runner == "generate":
            settings["enable_chunked_prefill"] = False
        _cpu_threads.append((torch.set_num_threads, torch.get_num_threads()))
        if model_config(model).get_text_config().hidden_size <= SMALL:
            torch.set_num_threads(1)
        _register_architecture(model)
    else:
        settings["dtype"] = "bfloat16" if chosen.dtype == "auto" else chosen.dtype
        settings["gpu_memory_utilization"] = chosen.gpu_memory_utilization
    try:
        with warnings.catch_warnings(), _stdout_with_a_descriptor():
            if not verbose():
                warnings.simplefilter("ignore", FutureWarning)
            return LLM(**settings)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"vLLM can't load '{path}': {reason}") from error


def _stdout_with_a_descriptor() -> AbstractContextManager[Any]:
    """vLLM silences file descriptor 1 while it starts; a notebook's stdout has none."""
    try:
        sys.stdout.fileno()
    except (OSError, ValueError):
        return redirect_stdout(sys.__stdout__ or sys.stdout)
    return nullcontext()


def _prepare_environment() -> bool:
    """Set what vLLM and torch read at import, unless the user has; True without a GPU."""
    quiet_libraries()
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    import torch

    if torch.cuda.device_count() > 0:
        return False
    # An engine in a process of its own has to import vLLM first; one in this process starts in a second.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    # Otherwise the first masked request waits for the compiler.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    if "torch._dynamo" in sys.modules and os.environ["TORCHDYNAMO_DISABLE"] == "1":
        torch._dynamo.config.disable = True
    return True


def _register_architecture(model: str) -> None:
    """Register the model's class in this process: vLLM would start another process to inspect it (15 s)."""
    from vllm.model_executor.models.registry import ModelRegistry

    for name in model_config(model).architectures or []:
        if name in ModelRegistry.models and hasattr(ModelRegistry.models[name], "module_name"):
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())
