"""The fine-tuning benchmarks by name; each of GLUE's sets is one, such as ``glue/rte``."""

from roselora.bench.tasks import arithmetic, commonsense, instruct
from roselora.bench.tasks.glue import SETS, GlueSet
from roselora.bench.tasks.instructions import InstructionBenchmark

Benchmark = InstructionBenchmark | GlueSet
"""Test sets (`tasks`), and the training mix that a model learns before it is asked (`training_examples`)."""

BENCHMARKS: dict[str, Benchmark] = {
    "commonsense": commonsense.BENCHMARK,
    "arithmetic": arithmetic.BENCHMARK,
    "instruct": instruct.BENCHMARK,
    **{f"glue/{name}": glue_set for name, glue_set in SETS.items()},
}
