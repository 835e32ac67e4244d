"""KnowEdit's format: WikiData_recent, WikiData_counterfact and ZsRE (Zhang et al., 2024, arXiv 2401.01286)."""

import re
from typing import Any

from roselora.bench.tasks.case_reading import Record, answers, mapping, text, texts
from roselora.bench.tasks.edit_case import SAME_ANSWER, EditCase, Probe
from roselora.editing.answer_match import normalize

NUMBER = re.compile(r"^\d+[.)]\s+")


def to_case(key: str, record: Record) -> EditCase:
    """A record with ``prompt``, ``target_new``, ``subject``, ``portability`` and ``locality``.

    Its rephrasings are ``rephrase_prompt`` (ZsRE) and ``generate_prompt`` (paraphrases that some versions of
    WikiData_counterfact have; a model wrote them as a numbered list, so the numbers are taken off, and its notes in
    parentheses left out). Sub-types keep the names that they have in the file, but for locality questions whose answer
    is one of the record's own old ones (``ground_truth``): those are of the sub-type `SAME_ANSWER`.
    """
    listed = [NUMBER.sub("", line) for line in texts(record, "generate_prompt")]
    return EditCase(
        key,
        text(record, "prompt"),
        text(record, "target_new"),
        text(record, "subject") or None,
        rephrasings=(*texts(record, "rephrase_prompt"), *(line for line in listed if not line.startswith(("(", ")")))),
        portability=probes(record["portability"]),
        locality=apart(probes(record["locality"]), answers(record.get("ground_truth", []))),
    )


def probes(groups: Any) -> dict[str, tuple[Probe, ...]]:
    """Questions by sub-type: ``{sub-type: [{"prompt": ..., "ground_truth": ...}, ...]}``."""
    return {kind: tuple(map(_probe, _list(kind, group))) for kind, group in mapping(groups).items()}


def apart(groups: dict[str, tuple[Probe, ...]], old: tuple[str, ...]) -> dict[str, tuple[Probe, ...]]:
    """The same questions, with those that some old answer answers under a sub-type of their own."""
    known = {normalize(answer) for answer in old}
    same = {
        kind: tuple(probe for probe in group if known & {normalize(answer) for answer in probe.answers})
        for kind, group in groups.items()
    }
    rest = {kind: tuple(probe for probe in group if probe not in same[kind]) for kind, group in groups.items()}
    moved = tuple(probe for group in same.values() for probe in group)
    return {kind: group for kind, group in rest.items() if group} | ({SAME_ANSWER: moved} if moved else {})


def _probe(question: Any) -> Probe:
    entry = mapping(question)
    return Probe(text(entry, "prompt"), answers(entry["ground_truth"]))


def _list(kind: str, group: Any) -> list[Any]:
    if not isinstance(group, list):
        raise TypeError(f"its {kind} is no list")
    return group
