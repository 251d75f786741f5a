"""Command line, recipe and dataclass agree: a default is in one place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from typer.main import get_command

from usermirrorer import steps
from usermirrorer.cli import app
from usermirrorer.data.recipe import DataRecipe, DomainRecipe, Predictor, SceneCounts, Writer


COMMANDS = {
    "prepare": steps.PrepareSettings,
    "scenes": steps.SceneSettings,
    "decide": steps.DecideSettings,
    "distill": steps.DistillSettings,
    "eval": steps.EvalSettings,
    "simulate": steps.SimulateSettings,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_is_an_option_with_its_default_and_help(name: str) -> None:
    options = {parameter.name: parameter for parameter in get_command(app).commands[name].params}
    for field in dataclasses.fields(COMMANDS[name]):
        option: Any = options[field.name]
        assert option.help == field.metadata["help"] and option.required == (field.default is dataclasses.MISSING)
        if field.default is not dataclasses.MISSING:
            assert option.default == field.default


def test_a_recipe_without_settings_has_the_defaults_of_the_steps() -> None:
    writer = Writer(llm="scripted:reader")
    recipe = DataRecipe("r", [DomainRecipe("toy", SceneCounts(10, 5))], writer, writer, Predictor("vllm:tiny-base"))
    assert recipe.distill_settings == steps.DistillSettings(name="r")
    assert recipe.strong.settings(recipe.prompt, recipe.seed) == steps.DecideSettings()
    assert recipe.domains[0].scene_settings(recipe.seed) == {
        "train": steps.SceneSettings("train", 10),
        "test": steps.SceneSettings("test", 5),
    }


@pytest.mark.parametrize(("split", "lengths"), steps.LIST_LENGTHS.items())
def test_a_split_has_its_own_list_lengths(split: str, lengths: tuple[int, int]) -> None:
    settings = steps.SceneSettings(split, 12).for_domain("d", ("hard", "matched"), {"liked": None, "any": None})
    assert settings.lengths == lengths and (settings.exposure, settings.choice) == ("hard", "liked")
