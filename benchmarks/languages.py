"""Edit facts in five languages: whether the prompts hold, bare and in chat, and whether their neighbours stay.

    python benchmarks/languages.py --model MODEL [--methods gate rose] [--languages German ...]

Ten facts of each language are in `languages.json`. Each is edited by itself; then its prompt is asked in both forms,
and so is a neighbour, the same question about another subject, whose first 16 tokens must be those of the base.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from roselora.bench.methods.weight_changes import Deltas, undone_on_error
from roselora.editing.answer_match import normalize
from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import train_edit
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.generation import greedy_answers, greedy_tokens
from roselora.models.loading import LoadedModel, load

FACTS = Path(__file__).with_name("languages.json")
SETTINGS = {"gate": GateSettings(), "rose": EditSettings()}
TOKENS = 16


def scores(loaded: LoadedModel, method: str, fact: Mapping[str, str]) -> tuple[dict[str, float], float]:
    """Of one edit whether the prompt and the neighbour are as they should be, in each form, and its seconds."""
    model, tokenizer = loaded.model, loaded.tokenizer

    def asked(prompt: str) -> list[str]:
        return [each.text for each in asked_texts(tokenizer, prompt, "both")][:2]

    request = EditRequest(fact["prompt"], fact["target"], fact["subject"])
    neighbour = asked(fact["prompt"].replace(fact["subject"], fact["neighbour"]))
    before = greedy_tokens(model, tokenizer, neighbour, max_new_tokens=TOKENS)
    start = time.perf_counter()
    with undone_on_error(Deltas(model)) as deltas:
        try:
            trained = train_edit(model, tokenizer, deltas.overlay, request, SETTINGS[method], PreviousEdits([], {}))
        except EditError:
            found = {f"{name}, {form}": 0.0 for form in ("bare", "chat") for name in ("prompt", "neighbour")}
            return found, time.perf_counter() - start
        seconds = time.perf_counter() - start
        deltas.apply(trained.delta)
        answers = greedy_answers(model, tokenizer, asked(fact["prompt"]), max_new_tokens=TOKENS)
        after = greedy_tokens(model, tokenizer, neighbour, max_new_tokens=TOKENS)
    deltas.restore()
    found = {}
    for form, answer, was, now in zip(("bare", "chat"), answers, before, after, strict=False):
        found[f"prompt, {form}"] = float(normalize(answer) == normalize(request.target))
        found[f"neighbour, {form}"] = float(was == now)
    return found, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--methods", nargs="+", choices=SETTINGS, default=["gate"])
    facts: dict[str, Sequence[Mapping[str, str]]] = json.loads(FACTS.read_text(encoding="utf-8"))
    parser.add_argument("--languages", nargs="+", choices=facts, default=list(facts))
    arguments = parser.parse_args()
    loaded = load(arguments.model)
    for method in arguments.methods:
        for language in arguments.languages:
            each = [scores(loaded, method, fact) for fact in facts[language]]
            shares = {name: sum(found[name] for found, _ in each) / len(each) for name in each[0][0]}
            said = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
            seconds = median(seconds for _, seconds in each)
            print(f"{method}, {language} (n {len(each)}): {said}; {seconds:.1f} s an edit", flush=True)


if __name__ == "__main__":
    main()
