"""The pytest plugin of one run of PEFT's battery: puts our config in the place of LoraConfig, and notes what happened.

PEFT's test files say ``from peft import LoraConfig``; PEFT itself imports it from elsewhere. So binding that one name
anew gives every test our class, in parameters, comparisons and calls alike, and leaves PEFT as it is.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from roselora import RoseLoraConfig as Product
from roselora.adapter.factors import as_matrix, factor_pairs
from roselora.adapter.pruner import STEP
from roselora.adapter.tracking import tracked_models
from roselora.core.pruning import kept_count
from roselora.errors import UnsupportedError

PlainConfig = peft.LoraConfig


@dataclass
class RoseLoraConfig(Product):
    """Our config with a schedule that fits PEFT's tests, which train one to a few dozen: pruned from the second on."""

    density: float = 0.5
    warmup: int | float = 1
    ramp: int | float = 0
    total_steps: int | None = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--method", choices=("lora", "roselora"), required=True)
    group.addoption("--outcomes", type=Path, required=True, help="where to write what every test did, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    ours = config.getoption("--method") == "roselora"
    if ours:
        RoseLoraConfig()  # the first config installs our hooks, so that those of this file run after them
        peft.LoraConfig = RoseLoraConfig
    config.pluginmanager.register(Recorder(config.getoption("--outcomes"), RoseLoraConfig if ours else PlainConfig))


class _AlwaysFetched(dict[str, int]):
    """Says of every hub id that it has been fetched before."""

    def __contains__(self, hub_id: object) -> bool:
        return True

    def __missing__(self, hub_id: str) -> int:
        return 1


class Recorder:
    """Notes for every test: its outcome, the LoRA configs it made, the steps that pruned, what was left dense."""

    def __init__(self, path: Path, config_class: type[peft.PeftConfig]) -> None:
        self.path = path
        self.config_class = config_class
        self.tests: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self._count_configs()
        register_optimizer_step_post_hook(self._after_step)

    def _count_configs(self) -> None:
        post_init = PlainConfig.__post_init__

        def counting(config: peft.LoraConfig) -> None:
            if type(config) is self.config_class:
                self.counts["configs"] += 1
            post_init(config)

        PlainConfig.__post_init__ = counting

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Look at the factors themselves, not at what the pruner says of them."""
        pruned, dense = 0, 0
        for tracked in tracked_models():
            for name, adapter in tracked.adapters.items():
                density = adapter.config.density
                for pair in factor_pairs(tracked.model, name):
                    for factor, dim in ((pair.a, 1), (pair.b, 0)):
                        if STEP not in optimizer.state.get(factor, {}):
                            continue
                        if int(optimizer.state[factor][STEP]) <= adapter.ramp()[1]:
                            continue
                        matrix = as_matrix(factor.detach())
                        kept = (matrix != 0).sum(dim)
                        if int(kept.max()) > kept_count(density, matrix.shape[dim]):
                            dense += 1
                        else:
                            pruned += 1
        self.counts["steps"] += 1
        self.counts["pruning_steps"] += pruned > 0
        self.counts["factors_pruned"] += pruned
        self.counts["factors_left_dense"] += dense

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out the cases of other methods, and keep the rest away from the network."""
        kept, left_out = [], []
        for item in items:
            (left_out if self._of_another_method(item) else kept).append(item)
        items[:] = kept
        # PEFT's tests go online for the first use of each model; our hub cache is all there is.
        sys.modules["tests.testing_utils"]._HUB_MODEL_ACCESSES = _AlwaysFetched()
        config.hook.pytest_deselected(items=left_out)

    def _parameters(self, item: pytest.Item) -> list[type]:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        classes = (value if isinstance(value, type) else type(value) for value in _flat(values))
        return [found for found in classes if issubclass(found, peft.PeftConfig)]

    def _of_another_method(self, item: pytest.Item) -> bool:
        parameters = self._parameters(item)
        return bool(parameters) and self.config_class not in parameters

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.counts = Counter(configs=int(self.config_class in self._parameters(item)))
        result = yield
        self.tests[item.nodeid].update(self.counts)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
        report = yield
        known = self.tests.get(item.nodeid)
        if known is None or (known["outcome"] == "passed" and (report.outcome != "passed" or report.when == "call")):
            self.tests[item.nodeid] = {"outcome": _outcome(report, call), "why": _why(report, call)}
        return report

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(self.tests, indent=1), encoding="utf-8")


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if call.excinfo is not None and _refusal(call.excinfo.value) is not None:
        return "refused"
    return report.outcome


def _why(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return ""
    refusal = _refusal(call.excinfo.value)
    text = str(refusal) if refusal is not None else f"{call.excinfo.typename}: {call.excinfo.value}"
    return text[:400]


def _refusal(error: BaseException | None) -> UnsupportedError | None:
    while error is not None:
        if isinstance(error, UnsupportedError):
            return error
        error = error.__cause__ or error.__context__
    return None
