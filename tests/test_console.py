"""What a command shows: lines and tables that fit the terminal, and as much as --quiet, --json and --verbose allow."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from usermirrorer import console
from usermirrorer.console.printable import printable, printable_json
from usermirrorer.console.steps import StepReport, show_step
from usermirrorer.console.tables import show_table
from usermirrorer.wording import format_seconds, format_time


ESTIMATE = {"value": 0.2, "low": 0.15, "high": 0.25, "n": 95}


def scenes(beyond_num: int, warning: bool = False, state: str = "made") -> StepReport:
    probe = {
        "accuracy": ESTIMATE, "classifier": "trees", "classifiers": {"trees": ESTIMATE}, "permuted": ESTIMATE,
        "time_aware": {**ESTIMATE, "value": 0.4}, "exact": True, "chance": 0.2, "warning": warning,
    }  # fmt: skip
    content = {
        "recipe": {
            "step": "scenes", "domain": "shop", "split": "test", "exposure": "matched", "max_exposure": 5, "alike": "",
        },
        "rows": 95, "asked": 98, "lengths": {"5": 95}, "groups": {"number": 19, "span_days": {"longest": 2.0}},
        "counts": {"searched": 95 + beyond_num, "left_over": 0, "beyond_num": beyond_num, "kept": 95},
        "probe": probe, "baselines": {"popularity": {"accuracy": ESTIMATE, "argmax_accuracy": ESTIMATE}},
        "files": {"part-00000.parquet": "00"}, "finished": True,
    }  # fmt: skip
    return StepReport("scenes shop test", Path("scenes/shop/test"), state, content, 1.25)


def shown(capsys: pytest.CaptureFixture[str], report: StepReport) -> str:
    capsys.readouterr()
    show_step(report)
    return capsys.readouterr().out


def in_words(text: str) -> str:
    return " ".join(text.split())


def test_fewer_scenes_are_a_warning_only_if_the_choices_ran_out(capsys: pytest.CaptureFixture[str]) -> None:
    ran_out = "WARNING: 98 scenes were requested; the choices ran out at 95"
    assert ran_out in shown(capsys, scenes(beyond_num=0))
    # A whole group more would have been too many.
    assert "ran out" not in shown(capsys, scenes(beyond_num=40))


def test_what_is_exact_is_said_to_be_and_a_warning_says_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    text = in_words(shown(capsys, scenes(beyond_num=40)))
    assert "19 groups" in text and "0.200 exactly" in text and "0.400 [0.150, 0.250]" in text
    assert "WARNING" not in text
    text = in_words(shown(capsys, scenes(beyond_num=40, warning=True)))
    assert "0.400 [0.150, 0.250] knowing when each chose" in text.partition("WARNING: ")[2]


def test_what_was_already_made_is_shown_in_brief(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, scenes(beyond_num=0, state="already made"))
    assert text.startswith("scenes shop test: already made, 95 scenes in scenes/shop/test\n")
    assert "exposure probe: 0.200 exactly" in text and "ran out" in text and "popularity" not in text


def test_a_step_gives_its_manifest_to_programs() -> None:
    report = scenes(beyond_num=0)
    facts = report.facts()
    assert facts["probe"] == report.content["probe"] and facts["state"] == "made" and facts["seconds"] == 1.25
    assert "ran out" in facts["warnings"][0] and not {"files", "finished"} & set(facts)


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=4).map(" ".join)


@given(st.data(), st.integers(45, 120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_table_fits_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: st.DataObject, width: int
) -> None:
    columns = data.draw(st.integers(2, 6))
    headings = data.draw(st.lists(WORDS, min_size=columns, max_size=columns))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=1, max_size=5))
    align = data.draw(st.sampled_from(["lr", "lp", "lrp"]))
    monkeypatch.setenv("COLUMNS", str(width))
    capsys.readouterr()
    show_table(headings, rows, align)
    text = capsys.readouterr().out
    assert max(cell_len(line) for line in text.splitlines()) <= width
    letters = re.sub(r"[\s─]", "", text)
    for word in (word for cells in [headings, *rows] for cell in cells[1:] for word in cell.split()):
        assert all(letter in letters for letter in word)


def test_columns_without_room_follow_under_the_same_labels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("first", "1" * 12, "2" * 12, "3" * 12), None, ("second", "4" * 12, "5" * 12, "")]
    show_table(("", "a", "b", "c"), rows, title="Title")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if re.search(r"\d", line)] == [
        ["first", "1" * 12, "2" * 12],
        ["second", "4" * 12, "5" * 12],
        ["first", "3" * 12],
    ]
    assert sum("Title" in line for line in lines) == 1


def test_lines_are_wrapped_between_words_and_paths_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    path = "runs/" + "a" * 40
    console.say(f"  one two three four five six seven eight {path}\n\nlast")
    assert capsys.readouterr().out.splitlines() == [
        "  one two three four five", "    six seven eight", f"    {path}", "", "last",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colour_follows_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console.warn("careful")
    assert ("\x1b[33m" in capsys.readouterr().out) is coloured


def test_quiet_keeps_warnings_and_the_last_headline(capsys: pytest.CaptureFixture[str]) -> None:
    with console.output(quiet=True):
        console.headline("first: 1 row in a")
        console.say("  detail")
        console.warn("careful")
        with console.progress("step") as report:
            report(1, 2)
        show_table(("a", "b"), [("c", "d")])
        console.headline("second: 2 rows in b")
    assert capsys.readouterr().out == "WARNING: careful\nsecond: 2 rows in b\n"
    console.say("and then all is said again")
    assert capsys.readouterr().out == "and then all is said again\n"


def test_json_is_all_that_stdout_has_even_if_a_command_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), console.output(as_json=True):
        console.headline("first: 1 row in a")
        console.warn("careful")
        print("a library says hello")
        console.report({"rows": 1, "path": Path("a")})
        raise ValueError
    out, err = capsys.readouterr()
    assert json.loads(out) == {"rows": 1, "path": "a"}
    assert "careful" in err and "hello" in err and "first" not in err


HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m[bold]b\x00\x7f\r\u202eevil\u2066c\u200bd\u200de\ufeff\U000e0041 :smile:"
SHOWN = r"a\x1b]0;owned\x07\x1b[2J\x9b31m[bold]b\x00\x7f\r\u202eevil\u2066c\u200bd\u200de\ufeff\U000e0041 :smile:"


def test_no_text_steers_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "LOG_EVERY_SECONDS", 0.0)
    console.say(HOSTILE)
    console.headline(HOSTILE)
    console.warn(HOSTILE)
    with console.progress(HOSTILE) as report:
        report(1, 2)
    show_table((HOSTILE, "heading"), [(HOSTILE, "cell"), None, ("cell", HOSTILE)], title=HOSTILE)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 8
    # What is left are the colours of rich.
    assert printable(re.sub(r"\x1b\[[0-9;]*m", "", out)) == re.sub(r"\x1b\[[0-9;]*m", "", out)


def test_json_reads_back_and_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.output(as_json=True):
        console.report({HOSTILE: [HOSTILE, "\u2028", 'Žižek 日本 "quoted"']})
    out = capsys.readouterr().out
    assert json.loads(out) == {HOSTILE: [HOSTILE, "\u2028", 'Žižek 日本 "quoted"']}
    assert printable(out) == out and "Žižek 日本" in out


@given(st.text())
def test_what_is_printable_stays_so(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text
    steers = [character for character in shown if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")]
    assert set(steers) <= {"\t", "\n"}


@pytest.mark.parametrize(
    "text",
    [
        "Amélie\t(2001)\nnew",
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d💻",
        "مرحبا",
        "日本語",
        "[bold] \\x1b",
        "naïve – 5 €",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_EVERY_SECONDS", 0.0)
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.progress("decide shop", prices=[10.0, 100.0]) as report:
        now += 1
        report(20, 100)  # of an earlier run
        now += 9
        report(50, 100, 10_000, 2_345)
        report(100, 100, 90_000, 9_999)
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "decide shop: 20% after 1 s, 0/s, $0.00",
        "decide shop: 50% after 10 s, 3/s, 1,234 tokens/s, $0.33, about 17 s left",
    ]


def test_times_and_durations_are_for_people() -> None:
    assert format_time(881250949000) == "1997-12-04 15:55 UTC"
    assert format_time(-1000) == "1969-12-31 23:59 UTC"
    assert format_time(10**18) == f"{10**18} ms"
    assert [format_seconds(s) for s in (0.26, 12.4, 250, 7500)] == ["0.3 s", "12 s", "4 min 10 s", "2 h 5 min"]
