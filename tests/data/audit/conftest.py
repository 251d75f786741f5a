"""What the tests of the audit share: artefacts to spoil, and the command line without a second process."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from usermirrorer.cli import main


ROOT = Path(__file__).parents[3]
Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def work(built_films: Path, tmp_path: Path) -> Path:
    """A copy of the built films, for tests that change it."""
    return Path(shutil.copytree(built_films, tmp_path / "work"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in this process, where the libraries are loaded; an unexpected error fails the test."""

    def run(*args: str | Path, **environment: str) -> CompletedProcess[str]:
        out, err, status = io.StringIO(), io.StringIO(), 0
        with monkeypatch.context() as patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patched.chdir(ROOT)
            patched.setattr(sys, "argv", ["usermirrorer", *map(str, args)])
            patched.setattr(sys, "excepthook", sys.excepthook)
            for name, value in environment.items():
                patched.setenv(name, value)
            try:
                main()
            except SystemExit as end:
                status = int(end.code or 0)
        return CompletedProcess(list(args), status, out.getvalue(), err.getvalue())

    return run
