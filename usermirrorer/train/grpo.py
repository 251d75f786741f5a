r"""Group relative policy optimisation: the model answers scenes itself and is rewarded for the user's real choice.

The published comparison, with a second reward for the form of the answer (`rewards.py`). It reads pairs or scenes, and
starts from the checkpoint that `sft` saved: a model that cannot answer in the form is rarely rewarded.

Full training on eight GPUs, with vLLM writing the answers:

    accelerate launch --config_file accelerate_configs/zero2.yaml -m usermirrorer.train.grpo \
        --config recipes/qwen2.5-3b-instruct/grpo/config_full.yaml

A LoRA adapter on one GPU:

    accelerate launch --config_file accelerate_configs/single_gpu.yaml -m usermirrorer.train.grpo \
        --config recipes/qwen2.5-3b-instruct/grpo/config_lora.yaml --num_generations 16

`usermirrorer train grpo --config … [--accelerate …] [--learning_rate …]` does the same. The same command
goes on with an interrupted run from its last checkpoint; `--fresh` starts it over.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from usermirrorer.train import config, preflight
from usermirrorer.train.input import rows
from usermirrorer.train.records import provenance, resume, tracking
from usermirrorer.train.weights import model


def main(args: Sequence[str]) -> None:
    from trl import GRPOTrainer

    from usermirrorer.train.launching import interrupt
    from usermirrorer.train.watching import watch
    from usermirrorer.train.weights.rewards import REWARDS

    #######
    # Setup
    #######
    run = config.parse("grpo", args)
    tracking.start_log(run)

    ######
    # Data
    ######
    tokenizer = model.load_tokenizer(run)
    dataset, data = rows.prepare(run, tokenizer)
    tracking.announce(run, data, len(dataset) * run.training.num_generations)
    record = provenance.record(run, data)
    checkpoint = resume.start(run, record)
    preflight.check_room(run, data)
    tracking.start_wandb(run, record, resumed=checkpoint is not None)

    #######
    # Model
    #######
    trainer = GRPOTrainer(
        args=run.training,
        reward_funcs=list(REWARDS.values()),
        train_dataset=dataset,
        processing_class=tokenizer,
        **model.load(run),
    )
    model.keep_masters(trainer)
    preflight.show_samples(trainer, tokenizer)
    watch.start(trainer, run, tokenizer, data)
    model.drop_reference(trainer)

    #######
    # Train
    #######
    metrics = interrupt.train(trainer, checkpoint)

    ######
    # Save
    ######
    model.save(trainer, tokenizer, run.training.output_dir)
    tracking.finish(trainer, run, record, metrics)


if __name__ == "__main__":
    sys.exit(config.exit_status("grpo", main))
