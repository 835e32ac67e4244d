"""Many facts from a file: one JSON object a line, or one JSON list of them."""

import json
from pathlib import Path
from typing import Any

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError

FIELDS = ("prompt", "target", "subject", "rephrasings", "keep")


def read_requests(path: Path) -> list[EditRequest]:
    """The requests of a .jsonl or .json file, in its order; `FIELDS` are their fields, the first two are needed.

    Raises:
        ConfigError: the file cannot be read, or a fact in it cannot be meant; the message says which.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The facts in {path} cannot be read ({reason}).") from None
    if path.suffix.lower() == ".json":
        records = _parsed(text, str(path))
        if not isinstance(records, list):
            raise ConfigError(f"{path} must hold a list of facts; one object a line goes into a .jsonl file.")
        placed = [(f"Fact {number} of {path}", record) for number, record in enumerate(records, start=1)]
    else:
        lines = [(f"Line {number} of {path}", line) for number, line in enumerate(text.splitlines(), start=1)]
        placed = [(where, _parsed(line, where)) for where, line in lines if line.strip()]
    if not placed:
        raise ConfigError(f"{path} holds no facts.")
    return [_request(where, record) for where, record in placed]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON ({error}).") from None


def _request(where: str, record: Any) -> EditRequest:
    if not isinstance(record, dict):
        raise ConfigError(f"{where} is not an object with the fields prompt and target.")
    if unknown := sorted(record.keys() - set(FIELDS)):
        raise ConfigError(f"{where} has the unknown field {unknown[0]!r}; there are {', '.join(FIELDS)}.")
    for name in ("prompt", "target"):
        if not isinstance(record.get(name), str):
            raise ConfigError(f"{where} has no text as its {name}.")
    if not isinstance(record.get("subject"), str | None):
        raise ConfigError(f"{where} has a subject that is no text: {record['subject']!r}.")
    for name in ("rephrasings", "keep"):
        texts = record.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"{where} needs a list of texts as its {name}, not {texts!r}.")
    try:
        return EditRequest(
            record["prompt"],
            record["target"],
            record.get("subject"),
            tuple(record.get("rephrasings", ())),
            tuple(record.get("keep", ())),
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
