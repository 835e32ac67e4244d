"""Many gated neuron edits made together: which MLP each goes to, in which order, and which neurons are silenced."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_edit import NeuronEdit, in_batches, least_important, train_neuron_edits
from roselora.editing.methods.gate.layer_choice import FreeNeurons, editable_mlps
from roselora.editing.methods.gate.other_edits import nearest_edits
from roselora.editing.methods.gate.prompt_subjects import subject_of
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.margin_training import OnStep
from roselora.editing.methods.neuron_settings import NeuronSettings
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.token_batches import answer_length
from roselora.editing.request import EditRequest
from roselora.models.mlp_neurons import Neurons, silenced

SHORTEST_ANSWER = 2
"""How many tokens an answer has at least, the end-of-sequence token included."""

Put = Callable[[Sequence[int], Sequence[NeuronEdit]], None]
"""Puts the edits of some requests, given by their numbers, into the model."""


class JointEdits:
    """Edits of some requests, each in neurons of its own, for which all MLPs are chosen before the first is made.

    Each is inactive where the others are asked for, and the nearest previous edits. The lower MLPs are edited before
    the higher ones, because the gates of these must be fitted to what the lower ones write. Until its turn comes, the
    neurons that a higher MLP will lose are silenced, so that no edit relies on them.

    Args:
        model: with the previous edits in it.
        requests: no two of them share a prompt, else neither would be inactive at the other.

    Raises:
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        requests: Sequence[EditRequest],
        settings: NeuronSettings,
        previous: PreviousEdits,
    ) -> None:
        self._model, self._tokenizer, self._requests, self._settings = model, tokenizer, requests, settings
        mlps = editable_mlps(model, settings)
        self._statistics = reference_statistics(model, tokenizer, [mlp.block for mlp in mlps])
        self._needs = [answer_length(tokenizer, request) for request in requests]
        self._others = [*nearest_edits(requests, previous.requests), *(requests if len(requests) > 1 else ())]
        self._subjects = {subject for request in requests if (subject := subject_of(request)) is not None}
        self._taken: dict[int, set[int]] = {mlp.block: set() for mlp in mlps}
        self._taken |= {block: set(indices) for block, indices in previous.neurons.items()}
        self._undone = {mlp.block: set(previous.undone.get(mlp.block, ())) for mlp in mlps}
        free = FreeNeurons(model, mlps, self._taken)
        # Each request's MLP, as if every token of its answer and of those before it took a neuron.
        self._mlps = [free.take(needed) for needed in self._needs]

    def make(self, put: Put, on_step: OnStep | None = None) -> None:
        """Train all edits, batch by batch.

        Args:
            put: called with each batch, and must put it into the model. If it raises, nothing more is made.

        Raises:
            ConfigError: a text has no tokens.
            EditError: there are not enough neurons.
            NonFiniteError: the model's logits are not finite.
        """
        of_block: defaultdict[int, list[int]] = defaultdict(list)
        for number, neurons in enumerate(self._mlps):
            of_block[neurons.block].append(number)
        upwards = sorted(of_block)
        # Each higher MLP loses its least important neurons; nothing below it changes which these are.
        lost = [self._neurons_that_go(of_block[block]) for block in upwards]
        for place, block in enumerate(upwards):
            with silencing(self._model, lost[place + 1 :]):
                neurons, statistics = lost[place][0], self._statistics[block]
                # Read once: what the MLP reads changes with no edit in it or above it.
                mlp = EditedMlp.read(
                    self._model, self._tokenizer, self._settings, neurons, statistics, self._others, self._subjects
                )
                for batch in in_batches(of_block[block]):
                    requests = [self._requests[number] for number in batch]
                    planned = len(upwards) > 1  # else nothing was silenced
                    edits = train_neuron_edits(
                        mlp, requests, self._taken[block], on_step, undone=self._undone[block], planned=planned
                    )
                    self._taken[block].update(index for edit in edits for index in edit.indices)
                    put(batch, edits)

    def _neurons_that_go(self, numbers: Sequence[int]) -> tuple[Neurons, list[int]]:
        """The neurons of one MLP that the edits of these requests will replace at most."""
        count, neurons = sum(self._needs[number] for number in numbers), self._mlps[numbers[0]]
        block = neurons.block
        return neurons, least_important(self._statistics[block], self._taken[block], self._undone[block])[:count]


@contextmanager
def silencing(model: nn.Module, lost: Sequence[tuple[Neurons, Sequence[int]]]) -> Iterator[None]:
    """Inside, some neurons of several MLPs write nothing; no weight is written."""
    with ExitStack() as stack:
        for neurons, indices in lost:
            stack.enter_context(silenced(model, neurons, indices))
        yield


def requests_with_room(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    settings: NeuronSettings,
    taken: Mapping[int, Collection[int]],
) -> list[int]:
    """The numbers of the requests for which there are enough neurons, if each takes one for every token of its answer.

    Most take fewer, so there may be room for more once these are made.

    Args:
        taken: by block, the neurons that hold edits.
    """
    free, fit = FreeNeurons(model, editable_mlps(model, settings), taken), []
    held_up: set[str] = set()  # the later of two requests that share a prompt is not made first
    for number, request in enumerate(requests):
        if free.most < SHORTEST_ANSWER:
            break
        after, enough = free.copy(), True
        for fact in request.facts:
            needed = answer_length(tokenizer, fact)
            enough &= after.most >= needed
            after.take(needed)
        if enough and held_up.isdisjoint(request.all_prompts):
            free = after
            fit.append(number)
        else:
            held_up.update(request.all_prompts)
    return fit
