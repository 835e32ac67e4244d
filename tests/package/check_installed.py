"""Install the wheel into an empty environment, away from the repository, and do there what a user does first.

    python -m tests.package.check_installed [--python python3.13] [--extras train bench ui llama-cpp]

The base package imports in little time, edits the demo model, trains an adapter for ten steps and is typed for mypy;
then each extra is added, and `roselora doctor` must find it. This takes some minutes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.package.wheel import ROOT, build

TRAINING = """
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from roselora import RoseLoraConfig, verify

config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
settings = RoseLoraConfig(r=4, density=0.25, warmup=2, ramp=5, total_steps=10, target_modules=["q_proj", "v_proj"])
model = get_peft_model(LlamaForCausalLM(config), settings)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for _ in range(10):
    ids = torch.randint(64, (2, 8))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print(verify(model).density)
"""
CLIENT = """
from roselora import Editor, EditRequest

def corrected(editor: Editor, facts: list[EditRequest]) -> list[str]:
    return [edit.id for edit in editor.edit_many(facts)]
"""


def import_seconds(python: Path, folder: Path) -> float:
    """How much longer the interpreter takes with the import than without, the median of nine pairs."""

    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([python, "-c", code], cwd=folder, check=True)
        return time.perf_counter() - start

    return statistics.median(seconds("import roselora") - seconds("pass") for _ in range(9))


def main() -> None:
    """Do all of it, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environment")
    parser.add_argument("--extras", nargs="*", default=["train", "bench", "ui", "llama-cpp"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, _ = build(folder / "dist")
        subprocess.run([given.python, "-m", "venv", folder / "env"], check=True)
        python = folder / "env" / "bin" / "python"

        def install(*what: str) -> None:
            pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", *what]
            subprocess.run(pip, cwd=folder, check=True)

        def run(*command: object) -> str:
            done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)  # type: ignore[call-overload]
            return str(done.stdout)

        install(str(wheel))
        print(f"{run(python, '--version').strip()}, {wheel.name}")
        print(f"import roselora: {import_seconds(python, folder) * 1e3:.0f} ms")
        print(run(python.with_name("roselora"), "demo").strip().splitlines()[-1])
        print(f"ten steps of training: density {run(python, '-c', TRAINING).strip()}")
        (folder / "client.py").write_text(CLIENT)
        install("mypy")
        print("mypy on a client:", run(python, "-m", "mypy", "--strict", "client.py").strip())
        for extra in given.extras:
            install(f"{wheel}[{extra}]")
            state = json.loads(run(python.with_name("roselora"), "doctor", "--json"))["extras"][extra]
            print(f"[{extra}]: {state}")
            assert state.startswith("ready")


if __name__ == "__main__":
    main()
