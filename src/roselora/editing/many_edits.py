"""Many requests in one call: which are trained together, in which order, and what becomes of those that fail."""

import time
from collections.abc import Callable, Sequence

from roselora.editing.contradictions import rounds
from roselora.editing.edit_answers import answers_to
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.methods.gate.gate_edit import NO_NEURONS_WAY_OUT, NeuronEdit
from roselora.editing.methods.gate.joint_edits import JointEdits, requests_with_room
from roselora.editing.methods.gate.layer_choice import edits_neurons
from roselora.editing.methods.train_edit import Settings, trained_neuron_edit
from roselora.editing.proposal import Proposal
from roselora.editing.propose import propose, try_out
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.errors import EditError, NonFiniteError, RoseLoraError
from roselora.models.inference import default_torch_modes

CANNOT_BE_MADE = (EditError, NonFiniteError)
"""The errors of one edit after which other edits can still be made."""


def with_room(edited: EditedWeights, requests: Sequence[EditRequest], settings: Settings) -> list[int]:
    """The indices of the requests for which there is certainly room, if they are made in this order.

    Only edits that go into neurons may lack it.
    """
    if not edits_neurons(edited.model, settings):
        return list(range(len(requests)))
    neurons = edited.previous_edits().neurons
    return requests_with_room(edited.model, edited.tokenizer, requests, settings, neurons)


class ManyEdits:
    """Some feasible requests, each to become an edit of its own.

    Args:
        edited: open for writing.
        on_edit: called after each edit.
        on_failure: called for each request that cannot be edited; without it, its error ends the work.

    Attributes:
        made: the edits so far, by the index of their request.
    """

    def __init__(
        self,
        edited: EditedWeights,
        requests: Sequence[EditRequest],
        settings: Settings,
        on_edit: Callable[[StoredEdit], None] | None = None,
        on_failure: Callable[[EditRequest, RoseLoraError], None] | None = None,
    ) -> None:
        self.made: dict[int, StoredEdit] = {}
        self._edited, self._requests, self._settings = edited, requests, settings
        self._on_edit, self._on_failure = on_edit, on_failure

    def make(self) -> tuple[StoredEdit, ...]:
        """Make all that there is room for; returns the edits in the order of their requests."""
        waiting = list(range(len(self._requests)))
        # Most answers take fewer neurons than are reserved for them, so after one pass there may be room for more.
        while places := with_room(self._edited, self._of(waiting), self._settings):
            fit = [waiting[place] for place in places]
            for members in rounds(self._of(fit)):
                self._make_round([fit[member] for member in members], fit)
            waiting = sorted({*waiting} - {*fit})
        for number in waiting:
            prompt = self._requests[number].prompt
            self._fail(number, EditError(f"No block has neurons left for {prompt!r}; {NO_NEURONS_WAY_OUT}."))
        return tuple(self.made[number] for number in sorted(self.made))

    def _make_round(self, numbers: Sequence[int], fit: Sequence[int]) -> None:
        """Make requests of which no two share a prompt: those of neurons together as far as that goes, or one by one.

        Args:
            fit: the requests of the whole pass, which none of these may disturb.
        """
        single = [number for number in numbers if not self._requests[number].consequences]
        left = numbers
        if len(single) > 1 and edits_neurons(self._edited.model, self._settings):
            left = sorted({*numbers} - {*single} | {*self._make_together(single, fit)})
        for number in left:
            try:
                proposal = propose(self._edited, self._requests[number], self._settings, self._of(fit))
            except CANNOT_BE_MADE as error:
                self._fail(number, error)
            else:
                self._commit(number, proposal)

    @default_torch_modes()
    def _make_together(self, numbers: Sequence[int], fit: Sequence[int]) -> list[int]:
        """Train edits of neurons together; returns the numbers of those that may be made one by one instead."""
        edited, settings, requests, own = self._edited, self._settings, self._of(numbers), set(numbers)
        before = answers_to(edited.model, edited.tokenizer, requests, keep=True)
        previous = edited.previous_edits(self._of([number for number in fit if number not in own]))
        edits = JointEdits(edited.model, edited.tokenizer, requests, settings, previous)
        left: list[int] = []
        start = time.perf_counter()

        # Commits a batch before the next one is trained, whose gates are fitted to weights with its edits.
        def put(places: Sequence[int], batch: Sequence[NeuronEdit]) -> None:
            nonlocal start
            seconds = (time.perf_counter() - start) / len(places)
            for place, edit in zip(places, batch, strict=True):
                proposal = None
                if edit.reached:
                    trained = trained_neuron_edit(edited.model, edited.overlay, edit, settings)
                    proposal = try_out(edited, requests[place], settings, trained, before[place], seconds)
                if proposal is None:
                    left.append(numbers[place])
                else:
                    self._commit(numbers[place], proposal)
            start = time.perf_counter()

        try:
            edits.make(put)
        except NonFiniteError:  # one request that overflows a half precision must not be the others' failure
            return [number for number in numbers if number not in self.made]
        return left

    def _commit(self, number: int, proposal: Proposal) -> None:
        try:
            self.made[number] = self._edited.commit(proposal)
        except CANNOT_BE_MADE as error:
            self._fail(number, error)
            return
        if self._on_edit is not None:
            self._on_edit(self.made[number])

    def _fail(self, number: int, error: RoseLoraError) -> None:
        if self._on_failure is None:
            raise error
        self._on_failure(self._requests[number], error)

    def _of(self, numbers: Sequence[int]) -> list[EditRequest]:
        return [self._requests[number] for number in numbers]
