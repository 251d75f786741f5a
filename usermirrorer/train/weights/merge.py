"""`usermirrorer merge`: a LoRA adapter becomes part of its base, and is kept only if the saved model answers alike.

The base is loaded in bfloat16, whatever the training loaded it in: a base in 4 bits would keep its rounding for ever.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usermirrorer.console import headline, say, warn
from usermirrorer.data.artefacts.reader import is_hub_id, read_rows
from usermirrorer.data.artefacts.store import file_digest, locked
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.engines.local import LocalModel, adapter_base, load, model_config
from usermirrorer.llm.paths import model_path, training_record
from usermirrorer.llm.prompts import INSTRUCTIONS, SceneText, conversation
from usermirrorer.llm.protocol import Conversation
from usermirrorer.records import read_record
from usermirrorer.train.launching.lifetime import lock_of
from usermirrorer.train.records import card, provenance
from usermirrorer.train.weights.model import generation_settings


if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PROMPTS = 8

TOLERANCE = 1 / 16
"""Largest difference of a logit, as a share of the largest logit.

In bfloat16 both sides round every sum: in a model of 30 layers that made 2 to 4 %, for adapters weak and strong, while
an adapter merged at half its strength made 25 %.
"""

_WORDS = ("tea", "cake", "soup", "bread", "jam", "rice", "milk", "pie")


@dataclass(frozen=True)
class Agreement:
    """How far the merged model is from the adapter on its base, in the logits of the next token of some prompts."""

    prompts: int
    from_data: bool
    """Whether the prompts are of the adapter's own data set"""
    largest_logit: float
    largest_difference: float
    adapter_moves: float
    """How far the adapter is from its bare base: the largest difference that it makes itself"""

    @property
    def tolerance(self) -> float:
        """The largest difference allowed."""
        return TOLERANCE * self.largest_logit


def merge(adapter: str, out: Path) -> dict[str, Any]:
    """Merge the adapter in a directory into its base and save the model to `out`; returns its record.

    Raises UserError if it is no LoRA adapter, its base is missing, or `out` holds anything but this same merge;
    StepFailed, with nothing left in `out`, if the saved model does not answer as the adapter does.
    """
    directory, base = _checked(adapter)
    made = {"adapter": str(directory), "base": base, "adapter_digest": file_digest(directory / WEIGHTS)}
    with locked(lock_of(out), out):
        if before := _already_merged(out, made):
            headline(f"merge: {out} is this merge already")
            return before
        # Beside `out`, so that a merge that fails or is killed leaves nothing in it.
        stage = out.absolute().with_name(f".{out.absolute().name}.merging")
        shutil.rmtree(stage, ignore_errors=True)
        try:
            agreement = _merge(directory, base, stage)
            record = _record(directory, made, agreement)
            _check(agreement, directory)
            provenance.write(str(stage), record)
            card.write_card(str(stage), record, peft=False, name=out.resolve().name)
            if out.exists():
                out.rmdir()
            stage.rename(out.absolute())
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    headline(f"merge: {out}, {describe_agreement(record['merge'])}")
    return record


def describe_agreement(merge: Mapping[str, Any]) -> str:
    """The comparison of logits in a record's `merge`, in words."""
    return (
        f"logits within {merge['largest_difference']:.3g} of the adapter's on {merge['prompts']} prompts (allowed "
        f"{merge['tolerance']:.3g}; the adapter moves them by up to {merge['adapter_moves']:.3g})"
    )


def _checked(adapter: str) -> tuple[Path, str]:
    """The adapter's directory, and its base."""
    directory = Path(model_path(adapter))
    if not (directory / CONFIG).is_file():
        raise UserError(
            f"{adapter} is not a LoRA adapter (no {CONFIG}); pass the output_dir of a training with use_peft"
        )
    settings = read_record(directory / CONFIG, "give the directory of another adapter")
    if settings.get("peft_type") != "LORA":
        raise UserError(f"{adapter} is an adapter of the kind {settings.get('peft_type')}; only LORA can be merged")
    if not (directory / WEIGHTS).is_file():
        raise UserError(f"{adapter} holds no {WEIGHTS}; its training has not ended, or copy the directory again")
    base = adapter_base(str(directory))
    assert base is not None
    if (Path(base) / CONFIG).is_file():
        raise UserError(f"the base of {adapter}, {base}, is an adapter itself; merge that one first")
    if getattr(model_config(base), "quantization_config", None) is not None:
        raise UserError(f"the base of {adapter}, {base}, is quantized; merge into the model that it was made from")
    return directory, base


def _already_merged(out: Path, made: Mapping[str, str]) -> dict[str, Any] | None:
    """The record in `out` if it is this merge, None if `out` is empty. Raises UserError for anything else."""
    if out.is_dir() and not any(out.iterdir()):
        return None
    if not out.exists():
        return None
    record = training_record(str(out)) or {} if out.is_dir() else {}
    before = record.get("merge") or {}
    if any(before.get(name) != value for name, value in made.items()):
        raise UserError(f"{out} holds something other than this merge; name another --out or delete it")
    return record


def _merge(directory: Path, base: str, stage: Path) -> Agreement:
    """Save the merged model to `stage`, and compare what was saved with the adapter on its base."""
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    local = LocalModel("transformers", str(directory))
    found = _recorded_prompts(directory)
    prompts = [tokens[-local.max_length :] for tokens in local.tokens(found or _fixed_prompts())]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = accelerator or torch.device("cpu")
    say(f"merge: {directory} into {base}, in bfloat16")
    model = load(AutoModelForCausalLM, base, dtype=torch.bfloat16).eval().to(device)
    try:
        model = PeftModel.from_pretrained(model, str(directory))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{directory} does not fit its base {base} ({str(error).strip().splitlines()[0]}); train it again on it"
        ) from None
    with torch.inference_mode():
        adapted = _logits(model, prompts)
        with model.disable_adapter():
            bare = _logits(model, prompts)
    whole = model.merge_and_unload()
    whole.generation_config = generation_settings(whole.generation_config, local.tokenizer)
    whole.config.use_cache = True
    whole.save_pretrained(stage)
    local.tokenizer.save_pretrained(stage)
    del model, whole
    gc.collect()
    # What was saved is what counts: weights that the base ties together can't be saved apart.
    saved = load(AutoModelForCausalLM, str(stage), dtype=torch.bfloat16).eval().to(device)
    with torch.inference_mode():
        merged = _logits(saved, prompts)
    return Agreement(
        prompts=len(prompts),
        from_data=bool(found),
        largest_logit=float(adapted.abs().max()),
        largest_difference=float((merged - adapted).abs().max()),
        adapter_moves=float((adapted - bare).abs().max()),
    )


def _logits(model: Any, prompts: Sequence[list[int]]) -> Tensor:
    """Logits of the next token after each prompt, `(prompts, vocabulary)`, float32."""
    import torch

    rows = []
    for tokens in prompts:
        ids = torch.tensor([tokens], device=model.device)
        rows.append(model(input_ids=ids, logits_to_keep=1).logits[0, -1].float().cpu())
    return torch.stack(rows)


def _check(agreement: Agreement, directory: Path) -> None:
    """Raise StepFailed if the logits differ by more than bfloat16 explains (NaN does, too)."""
    if not agreement.largest_difference <= agreement.tolerance:
        raise StepFailed(
            f"{directory}: merged, its logits differ by up to {agreement.largest_difference:.3g}, more than the "
            f"{agreement.tolerance:.3g} that bfloat16 explains; nothing was kept: serve the adapter itself"
        )
    if 2 * agreement.largest_difference > agreement.adapter_moves:
        warn(
            f"the adapter moves logits by up to {agreement.adapter_moves:.3g}, hardly more than bfloat16 rounds "
            f"({agreement.largest_difference:.3g}): evaluate the merged model itself"
        )


def _record(directory: Path, made: Mapping[str, str], agreement: Agreement) -> dict[str, Any]:
    """The adapter's record with the adapter among its `bases`, and what was merged."""
    found = training_record(str(directory)) or {"prompt": None, "base": made["base"], "bases": [made["base"]]}
    merged = {**asdict(agreement), "tolerance": agreement.tolerance, "dtype": "bfloat16"}
    merged |= {"git_revision": provenance.git_revision(), "versions": provenance.versions()}
    return {**found, "bases": [*found["bases"], made["adapter"]], "merge": {**made, **merged}}


def _recorded_prompts(directory: Path) -> list[Conversation]:
    """The first prompts of the data that the adapter was trained on; none if they are not here or are blank."""
    record = training_record(str(directory)) or {}
    path = str((record.get("data") or {}).get("path") or "")
    if not path or is_hub_id(path):
        return []
    found: list[Conversation] = []
    try:
        for _, row in read_rows(path, "train", "train again"):
            messages = _prompt(row, record.get("prompt"))
            if messages and all(message["content"] for message in messages):
                found.append(messages)
            if len(found) == PROMPTS:
                break
    except UserError:
        return []  # moved or rebuilt since: any prompts will do
    return found


def _prompt(row: Mapping[str, Any], instruction: str | None) -> Conversation:
    """The conversation before the answer, of a row of pairs, ours or as published, or of a scene."""
    if "prompt" in row:
        return list(row["prompt"] or [])
    if "messages_chosen" in row:
        return list(row["messages_chosen"] or [])[:-1]
    text: Any = row.get("text")
    if not isinstance(text, dict) or not text.get("action_list"):
        return []
    return conversation(cast(SceneText, text), instruction if instruction in INSTRUCTIONS else "direct")


def _fixed_prompts() -> list[Conversation]:
    """Small scenes for an adapter whose data are not here."""
    return [
        conversation(
            {
                "profile": "Age: 30",
                "history": f"chose {_WORDS[i]}\nchose {_WORDS[(i + 1) % PROMPTS]}",
                "action_list": [_WORDS[(i + k) % PROMPTS] for k in range(2, 7)],
            },
            "plain",
        )
        for i in range(PROMPTS)
    ]
