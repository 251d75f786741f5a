"""A model says, once, that it can't read a log; it does not say so of a log that it can read."""

from __future__ import annotations

import pytest

from usermirrorer.data.sources.toy import TASTES, THINGS
from usermirrorer.llm.engines.local import LocalModel
from usermirrorer.llm.prompts import conversation
from usermirrorer.llm.readability import describe_unreadable, words_of


FOREIGN = (
    "Porcelain teapot with bamboo handle, Notebook for fountain pens, Wheelbarrow galvanised, Cherry jam organic, "
    "Cinnamon sticks whole, Ceramic flowerpot terracotta, Envelope recycled, Drawing charcoal, Watering pump"
).split(", ")


def scene(options: list[str]) -> list[dict[str, str]]:
    return conversation({"profile": "", "history": "", "action_list": options}, "plain")


def test_the_tiny_base_cannot_read_a_foreign_log_and_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    model = LocalModel("vllm", "tiny-base")
    for at in range(0, len(FOREIGN), 3):
        model.count_tokens([scene(FOREIGN[at : at + 3])])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("WARNING: vllm:tiny-base can't read this log: it spells ")
    assert "take a language model" in line
    model.count_tokens([scene(FOREIGN)])
    assert capsys.readouterr().err == ""


def test_the_tiny_base_reads_what_it_was_made_for(capsys: pytest.CaptureFixture[str]) -> None:
    model = LocalModel("vllm", "tiny-base")
    model.count_tokens([scene([f"{taste} {thing}" for taste in TASTES for thing in THINGS][:26])])
    assert capsys.readouterr().err == ""


def test_a_tokenizer_that_knows_the_words_reads_them() -> None:
    words = {word for title in FOREIGN for word in words_of(title)}

    def whole(texts: list[str]) -> list[list[int]]:
        return [[0] * len(text.split()) for text in texts]

    def spelled(texts: list[str]) -> list[list[int]]:
        return [[0] * len(text.encode()) for text in texts]

    assert describe_unreadable("m", words, whole) == ""
    assert "m can't read this log: it spells 100% of the words" in describe_unreadable("m", words, spelled)
    # a few words don't tell
    assert describe_unreadable("m", list(words)[:5], spelled) == ""


def test_words_of_scripts_without_spaces_count_by_their_bytes() -> None:
    words = {"蓝色咖啡杯子大的", "这是一个好看的笔记本"} | {f"{chr(0x4E00 + at) * 4}" for at in range(30)}

    def known(texts: list[str]) -> list[list[int]]:
        return [[0] * (1 + sum(not char.isascii() for char in text)) for text in texts]

    assert describe_unreadable("m", words, known) == ""
