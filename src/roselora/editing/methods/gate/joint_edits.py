"""Many gated neuron edits, made together: which MLP each goes to, in which order, and what is silent meanwhile."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.gate_edit import GateEdit, in_batches, least_important, train_gate_edits
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import choose_mlp, editable_mlps, free_neurons
from roselora.editing.methods.gate.other_edits import nearest_edits, read_other_edits
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.token_batches import answer_length
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress, counted
from roselora.models.mlp_neurons import Neurons, silent

FEWEST = 2
"""How many tokens an answer has at least, the end of the sequence counted."""

Put = Callable[[Sequence[int], Sequence[GateEdit]], None]
"""Puts the edits of some requests, given by their numbers, into the model."""


class JointEdits:
    """Edits of some requests, each of its own neurons, for which all MLPs are planned before the first is made.

    Each stays silent where the others are said, and the nearest of the earlier ones. The lower MLPs are edited before
    the higher ones, for the gates of these are to see what those write. Meanwhile the neurons that these will lose are
    silent, so that no edit is trained with what is about to go.

    Args:
        model: with the earlier edits in it.
        requests: no two of them share a prompt, or neither stays silent where the other is said.

    Attributes:
        taken: by block, the neurons that hold edits, earlier ones and those that were made.

    Raises:
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        requests: Sequence[EditRequest],
        settings: GateSettings,
        earlier: PreviousEdits,
    ) -> None:
        self._model, self._tokenizer, self._requests, self._settings = model, tokenizer, requests, settings
        places = editable_mlps(model, settings)
        self._texts = reference_statistics(model, tokenizer, [place.block for place in places])
        self._needs = [answer_length(tokenizer, request) for request in requests]
        self._others = [*nearest_edits(requests, earlier.requests), *(requests if len(requests) > 1 else ())]
        self.taken: dict[int, set[int]] = {place.block: set() for place in places}
        self.taken |= {block: set(indices) for block, indices in earlier.neurons.items()}
        self._where = list(self._plan(places))

    def make(
        self,
        numbers: Sequence[int],
        put: Put,
        on_progress: Progress | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train the edits of some requests, batch by batch; those of a batch must be in the model before the next.

        Args:
            numbers: of the requests; may be called again for some, once their edits are out of the model and
                :meth:`release` was called.
            put: called with each batch. What it raises ends it.
            on_progress: called with how many of how many batches are made.
            on_step: called with the step and the largest loss of a request that is still trained.

        Raises:
            ConfigError: a text has no tokens.
            EditError: there are not enough neurons.
            NonFiniteError: the model's logits are not finite.
        """
        upwards = sorted({self._where[number].block: self._where[number] for number in numbers}.items())
        own = {block: [number for number in numbers if self._where[number].block == block] for block, _ in upwards}
        batches = [(place, part) for block, place in upwards for part in in_batches(own[block])]
        with ExitStack() as silences:
            lifts = {block: silences.enter_context(ExitStack()) for block in own}
            for block, place in upwards[1:]:
                lost = least_important(self._texts[block], self.taken[block])[: sum(self._needs[n] for n in own[block])]
                lifts[block].enter_context(silent(self._model, place, lost))
            for place, of_place in groupby(counted(batches, on_progress), key=itemgetter(0)):
                lifts[place.block].close()
                # Nothing that is made in this MLP or above it changes what it reads.
                held = read_other_edits(self._model, self._tokenizer, self._others, place)
                for _, part in of_place:
                    edits = train_gate_edits(
                        self._model,
                        self._tokenizer,
                        [self._requests[number] for number in part],
                        self._settings,
                        place,
                        self._texts[place.block],
                        taken=self.taken[place.block],
                        held=held,
                        on_step=on_step,
                    )
                    for edit in edits:
                        self.taken[place.block].update(edit.indices)
                    put(part, edits)

    def release(self, edit: GateEdit) -> None:
        """Let others have the neurons of an edit that was made, and is in the model no more."""
        self.taken[edit.place.block].difference_update(edit.indices)

    def _plan(self, places: Sequence[Neurons]) -> Iterator[Neurons]:
        """The MLP of each request, by the neurons that all tokens of its answer and of those before would take."""
        planned = {block: len(taken) for block, taken in self.taken.items()}
        for needed in self._needs:
            place = choose_mlp(places, planned, needed)
            planned[place.block] += needed
            yield place


def requests_with_room(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    settings: GateSettings,
    neurons: Mapping[int, Collection[int]],
) -> list[int]:
    """The numbers of the requests for which there are neurons, if each takes one for all tokens of its answer.

    They mostly take fewer, so when these are made there may be room for others.

    Args:
        neurons: by block, those that hold edits.
    """
    places, fit = editable_mlps(model, settings), []
    planned = {place.block: len(set(neurons.get(place.block, ()))) for place in places}
    held_up: set[str] = set()  # the later of two that share a prompt is not made first
    for number, request in enumerate(requests):
        if max(free_neurons(place, planned) for place in places) < FEWEST:
            break
        needed = answer_length(tokenizer, request)
        place = choose_mlp(places, planned, needed)
        if free_neurons(place, planned) >= needed and held_up.isdisjoint(request.prompts):
            planned[place.block] += needed
            fit.append(number)
        else:
            held_up.update(request.prompts)
    return fit
