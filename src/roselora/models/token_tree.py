"""Many texts in one pass that computes each common beginning once, and only the blocks that may have changed."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from roselora.models.activation_hooks import hooked, replaced_forward
from roselora.models.architecture import block_names
from roselora.models.inference import known_arguments
from roselora.models.padding import padded_inputs
from roselora.models.prefix_cache import TOLERANCE, PrefixCache

logger = logging.getLogger(__name__)


class TokenTree:
    """Texts that are run again and again, while only the blocks from ``block`` on change.

    The texts are the paths of a tree whose nodes are tokens, so texts that begin alike share nodes. All nodes run as
    one row: each attends to its ancestors alone and has its depth as position. A model that gives other states this
    way (its attention takes no mask of pairs, or its blocks pass on more than hidden states) runs padded rows instead.

    Args:
        model: a causal model; no dropout may act in it during the first pass.
        rows: the texts' tokens, at least one each.
        block: the index of the lowest block that runs again.

    Attributes:
        rows: the texts' tokens.
        entering: (nodes or tokens, width), what enters the block.
    """

    def __init__(self, model: PreTrainedModel, rows: Sequence[list[int]], block: int) -> None:
        self.rows = rows
        self._model = model
        self._padded: PrefixCache | None = None
        names = block_names(model)
        self._below = [model.get_submodule(name) for name in names[:block]]
        known: dict[tuple[int, int], int] = {}  # from a node's parent, or -1, and its token
        self._paths: list[list[int]] = []
        for row in rows:
            path: list[int] = []
            for token in row:
                path.append(known.setdefault((path[-1] if path else -1, token), len(known)))
            self._paths.append(path)
        device = model.device
        self._ids = torch.tensor([token for _, token in known], device=device)
        self._depths = torch.zeros_like(self._ids)
        self._seen = torch.zeros(len(known), len(known), dtype=torch.bool)  # (node, its ancestors and itself)
        for path in self._paths:
            at = torch.tensor(path)
            self._seen[at[:, None], at] = torch.ones(len(path), len(path), dtype=torch.bool).tril()
            self._depths[at.to(device)] = torch.arange(len(path), device=device)
        self._seen = self._seen.to(device)
        self.entering = self._first_pass(model.get_submodule(names[block]))

    @torch.no_grad()
    def _first_pass(self, block: nn.Module) -> Tensor:
        entering: list[Tensor] = []
        try:
            with hooked(inputs={block: entering.append}):
                whole = self._run(range(len(self._ids)), self._below[:0])
            # The text that ends in the last node has most strangers before it. It is tried against itself alone.
            row, path = max(zip(self.rows, self._paths, strict=True), key=lambda pair: pair[1][-1])
            alone = self._body(torch.tensor([row], device=self._model.device))
            self.entering = entering[0][0]
            saving = self._run(path, self._below)
            limit = TOLERANCE * float(alone.abs().max())
            if max(float((other - alone).abs().max()) for other in (whole[path], saving)) <= limit:
                return self.entering
        except Exception as error:  # whatever a model's own code raises when it is not what it is taken for
            logger.info("%s cannot run texts as a tree (%s).", type(self._model).__name__, error)
        padded = self._padded = PrefixCache(self._model, padded_inputs(self.rows), block=len(self._below))
        return padded.entering[padded.mask]

    def run(self, picked: Sequence[int]) -> list[Tensor]:
        """The output of the model's body at each token of some rows, (length, width) each."""
        if self._padded is not None:
            return self._by_row(self._padded.run(picked), picked)
        return self._by_row(self._run(self._nodes(picked), self._below)[None], picked)

    @torch.no_grad()
    def read(self, layer: nn.Module) -> list[Tensor]:
        """What goes into a layer at each token of all rows, (length, inputs) fp32 each."""
        found: list[Tensor] = []
        everything = range(len(self.rows))
        with hooked(inputs={layer: found.append}):
            self.run(everything)
        count = 1 if self._padded is None else len(self.rows)
        return self._by_row(found[0].reshape(count, -1, found[0].shape[-1]).float(), everything)

    def _by_row(self, states: Tensor, picked: Sequence[int]) -> list[Tensor]:
        """States of a pass over some rows, (1, nodes, width) or padded rows, as each row's own."""
        if self._padded is not None:
            return [own[: len(self.rows[row])] for own, row in zip(states, picked, strict=True)]
        place = {node: at for at, node in enumerate(self._nodes(picked))}
        return [states[0, [place[node] for node in self._paths[row]]] for row in picked]

    def _nodes(self, picked: Sequence[int]) -> list[int]:
        return sorted({node for row in picked for node in self._paths[row]})

    def _run(self, nodes: Sequence[int], skipped: Sequence[nn.Module]) -> Tensor:
        """The body's output at some nodes, which hold all of their ancestors, (nodes, width)."""
        at = torch.tensor(list(nodes), device=self._ids.device)
        lowest = torch.finfo(self._model.dtype).min
        mask = torch.zeros(len(at), len(at), dtype=self._model.dtype, device=at.device)
        mask.masked_fill_(~self._seen[at][:, at], lowest)
        given = {"attention_mask": mask[None, None], "position_ids": self._depths[at][None]}
        if not skipped:
            return self._body(self._ids[at][None], **given)
        states = self.entering[at][None]
        with replaced_forward(skipped, lambda *_, **__: states):
            return self._body(self._ids[at][None], **given)

    def _body(self, ids: Tensor, **given: Tensor) -> Tensor:
        body: Any = self._model.base_model
        states: Tensor = body(input_ids=ids, **known_arguments(body, use_cache=False, **given))[0][0]
        return states
