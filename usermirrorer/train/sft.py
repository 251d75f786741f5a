r"""Supervised fine-tuning on the chosen answers of pairs: the model learns to write a decision process and its choice.

Full training on eight GPUs:

    accelerate launch --config_file accelerate_configs/zero2.yaml -m usermirrorer.train.sft \
        --config recipes/qwen2.5-3b-instruct/sft/config_full.yaml

A LoRA adapter on one GPU:

    accelerate launch --config_file accelerate_configs/single_gpu.yaml -m usermirrorer.train.sft \
        --config recipes/qwen2.5-3b-instruct/sft/config_lora.yaml --per_device_train_batch_size 2

`usermirrorer train sft --config … [--accelerate …] [--learning_rate …]` does the same. The same command
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
    from trl import SFTTrainer

    from usermirrorer.train.input.groups import batch_by_group, groups_of
    from usermirrorer.train.launching import interrupt
    from usermirrorer.train.watching import watch
    from usermirrorer.train.weights.group_contrast import GroupContrastTrainer

    #######
    # Setup
    #######
    run = config.parse("sft", args)
    tracking.start_log(run)

    ######
    # Data
    ######
    tokenizer = model.load_tokenizer(run)
    dataset, data = rows.prepare(run, tokenizer)
    tracking.announce(run, data, len(dataset))
    record = provenance.record(run, data)
    checkpoint = resume.start(run, record)
    preflight.check_room(run, data)
    tracking.start_wandb(run, record, resumed=checkpoint is not None)

    #######
    # Model
    #######
    options = {"args": run.training, "train_dataset": dataset, "processing_class": tokenizer, **model.load(run)}
    if run.groups.group_contrast:
        shared = groups_of(dataset["prompt"])
        trainer = GroupContrastTrainer(**options, groups=shared, weight=run.groups.group_contrast)
    else:
        trainer = SFTTrainer(**options)
        if run.groups.group_batches:
            batch_by_group(trainer, groups_of(dataset["prompt"]))
    model.keep_masters(trainer)
    preflight.show_samples(trainer, tokenizer)
    watch.start(trainer, run, tokenizer, data)

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
    sys.exit(config.exit_status("sft", main))
