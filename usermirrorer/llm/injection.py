"""Against injection: a text that comes from a log can't pass for a part of the conversation that it is put into.

`prompts.conversation` lays out a scene with `as_option` and `as_section`, so that no text begins a line that reads as
an option, a heading or an answer. Before a conversation is rendered, in training as in serving,
`without_control_tokens` breaks what would become a control token: `<|im_end|>` becomes `< |im_end|>`, and a control
character a space. All other text stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usermirrorer.llm.protocol import Conversation


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMES_LABEL = r"[ \t*]*+Behavior[ \t*]*+:[ \t*]*+\[?[ \t]*+([A-Z])\b"
"""How a line begins that names a label: `Behavior: [B]`, also without brackets or with bold marks."""

# All that str.splitlines takes for the end of a line, but \n.
_BREAKS = "\r\v\f\x1c-\x1e\x85\u2028\u2029"
_ANY_BREAK = re.compile(rf"[\n{_BREAKS}]+")
_OTHER_BREAK = re.compile(rf"[{_BREAKS}]+")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FORGED_LINE = re.compile(rf"^([^\S\n]*+)(?=#{{1,6}}(?!\S)|\[[A-Z]\]|{NAMES_LABEL})", re.MULTILINE)

KNOWN = re.compile(
    "|".join((
        # ChatML (Qwen, SmolLM2), Llama 3, Phi, gpt-oss, GLM, tiny-base: <|im_start|>; DeepSeek writes other bars.
        r"<[|｜][^\s<>]{1,60}[|｜]>",
        # Gemma 4: <|turn> and <turn|>; before that <start_of_turn>.
        r"<\|[a-z_]{1,60}>|<[a-z_]{1,60}\|>|<(?:start|end)_of_[a-z]+>",
        # Llama 2 and Mistral
        r"<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|IMG)\]",
        # What many share
        r"</?(?:s|bos|eos|pad|unk|mask|sop|think|tools|tool_call|tool_response|image)>|\[gMASK\]",
    ))
)  # fmt: skip
"""Control tokens of chat templates, for models whose tokenizer is not here."""


def as_option(text: str) -> str:
    """The text of an option on one line: every line break becomes a space."""
    return _ANY_BREAK.sub(" ", text.strip())


def as_section(text: str) -> str:
    """The text of a profile or a history. A line that reads as a heading, an option or an answer gets a backslash.

    So Markdown writes a `#` or `[` that means nothing. Lines end in \\n alone; other breaks become spaces.
    """
    return _FORGED_LINE.sub(r"\1\\", _OTHER_BREAK.sub(" ", text.strip().replace("\r\n", "\n")))


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """What `without_control_tokens` breaks for this tokenizer: its special tokens, added ones in <>, and `KNOWN`.

    Ordinary words that were added to a vocabulary remain words, and so does a special token of one character.
    """
    added = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special or re.fullmatch(r"<\S+>", token.content)}
    names = {name.strip() for name in (*names, *tokenizer.all_special_tokens)}
    own = sorted(re.escape(name) for name in names if len(name) > 1 and not KNOWN.fullmatch(name))
    return re.compile("|".join([KNOWN.pattern, *own]))


def without_control_tokens(messages: Conversation, control: re.Pattern[str] = KNOWN) -> Conversation:
    """The conversation with a space after the first character of each text that `control` matches.

    Give a server's model no `control`, any other that of its tokenizer.
    """
    # A text that is withheld may be null.
    return [{**message, "content": broken(message["content"] or "", control)} for message in messages]


def broken(text: str, control: re.Pattern[str] = KNOWN) -> str:
    """The text with a space after the first character of whatever `control` matches.

    Control characters become spaces: a vocabulary may lack some, and name what it lacks by a control token.
    """
    text = _CONTROL_CHARACTER.sub(" ", text)
    # What is left of two that overlap may be one.
    while control.search(text):
        text = control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text
