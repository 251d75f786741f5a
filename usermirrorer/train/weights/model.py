"""The model of a training run: its tokenizer, the weights or adapter to start from, and what is saved at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.engines.local import adapter_base, model_config
from usermirrorer.llm.engines.rendering import trained_tokens
from usermirrorer.llm.paths import model_path
from usermirrorer.llm.prompts import PROMPT_DATE
from usermirrorer.llm.protocol import Conversation
from usermirrorer.records import read_record
from usermirrorer.train.config import Run


if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase, Trainer

# The Llama 3.2 template writes the current date into every prompt, so what is trained today would not be what is
# served tomorrow.
_FIXED_DATE = f'{{%- if date_string is not defined %}}{{%- set date_string = "{PROMPT_DATE}" %}}{{%- endif %}}'
_LLAMA_PAD = "<|finetune_right_pad_id|>"


def load_tokenizer(run: Run) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a pad token and a chat template that does not depend on the date."""
    from transformers import AutoTokenizer

    name = model_path(str(run.model.model_name_or_path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=run.model.model_revision, trust_remote_code=run.training.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: the tokenizer cannot be loaded ({str(error).splitlines()[0]})") from None
    if tokenizer.chat_template is None:
        raise UserError(f"{name} has no chat template; train from an instruction-tuned model")
    if "strftime_now" in tokenizer.chat_template and _FIXED_DATE not in tokenizer.chat_template:
        tokenizer.chat_template = _FIXED_DATE + tokenizer.chat_template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = _LLAMA_PAD if _LLAMA_PAD in tokenizer.get_vocab() else tokenizer.eos_token
    return tokenizer


def most_tokens(run: Run) -> int | None:
    """Most tokens of a row: `max_length`; for GRPO, whose answers are still to be written, what they leave of it."""
    if run.method != "grpo":
        return cast("int | None", run.training.max_length)
    name = model_path(str(run.model.model_name_or_path))
    longest = getattr(model_config(adapter_base(name) or name).get_text_config(), "max_position_embeddings", None)
    return None if longest is None else longest - run.training.max_completion_length


def load(run: Run) -> dict[str, Any]:
    """The trainer's arguments: `model` (a path that it loads, or a loaded adapter) and its options.

    Training from a LoRA adapter continues it, and DPO's reference is the adapter before training. Full training from
    an adapter is refused, because its reference would be the base without the adapter.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from trl import get_peft_config, get_quantization_config

    score_answers_alone()
    if run.model.load_in_4bit:
        keep_four_bits_differentiable()
    name = model_path(str(run.model.model_name_or_path))
    options = {
        "revision": run.model.model_revision,
        "attn_implementation": run.model.attn_implementation,
        "dtype": run.model.dtype,
        **(run.training.model_init_kwargs or {}),
    }
    quantization = get_quantization_config(run.model)
    adapter = Path(name) / "adapter_config.json"
    if not adapter.is_file():
        run.training.model_init_kwargs = options
        return {"model": name, "quantization_config": quantization, "peft_config": get_peft_config(run.model)}
    settings = read_record(adapter, "give the directory of another model")
    _check_adapter(run, name, settings)
    run.training.model_init_kwargs = None
    options["quantization_config"] = quantization
    base, trust = adapter_base(name), run.training.trust_remote_code
    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=trust, **options)
    return {"model": PeftModel.from_pretrained(model, name, is_trainable=True)}


def drop_reference(trainer: Trainer) -> None:
    """Delete TRL's `ref` copy of an adapter once its log-probabilities are computed.

    Resuming a checkpoint with two adapters loads only `ref`, which would reset the trained one.
    """
    from peft import PeftModel

    model = trainer.model
    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")


def score_answers_alone() -> None:
    """Let TRL compute the probabilities of an answer's tokens alone on a CPU too, as it does on a GPU.

    TRL 1.16 gives every position of a batch to the output layer on devices without Triton, so that compilers see one
    shape, and masks the prompts afterwards. Loss and gradients are the same; ours are prompts of 300 tokens before
    answers of 40, and the output layer is a fifth of a small model.
    """
    from trl.kernels.chunked_logprob import _use_triton
    from trl.trainer import utils

    utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def keep_four_bits_differentiable() -> None:
    """Keep bitsandbytes from packing 4-bit weights for a CPU's inference when a model is read in evaluation mode.

    bitsandbytes 0.50 never unpacks them, and its product of packed weights has no gradient: after the reference's
    log-probabilities, or a look at the model on its way, all layers but the last few would stop learning.
    """
    from bitsandbytes.nn import modules

    modules.has_avx512bf16 = lambda: False


def keep_masters(trainer: Trainer) -> None:
    """Let AdamW step on float32 copies of bfloat16 weights, unless DeepSpeed or FSDP keep their own.

    Adapters need none: PEFT keeps them in float32 over a bfloat16 base.
    """
    import torch

    args, accelerator = trainer.args, trainer.accelerator
    if args.optim not in ("adamw_torch", "adamw_torch_fused") or accelerator.distributed_type in ("DEEPSPEED", "FSDP"):
        return
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    if trained and all(weight.dtype == torch.bfloat16 for weight in trained):
        from usermirrorer.train.weights.masters import MasterAdamW

        trainer.optimizer_cls_and_kwargs = (MasterAdamW, trainer.get_optimizer_cls_and_kwargs(args)[1])


def save(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, output_dir: str) -> None:
    """Save weights or adapter, tokenizer and generation settings, with the end of a turn as a stop token.

    All processes take part. Raises StepFailed if an adapter came out empty.
    """
    from peft import PeftModel

    model: Any = trainer.model
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    base.generation_config = generation_settings(base.generation_config, tokenizer)
    base.config.use_cache = True
    trainer.save_model(output_dir)
    if trainer.is_world_process_zero():
        base.generation_config.save_pretrained(output_dir)
        if isinstance(model, PeftModel):
            check_saved_adapter(output_dir)


def generation_settings(base: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """What a server reads beside the weights: the stop tokens, the end of a turn first, and no change to sampling.

    The base's temperature, top-p, penalties and the like suited the base: a server that took them over would not
    sample what was trained. They are left out, and what libraries would fill in themselves is set to do nothing.
    """
    from transformers import GenerationConfig

    stops = base.eos_token_id
    stops = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
    return GenerationConfig(
        # The end of a turn comes first, for engines that take only one stop token.
        eos_token_id=list(dict.fromkeys([end_of_turn(tokenizer), *stops])),
        bos_token_id=base.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
    )


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an assistant turn in the chat template: the first special token after the answer."""
    turn: Conversation = [{"role": "user", "content": "a"}]
    [prompt] = trained_tokens(tokenizer, [turn], add_generation_prompt=True)
    [text] = trained_tokens(tokenizer, [[*turn, {"role": "assistant", "content": "b"}]])
    for token in text[len(prompt) :]:
        if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder:
            return token
    raise UserError(f"The chat template of {tokenizer.name_or_path} ends no turn, so the model would never stop")


def check_saved_adapter(output_dir: str) -> None:
    """Raises StepFailed if the saved adapter has no weights, or training moved none of them (all of B is zero)."""
    from safetensors.torch import load_file

    weights = load_file(Path(output_dir) / "adapter_model.safetensors")
    if not any("lora_B" in name and bool(tensor.any()) for name, tensor in weights.items()):
        raise StepFailed(f"{output_dir}: the saved adapter is empty or all zero; with ZeRO-3 use zero2 or ddp instead")


def _check_adapter(run: Run, name: str, settings: dict[str, Any]) -> None:
    if not run.model.use_peft:
        raise UserError(
            f"{name} is a LoRA adapter: set use_peft: true to continue training it, or merge it into its base with "
            f"`usermirrorer merge {name} --out DIR`"
        )
    if run.method == "grpo":
        without = "beta: 0, which needs no reference" if run.training.beta else ""
    else:
        precomputed = run.method == "sft" or run.training.precompute_ref_log_probs
        without = "" if precomputed else "precompute_ref_log_probs: true"
    if without:
        raise UserError(
            f"{name} is a LoRA adapter: set {without}; a run that holds both the adapter and its reference copy "
            "cannot be resumed"
        )
    for ours, theirs in (("lora_r", "r"), ("lora_alpha", "lora_alpha")):
        has = settings.get(theirs)
        if ours in run.recipe and getattr(run.model, ours) != has:
            raise UserError(
                f"{ours}: {getattr(run.model, ours)} contradicts the adapter {name}, which has {has}; leave it out"
            )
