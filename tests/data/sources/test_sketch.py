"""What `domains` says of one domain: which raw files it needs, under which names."""

from __future__ import annotations

from pathlib import Path

import pytest
import raw_amazon
import raw_steam

from usermirrorer.data.sources import DOMAINS, load_domain
from usermirrorer.data.sources.own.domain_yaml import parse_yaml_domain
from usermirrorer.data.sources.sketch import about, directory_sketch
from usermirrorer.errors import UserError


def statuses(name: str) -> dict[str, str]:
    """First word after each file's name in the sketch of a domain."""
    lines = directory_sketch(load_domain(name))
    return {line.split()[0]: line.split()[1] for line in lines if not line.split()[0].endswith("/")}


def test_needed_and_optional_files() -> None:
    assert statuses("ml-100k") == {
        "u.data": "needed", "u.item": "needed", "u.user": "needed", "zip_places.csv": "optional"
    }  # fmt: skip
    assert directory_sketch(load_domain("mobilerec"))[:3] == [
        "RAW/",
        "  interactions/",
        "    mobilerec_final.csv  needed    app_package, review, rating, uid, formated_date",
    ]
    assert directory_sketch(load_domain("toy")) == ["It is made, not read: it needs no raw files."]


def test_files_of_which_one_is_enough() -> None:
    assert list(statuses("steam").values()) == ["needed", "or", "or", "or"] * 2
    text = "\n".join(directory_sketch(load_domain("amazon:Tea")))
    assert "nijianmo.github.io" in text and "jmcauley.ucsd.edu" in text, "each release has its own publisher"


@pytest.mark.parametrize("profile", ["", "Age: {age}"])
def test_the_users_of_your_own_log_are_needed_for_a_profile(profile: str) -> None:
    for form, file in (("recbole", "shop.user"), ("interchange", "shop_user_feature.jsonl")):
        text = f"{{name: shop, format: {form}, event: bought, item: '{{title}}', profile: '{profile}'}}"
        [line] = [line for line in directory_sketch(parse_yaml_domain(text, "shop.yaml")) if file in line]
        assert line.split()[1] == ("needed" if profile else "optional")


@pytest.mark.parametrize("name", [*DOMAINS, "amazon:Tea"])
def test_a_domain_is_refused_without_a_needed_file_and_named_with_its_publisher(tmp_path: Path, name: str) -> None:
    domain = load_domain(name)
    assert any(domain.publisher in line for line in about(domain))
    if domain.raw_files:
        with pytest.raises(UserError, match="is missing"):
            domain.read(tmp_path, 0)


@pytest.mark.parametrize(
    ("name", "write"), [("steam", raw_steam.write), (f"amazon:{raw_amazon.CATEGORY}", raw_amazon.write)]
)
def test_the_usual_names_are_those_that_are_published(tmp_path: Path, name: str, write) -> None:
    write(tmp_path)
    assert {names[0] for names in load_domain(name).alternatives} == {path.name for path in tmp_path.iterdir()}
