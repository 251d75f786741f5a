"""accelerate's flags of `usermirrorer train`: told apart from the recipe's, checked, and what they start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from handmade_pairs import write_yaml

from usermirrorer.errors import UserError
from usermirrorer.settings import Places
from usermirrorer.train import config
from usermirrorer.train.launching import batch, launch, processes


SETTINGS = {"learning_rate", "max_steps", "gradient_accumulation_steps", "debug"}
ZERO2 = {"distributed_type": "DEEPSPEED", "num_processes": 8, "num_machines": 1, "machine_rank": 0}
DDP = {**ZERO2, "distributed_type": "MULTI_GPU", "gpu_ids": "all"}
ONE = {**ZERO2, "distributed_type": "NO", "num_processes": 1}
TWO_MACHINES = "--num_machines 2 --main_process_ip a --main_process_port 29500"


def test_flags_of_accelerate_are_told_from_settings_in_any_order_and_spelling() -> None:
    args = "--num_processes 2 --learning_rate 1e-5 --gpu-ids=0,1 --same_network --max_steps 3 --debug"
    passed, others = processes.split([*args.split(), "--gradient_accumulation_steps", "4"], SETTINGS)
    assert passed == ["--num_processes", "2", "--gpu-ids=0,1", "--same_network"]
    assert others == "--learning_rate 1e-5 --max_steps 3 --debug --gradient_accumulation_steps 4".split()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--cpu", "silently drops DeepSpeed"),
        ("--config_file zero2.yaml", "write --accelerate NAME|FILE"),
        ("--config-file=zero2.yaml", "write --accelerate NAME|FILE"),
        ("--aws_secret_access_key x", "GPUs and CPUs"),
        ("--megatron_lm_tp_degree 2", "DDP, DeepSpeed or FSDP"),
        ("--parallelism_config_tp_size 2", "zero3 or fsdp"),
        ("--same_network true", "takes no value: leave out 'true'"),
        ("--gpu_ids 0 1", "takes one value, without spaces: leave out '1'"),
    ],
)
def test_what_is_not_passed_on_says_why(flags: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        processes.split(flags.split(), SETTINGS)
    assert str(refused.value).startswith(flags.split()[0].partition("=")[0])


@pytest.mark.parametrize(
    ("configuration", "flags", "said"),
    [
        (ZERO2, "--num_processes two", "--num_processes: invalid int value: 'two'"),
        (ZERO2, "--num_processes", "--num_processes: expected one argument"),
        (ZERO2, "--mixed-precision bf17", "--mixed_precision: invalid choice: 'bf17'"),
        (ZERO2, "--num_processes 0", "num_processes: 0 must be a whole number"),
        (ZERO2, "--num_machines -1", "num_machines: -1 must be a whole number"),
        (ZERO2, "--multi_gpu --use_deepspeed", "exclude each other"),
        (ONE, "--num_processes 2", "starts one process; take --accelerate ddp"),
        (DDP, "--num_processes 1 --gpu_ids 0", "take --accelerate single_gpu"),
        (DDP, "--num_processes 3 --gpu_ids 0,1", "names 2 for 3 processes"),
        (ZERO2, "--num_machines 2", "needs main_process_ip"),
        (ZERO2, f"{TWO_MACHINES} --machine_rank 2", "must be one of 0 … 1"),
        (ZERO2, f"{TWO_MACHINES} --num_processes 3", "write a multiple of 2"),
        ({"distributed_type": "DEEPSPEED", "num_processes": 2}, TWO_MACHINES, "needs machine_rank"),
    ],
)
def test_values_that_do_not_fit_are_one_sentence(configuration: dict, flags: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        processes.plan(flags.split(), configuration, "mine")
    assert "usage:" not in str(refused.value)


def test_the_plan_is_that_of_flags_over_the_configuration() -> None:
    found = processes.plan([*TWO_MACHINES.split(), "--machine_rank", "1"], ZERO2, "zero2")
    assert (found.processes, found.machines, found.rank, found.distributed_type) == (8, 2, 1, "DEEPSPEED")
    assert processes.plan(["--num_processes=2", "--multi_gpu"], ONE, "cpu").distributed_type == "MULTI_GPU"


def test_more_processes_than_gpus_are_refused() -> None:
    processes.Plan(8, 1, 0, "DEEPSPEED", gpus=0).check_gpus()  # on CPUs any number goes
    processes.Plan(16, 2, 0, "DEEPSPEED", gpus=8).check_gpus()
    with pytest.raises(UserError, match="4 GPUs can be used; write --num_processes 8"):
        processes.Plan(16, 2, 0, "DEEPSPEED", gpus=4).check_gpus()


def test_accelerate_finds_its_flags_before_the_module(settings: dict, tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "r.yaml", settings)
    flags = ["--num-processes=2", "--max_steps", "1", "--main_process_port", "0", "--mixed_precision", "no"]
    command, _ = launch.command("sft", recipe, "ddp", flags)
    at = command.index("-m", 2)
    assert command[at + 1] == "usermirrorer.train.sft" and command[-2:] == ["--max_steps", "1"]
    assert command[at - 5 : at] == ["--num-processes=2", "--main_process_port", "0", "--mixed_precision", "no"]


@pytest.mark.parametrize(
    ("flag", "nearest"), [("--num_proceses=2", "num_processes"), ("--learning_rat=1", "learning_rate")]
)
def test_a_misspelt_flag_gets_the_nearest_of_both(settings: dict, tmp_path: Path, flag: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean {nearest}\?"):
        launch.command("sft", write_yaml(tmp_path / "r.yaml", settings), "cpu", [flag])


@pytest.mark.parametrize(("processes", "steps"), [(1, 16), (2, 8), (8, 2), (16, 1)])
def test_the_global_batch_is_the_same_for_any_number_of_processes(processes: int, steps: int) -> None:
    assert batch.accumulation_steps(32, 2, processes, None, Places("r.yaml", {})) == steps
    assert batch.accumulation_steps(32, 2, processes, steps, Places("r.yaml", {})) == steps


@pytest.mark.parametrize(
    ("rows", "processes", "given", "said"),
    [
        (
            30,
            8,
            None,
            "r.yaml:3: global_batch_size: 30 is no multiple of 1 per device x 8 processes = 8; write 24 or 32",
        ),
        (4, 8, None, "write 8 or 16"),
        (0, 1, None, "must be a whole number of rows, at least 1"),
        (2.5, 1, None, "must be a whole number of rows, at least 1"),
        (32, 8, 8, "gradient_accumulation_steps: 8 contradicts global_batch_size 32: 1 per device x 8 processes"),
    ],
)
def test_a_global_batch_that_does_not_work_out(rows: int, processes: int, given: int | None, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        batch.accumulation_steps(rows, 1, processes, given, Places("r.yaml", {"global_batch_size": 3}))


def test_a_global_batch_is_checked_before_processes_start(settings: dict, tmp_path: Path) -> None:
    del settings["gradient_accumulation_steps"]
    recipe = write_yaml(tmp_path / "r.yaml", {**settings, "global_batch_size": 6})
    assert config.parse("sft", ["--config", str(recipe)]).training.gradient_accumulation_steps == 3
    with pytest.raises(UserError, match="2 per device x 2 processes = 4; write 4 or 8"):
        launch.command("sft", recipe, "zero2", ["--num_processes", "2"])
    with pytest.raises(UserError, match="gradient_accumulation_steps: 4 contradicts global_batch_size 6"):
        config.parse("sft", ["--config", str(recipe), "--gradient-accumulation-steps", "4"])
