"""One definition of a secret, for what is logged, written and published alike."""

from __future__ import annotations

import dataclasses

import pytest

from usermirrorer.secrets import is_secret, leak, leaked_variable, redact


SECRETS = """HF_TOKEN WANDB_API_KEY OPENAI_API_KEY OPENAI_APIKEY MYSQL_PASSWD DB_PASSWORD DB_CREDENTIALS SSH_KEY
AZURE_STORAGE_KEY AZURE_STORAGE_CONNECTION_STRING AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID GITHUB_TOKEN_RO MYSQL_PWD
SENTRY_DSN GPG_PASSPHRASE hub_token key""".split()

ORDINARY = """PWD OLDPWD HOME KEYBOARD MONKEY max_tokens tokenizer_name eos_token pad_token PATH keyring_dir
max_completion_tokens learning_rate""".split()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_is_no_secret(name: str) -> None:
    assert not is_secret(name)


def test_of_the_settings_of_trl_only_the_hub_token_is_secret() -> None:
    from trl import DPOConfig, ModelConfig, SFTConfig

    names = {field.name for kind in (SFTConfig, DPOConfig, ModelConfig) for field in dataclasses.fields(kind)}
    assert {name for name in names if is_secret(name)} == {"hub_token"}


@pytest.mark.parametrize("name", ["MYSQL_PASSWD", "DB_CREDENTIALS", "SSH_KEY", "AZURE_STORAGE_KEY", "HF_TOKEN"])
def test_its_value_is_found_and_replaced_wherever_it_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter2-hunter2")
    text = "mysql://me:hunter2-hunter2@host"
    assert leaked_variable(text) == name and leaked_variable("mysql://me@host") is None
    assert redact({"url": [text], "hub_token": "x", "steps": 3}) == {"url": ["mysql://me:***@host"], "steps": 3}


def test_a_short_value_would_match_ordinary_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "data")
    assert leaked_variable("data/toy") is None and redact("data/toy") == "data/toy"


def test_passwords_of_urls_are_replaced():
    told = "--base-url http://me:hush@h:8000/v1,https://u:p%40ss@h2 see http://h:80/a@b"
    assert redact(told) == "--base-url http://me:***@h:8000/v1,https://u:***@h2 see http://h:80/a@b"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see hf_" + "aB3" * 12, "a token (hf_aB…)"),
        ('"sk-proj-' + "x" * 30 + '"', "a token (sk-pr…)"),
        ("https://me:hush@host", "the password of a URL"),
        ("the value is hunter2-hunter2", "the value of DB_PASSWORD"),
        ("hf_hub_download(repo_id) of https://host:80/a@b, task-" + "y" * 30, None),
    ],
)
def test_a_leak_is_named_and_not_repeated(text: str, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2-hunter2")
    assert leak(text) == found
