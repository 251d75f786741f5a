"""Hook of mkdocs: README, CONTRIBUTING and CHANGELOG are pages of the site, written once, at the root.

Links are written for the repository. Here those to a page of the site lead to that page; those to other files of the
repository, which the site does not have, become plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


ROOT = Path(__file__).parent.parent
FROM_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site -> file at the root of the repository"""

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    for page, source in FROM_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    here = page.file.src_uri
    source = FROM_ROOT.get(here, f"docs/{here}")

    def follow(link: re.Match[str]) -> str:
        text, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link.group()
        path, mark, anchor = target.partition("#")
        in_repository = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        in_site = next((name for name, root in FROM_ROOT.items() if root == in_repository), None)
        in_site = in_site or in_repository.removeprefix("docs/")
        if files.get_file_from_path(in_site) is None:
            return text
        return f"[{text}]({posixpath.relpath(in_site, posixpath.dirname(here) or '.')}{mark}{anchor})"

    return _LINK.sub(follow, markdown)
