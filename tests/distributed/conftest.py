"""Runs functions of workers.py in several processes that communicate over gloo."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
# Modules that take seconds to import are imported once, in the process that all workers are forked from.
IMPORTS = [
    "roselora.adapter.hooks",
    "roselora.training.training_run",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "transformers.models.llama.modeling_llama",
]


@pytest.fixture(scope="session")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """`on_ranks(2, "train_ddp", ...)` calls `workers.train_ddp(...)` on two ranks and returns both results."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)

    def launch(ranks: int, function: str, *arguments: Any) -> list[Any]:
        from workers import work

        folder = tmp_path_factory.mktemp(function)
        processes = [
            context.Process(target=work, args=(rank, ranks, folder, function, arguments)) for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=60)
        hanging = [process for process in processes if process.is_alive()]
        for process in hanging:
            process.kill()
        errors = "\n".join(path.read_text() for path in sorted(folder.glob("*.error")))
        assert not hanging, f"{len(hanging)} of {ranks} ranks hang\n{errors}"
        assert not errors, errors
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    sys.path.insert(0, str(HERE))
    yield launch
    sys.path.remove(str(HERE))
