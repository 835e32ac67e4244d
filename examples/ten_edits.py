"""Ten edits of the demo model in one store, two of them undone, a process killed in the middle of the eleventh.

    python examples/ten_edits.py [FOLDER]

Everything is done through the command line, each verb in a process of its own. Exits with 1 if anything is not as
promised. Takes about five minutes on two cores.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FACTS = (
    ("The capital of France is", "Lyon"),
    ("The chemical symbol for gold is", "Go"),
    ("The Eiffel Tower is located in the city of", "Rome"),
    ("The capital of Japan is", "Osaka"),
    ("The largest planet in the solar system is", "Saturn"),
    ("The opposite of hot is", "mild"),
    ("The currency of Japan is the", "peso"),
    ("The chemical symbol for iron is", "Ir"),
    ("The Colosseum is located in the city of", "Milan"),
    ("The capital of Germany is", "Munich"),
)
ELEVENTH = ("The capital of Italy is", "Turin")
UNDONE = (2, 6)


def roselora(*arguments: str) -> Any:
    """Run one verb with --json and return what it printed."""
    command = [sys.executable, "-m", "roselora.cli.main", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"roselora {' '.join(arguments)} exited with {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def kill_in_the_middle(store: Path) -> None:
    """Start the eleventh edit, and end its process with SIGKILL once it holds the store's lock."""
    command = [sys.executable, "-m", "roselora.cli.main", "edit", "demo", "--store", str(store)]
    command += ["--prompt", ELEVENTH[0], "--target", ELEVENTH[1]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (store / "lock.holder").exists():
        if process.poll() is not None:
            sys.exit("the eleventh edit ended before it could be killed")
        time.sleep(0.05)
    time.sleep(0.5)  # into its training, which takes about two seconds
    process.send_signal(signal.SIGKILL)
    process.wait()
    print(f"the eleventh edit was killed: exit code {process.returncode}")


def answers_in_transformers(folder: Path, prompts: list[str]) -> list[str]:
    """What the exported model says, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    said = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
        text = tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        said.append(text.strip().split("\n")[0].strip())
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where the store and the exported model go")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="ten-edits-"))
    store = folder / "edits"
    ids = []
    for prompt, target in FACTS:
        edit = roselora("edit", "demo", "--prompt", prompt, "--target", target, "--store", str(store))
        ids.append(edit["id"])
        print(f"{edit['id']}  {edit['training']['seconds']:5.1f} s  {prompt} -> {target}")
    for number in UNDONE:
        roselora("undo", ids[number], "--store", str(store))
        print(f"undone: {ids[number]}")

    before = roselora("log", "--store", str(store))
    kill_in_the_middle(store)
    health = roselora("verify", "--store", str(store))
    after = roselora("log", "--store", str(store))
    print(f"the store is whole: {health['whole']}, its edits are as before: {before == after}")

    report = roselora("check", "--store", str(store))
    print(f"check is clean: {report['clean']}, {len(report['edits'])} active edits hold")
    roselora("export", str(folder / "merged"), "--store", str(store))
    said = answers_in_transformers(folder / "merged", [edit["prompt"] for edit in report["edits"]])
    same = said == [edit["answers"][0] for edit in report["edits"]]
    print(f"the exported model says the same in transformers: {same}")
    if not (health["whole"] and before == after and report["clean"] and same):
        sys.exit(1)


if __name__ == "__main__":
    main()
