"""ZsRE in MEND's format: questions with another answer, a rephrasing, and an unrelated question."""

import json
from dataclasses import dataclass
from pathlib import Path

from roselora.errors import ConfigError

FILE = Path("knowledge_editing", "zsre_mend_edit.json")


@dataclass(frozen=True)
class EditCase:
    """One edit of a benchmark, with the prompts that judge it.

    Attributes:
        prompt: the question.
        target: the new answer.
        rephrasing: the same question in other words.
        elsewhere: a question that must not move.
    """

    prompt: str
    target: str
    rephrasing: str
    elsewhere: str


def read_zsre_mend(data_dir: Path) -> list[EditCase]:
    """All records of ``knowledge_editing/zsre_mend_edit.json`` below ``data_dir``, in the file's order.

    Raises:
        ConfigError: the file is not there, or a record is not of MEND's shape.
    """
    path = data_dir / FILE
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return [EditCase(r["src"], r["alt"], r["rephrase"], _question(r["loc"])) for r in records]
    except OSError:
        raise ConfigError(f"There is no {path}; point --data-dir at the folder with the benchmark data.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not in MEND's ZsRE format ({error!r}).") from None


def _question(text: str) -> str:
    """A Natural Questions entry as a question: the file prefixes them with ``nq question: ``."""
    question = text.removeprefix("nq question: ").strip()
    return question if question.endswith("?") else f"{question}?"
