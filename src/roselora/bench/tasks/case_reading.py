"""Read one benchmark file: records in, cases out, and a word on all that could not be used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.editing.answer_match import normalize
from roselora.errors import ConfigError
from roselora.files import sha256_file
from roselora.user_files import json_list, read_text, shown

Record = Mapping[str, Any]
ToCase = Callable[[str, Record], EditCase]
"""Turns a record, under its key, into a case; a record of another format is a KeyError or a TypeError."""


@dataclass(frozen=True)
class CaseFile:
    """What a benchmark file gives.

    Attributes:
        cases: in the file's order.
        file: the file's name.
        sha256: of the file's bytes.
        left_out: the keys of records that no method could be asked for, and why.
        unanswered: how many questions were left out of the cases because they have no text, no answer though the answer
            is what is judged, or the edit's own prompt as their text, at which nothing but the edit itself is judged.
    """

    cases: tuple[EditCase, ...]
    file: str
    sha256: str
    left_out: Mapping[str, str]
    unanswered: int


def read_file(path: Path, name: str, to_case: ToCase) -> CaseFile:
    """All records of a JSON list as cases, whose keys are ``name/index``, counted from 0.

    A record whose prompt or target is empty, or whose target has several lines, is left out and reported; so are
    questions that nothing could judge.

    Raises:
        ConfigError: the file cannot be read, or is of another format.
    """
    text = read_text(path)
    try:
        records = json_list(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not the file of {name} ({error}): fetch it again.") from None
    cases: list[EditCase] = []
    left_out: dict[str, str] = {}
    unanswered = 0
    for index, record in enumerate(records):
        case = _convert(path, f"{name}/{index}", record, to_case)
        try:
            _ = case.request
        except ConfigError as error:
            left_out[case.key] = str(error)
            continue
        judged = _answerable(case)
        unanswered += _questions(case) - _questions(judged)
        cases.append(judged)
    return CaseFile(tuple(cases), path.name, sha256_file(path), left_out, unanswered)


def _convert(path: Path, key: str, record: Any, to_case: ToCase) -> EditCase:
    name, _, index = key.rpartition("/")
    try:
        return to_case(key, mapping(record))
    except KeyError as error:
        what = f"has no {error}"
    except TypeError as error:
        what = f"is of another shape ({error})"
    raise ConfigError(f"Record {index} of {path} {what}: {name} needs a file of another format.")


def _answerable(case: EditCase) -> EditCase:
    """The case without questions that cannot be judged, and without sub-types that are empty then.

    A question that must not move needs no answer: what the base says to it is the measure. One that is the edit's own
    prompt, to case and outer punctuation, is neither another wording nor another question.
    """
    own = normalize(case.prompt)

    def another(prompt: str) -> bool:
        return bool(prompt) and normalize(prompt) != own

    def keep(groups: Mapping[str, tuple[Probe, ...]], answered: bool) -> dict[str, tuple[Probe, ...]]:
        kept = {
            kind: tuple(probe for probe in probes if another(probe.prompt) and (probe.answers or not answered))
            for kind, probes in groups.items()
        }
        return {kind: probes for kind, probes in kept.items() if probes}

    return replace(
        case,
        rephrasings=tuple(filter(another, case.rephrasings)),
        portability=keep(case.portability, answered=True),
        locality=keep(case.locality, answered=False),
    )


def _questions(case: EditCase) -> int:
    groups = [*case.portability.values(), *case.locality.values()]
    return len(case.rephrasings) + sum(map(len, groups))


def text(record: Record, field: str) -> str:
    """A field that must be a text, stripped.

    Raises:
        KeyError: there is no such field.
        TypeError: it is something else.
    """
    return _text(record[field], field)


def texts(record: Record, field: str) -> tuple[str, ...]:
    """A field that may be missing, a text, or a list of texts."""
    value = record.get(field, [])
    return tuple(_text(item, field) for item in (value if isinstance(value, list) else [value]))


def mapping(value: Any) -> Record:
    """The value, if it is a JSON object.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{shown(value)} is no object")
    return value


def answers(value: Any) -> tuple[str, ...]:
    """Every text in a ``ground_truth``, in order, once: a text, a list of aliases, or a list of such lists.

    The first is EasyEdit's, which takes the first alias of the first list. Blanks and empty lists give nothing.

    Raises:
        TypeError: there is something else in it.
    """
    if isinstance(value, list):
        return tuple(dict.fromkeys(answer for item in value for answer in answers(item)))
    answer = _text(value, "ground_truth")
    return (answer,) if answer else ()


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"its {field} is {shown(value)}, not a text")
    return value.strip()
