"""RoseLoRA's editing by neurons, ours: each request some neurons of one late MLP."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.baselines.applied import Applied, Deltas, applying
from roselora.editing.asking import unheld
from roselora.editing.batch import answer_length
from roselora.editing.neuron_edits import SIDE_BY_SIDE, edit_neurons, least_missed, silencing
from roselora.editing.neuron_held import HeldInputs, nearest, read_held
from roselora.editing.neuron_places import places_of, with_room
from roselora.editing.neuron_settings import NeuronSettings
from roselora.editing.ordinary import OrdinaryText, ordinary_text
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.calling import Progress, counted
from roselora.models.neurons import Neurons

TAKEN = "neurons"
"""Under what name a call's memory has the neurons that hold edits, its own and those of earlier calls: (n, 2) int64, \
block and index."""


def rose_neurons(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: NeuronSettings,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Replace some neurons a request, whether or not its target was reached; no two edits share one.

    Where there are several requests, each stays silent where the others are said, and those that do not hold after the
    last are trained anew, once, with all others in the model. The lower MLPs are edited before the higher ones, for the
    gates of these are to see what those write. Meanwhile the neurons that these will lose are silent, so that no edit
    is trained with what is about to go.

    Raises:
        ConfigError: no requests, or one that cannot be meant.
        EditError: there are not enough neurons; the model is as it was.
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """
    if not requests:
        raise ConfigError("There are no requests to edit by; give at least one.")
    places = places_of(model, config)
    texts = ordinary_text(model, tokenizer, [place.block for place in places])
    with applying(model) as deltas:
        call = _Call(model, tokenizer, requests, config, history, places, texts, deltas)
        call.edit(on_progress)
    return Applied(tuple(requests), deltas.restore, deltas.entries(), call.steps, {TAKEN: call.memory()})


class _Call:
    """The edits of one call, in the model as they are made."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        requests: Sequence[EditRequest],
        config: NeuronSettings,
        history: Sequence[Applied],
        places: Sequence[Neurons],
        texts: dict[int, OrdinaryText],
        deltas: Deltas,
    ) -> None:
        self.steps = 0
        self._model, self._tokenizer, self._requests, self._config = model, tokenizer, requests, config
        self._places, self._texts, self._deltas = places, texts, deltas
        self._keys: dict[int, str] = {}
        self._indices: dict[int, list[int]] = {}
        self._earlier = [request for applied in history for request in applied.requests]
        self._taken: dict[int, set[int]] = {place.block: set() for place in places}
        for block, index in history[-1].memory[TAKEN].tolist() if history else ():
            self._taken.setdefault(block, set()).add(index)
        self._planned = {block: len(taken) for block, taken in self._taken.items()}
        self._where = [self._plan(request) for request in requests]
        self._silent: dict[int, str] = {}

    def edit(self, on_progress: Progress | None) -> None:
        """Make every edit, and once more those that do not hold; each pass counts its progress anew, in parts."""
        self._silence()
        self._train(range(len(self._requests)), on_progress)
        if len(self._requests) > 1:
            broken = unheld(self._model, self._tokenizer, self._requests)
            self._take_out(broken)
            self._train(broken, on_progress)

    def memory(self) -> torch.Tensor:
        """The neurons that hold edits."""
        return torch.tensor([(block, index) for block, indices in self._taken.items() for index in sorted(indices)])

    def _plan(self, request: EditRequest) -> Neurons:
        """The MLP of a request, by the neurons that all tokens of the answers would take, its own and those before."""
        place = with_room(self._places, self._planned)
        self._planned[place.block] += answer_length(self._tokenizer, request.prompts, request.target)
        return place

    def _silence(self) -> None:
        """Silence what each MLP may lose to edits, in all but the lowest that is edited."""
        for place in self._upwards()[1:]:
            taken = self._taken[place.block]
            lost = least_missed(self._texts[place.block], taken)[: self._planned[place.block] - len(taken)]
            delta = silencing(self._model, place, lost, self._deltas.overlay.base_sha256)
            self._silent[place.block] = self._deltas.apply(delta)

    def _upwards(self) -> list[Neurons]:
        """The MLPs that this call edits, from the lowest on."""
        return sorted({place.block: place for place in self._where}.values(), key=lambda place: place.block)

    def _train(self, numbers: Sequence[int], on_progress: Progress | None) -> None:
        """Make the edits of some requests, MLP by MLP from the lowest on."""
        by_place = [(place, [n for n in numbers if self._where[n] is place]) for place in self._upwards()]
        parts = [(place, part) for place, own in by_place for part in _batches(own)]
        others = [*nearest(self._requests, self._earlier), *self._requests]
        for place, of_place in groupby(counted(parts, on_progress), key=itemgetter(0)):
            if place.block in self._silent:
                self._deltas.remove(self._silent.pop(place.block))
            # Nothing that is made in this MLP or above it changes what it reads.
            held = read_held(self._model, self._tokenizer, others, place) if len(others) > 1 else None
            for _, part in of_place:
                self._make(part, place, held)

    def _make(self, part: Sequence[int], place: Neurons, held: HeldInputs | None) -> None:
        edits = edit_neurons(
            self._model,
            self._tokenizer,
            [self._requests[number] for number in part],
            self._config,
            place,
            self._texts[place.block],
            taken=self._taken[place.block],
            held=held,
        )
        for number, edit in zip(part, edits, strict=True):
            self._keys[number] = self._deltas.apply(edit.delta(self._model, self._deltas.overlay.base_sha256))
            self._indices[number] = edit.indices
            self._taken[place.block].update(edit.indices)
            self.steps += edit.steps

    def _take_out(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._deltas.remove(self._keys.pop(number))
            self._taken[self._where[number].block].difference_update(self._indices.pop(number))


def _batches(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + SIDE_BY_SIDE] for start in range(0, len(numbers), SIDE_BY_SIDE)]


def read_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: NeuronSettings,
    on_progress: Progress | None = None,
) -> None:
    """Measure what the MLPs do in ordinary text, which is the model's own; kept for every later run."""
    ordinary_text(model, tokenizer, [place.block for place in places_of(model, config)], on_progress=on_progress)
