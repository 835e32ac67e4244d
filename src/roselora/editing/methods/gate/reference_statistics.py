"""What a model's MLPs read in ordinary text, and which of their neurons it would miss least.

The text is the model's own: the beginnings of a few neutral sentences, gone on with by sampling. So nothing has to be
given. Which neurons are missed least is told by text on facts too, prompts on many
relations of many names and what the model says to them: an edit's surroundings, to which plain text says little. It is
measured once for a model and kept.
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
from roselora.models.activation_hooks import InputHook, OutputHook, hooked
from roselora.models.devices import seeded
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import sampled_tokens
from roselora.models.inference import Progress, as_usual, frozen, known_arguments
from roselora.models.mlp_neurons import Neurons, matrix, neurons
from roselora.models.tensor_cache import cache_file, cache_folder, keep, load_kept
from roselora.models.tokenization import encode

logger = logging.getLogger(__name__)

START_TOKENS, NEW_TOKENS, SAMPLES, BATCH = 4, 44, 3, 8
"""Tokens that are taken of each neutral text, and that are sampled after them; samples of each; rows of a pass."""

FACT_TOKENS, EVERY = 16, 7
"""Tokens that are sampled after a prompt on a fact; of all pairs of a relation and a name, every so many are taken."""

SEED = 0


@dataclass(frozen=True)
class ReferenceStatistics:
    """What one block's MLP does in ordinary text.

    Attributes:
        second: (width, width) fp32, E[z zᵀ] of what its neurons read at one token.
        mean: (width,) fp32, E[z].
        importance: (neurons,) fp32, E[(a · dᵀ ∂log p/∂y)²] for a neuron of activity a that writes a·d into the MLP's
            output y, p being the probability of a token that the model itself draws: the diagonal of the Fisher
            information with respect to a factor on the neuron's activity, in nats². The mean of that in ordinary text
            and of that in text on facts.
    """

    second: Tensor
    mean: Tensor
    importance: Tensor


_measured: "weakref.WeakKeyDictionary[nn.Module, dict[int, ReferenceStatistics]]" = weakref.WeakKeyDictionary()


@as_usual()
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

    It is remembered as long as the model lives, whatever edits go into it later, and in a file under the hash of its
    weights, in ``cache`` (by default ``$ROSELORA_HOME/ordinary``). That hash is ``identity``, where it is known.

    Raises:
        ConfigError, UnsupportedError: a block is not there, or has no neurons that could be edited.
        ModelError: the cache cannot be written.
    """
    remembered = _measured.setdefault(model, {})
    if all(block in remembered for block in blocks):  # not even hashed again, for there may be edits in it by now
        return {block: remembered[block] for block in blocks}
    identity = fingerprint(model) if identity is None else identity
    known = cached_statistics(model, blocks, identity=identity, cache=cache)
    missing = [block for block in blocks if block not in known]
    if missing:
        logger.info("measuring what blocks %s do in ordinary text", ", ".join(map(str, missing)))
        with frozen(model):
            made = _measure(model, tokenizer, [neurons(model, block) for block in missing], on_progress)
        for block, text in made.items():
            keep(_file(block, identity, cache, model.device), vars(text))
        remembered |= made
        known |= made
    return known


def cached_statistics(
    model: PreTrainedModel, blocks: Sequence[int], *, identity: str, cache: Path | None = None
) -> dict[int, ReferenceStatistics]:
    """Of some blocks those whose MLPs have been measured, here or earlier; arguments as `reference_statistics`'s."""
    known = _measured.setdefault(model, {})
    for block in blocks:
        if block not in known:
            place = neurons(model, block)
            shapes = {"second": (place.width, place.width), "mean": (place.width,), "importance": (place.count,)}
            if (kept := load_kept(_file(block, identity, cache, model.device), shapes)) is not None:
                known[block] = ReferenceStatistics(**kept)
    return {block: known[block] for block in blocks if block in known}


def _file(block: int, identity: str, cache: Path | None, device: torch.device) -> Path:
    folder = cache_folder("ordinary") if cache is None else cache
    numbers = [START_TOKENS, NEW_TOKENS, SAMPLES, FACT_TOKENS]
    texts = [*NEUTRAL_TEXTS, *fact_prompts()]
    about = {"model": identity, "tokens": numbers, "texts": texts, "seed": SEED, "block": block}
    return cache_file(folder, "ordinary", about, device)


def sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Ordinary text, (rows, length): the beginnings of the neutral texts, each gone on with several times."""
    starts = [encode(tokenizer, text)[:START_TOKENS] for text in NEUTRAL_TEXTS]
    rows = torch.tensor([start for start in starts if len(start) == START_TOKENS] * SAMPLES, device=model.device)
    return sampled_tokens(model, rows, new_tokens=NEW_TOKENS, seed=SEED)


def fact_prompts() -> list[str]:
    """The prompts on relations of names that text on facts begins with."""
    templates = [template for relation in RELATIONS for template in (relation.statement, relation.question)]
    return [template.format(name) for name in NAMES for template in templates][::EVERY]


def sample_facts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """Text on facts, (rows, length) for each length of a prompt: prompts on relations, and what the model says."""
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
    places: Sequence[Neurons],
    on_progress: Progress | None,
) -> dict[int, ReferenceStatistics]:
    """Moments and importances from one pass forwards and one backwards over both kinds of text."""
    texts = [[sample(model, tokenizer)], sample_facts(model, tokenizer)]
    batches = [[batch for rows in text for batch in torch.split(rows, BATCH)] for text in texts]
    done, means = 0, []
    with seeded(SEED, model.device):
        for text in batches:
            sums = {place.block: [torch.zeros(())] * 3 for place in places}
            for batch in text:
                for block, parts in _one_pass(model, batch, places).items():
                    sums[block] = [total.to(part) + part for total, part in zip(sums[block], parts, strict=True)]
                done += 1
                if on_progress is not None:
                    on_progress(done, sum(map(len, batches)))
            tokens = sum(batch.numel() for batch in text)
            means.append({block: [total / tokens for total in totals] for block, totals in sums.items()})
    plain, facts = means
    return {
        block: ReferenceStatistics(*(value.float().cpu() for value in (second, mean, (felt + facts[block][2]) / 2)))
        for block, (second, mean, felt) in plain.items()
    }


def _one_pass(
    model: PreTrainedModel, rows: Tensor, places: Sequence[Neurons]
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Σ z zᵀ, Σ z and Σ (a · dᵀ g)² over all tokens of the rows, fp64, by block."""
    probes: dict[int, Tensor] = {}
    activity: dict[int, Tensor] = {}
    read: dict[int, Tensor] = {}
    entrances: dict[nn.Module, InputHook] = {}
    writers: dict[nn.Module, OutputHook] = {}
    for place in places:

        def note(given: Tensor, block: int = place.block) -> None:
            read[block] = given.detach()

        # A probe of zeros on the MLP's output: the gradient with respect to it is the output's own.
        def probe(given: Tensor, made: Tensor, block: int = place.block) -> Tensor:
            activity[block] = given.detach()
            probes[block] = torch.zeros_like(made, requires_grad=True)
            return made + probes[block]

        entrances[model.get_submodule(place.entrance)] = note
        writers[model.get_submodule(place.writer)] = probe
    with hooked(inputs=entrances, outputs=writers):
        logits = model(input_ids=rows, **known_arguments(model, use_cache=False)).logits.float()
    flat = logits.flatten(0, -2)
    drawn = torch.multinomial(flat.detach().softmax(-1), 1)[:, 0]
    loss = functional.cross_entropy(flat, drawn, reduction="sum")
    gradients = torch.autograd.grad(loss, [probes[place.block] for place in places])
    found = {}
    for place, gradient in zip(places, gradients, strict=True):
        z, a, g = (t.flatten(0, -2) for t in (read[place.block], activity[place.block], gradient))
        felt = a * (g.to(a.dtype) @ matrix(model.get_submodule(place.writer)))
        z = double(z)
        found[place.block] = z.T @ z, z.sum(0), double(felt).square().sum(0)
    return found
