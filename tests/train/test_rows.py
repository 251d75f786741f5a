"""Rows are counted by reason, and what would train the wrong tokens is refused."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade_pairs import CHATML, pair_rows, write_pairs, write_yaml

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import conversation
from usermirrorer.train import config
from usermirrorer.train.input import rows
from usermirrorer.train.launching import launch
from usermirrorer.train.weights import model


@pytest.fixture
def prepare(settings, tmp_path):
    def prepared(method="dpo", **changes):
        path = write_yaml(tmp_path / "r.yaml", {**settings, **changes})
        run = config.parse(method, ["--config", str(path)])
        return rows.prepare(run, model.load_tokenizer(run))

    return prepared


def test_only_the_columns_of_the_method(prepare, pairs):
    dataset, data = prepare("dpo")
    assert dataset.column_names == ["prompt", "chosen", "rejected"]
    assert prepare("sft")[0].column_names == ["prompt", "completion"]
    assert (data["rows"], data["kept"], data["dropped"], data["prompt"]) == (12, 12, {}, "plain")
    assert (data["path"], data["fingerprint"]) == (str(pairs), "0123456789abcdef")
    assert dataset[3]["chosen"] == pair_rows(12)[3]["chosen"]


def test_over_long_rows_are_counted_and_bounded(prepare, tmp_path, caplog):
    long = pair_rows(20)
    long[4]["prompt"][1]["content"] = "chose sweet cake\n" * 40 + long[4]["prompt"][1]["content"]
    long[4]["scene_id"] = "feedfeedfeedfeed"
    name = str(write_pairs(tmp_path / "long", long))
    with caplog.at_level("INFO", logger="usermirrorer.train"):
        dataset, data = prepare(dataset_name=name)
    assert len(dataset) == 19 and data["dropped"] == {"over max_length 512": 1}
    assert long[4]["prompt"] not in [row["prompt"] for row in dataset]
    assert "feedfeedfeedfeed" in caplog.text and "longest" in caplog.text
    with pytest.raises(UserError, match=r"1 of 20 rows are over max_length 512 .*max_over_length 0.01"):
        prepare(dataset_name=name, max_over_length=0.01)
    with pytest.raises(UserError, match="no row is left"):
        prepare(dataset_name=name, max_over_length=1.0, max_length=16)


def test_length_counts_the_longer_answer(prepare, tmp_path):
    long = pair_rows(20)
    long[0]["rejected"][0]["content"] = "I like it. " * 30 + long[0]["rejected"][0]["content"]
    name = str(write_pairs(tmp_path / "long", long))
    assert prepare("dpo", dataset_name=name)[1]["kept"] == 19
    assert prepare("sft", dataset_name=name)[1]["kept"] == 20


def published(path: Path, count: int, kind: str) -> str:
    found = [
        {"messages_chosen": row["prompt"] + row["chosen"], "messages_rejected": row["prompt"] + row["rejected"]}
        for row in pair_rows(count)
    ]
    user = found[2]["messages_chosen"][1]
    found[2]["messages_chosen"][1] = {**user, "content": user["content"].replace("[B] ", "[B]\n[C] ").split("[D]")[0]}
    found[3]["messages_rejected"][-1] = {"role": "assistant", "content": ""}
    path.mkdir()
    if kind == "jsonl":
        (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    else:
        pq.write_table(pa.Table.from_pylist(found), path / "train.parquet")
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_published_rows(prepare, tmp_path, kind):
    dataset, data = prepare("dpo", dataset_name=published(tmp_path / "published", 8, kind))
    assert (data["rows"], data["kept"], data["dropped"]) == (8, 6, {"blanked for licence": 2})
    assert dataset.column_names == ["prompt", "chosen", "rejected"]
    ours = pair_rows(8)
    assert dataset[0] == {key: ours[0][key] for key in ("prompt", "chosen", "rejected")}
    assert data["prompt"] == "plain" and len(data["fingerprint"]) == 16


def test_scenes_give_the_label_alone(prepare, tmp_path, settings):
    text = {"profile": "", "history": "chose a", "action_list": ["a", "b", "c"]}
    scenes = [{"scene_id": f"{i:016x}", "item_pos": i % 3, "text": text} for i in range(6)]
    file = tmp_path / "scenes.parquet"
    pq.write_table(pa.Table.from_pylist(scenes), file)
    rows, data = prepare("sft", dataset_name=str(file))
    assert (data["prompt"], data["kept"], data["evidence"]) == ("direct", 6, False)
    assert [row[0]["content"] for row in rows["completion"]] == [f"Behavior: [{'ABC'[i % 3]}]" for i in range(6)]
    assert rows["prompt"][0] == conversation(scenes[0]["text"], "direct")
    with pytest.raises(UserError, match="lacks prompt, chosen, rejected"):
        prepare("dpo", dataset_name=str(file))
    told = [{**scene, "text": {**text, "action_list": ["a (chosen often after these)"] * 3}} for scene in scenes]
    pq.write_table(pa.Table.from_pylist(told), file)
    assert prepare("sft", dataset_name=str(file))[1]["evidence"] is True
    withheld = [{**scene, "text": {**text, "action_list": []}} for scene in scenes]
    pq.write_table(pa.Table.from_pylist(withheld, schema=pq.read_schema(file)), file)
    with pytest.raises(UserError, match="the texts of these scenes are withheld"):
        prepare("sft", dataset_name=str(file))


def test_rows_whose_text_is_null_are_dropped(prepare, tmp_path):
    withheld = pair_rows(6)
    withheld[0]["prompt"] = None
    withheld[1]["chosen"][0]["content"] = None
    dropped = prepare(dataset_name=str(write_pairs(tmp_path / "withheld", withheld)))[1]["dropped"]
    assert dropped == {"blanked for licence": 1, "without a prompt": 1}


def test_bad_rows_are_counted_by_what_is_wrong_with_them(prepare, tmp_path, caplog):
    bad = pair_rows(8)
    bad[1]["rejected"] = bad[1]["chosen"]
    bad[2]["chosen"] = [{"role": "assistant", "content": "I like tea."}]
    bad[3]["prompt"][0]["content"] = "You are a helpful assistant."
    bad[4]["chosen"] = [{"role": "user", "content": "Behavior: [A]"}]
    with caplog.at_level("INFO", logger="usermirrorer.train"):
        dataset, data = prepare(dataset_name=str(write_pairs(tmp_path / "bad", bad)))
    assert data["dropped"] == {
        "chosen and rejected alike": 1,
        "with an answer that names no option (Behavior: [X])": 1,
        "under another instruction than `plain`": 1,
        "not a user's turn and one answer": 1,
    }
    assert data["kept"] == len(dataset) == 4
    assert "dropped: 1 chosen and rejected alike" in caplog.text
    # For SFT the rejected answer does not matter.
    assert prepare("sft", dataset_name=str(tmp_path / "bad"))[1]["kept"] == 5


def test_plain_strings_are_refused_by_name(prepare, tmp_path):
    lines = [{"prompt": "What do you choose?", "chosen": "Behavior: [A]", "rejected": "Behavior: [B]"}] * 3
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"plain.jsonl.*no row is left|plain.jsonl.*messages"):
        prepare(dataset_name=str(tmp_path / "plain.jsonl"))


def test_an_empty_split_is_one_sentence(prepare, tmp_path):
    with pytest.raises(UserError, match=r"no row is left to train on \(it has no rows\)"):
        prepare(dataset_name=str(write_pairs(tmp_path / "empty", [])))


def test_options_on_several_lines_are_not_blank(prepare, tmp_path):
    several = pair_rows(4)
    for row in several:
        row["prompt"][1]["content"] = row["prompt"][1]["content"].replace("] ", "]\n")
    assert prepare(dataset_name=str(write_pairs(tmp_path / "several", several)))[1]["kept"] == 4


def test_a_missing_column_is_named(prepare, tmp_path, settings):
    (tmp_path / "short").mkdir()
    pq.write_table(pa.table({"prompt": ["a"], "chosen": ["b"]}), tmp_path / "short" / "part-00000.parquet")
    with pytest.raises(UserError, match="short lacks rejected .it has prompt, chosen"):
        prepare(dataset_name=str(tmp_path / "short"))
    recipe = write_yaml(tmp_path / "l.yaml", {**settings, "dataset_name": str(tmp_path / "short")})
    with pytest.raises(UserError, match="lacks rejected"):
        launch.launch("dpo", recipe, None)
    with pytest.raises(UserError, match=r"none is not there: pass a directory of pairs"):
        prepare(dataset_name=str(tmp_path / "none"))


def with_template(tiny, path, template):
    shutil.copytree(tiny, path)
    (path / "chat_template.jinja").write_text(template)
    return str(path)


def test_a_prompt_that_is_no_prefix_is_refused(prepare, tiny, tmp_path):
    thinking = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
    with pytest.raises(UserError, match=r"0000000000000000: the prompt is not a prefix .*think"):
        prepare(model_name_or_path=with_template(tiny, tmp_path / "thinking", thinking))


def test_labels_are_single_distinct_tokens(prepare, tiny, tmp_path):
    """Only the labels that the pairs use have to be: five options here, so C and not F."""
    from transformers import AutoTokenizer

    for label in "FC":
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        tokenizer.add_tokens([f"{label}]"])
        tokenizer.save_pretrained(tmp_path / label)
    assert prepare(model_name_or_path=str(tmp_path / "F"))[1]["kept"] == 12
    with pytest.raises(UserError, match="label 'C' is not a single token"):
        prepare(model_name_or_path=str(tmp_path / "C"))


def test_a_template_that_writes_the_date_writes_the_same_on_every_day(tiny, settings, tmp_path):
    import trl

    template = (Path(trl.__file__).parent / "chat_templates" / "llama3_2.jinja").read_text()
    assert "strftime_now" in template
    name = with_template(tiny, tmp_path / "llama", template)
    run = config.parse(
        "sft", ["--config", str(write_yaml(tmp_path / "r.yaml", {**settings, "model_name_or_path": name}))]
    )
    tokenizer = model.load_tokenizer(run)
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert "Today Date: 26 Jul 2024\n" in shown
    tokenizer.save_pretrained(tmp_path / "saved")
    assert "26 Jul 2024" in (tmp_path / "saved" / "chat_template.jinja").read_text()
