"""The recipes and accelerate configurations that come with the package, by name, and the versions it is tested with.

A name is the file's path without what every file of its kind has: `recipes/data/toy.yaml` is `toy`,
`recipes/tiny-base/sft/config_toy.yaml` is `tiny-base/sft/toy`, `accelerate_configs/cpu.yaml` is `cpu`.
"""

from __future__ import annotations

import re
from pathlib import Path

from usermirrorer.errors import UserError, closest


DATA, ACCELERATE = "data", "accelerate"
"""Kinds of file; every training method is another."""

_PACKAGE = Path(__file__).parent
# A wheel has the files inside the package (setup.py), a checkout beside it.
_ROOT = _PACKAGE if (_PACKAGE / "recipes").is_dir() else _PACKAGE.parent


def shipped(kind: str) -> dict[str, Path]:
    """Name -> file, in the order of names. `kind` is `DATA`, `ACCELERATE` or a training method."""
    patterns = {DATA: "recipes/data/*.yaml", ACCELERATE: "accelerate_configs/*.yaml"}
    files = _ROOT.glob(patterns.get(kind, f"recipes/*/{kind}/*.yaml"))
    return {_name(path.relative_to(_ROOT)): path for path in sorted(files)}


def find_file(given: str | Path, kind: str) -> Path:
    """The file that a person means: an existing path, or else a name. Raises UserError with the nearest name."""
    if Path(given).is_file():
        return Path(given)
    known = shipped(kind)
    if str(given) in known:
        return known[str(given)]
    what = "accelerate configuration" if kind == ACCELERATE else f"{kind} recipe"
    hint = closest(_name(Path(given)), known, "`usermirrorer recipes` lists the names")
    raise UserError(f"'{given}' is neither a file nor the name of a shipped {what}; {hint}")


def pins(environment: str) -> dict[str, str]:
    """Library -> version in requirements/ENVIRONMENT.txt: `cpu`, `gpu`, or `dev`, what tests need on top of it."""
    text = (_ROOT / "requirements" / f"{environment}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M))


def headline(path: Path) -> str:
    """The first line of a file's header comment: what it is for."""
    with open(path, encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def _name(path: Path) -> str:
    folders = [part for part in path.parts[:-1] if part not in ("recipes", "data", "accelerate_configs")]
    return "/".join([*folders, path.name.removesuffix(".yaml").removeprefix("config_")])
