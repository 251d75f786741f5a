r"""Kahneman-Tversky optimisation: answers one by one, the user's choices as desirable and others as undesirable.

It reads the pairs of `dpo` and takes them apart. The starting model, usually the checkpoint that `sft` saved, is also
the reference.

Full training on eight GPUs:

    accelerate launch --config_file accelerate_configs/zero2.yaml -m usermirrorer.train.kto \
        --config recipes/qwen2.5-3b-instruct/kto/config_full.yaml

A LoRA adapter on one GPU:

    accelerate launch --config_file accelerate_configs/single_gpu.yaml -m usermirrorer.train.kto \
        --config recipes/qwen2.5-3b-instruct/kto/config_lora.yaml --learning_rate 1e-5

`usermirrorer train kto --config … [--accelerate …] [--learning_rate …]` does the same. The same command
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
    from trl import KTOTrainer

    from usermirrorer.train.launching import interrupt
    from usermirrorer.train.watching import watch

    #######
    # Setup
    #######
    run = config.parse("kto", args)
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
    trainer = KTOTrainer(args=run.training, train_dataset=dataset, processing_class=tokenizer, **model.load(run))
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
    sys.exit(config.exit_status("kto", main))
