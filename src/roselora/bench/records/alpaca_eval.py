"""A run's answers in the format that AlpacaEval's own tool reads."""

from collections.abc import Iterable, Sequence

from roselora.bench.records.tuning_bench_records import Answered
from roselora.bench.tasks.instruct import Reference, reference_of


def alpaca_eval_outputs(
    answers: Iterable[Answered], references: Sequence[Reference], generator: str
) -> list[dict[str, str]]:
    """A model's answers as AlpacaEval's own tool reads them, in the order of its instructions."""
    ordered = sorted(answers, key=lambda answer: int(answer.prediction.key.rpartition(":")[2]))
    return [
        {
            "instruction": (reference := reference_of(answer.prediction.key, references)).instruction,
            "output": answer.prediction.answer,
            "generator": generator,
            "dataset": reference.dataset,
            "datasplit": "eval",
        }
        for answer in ordered
    ]
