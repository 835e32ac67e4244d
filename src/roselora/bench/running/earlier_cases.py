"""Cases that earlier runs have asked, so that a new draw leaves them out."""

from collections.abc import Sequence
from pathlib import Path

from roselora.bench.tasks.data_files import Record, read_records
from roselora.bench.tasks.edit_case import EditCase
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.editing.answer_match import normalize


class EarlierCase(Record):
    """A line that names a case by its key, such as each of a run's ``records.jsonl``."""

    case: str


def asked_before(cases: Sequence[EditCase], files: Sequence[Path], data_dir: Path | None) -> tuple[str, ...]:
    """The keys of the cases whose prompt is also that of a case that a file names, of whatever set: sets share prompts.

    Args:
        files: JSON Lines, see `EarlierCase`.
        data_dir: where the files of the named sets are.

    Raises:
        ConfigError: a file cannot be read, a line names no case, or a set is not there.
    """
    keys = {line.case for file in files for line in read_records(file, EarlierCase.model_validate)}
    sets = sorted({key.rpartition("/")[0] for key in keys})
    earlier = [case for name in sets for case in read_cases(name, data_dir).cases if case.key in keys]
    prompts = {normalize(case.prompt) for case in earlier}
    return tuple(case.key for case in cases if normalize(case.prompt) in prompts)
