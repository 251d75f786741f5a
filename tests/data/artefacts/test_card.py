"""Cards keep their shape whatever people call things, and ask no server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from usermirrorer.data.artefacts.card import STEP_CARD, cell, code_block, render_card, step_card
from usermirrorer.data.artefacts.columns import COLUMNS, type_name
from usermirrorer.data.artefacts.schema import DECISIONS
from usermirrorer.data.artefacts.store import write_parquet


markdown = MarkdownIt("commonmark").enable("table")
letters = st.characters(codec="utf-8", exclude_characters="\x00\r")
written = st.text(letters, max_size=30) | st.text("`|\\<~-: \n", max_size=20)


def test_a_step_card_has_the_columns_and_all_of_the_manifest(tmp_path: Path) -> None:
    content = {
        "recipe": {"step": "decide", "model": "yes: no # {{ x }}", "domain": "é"}, "finished": True, "rows": 7,
        "counts": {"too_long": 3}, "files": {"part-00000.parquet": "00ff", "part-00001.parquet": "ff00"},
    }  # fmt: skip
    directory = tmp_path / "decisions: [x]" / "strong #1"
    directory.mkdir(parents=True)
    for name in content["files"]:
        write_parquet(DECISIONS.empty_table(), directory / name)
    _, header, text = step_card(directory, content).split("---\n", 2)
    assert yaml.safe_load(header) == {"pretty_name": "decisions: [x]/strong #1"}
    assert "# decide: decisions: [x]/strong #1\n" in text and text.endswith("beside the directory.\n")
    for title in ("recipe", "rows", "counts"):
        assert f"\n## {title}\n\n```json\n" in text
    assert '"model": "yes: no # {{ x }}"' in text and '"domain": "é"' in text and '"too_long": 3' in text
    assert "00ff" not in text and "## finished" not in text
    for name, meaning in COLUMNS["decisions"].items():
        assert f"\n| {name} | {type_name(DECISIONS.field(name).type)} | {meaning} |\n" in text
    assert len([token for token in markdown.parse(text) if token.type == "tr_open"]) == 1 + len(DECISIONS)


def test_the_card_of_scenes_says_in_words_how_lists_are_made(tmp_path: Path) -> None:
    content = {
        "recipe": {"step": "scenes", "exposure": "logged", "max_exposure": 5, "alike": ""},
        "counts": {"tried": 9}, "lengths": {"2": 1, "5": 7}, "files": {},
    }  # fmt: skip
    text = step_card(tmp_path, content)
    words = text.partition("# scenes: ")[2].partition("## recipe")[0]
    assert "really shown" in words and "keeps the click and 4 of the others" in words
    assert words.endswith("Scenes by number of options: 1 with 2, 7 with 5.\n\n")


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/"), max_size=120))
def test_a_step_card_is_what_the_hub_would_write(name: str) -> None:
    name = f"n{name}"
    card = step_card(Path("work") / name, {"recipe": {"step": name}, "files": {}})
    blocks = {"recipe": json.dumps({"step": name}, indent=1, ensure_ascii=False)}
    values = {"name": f"work/{name}", "step": name, "exposure": [], "columns": {}, "blocks": blocks, "files": 0}
    assert card == render_card("dataset", STEP_CARD, {"pretty_name": f"work/{name}"}, values)


@settings(max_examples=200)
@given(text=written)
def test_a_cell_stays_a_cell(text: str) -> None:
    tokens = markdown.parse(f"| a | b |\n|---|---|\n| {cell(text)} | last |\n\nafter\n")
    cells = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2 and cells[1] == "last"
    assert tokens[-2].content == "after"
    assert not [token for token in tokens if token.type == "html_block"]


@settings(max_examples=200)
@given(text=written)
def test_a_code_block_stays_a_code_block(text: str) -> None:
    fence, *after = markdown.parse(f"{code_block('yaml', text)}\n\nafter\n")
    assert fence.type == "fence" and fence.content == text.rstrip() + "\n" and after[1].content == "after"


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_card_is_rendered_without_a_network(kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a card asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (tmp_path / "card.md.j2").write_text("---\n{{ card_data }}\n---\n\n# {{ name }} é\n", encoding="utf-8")
    card = render_card(kind, tmp_path / "card.md.j2", {"tags": ["a: b", "c"]}, {"name": "---"})
    assert card == "---\ntags:\n- 'a: b'\n- c\n---\n\n# --- é\n"


def test_a_step_loads_no_template_engine_before_its_end_and_never_the_hub(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, usermirrorer.cli, usermirrorer.data.log.prepare\n"
        "from usermirrorer.data.artefacts.store import open_step\n"
        "print([m for m in ('jinja2', 'huggingface_hub') if m in sys.modules])\n"
        "with open_step(pathlib.Path(sys.argv[1]), {}) as step: step.finish()\n"
        "print([m for m in ('jinja2', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['jinja2']"] and (tmp_path.with_name(f"{tmp_path.name}.md")).is_file()
