"""Rebuild the tiny base of all CPU runs: it can look things up and copy them, but knows nobody's taste.

Rebuild the one in the package (about ten minutes on two cores):

    python -m usermirrorer.train.pretrain --out usermirrorer/tiny_base

A quick run, to try the script:

    python -m usermirrorer.train.pretrain --out runs/tiny-base --steps 20

The text consists of scenes in the prompt's layout, each with several answers, because one is too little to learn from.
Some are decisions ("I like sour. I take sour tea.\\nBehavior: [C]") for an option drawn uniformly; others read back an
entry of the history or the text of a label. Nothing links a history to a choice: later stages teach that.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usermirrorer.data.sources.toy import LIST_LENGTH, TASTES, THINGS, VERB
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, answered, conversation
from usermirrorer.llm.protocol import Conversation


if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer


VOCABULARY = 1500
BATCH = 16
SPECIAL = {"pad": "<|pad|>", "end": "<|end|>"}
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# Brackets and line breaks are separate pieces, so every label after "[" is a token of its own.
PIECES = r"\[|\]|\n+| ?[A-Za-z]+|\d| ?[^\sA-Za-z\d\[\]]+|\s+?"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# Words of catalogues other than toy, so that the base reads more than toy.
WORDS = """Action Adventure Animation Children Comedy Crime Documentary Drama Fantasy Musical Mystery Romance
Thriller War Western Horror Sci Fi Noir Film rated tagged bought listened watched read played chose days ago months
years hours minutes The Man Night Day Love City Star House Dead Last Black Red Blue White Big Little King Queen Girl
Boy Time World Life Dark Street Road River Mountain Sea Island Garden Winter Summer Secret Lost Wild Golden Broken
Silent Blood Dream Fire Ice Heart Stone Moon Sun Sky Storm Paper Glass Silver Train Game Song Story Letter Return
of the and in a to for with from on rock jazz pop folk metal soul album artist novel poem guide book phone lamp
chair shirt shoes watch camera table cup pen bag ball toy age gender occupation popularity average rating user
year new old price brand category place coffee bar park museum hotel shop station market school gym""".split()
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo za".split()


def build_tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE of at most `VOCABULARY` entries, trained on the instructions, toy and `WORDS`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(PIECES), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, in_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    toy_text = f" {' '.join((*TASTES, *THINGS))} I like take. I {VERB} it.\n{VERB} [A]\n\nNothing stands out."
    layout = "# User Profile\n\n## History\n\n# Exposure List\nBehavior: [A]\nHistory?"
    corpus = [toy_text, layout] * 100 + list(INSTRUCTIONS.values()) * 3
    corpus += [f"{word}\n {word}" for word in WORDS] * 2 + SYLLABLES
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL.values(), *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    # Qwen2's own class, because AutoTokenizer gives a Qwen2 model no other. It splits text slightly differently, but
    # no merge crosses a boundary of PIECES, so brackets remain separate.
    return Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(merge) for merge in trained["merges"]],
        pad_token=SPECIAL["pad"],
        unk_token=SPECIAL["pad"],
        eos_token=SPECIAL["end"],
        extra_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )


def build_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """Qwen2, 3 layers, 128 wide, heads of 32 (vLLM's CPU attention refuses narrower ones), under 1 M parameters.

    Look-up was not learned in 400 steps from the usual small weights, so these help: wide, distinct embeddings,
    attention to equal tokens (key = query, output = transposed value), and in the first layer three heads that look
    one, two and three tokens back.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            initializer_range=0.08,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    head, strength, frequencies = 32, 4.0, 10000.0 ** (-torch.arange(6) / 16)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=0.5)
        model.model.norm.weight.fill_(0.15)
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(0.5)
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
            layer.self_attn.o_proj.weight.copy_(layer.self_attn.v_proj.weight.T)
        first = model.model.layers[0].self_attn
        for back in (1, 2, 3):
            # Rotary positions turn a bias by position; a query turned by `back` more meets the key `back` before it.
            start = (back - 1) * head
            first.q_proj.weight[start : start + head].mul_(0.2)
            first.k_proj.weight[start : start + head].mul_(0.2)
            first.k_proj.bias[start : start + 6] = strength
            first.q_proj.bias[start : start + 6] = strength * torch.cos(back * frequencies)
            first.q_proj.bias[start + head // 2 : start + head // 2 + 6] = -strength * torch.sin(back * frequencies)
    return model


def toy_titles(rng: np.random.Generator, entries: int, options: int) -> tuple[list[str], list[str]]:
    """Titles for a history, which leans to some tastes as real ones do, and for a list, which does not."""
    leaning = rng.dirichlet(np.full(len(TASTES), 0.5))
    history = [f"{TASTES[taste]} {rng.choice(THINGS)}" for taste in rng.choice(len(TASTES), size=entries, p=leaning)]
    tastes = rng.choice(len(TASTES), size=options, replace=options > len(TASTES))
    return history, [f"{TASTES[taste]} {rng.choice(THINGS)}" for taste in tastes]


def word_titles(rng: np.random.Generator, entries: int, options: int) -> tuple[list[str], list[str]]:
    """Titles of one to four words, from `WORDS` or made of syllables."""

    def word() -> str:
        return rng.choice(WORDS) if rng.random() < 0.7 else "".join(rng.choice(SYLLABLES, size=rng.integers(1, 4)))

    titles = [" ".join(word() for _ in range(rng.integers(1, 5))) for _ in range(entries + options)]
    return titles[:entries], titles[entries:]


def drill(rng: np.random.Generator) -> Conversation:
    """A short list without history, and rows from title to label: this teaches look-up first."""
    options = int(rng.integers(2, 7))
    titles = (toy_titles if rng.random() < 0.5 else word_titles)(rng, 0, options)[1]
    messages = conversation({"profile": "", "history": "", "action_list": titles}, "plain")[1:]
    rows = [f"take {titles[option]} [{LABELS[option]}]" for option in rng.integers(options, size=6)]
    return [*messages, {"role": "assistant", "content": "\n".join(rows)}]


def lesson(rng: np.random.Generator, turns: int = 4) -> Conversation:
    """A scene and `turns` answers: the first is a decision, the others decisions or readings."""
    toy = rng.random() < 0.75
    options = LIST_LENGTH if toy and rng.random() < 0.8 else int(rng.integers(2, 9))
    history, titles = (toy_titles if toy else word_titles)(rng, int(rng.integers(0, 10)), options)
    verb = VERB if toy else str(rng.choice(["rated", "bought", "tagged", VERB]))
    shown = [f"{verb} {title}" for title in history]
    messages = conversation({"profile": "", "history": "\n".join(shown), "action_list": titles}, "plain")
    for turn in range(turns):
        kind = 0.0 if turn == 0 else rng.random()
        if kind < 0.6:
            messages.append({"role": "assistant", "content": decision(rng, titles)})
        elif kind < 0.9 and shown:
            messages.append({"role": "user", "content": "History?"})
            messages.append({"role": "assistant", "content": f"I {rng.choice(shown)}."})
        else:
            option = rng.integers(options)
            messages.append({"role": "user", "content": f"[{LABELS[option]}]?"})
            messages.append({"role": "assistant", "content": titles[option]})
    return messages


def decision(rng: np.random.Generator, titles: list[str]) -> str:
    """A decision for an option drawn uniformly, regardless of the history."""
    option = int(rng.integers(len(titles)))
    words = titles[option].split()
    liked = words[0] if rng.random() < 0.8 else rng.choice(words)
    reason = f"I like {liked}." if rng.random() < 0.9 else "Nothing stands out."
    return answered(f"{reason} I take {titles[option]}.", option)


def batch(tokenizer: Qwen2Tokenizer, conversations: list[Conversation]) -> tuple[Tensor, Tensor]:
    """Token ids and labels, both `(conversations, longest)`; labels are -100 outside the assistant's turns."""
    import torch

    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    padded = tokenizer(texts, padding=True, padding_side="right", add_special_tokens=False, return_tensors="np")
    ids = padded["input_ids"]
    # A token is the assistant's if more of its turns were opened than ended before it.
    opens, ends = ids == tokenizer.convert_tokens_to_ids("<|assistant|>"), ids == tokenizer.eos_token_id
    speaks = (np.cumsum(opens, axis=1) - opens) > (np.cumsum(ends, axis=1) - ends)
    return torch.from_numpy(ids), torch.from_numpy(np.where(speaks & (padded["attention_mask"] == 1), ids, -100))


def pretrain(out: Path, steps: int, seed: int) -> None:
    """Train from scratch and write the model to `out`, also every 200 steps. Lessons replace drills half-way."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 30, 0.55 + 0.45 * math.cos(math.pi * step / steps))
    )
    bracket = tokenizer.convert_tokens_to_ids("[")
    started = time.monotonic()
    for step in range(1, steps + 1):
        make = drill if rng.random() < 2 - 4 * step / steps else lesson
        ids, labels = batch(tokenizer, [make(rng) for _ in range(BATCH)])
        targets = labels[:, 1:].flatten()
        losses = cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), targets, reduction="none")
        # Labels are one token in seventeen and the slowest to learn: they count five times.
        weights = (targets != -100) * torch.where(ids[:, :-1].flatten() == bracket, 5.0, 1.0)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 25 == 0:
            print(f"step {step}/{steps}  {make.__name__} loss {loss.item():.3f}  {time.monotonic() - started:.0f} s")
        if step % 200 == 0 or step == steps:
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m usermirrorer.train.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--steps", type=int, default=1800, help=f"training steps of {BATCH} scenes (default: 1800)")
    parser.add_argument("--seed", type=int, default=0)
    pretrain(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
