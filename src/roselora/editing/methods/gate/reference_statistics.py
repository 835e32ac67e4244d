"""What a model's MLPs read in ordinary text, and how important each of their neurons is.

The text is the model's own: sampled continuations of the beginnings of a few neutral sentences, so the user need not
supply any. Importance is measured on text about facts too, prompts on many relations of many names with the model's
continuations, because edits lie among facts, of which plain text says little. It is measured once for a model and
cached.
"""

import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.relation_prompts import NAMES, RELATIONS
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.float64 import double
from roselora.models.activation_hooks import hooked
from roselora.models.devices import seeded
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import sampled_tokens
from roselora.models.inference import Progress, counted, default_torch_modes, frozen, known_arguments
from roselora.models.mlp_neurons import Neurons, neurons, weight_matrix
from roselora.models.tensor_cache import cache_file, cache_folder, load_cached, save_cached
from roselora.models.tokenization import encode

logger = logging.getLogger(__name__)

START_TOKENS, NEW_TOKENS, SAMPLES, BATCH = 4, 44, 3, 8
"""Tokens taken of each neutral text, and sampled after them; samples of each text; rows of one pass."""

FACT_TOKENS, EVERY = 16, 7
"""Tokens sampled after a prompt on a fact; of all pairs of a relation and a name, every so many are taken."""

SEED = 0


@dataclass(frozen=True)
class ReferenceStatistics:
    """What one block's MLP does in ordinary text.

    Attributes:
        second: (width, width) fp32, E[z zᵀ] of what its neurons read at one token.
        mean: (width,) fp32, E[z].
        importance: (neurons,) fp32, in nats²: the diagonal of the Fisher information with respect to a factor on each
            neuron's activity. For a neuron of activity a and column d in the MLP's output y it is
            E[(a · dᵀ ∂log p/∂y)²], where p is the probability of a token that the model itself draws. It is the mean of
            that in ordinary text and of that in text on facts.
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

    Raises:
        ConfigError: there is no such block.
        UnsupportedError: a block's MLP has no neurons that could be replaced.
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
        with frozen(model):
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
    numbers = [START_TOKENS, NEW_TOKENS, SAMPLES, FACT_TOKENS]
    texts = [*NEUTRAL_TEXTS, *fact_prompts()]
    about = {"model": identity, "tokens": numbers, "texts": texts, "seed": SEED, "block": block}
    return cache_file(folder, "ordinary", about, device)


def sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Ordinary text, (rows, length): the beginnings of the neutral texts with several sampled continuations of each."""
    starts = [encode(tokenizer, text)[:START_TOKENS] for text in NEUTRAL_TEXTS]
    rows = torch.tensor([start for start in starts if len(start) == START_TOKENS] * SAMPLES, device=model.device)
    return sampled_tokens(model, rows, new_tokens=NEW_TOKENS, seed=SEED)


def fact_prompts() -> list[str]:
    """The prompts that text on facts begins with: relations of names."""
    templates = [template for relation in RELATIONS for template in (relation.statement, relation.question)]
    return [template.format(name) for name in NAMES for template in templates][::EVERY]


def sample_facts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """Text on facts, (rows, length) for each length of a prompt: the prompts with a sampled continuation."""
    by_length: dict[int, list[list[int]]] = {}
    for prompt in fact_prompts():
        ids = encode(tokenizer, prompt)
        by_length.setdefault(len(ids), []).append(ids)
    return [
        sampled_tokens(model, torch.tensor(rows, device=model.device), new_tokens=FACT_TOKENS, seed=SEED)
        for _, rows in sorted(by_length.items())
    ]


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    mlps: Sequence[Neurons],
    on_progress: Progress | None,
) -> dict[int, ReferenceStatistics]:
    """Moments and importances from one forward and one backward pass over both kinds of text."""
    plain = torch.split(sample(model, tokenizer), BATCH)
    facts = [batch for rows in sample_facts(model, tokenizer) for batch in torch.split(rows, BATCH)]
    batches = [*((0, batch) for batch in plain), *((1, batch) for batch in facts)]
    tokens = [sum(batch.numel() for batch in own) for own in (plain, facts)]
    sums: tuple[dict[int, list[Tensor]], ...] = ({}, {})
    with seeded(SEED, model.device):
        for kind, batch in counted(batches, on_progress):
            for block, parts in _one_pass(model, batch, mlps).items():
                before = sums[kind].get(block, [torch.zeros(())] * len(parts))
                sums[kind][block] = [total.to(part) + part for total, part in zip(before, parts, strict=True)]
    made = {}
    for mlp in mlps:
        second, mean, importance = (total / tokens[0] for total in sums[0][mlp.block])
        of_facts = sums[1][mlp.block][2] / tokens[1]
        values = (second, mean, (importance + of_facts) / 2)
        made[mlp.block] = ReferenceStatistics(*(value.float().cpu() for value in values))
    return made


class _Probe:
    """Records what one MLP reads and how active its neurons are, and makes its output's gradient available.

    Attributes:
        read: z, (rows, length, width).
        activity: a, (rows, length, neurons).
        zeros: (rows, length, width), added to the output; the gradient with respect to it is the output's own.
    """

    read: Tensor
    activity: Tensor
    zeros: Tensor

    def before(self, given: Tensor) -> None:
        """The hook on what the MLP reads."""
        self.read = given.detach()

    def after(self, activity: Tensor, made: Tensor) -> Tensor:
        """The hook on the layer that writes."""
        self.activity = activity.detach()
        self.zeros = torch.zeros_like(made, requires_grad=True)
        return made + self.zeros


def _one_pass(
    model: PreTrainedModel, rows: Tensor, mlps: Sequence[Neurons]
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Σ z zᵀ, Σ z and Σ (a · dᵀ g)² over all tokens of the rows, fp64, by block; g is the gradient of log p at y."""
    probes = [_Probe() for _ in mlps]
    entrances = {model.get_submodule(mlp.entrance): probe.before for mlp, probe in zip(mlps, probes, strict=True)}
    writers = {model.get_submodule(mlp.writer): probe.after for mlp, probe in zip(mlps, probes, strict=True)}
    with hooked(inputs=entrances, outputs=writers):
        logits = model(input_ids=rows, **known_arguments(model, use_cache=False)).logits.float()
    flat = logits.flatten(0, -2)
    # The Fisher information takes tokens that the model draws, not those of the text.
    drawn = torch.multinomial(flat.detach().softmax(-1), 1)[:, 0]
    loss = functional.cross_entropy(flat, drawn, reduction="sum")
    gradients = torch.autograd.grad(loss, [probe.zeros for probe in probes])
    found = {}
    for mlp, probe, gradient in zip(mlps, probes, gradients, strict=True):
        z, a, g = (tensor.flatten(0, -2) for tensor in (probe.read, probe.activity, gradient))
        felt = a * (g.to(a.dtype) @ weight_matrix(model.get_submodule(mlp.writer)))  # (tokens, neurons)
        z = double(z)
        found[mlp.block] = z.T @ z, z.sum(0), double(felt).square().sum(0)
    return found
