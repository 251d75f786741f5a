"""Whether a run starts, goes on or is over: what its output_dir holds already."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from usermirrorer.errors import UserError
from usermirrorer.llm.paths import RECORD, record_in
from usermirrorer.train.config import Run
from usermirrorer.train.launching import lifetime
from usermirrorer.train.launching.agreement import agreed
from usermirrorer.train.records import provenance


logger = logging.getLogger("usermirrorer.train")

# Settings that may change while a run goes on: they bear on speed, on what is logged and on what is kept.
_FREE = re.compile(
    r"logging_.*|log_level.*|log_on_each_node|report_to|run_name|project|disable_tqdm|include_num_input_tokens_seen"
    r"|save_.*|output_dir|resume_from_checkpoint|restore_callback_states_from_checkpoint|hub_.*|push_to_hub"
    r"|watch_.*|max_over_length|env|dataset_num_proc|dataloader_(num_workers|pin_memory|prefetch_factor|persistent_workers)"
    r"|gradient_checkpointing(_kwargs)?|activation_offloading|ddp_.*|fsdp.*|deepspeed|use_cpu"
    r"|per_device_(train|eval)_batch_size|gradient_accumulation_steps|precompute_ref_batch_size|attn_implementation"
    r"|skip_memory_metrics|torch_empty_cache_steps"
)

# What a training writes into its output_dir, beside its checkpoints.
_WRITTEN = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "chat_template.jinja", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "training_args.bin", "trainer_state.json", "train_results.json", "all_results.json", "wandb_run_id", "README.md",
    "watched.jsonl", RECORD,
)  # fmt: skip


def start(run: Run, record: dict[str, Any]) -> str | None:
    """The checkpoint to go on from, or None for a start; locks output_dir and writes the run's record there.

    Without `resume_from_checkpoint` it is the last complete one in output_dir. Ends the process with status 0 if the
    run is complete. Raises UserError if another process trains there, if output_dir holds another run or the same one
    with other settings, or if the requested checkpoint does not exist.
    """
    complete, checkpoint = agreed(run.training, lambda: _begin(run, record))
    if complete:
        logger.info(f"already trained: {complete}; --fresh trains it again")
        lifetime.release(Path(run.training.output_dir))
        sys.exit(0)
    if checkpoint:
        logger.info(f"resuming from {checkpoint}")
    return str(checkpoint) if checkpoint else None


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The latest complete checkpoint; one that was cut short is skipped, with a warning."""
    numbered = {
        int(match.group(1)): path
        for path in Path(output_dir).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    for _, path in sorted(numbered.items(), reverse=True):
        if not (missing := incomplete(path)):
            return str(path)
        logger.warning(f"skipped {path}: {missing}")
    return None


def incomplete(checkpoint: Path) -> str:
    """What is wrong with a checkpoint that was cut short; empty for a whole one. The trainer writes its state last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        for path in checkpoint.rglob("*.safetensors"):
            with safe_open(path, framework="numpy"):
                pass
    except (OSError, ValueError, SafetensorError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    archives = [path for path in checkpoint.rglob("*.pt") if not zipfile.is_zipfile(path)]
    return f"{archives[0].name} is cut short" if archives else ""


def _begin(run: Run, record: dict[str, Any]) -> tuple[str, str | None]:
    """What says that the run is complete (or an empty text), and the checkpoint to go on from."""
    output_dir, given = run.training.output_dir, run.training.resume_from_checkpoint
    named = str(given) if given and str(given).lower() != "true" else None
    lifetime.hold(Path(output_dir))
    if run.fresh:
        _clear(Path(output_dir))
    before = record_in(Path(output_dir))
    if before:
        _check_same_run(run, before, record)
        if "run" in before and not named:
            return f"{output_dir}, {before['run']['steps']:,} steps", None
    if named and not (Path(named) / "trainer_state.json").is_file():
        raise UserError(
            f"resume_from_checkpoint: {named} is not a checkpoint; leave it out to resume from the last one"
        )
    provenance.write(output_dir, record)
    return "", named or last_checkpoint(output_dir)


def _clear(output_dir: Path) -> None:
    """Delete what an earlier run wrote. Raises UserError if the directory holds no run of ours."""
    checkpoints = [path for path in output_dir.glob("checkpoint-*") if path.is_dir()]
    if not checkpoints and not any(output_dir.glob("*")):
        return
    if not (output_dir / RECORD).is_file():
        raise UserError(f"--fresh: {output_dir} holds no training run, so nothing in it is deleted; name another one")
    for path in checkpoints:
        shutil.rmtree(path)
    for pattern in _WRITTEN:
        for path in output_dir.glob(pattern):
            path.unlink()
    logger.info(f"--fresh: deleted the run in {output_dir}")


def _check_same_run(run: Run, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UserError unless the record `before` is of the run that `now` describes.

    A checkpoint of other data would be resumed silently, and the card would tell of settings that trained nothing.
    """
    output_dir, remedy = run.training.output_dir, "name another output_dir, or start over with --fresh"
    for name in ("method", "base"):
        if before.get(name) != now[name]:
            raise UserError(f"{output_dir} holds another run ({name}: {before.get(name)} → {now[name]}); {remedy}")
    if before["data"]["fingerprint"] != now["data"]["fingerprint"]:
        raise UserError(
            f"{output_dir} holds a run on other pairs ({before['data']['path']}, fingerprint "
            f"{before['data']['fingerprint']} → {now['data']['fingerprint']}); {remedy}"
        )
    changed = changed_settings(run, before["recipe"], now["recipe"])
    if before["global_batch"] != now["global_batch"]:
        changed.append(f"rows per step: {before['global_batch']} → {now['global_batch']}")
    if changed:
        raise UserError(f"{output_dir} holds a run with other settings ({'; '.join(changed)}); {remedy}")


def changed_settings(run: Run, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that bear on what is learnt and differ between two recipes, a setting left out having its default."""
    defaults = {
        field.name: field.default for part in (run.pairs, run.watch, run.groups, run.training, run.model)
        for field in dataclasses.fields(part)
    }  # fmt: skip
    changed = []
    for name in sorted({*before, *now}):
        old, new = before.get(name, defaults.get(name)), now.get(name, defaults.get(name))
        if old != new and not _FREE.fullmatch(name):
            changed.append(f"{name}: {old} → {new}")
    return changed
