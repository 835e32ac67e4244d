"""What a model's MLPs read in ordinary text, and how important each of their neurons is.

The text is the model's own, in whatever languages it speaks: half of it begins with tokens drawn from the vocabulary,
half in the user's turn of the chat template, where there is one. The statistics are taken while the text is sampled,
so they cost one forward pass over its tokens, for one block as for all. They are measured once for a model and cached.
"""

import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import users_turn
from roselora.models.activation_hooks import InputHook, hooked
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import sampled_tokens
from roselora.models.inference import Progress, default_torch_modes
from roselora.models.mlp_neurons import Neurons, neurons, weight_matrix
from roselora.models.tensor_cache import cache_file, cache_folder, load_cached, save_cached
from roselora.models.tokenization import embedding_rows, encode

logger = logging.getLogger(__name__)

ROWS, NEW_TOKENS = 32, 32
"""Texts of each kind, and tokens sampled after their openings. With twice as many tokens, the mean square of what a
ridge gate scores in other ordinary text falls by 3% (the demo model, block 25)."""

SEED = 0


@dataclass(frozen=True)
class ReferenceStatistics:
    """What one block's MLP does in ordinary text.

    Attributes:
        second: (width, width) fp32, E[z zᵀ] of what its neurons read at one token.
        mean: (width,) fp32, E[z].
        importance: (neurons,) fp32: E[a²]·‖d‖², the mean square of what a neuron of activity a and column d adds to the
            MLP's output.
    """

    second: Tensor
    mean: Tensor
    importance: Tensor


_measured: "weakref.WeakKeyDictionary[nn.Module, dict[int, ReferenceStatistics]]" = weakref.WeakKeyDictionary()


@default_torch_modes()
def reference_statistics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: Sequence[int],
    *,
    cache: Path | None = None,
    identity: str | None = None,
    on_progress: Progress | None = None,
) -> dict[int, ReferenceStatistics]:
    """What the MLPs of some blocks do in ordinary text, by block.

    It is remembered for as long as the model lives, whatever edits go into it later, and cached in a file.

    Args:
        cache: the folder of cached statistics, by default ``$ROSELORA_HOME/ordinary``.
        identity: the hash of the model's weights, under which they are cached, if it is known already.
        on_progress: called with how many of how many tokens of each text are sampled.

    Raises:
        ConfigError: there is no such block.
        UnsupportedError: a block's MLP has no neurons that could be replaced.
        NonFiniteError: the model's logits are not finite.
        ModelError: the cache cannot be written.
    """
    remembered = _measured.setdefault(model, {})
    if all(block in remembered for block in blocks):  # do not hash a model that may hold edits by now
        return {block: remembered[block] for block in blocks}
    identity = fingerprint(model) if identity is None else identity
    known = cached_statistics(model, blocks, identity=identity, cache=cache)
    missing = [block for block in blocks if block not in known]
    if missing:
        logger.info("measuring what blocks %s do in ordinary text", ", ".join(map(str, missing)))
        made = _measure(model, tokenizer, [neurons(model, block) for block in missing], on_progress)
        for block, text in made.items():
            save_cached(_file(block, identity, cache, model.device), vars(text))
        remembered |= made
        known |= made
    return known


def cached_statistics(
    model: PreTrainedModel, blocks: Sequence[int], *, identity: str, cache: Path | None = None
) -> dict[int, ReferenceStatistics]:
    """The statistics of those blocks that were measured before; arguments as of `reference_statistics`."""
    known = _measured.setdefault(model, {})
    for block in blocks:
        if block not in known:
            mlp = neurons(model, block)
            shapes = {"second": (mlp.width, mlp.width), "mean": (mlp.width,), "importance": (mlp.count,)}
            if (kept := load_cached(_file(block, identity, cache, model.device), shapes)) is not None:
                known[block] = ReferenceStatistics(**kept)
    return {block: known[block] for block in blocks if block in known}


def _file(block: int, identity: str, cache: Path | None, device: torch.device) -> Path:
    folder = cache_folder("ordinary") if cache is None else cache
    about = {"model": identity, "text": ["sampled", ROWS, NEW_TOKENS, SEED], "block": block}
    return cache_file(folder, "ordinary", about, device)


def openings(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """What ordinary text begins with, (ROWS, length) of each kind: tokens of the vocabulary, and a user's turn.

    A token of the vocabulary stands where the tokenizer lets a text begin, and is drawn among all that are not special,
    so that every language and notation has the share that it has there.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ordinary = [token for token in range(min(len(tokenizer), embedding_rows(model))) if token not in special]
    drawn = torch.randint(len(ordinary), (ROWS,), generator=torch.Generator().manual_seed(SEED)).tolist()
    before = encode(tokenizer, "")
    kinds = [[[*before, ordinary[place]] for place in drawn]]
    if turn := encode(tokenizer, users_turn(tokenizer)):
        kinds.append([turn] * ROWS)
    return [torch.tensor(rows) for rows in kinds]


@dataclass
class _Record:
    """What one MLP does while text is sampled.

    Attributes:
        read: z, (tokens, width) fp32, of each pass.
        squares: (neurons,) fp32, the sum of its neurons' squared activities.
    """

    read: list[Tensor] = field(default_factory=list)
    squares: Tensor | float = 0.0

    def before(self, given: Tensor) -> None:
        """The hook on the layer that reads."""
        self.read.append(given.flatten(0, -2).float())

    def within(self, activity: Tensor) -> None:
        """The hook on the layer that writes."""
        self.squares = activity.flatten(0, -2).float().square().sum(0) + self.squares

    def statistics(self, columns: Tensor) -> ReferenceStatistics:
        """The means over all tokens; the neurons' columns are those of a (width, neurons) matrix."""
        z = torch.cat(self.read)
        importance = self.squares / len(z) * columns.float().square().sum(0)
        return ReferenceStatistics((z.T @ z / len(z)).cpu(), z.mean(0).cpu(), importance.cpu())


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    mlps: Sequence[Neurons],
    on_progress: Progress | None,
) -> dict[int, ReferenceStatistics]:
    """The statistics of some MLPs, taken while both kinds of text are sampled."""
    records = [_Record() for _ in mlps]
    hooks: dict[nn.Module, InputHook] = {}
    for mlp, own in zip(mlps, records, strict=True):
        hooks |= {model.get_submodule(mlp.entrance): own.before, model.get_submodule(mlp.writer): own.within}
    kinds = openings(model, tokenizer)
    for number, rows in enumerate(kinds):

        def on_token(done: int, number: int = number) -> None:
            if on_progress is not None:
                on_progress(number * NEW_TOKENS + done, len(kinds) * NEW_TOKENS)

        with hooked(inputs=hooks):
            sampled_tokens(model, rows.to(model.device), new_tokens=NEW_TOKENS, seed=SEED, on_token=on_token)
    return {
        mlp.block: own.statistics(weight_matrix(model.get_submodule(mlp.writer)))
        for mlp, own in zip(mlps, records, strict=True)
    }
