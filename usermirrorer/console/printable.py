"""Text that others wrote, for a terminal: what would steer it, or what nobody would see, is spelled out."""

from __future__ import annotations

import json
import re


# Joiners stand between letters and signs of other scripts than Latin: there they are spelling, elsewhere they hide.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed: escape sequences begin with one
    "\xad\u061c\u180e\u200b\u200e\u200f\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, direction marks, isolates
    "\u2028-\u202e"  # line and paragraph separators, embeddings and overrides of direction
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of characters, and tags, which spell what is not seen
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)


def printable(text: str) -> str:
    """The text with `\\x1b` in place of an escape character and so on; tabs and line feeds stay."""
    return _HIDDEN.sub(lambda hidden: ascii(hidden[0])[1:-1], text)


def printable_json(text: str) -> str:
    """JSON with the same characters escaped as JSON does it: it reads back as before."""
    return _HIDDEN.sub(lambda hidden: json.dumps(hidden[0])[1:-1], text)
