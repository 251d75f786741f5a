"""Recipes and accelerate configurations by name: what is listed can be used, printed and copied."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.cli import app
from usermirrorer.errors import UserError
from usermirrorer.shipped import ACCELERATE, DATA, find_file, headline, shipped


ROOT = Path(__file__).parent.parent
KINDS = (DATA, "sft", "dpo", "kto", "grpo", ACCELERATE)
NAMES = [(kind, name) for kind in KINDS for name in shipped(kind)]


def run(*args: object) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        app([str(arg) for arg in args], standalone_mode=False)
    return out.getvalue()


def test_every_file_has_one_name() -> None:
    files = [path for kind in KINDS for path in shipped(kind).values()]
    assert sorted(files) == sorted([*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("accelerate_configs/*")])
    assert len({name for _, name in NAMES}) == len(NAMES) == len(files)


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_file_says_in_its_first_line_what_it_is_for(kind: str, name: str) -> None:
    line = headline(shipped(kind)[name])
    assert len(line) <= 90 and line.endswith(".")


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        (DATA, "toy", "recipes/data/toy.yaml"),
        ("sft", "tiny-base/sft/toy", "recipes/tiny-base/sft/config_toy.yaml"),
        (ACCELERATE, "zero2", "accelerate_configs/zero2.yaml"),
    ],
)
def test_a_name_is_found_and_so_is_a_path(kind: str, name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert find_file(name, kind) == ROOT / path
    assert find_file(path, kind) == Path(path)


def test_a_file_of_one_s_own_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()  # such as the output of an earlier run
    assert find_file("toy", DATA) == ROOT / "recipes" / "data" / "toy.yaml"
    (tmp_path / "cpu").write_text("num_processes: 1\n")
    assert find_file("cpu", ACCELERATE) == Path("cpu")


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [
        (DATA, "tyo", "toy"),
        (DATA, "recipes/data/toy.yaml", "toy"),  # as in the docs of a checkout
        ("dpo", "tiny-base/sft/toy", "tiny-base/dpo/toy"),
        ("sft", "recipes/tiny-base/sft/config_toy.yaml", "tiny-base/sft/toy"),
        (ACCELERATE, "accelerate_configs/zero2.yaml", "zero2"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(
    kind: str, typed: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^'{re.escape(typed)}' is neither .* did you mean {meant}\?$"):
        find_file(typed, kind)


@given(st.text(max_size=30).filter(lambda text: "\0" not in text), st.sampled_from(KINDS))
def test_any_text_is_a_file_a_name_or_refused_in_one_sentence(text: str, kind: str) -> None:
    try:
        assert find_file(text, kind).is_file()
    except UserError as error:
        assert "did you mean" in str(error) or "`usermirrorer recipes`" in str(error)


def test_the_list_shows_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    listed = run("recipes")
    for kind, name in NAMES:
        assert f"  {name} " in listed and headline(shipped(kind)[name]) in listed
    assert "usermirrorer train dpo --config NAME" in listed


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_recipe_is_printed_and_copied_as_it_is(kind: str, name: str, tmp_path: Path) -> None:
    original = shipped(kind)[name].read_text(encoding="utf-8")
    assert run("recipes", name) == original
    assert str(tmp_path / "mine.yaml") in run("recipes", name, "--out", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == original


def test_a_copy_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    for out in (tmp_path / "mine.yaml", tmp_path):
        with pytest.raises(UserError, match="name another file"):
            run("recipes", "toy", "--out", out)
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    with pytest.raises(UserError, match="No such file or directory"):
        run("recipes", "toy", "--out", tmp_path / "nowhere" / "mine.yaml")
    with pytest.raises(UserError, match="did you mean toy"):
        run("recipes", "tyo", "--out", tmp_path / "new.yaml")
    with pytest.raises(UserError, match="which recipe"):
        run("recipes", "--out", tmp_path / "new.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_the_headers_show_commands_that_work() -> None:
    for kind, name in NAMES:
        header = shipped(kind)[name].read_text(encoding="utf-8").partition("\n\n")[0]
        commands = re.findall(r"^# usermirrorer (.*?) --config (\S+)", header, re.M)
        assert commands or kind == ACCELERATE
        for use, shown in commands:
            assert use in ("build", f"train {kind}")
            assert shipped(kind)[shown] == shipped(kind)[name]
