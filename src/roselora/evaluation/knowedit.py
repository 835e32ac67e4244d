"""KnowEdit's format: WikiData_recent, WikiData_counterfact and ZsRE (Zhang et al., 2024, arXiv 2401.01286)."""

import re
from typing import Any

from roselora.evaluation.cases import EditCase, Probe
from roselora.evaluation.reading import Record, answers, mapping, text, texts

NUMBER = re.compile(r"^\d+[.)]\s+")


def to_case(key: str, record: Record) -> EditCase:
    """A record with ``prompt``, ``target_new``, ``subject``, ``portability`` and ``locality``.

    Its rephrasings are ``rephrase_prompt`` (ZsRE) and ``generate_prompt`` (paraphrases that some versions of
    WikiData_counterfact have; a model wrote them as a numbered list, so the numbers are taken off, and its notes in
    parentheses left out). Sub-types keep the names that they have in the file.
    """
    listed = [NUMBER.sub("", line) for line in texts(record, "generate_prompt")]
    return EditCase(
        key,
        text(record, "prompt"),
        text(record, "target_new"),
        text(record, "subject") or None,
        rephrasings=(*texts(record, "rephrase_prompt"), *(line for line in listed if not line.startswith(("(", ")")))),
        portability=probes(record["portability"]),
        locality=probes(record["locality"]),
    )


def probes(groups: Any) -> dict[str, tuple[Probe, ...]]:
    """Questions by sub-type: ``{sub-type: [{"prompt": ..., "ground_truth": ...}, ...]}``."""
    return {kind: tuple(map(_probe, _list(kind, group))) for kind, group in mapping(groups).items()}


def _probe(question: Any) -> Probe:
    entry = mapping(question)
    return Probe(text(entry, "prompt"), answers(entry["ground_truth"]))


def _list(kind: str, group: Any) -> list[Any]:
    if not isinstance(group, list):
        raise TypeError(f"its {kind} is no list")
    return group
