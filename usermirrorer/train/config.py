"""Settings of a training run: one recipe file over TRL's own keys, read strictly.

A recipe sets the fields of TRL's configuration of the method (`SFTConfig`, `DPOConfig` …), of `ModelConfig`
and of the classes below; command-line flags override the file. An unknown name is refused with its line
and the closest match before any model is loaded: TRL's own scripts would train to the end with a misspelt learning
rate.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from usermirrorer.console.printable import printable
from usermirrorer.errors import StepFailed, UserError, told
from usermirrorer.extras import need
from usermirrorer.secrets import is_secret, redact
from usermirrorer.settings import Places, closest, plain, read_mapping
from usermirrorer.steps import required, setting
from usermirrorer.train.launching import batch
from usermirrorer.train.launching.lifetime import end_with_launcher
from usermirrorer.train.objective import check_objective


if TYPE_CHECKING:
    from trl import ModelConfig, TrlParser

METHODS = {"sft": "SFTConfig", "dpo": "DPOConfig", "kto": "KTOConfig", "grpo": "GRPOConfig"}
"""Training methods, and TRL's configuration of each."""

FRESH = "--fresh"
"""The flag that starts a run over; a recipe that held it would delete its own work."""

# Keys of older recipes, and what replaces them in the pinned TRL and transformers.
REMOVED = {
    "torch_dtype": "write dtype",
    "warmup_ratio": "write warmup_steps; a number below 1 is a share of all steps (warmup_steps: 0.1)",
    "max_seq_length": "write max_length",
    "max_prompt_length": "write max_length, which limits prompt and answer together",
    "max_completion_length": "write max_length, which limits prompt and answer together",
    "overwrite_output_dir": "leave it out; a run resumes from its last checkpoint, and --fresh starts it over",
    "dataset_mixture": "write dataset_name; pairs are mixed by `usermirrorer distill`",
    "dataset_mixer": "write dataset_name; pairs are mixed by `usermirrorer distill`",
    "datasets": "write dataset_name; pairs are mixed by `usermirrorer distill`",
    "test_split_size": "leave it out; scenes are split when they are built, not in the trainer",
    "evaluation_strategy": "leave it out; measure models with `usermirrorer eval`",
    "chat_template": "leave it out; the model's own chat template is used, here and in eval",
    "logging_dir": "leave it out; logs go to output_dir and report_to",
    "group_by_length": "write train_sampling_strategy: group_by_length",
    "use_flash_attention_2": "write attn_implementation: flash_attention_2",
    "tokenizer_name_or_path": "leave it out; the tokenizer comes with model_name_or_path",
}


@dataclass
class PairsArguments:
    """What is trained on."""

    dataset_name: str = required("Directory or Hub id of pairs, ours or as published.")
    dataset_split: str = setting("train", "Split of a Hub dataset.")
    max_over_length: float = setting(
        0.05, "Share of rows that may be over max_length (dropped and counted); with more, the run is refused."
    )
    global_batch_size: int | None = setting(
        None, "Rows of an optimiser step over all processes; gradient_accumulation_steps follows from it."
    )


@dataclass
class WatchArguments:
    """What is measured while a model trains."""

    watch_steps: int = setting(0, "Measure on the watched scenes and pairs every so many steps; 0 for never.")
    watch_scenes: str = setting("", "Directory of test scenes, of which `watch_num` are answered each time.")
    watch_num: int = setting(64, "Scenes, and pairs of either kind, to watch.")
    held_out_pairs: int = setting(0, "Pairs that are watched and not trained on.")


@dataclass
class GroupArguments:
    """What is made of people who were shown one list (exposure matched or hard)."""

    group_batches: bool = setting(False, "Put all members of a group into one batch of a device.")
    group_contrast: float = setting(
        0.0, "SFT: weight of the question who of the group took an option; group_batches is then on."
    )
    rejected_from: str = setting("pair", "DPO, KTO: the rejected answer is that of the pair, or of a mate: group.")


@dataclass
class Run:
    """A parsed run. `recipe` holds the settings of file and command line, without secrets.

    `training` is TRL's configuration of the method. With `fresh`, what its output_dir holds is deleted first.
    """

    method: str
    pairs: PairsArguments
    watch: WatchArguments
    groups: GroupArguments
    training: Any
    model: ModelConfig
    recipe: dict[str, Any]
    fresh: bool = False

    @property
    def global_batch(self) -> int:
        """Rows per optimiser step over all processes."""
        training = self.training
        return int(training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size)


def parse(method: str, args: Sequence[str]) -> Run:
    """The run that `--config FILE --name value …` describes. Raises UserError for any wrong name or value.

    A Hub token in the recipe moves to the environment variable HF_TOKEN, so that the Hub client finds it but trainer
    and trackers never write it down.
    """
    fresh, args = FRESH in args, [arg for arg in args if arg != FRESH]
    parser, recipe = check(method, args)
    try:
        pairs, watch, groups, training, model = parser.parse_args_and_config(list(args))
    except ValueError as error:
        raise UserError(f"{_config_path(args) or 'command line'}: {error}") from None
    if training.hub_token:
        os.environ["HF_TOKEN"] = training.hub_token
        training.hub_token = None
    if training.eval_strategy != "no":
        raise UserError(
            f"eval_strategy: {training.eval_strategy} has nothing to evaluate on, because the trainer makes no split; "
            "leave it out and measure with `usermirrorer eval`"
        )
    if training.push_to_hub:
        raise UserError(
            "push_to_hub: leave it out, and publish the finished model with "
            f"`usermirrorer push {training.output_dir} OWNER/NAME`"
        )
    run = Run(method, pairs, watch, groups, training, model, redact(recipe), fresh)
    check_objective(run)
    return run


def names(method: str) -> set[str]:
    """The settings of a method."""
    return {action.dest for action in _parser(method)._actions}


def check(
    method: str, args: Sequence[str], world_size: int | None = None, also: Set[str] = frozenset()
) -> tuple[TrlParser, dict[str, Any]]:
    """Check every name and value of recipe and flags. Returns the parser, and the recipe with the flags applied.

    `world_size` is the number of processes to come; without it, that of the present ones. A wrong flag may be meant
    for one of `also`, which are somebody else's.
    """
    args = [arg for arg in args if arg != FRESH]
    recipe: dict[str, Any] = {}
    places = Places("command line", {})
    if path := _config_path(args):
        node, places = read_mapping(Path(path), "training recipe")
        recipe = plain(node, path)
    settings = {name: value for name, value in recipe.items() if name != "env"}
    env = recipe.get("env") or {}
    if not isinstance(env, dict):
        places.refuse("env", "must be a mapping of environment variables")
    # Set before the libraries that read them are imported.
    os.environ.update({name: str(value) for name, value in env.items()})
    parser = _parser(method)
    known = {action.dest for action in parser._actions} - {"help"}
    flags = _flags(args)
    _check_names({name: places.of(name) for name in settings}, known, method)
    options = {option.lstrip("-") for option in parser._option_string_actions} | {"config"}
    _check_names({name: f"--{name}" for name in flags}, options, method, also)
    for name in flags:
        if is_secret(name):
            raise UserError(f"--{name}: command lines are visible to others and end up in logs; set HF_TOKEN instead")
    parser.set_defaults_with_config(**settings)
    parser.error = lambda message: _refuse_value(message, places)
    rest = [arg for i, arg in enumerate(args) if arg != "--config" and (i == 0 or args[i - 1] != "--config")]
    given = parser.parse_args(rest)
    for name in ("model_name_or_path", "output_dir"):
        if not getattr(given, name):
            raise UserError(f"{places.source}: {name} is missing; add `{name}: …` or --{name}")
    if Path(given.output_dir).resolve() == Path(given.model_name_or_path).resolve():
        raise UserError(f"output_dir {given.output_dir} is also the model to train from; name another directory")
    if "wandb" in (given.report_to or ()):
        need("wandb", "wandb", f"{places.of('report_to')}: report_to: wandb")
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(given, name):
            need("bitsandbytes", "quantization", f"{places.of(name)}: {name}")
    if given.global_batch_size is not None:
        named = "gradient_accumulation_steps" in {name.replace("-", "_") for name in (*settings, *flags)}
        steps = batch.accumulation_steps(
            given.global_batch_size,
            given.per_device_train_batch_size,
            world_size or batch.world_size(),
            given.gradient_accumulation_steps if named else None,
            places,
        )
        # Before the trainer's arguments are made: DeepSpeed's settings are derived from them.
        parser.set_defaults(gradient_accumulation_steps=steps)
    return parser, {**recipe, **{name: value for name, value in flags.items() if name != "config"}}


def _parser(method: str) -> TrlParser:
    import trl

    # Names must be spelled out: argparse would accept --learning_rat for --learning_rate.
    return trl.TrlParser(
        (PairsArguments, WatchArguments, GroupArguments, getattr(trl, METHODS[method]), trl.ModelConfig),
        prog=f"python -m usermirrorer.train.{method}",
        allow_abbrev=False,
    )


def _config_path(args: Sequence[str]) -> str | None:
    places = [i for i, arg in enumerate(args) if arg.partition("=")[0] == "--config"]
    if not places:
        return None
    if len(places) > 1 or "=" in args[places[0]] or places[0] + 1 == len(args):
        raise UserError("--config takes one recipe file, written as --config FILE")
    return args[places[0] + 1]


def _flags(args: Sequence[str]) -> dict[str, Any]:
    """Flags as names and values: `--a 1 --b x y --c=2 --d` gives a: 1, b: [x, y], c: 2, d: True."""
    flags: dict[str, list[str]] = {}
    name = ""
    for arg in args:
        if arg.startswith("--"):
            name, equals, value = arg[2:].partition("=")
            flags[name] = [value] if equals else []
        elif name:
            flags[name].append(arg)
        elif arg != "-h":
            raise UserError(f"'{arg}' is not a setting; write --name value")
    return {
        name: True if not values else yaml.safe_load(values[0]) if len(values) == 1 else values
        for name, values in flags.items()
        if name != "help"
    }


def _check_names(places: Mapping[str, str], known: Set[str], method: str, also: Set[str] = frozenset()) -> None:
    for name, place in places.items():
        if name in known:
            continue
        if name in REMOVED:
            raise UserError(f"{place}: '{name}' is no longer a setting; {REMOVED[name]}")
        hint = closest(name, known | also, f"`python -m usermirrorer.train.{method} --help` lists all settings")
        raise UserError(f"{place}: '{name}' is not a setting of {method} training; {hint}")


def _refuse_value(message: str, places: Places) -> NoReturn:
    named = re.match(r"argument --(\w+)", message)
    raise UserError(f"{places.of(named.group(1)) if named else places.source}: {message}")


def exit_status(method: str, main: Any) -> int:
    """Run a script's `main(args)` on the command line's arguments: 0, or 1 or 2 after one sentence on stderr."""
    end_with_launcher()
    try:
        main(sys.argv[1:])
    except Exception as error:
        known = told(error) or _out_of_memory(error, method)
        if known is None:
            raise
        wrong_input = isinstance(known, UserError)
        # Wrong input is the same for all processes of a machine: one says so.
        if not wrong_input or os.environ.get("LOCAL_RANK", "0") == "0":
            # A run that failed on its way may have left a progress bar on the line.
            print(f"{'' if wrong_input else chr(10)}error: {printable(str(known))}", file=sys.stderr)
        return 2 if wrong_input else 1
    return 0


def _out_of_memory(error: Exception, method: str) -> StepFailed | None:
    """What to do about a device without memory: the settings that need less, with their present values."""
    if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
        return None
    from usermirrorer.train.preflight import knobs

    ways = "; ".join(f"{number}. {knob}" for number, knob in enumerate(knobs(parse(method, sys.argv[1:])), start=1))
    return StepFailed(f"out of memory, in this order: {ways}")
