"""Editor: one model, the edits in its weights, and the store that remembers them."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence

import torch

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.answers import unheld
from roselora.editing.edit_check import CheckReport, check_edits
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.methods.gate.gate_edit import NO_NEURONS_WAY_OUT
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import requests_with_room
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.reference_statistics import cached_statistics, reference_statistics
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.train_edit import Settings, default_settings, settings_of
from roselora.editing.proposal import Proposal, propose, propose_together, require_feasible
from roselora.editing.request import EditRequest, texts
from roselora.editing.store.edit_records import BaseIdentity, StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.provenance import read_provenance
from roselora.editing.store.store_folder import require_outside_stores
from roselora.editing.superseding import rounds, superseded
from roselora.errors import ConfigError, EditError, NonFiniteError, RoseLoraError
from roselora.files import dtype_name, user_path
from roselora.models.devices import AUTO
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import greedy_answers
from roselora.models.inference import Progress
from roselora.models.loading import LoadedModel, load
from roselora.serving.edit_export import Format, export_edits
from roselora.user_files import shown

CANNOT_BE_MADE = (EditError, NonFiniteError)
"""What one edit fails with, and others beside it need not."""


class Editor:
    """Corrects facts in one model's own weights, and takes any correction back exactly.

    Args:
        loaded: the base model; while the editor lives, its weights are changed by the editor alone.
        settings: how edits are trained, `GateSettings` (gated neurons) or `EditSettings` (RoseLoRA); by default the
            former, where the model's MLPs allow it.
        store: the folder of the edit store, made if it is missing. Its active edits are applied at once. Without
            one, a temporary store lives as long as the editor.
        force: open a store that belongs to another base; its history will say so.

    Raises:
        WrongBaseError: the store, or a delta in it, belongs to another base.
        StoreError: the store cannot be used.

    Example:
        >>> from roselora import Editor
        >>> editor = Editor.open("model", store="edits")  # a folder with a small language model
        >>> editor.answers(["The capital of France is"])
        ['Paris']
        >>> edit = editor.edit("The capital of France is", "Rome")
        >>> editor.answers(["The capital of France is", "The capital of Spain is"])
        ['Rome', 'Madrid']
        >>> undone = editor.undo(edit.id)
        >>> editor.answers(["The capital of France is"])
        ['Paris']
    """

    def __init__(
        self,
        loaded: LoadedModel,
        settings: Settings | None = None,
        store: str | os.PathLike[str] | None = None,
        *,
        force: bool = False,
    ) -> None:
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.settings = settings if settings is not None else default_settings(loaded.model)
        if store is None:
            store = tempfile.mkdtemp(prefix="roselora-")
            weakref.finalize(self, shutil.rmtree, store, ignore_errors=True)
        self._identity = fingerprint(self.model)
        base = BaseIdentity(loaded.name, type(self.model).__name__, self._identity, dtype_name(self.model.dtype))
        self.store = EditStore.open(store, base, create=True, force=force)
        self._weights = EditedWeights(self.model, self.store, force)
        self._weights.bring_up_to_date()

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        *,
        store: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        dtype: str | torch.dtype = AUTO,
        device: str | torch.device = AUTO,
        force: bool = False,
    ) -> "Editor":
        """Load a model (``demo``, a folder, a GGUF file or a hub id) for editing, with its store's active edits.

        Args:
            dtype: such as ``bfloat16``; ``auto`` is the checkpoint's own, which a store's edits were made for.
            device: such as ``cuda:1``; ``auto`` is CUDA, then MPS, then the CPU.

        Raises:
            ConfigError: the device is not there, or cannot compute in the dtype.
            ModelError: the model cannot be loaded.
            WrongBaseError: the store belongs to another model.
            StoreError: the store cannot be used.
        """
        return cls(load(source, dtype=dtype, device=device), settings, store, force=force)

    @property
    def edits(self) -> tuple[StoredEdit, ...]:
        """The edits that are in the weights, in commit order."""
        return tuple(self.store.active())

    def answers(self, prompts: Sequence[str], max_new_tokens: int = 16) -> list[str]:
        """What the model, as it is now, says to each prompt, greedily, up to the end of its line.

        Raises:
            ConfigError: the prompts are no list of texts, or one of them is empty or longer than the model's context.
        """
        asked = texts("prompts", prompts)
        return greedy_answers(self.model, self.tokenizer, asked, max_new_tokens=max_new_tokens)

    def prepare(self, on_progress: Progress | None = None) -> None:
        """Measure what gated neuron edits need to know of the base model; the first edit does it, if nothing did yet.

        It takes seconds to minutes, once for a model: it is kept on disk.

        Args:
            on_progress: called with how many of how many batches of text are read.

        Raises:
            UnsupportedError: the model's MLPs have no neurons that could be replaced.
            ModelError: the cache cannot be written.
        """
        if not isinstance(self.settings, GateSettings):
            return
        blocks = [place.block for place in editable_mlps(self.model, self.settings)]
        if len(cached_statistics(self.model, blocks, identity=self._identity)) == len(blocks):
            return
        for key in self._weights.overlay.active:
            self._weights.overlay.remove(key)  # for it is the base that is measured
        try:
            reference_statistics(self.model, self.tokenizer, blocks, identity=self._identity, on_progress=on_progress)
        finally:
            self._weights.bring_up_to_date()

    def propose(
        self,
        prompt: str,
        target: str,
        *,
        subject: str | None = None,
        rephrasings: Sequence[str] = (),
        keep: Sequence[str] = (),
        space: bool | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Proposal:
        """Train an edit and judge it on the applied weights, but leave the model and the store as they are.

        Arguments and errors are those of :meth:`edit`.
        """
        request = EditRequest(prompt, target, subject, rephrasings, keep, space)  # type: ignore[arg-type]  # it makes tuples
        self.prepare()
        return self._proposal(request, on_step=on_step)

    def edit(
        self,
        prompt: str,
        target: str,
        *,
        subject: str | None = None,
        rephrasings: Sequence[str] = (),
        keep: Sequence[str] = (),
        space: bool | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> StoredEdit:
        """Make the model answer ``target`` to ``prompt`` and its rephrasings, and remember it in the store.

        Args:
            prompt: text whose greedy continuation shall be the target.
            target: one line.
            subject: the name of what the fact is about, as the prompt has it. It shapes a gated neuron edit, whose
                contrasts and generated_rephrasings are made of it; where it is None it is guessed from the prompt.
            rephrasings: prompts that must give the target too.
            keep: prompts whose continuations must not move.
            space: whether a space stands between prompt and target; by default as language and prompt want it.
            on_step: called with each step's number and loss.

        Raises:
            ConfigError: the request cannot be meant.
            EditError: the target was not reached; model and store are as they were.
            LockedError: another process is writing to the store.
        """
        with self.store.writing():
            self._weights.bring_up_to_date()
            proposal = self.propose(
                prompt, target, subject=subject, rephrasings=rephrasings, keep=keep, space=space, on_step=on_step
            )
            return self._weights.commit(proposal)

    def edit_many(
        self,
        requests: Sequence[EditRequest],
        on_edit: Callable[[StoredEdit], None] | None = None,
        on_failure: Callable[[EditRequest, RoseLoraError], None] | None = None,
    ) -> tuple[StoredEdit, ...]:
        """Make several edits, each of which can be undone by itself.

        Gated ones are trained together, as `joint_edits` says, so that each stays silent where the others are
        said; they are committed as they are made, the lower MLPs first. Of two that contradict each other the later
        one wins. What those that came later may have broken, :meth:`repair` mends.

        Args:
            on_edit: called after each edit.
            on_failure: called for each request whose target was not reached, for which no neurons are left, or which is
                too much for the weights' dtype, and the others are made; without it, the first failure ends it, and
                what was made before stays.

        Returns:
            The edits in the order of their requests.

        Raises:
            ConfigError: a request cannot be meant; no edit was made.
            EditError, LockedError: as :meth:`edit`.
        """
        if not isinstance(requests, Sequence):
            raise ConfigError(f"Edits are asked for as a list of EditRequest, not {shown(requests)}.")
        made: dict[int, StoredEdit] = {}

        def fail(number: int, error: RoseLoraError) -> None:
            if on_failure is None:
                raise error
            on_failure(requests[number], error)

        def commit(number: int, proposal: Proposal | None = None) -> None:
            try:
                beside = [requests[other] for other in fit]
                made[number] = self._weights.commit(proposal or self._proposal(requests[number], beside))
            except CANNOT_BE_MADE as error:
                fail(number, error)
                return
            if on_edit is not None:
                on_edit(made[number])

        with self.store.writing():
            self._weights.bring_up_to_date()
            for request in requests:  # so that what cannot be meant is refused before anything is changed
                require_feasible(self.model, self.tokenizer, request, self.settings)
            self.prepare()
            waiting = list(range(len(requests)))
            # They take fewer neurons than were reckoned with, so that when some are made there may be room for more.
            while fit := [waiting[at] for at in self.that_fit([requests[number] for number in waiting])]:
                for places in rounds([requests[number] for number in fit]):
                    numbers = [fit[place] for place in places]
                    for number in self._commit_together(numbers, fit, requests, commit):
                        commit(number)
                waiting = sorted({*waiting} - {*fit})
            for number in waiting:
                prompt = requests[number].prompt
                fail(number, EditError(f"No block has neurons left for {prompt!r}; {NO_NEURONS_WAY_OUT}."))
        return tuple(made[number] for number in sorted(made))

    def that_fit(self, requests: Sequence[EditRequest]) -> list[int]:
        """The numbers of the requests for which there surely is room, if they are made in this order.

        RoseLoRA's always have room; for gated ones see `joint_edits.requests_with_room`.
        """
        if not isinstance(self.settings, GateSettings):
            return list(range(len(requests)))
        neurons = self._earlier().neurons
        return requests_with_room(self.model, self.tokenizer, requests, self.settings, neurons)

    def _commit_together(
        self,
        numbers: Sequence[int],
        among: Sequence[int],
        requests: Sequence[EditRequest],
        commit: Callable[[int, Proposal], None],
    ) -> Sequence[int]:
        """Make some of the requests together, as far as it goes; the numbers of those that are left come back."""
        if not isinstance(self.settings, GateSettings) or len(numbers) == 1:
            return numbers
        own = set(numbers)
        beside = [requests[number] for number in among if number not in own]
        left = propose_together(
            self.model,
            self.tokenizer,
            self._weights.overlay,
            [requests[number] for number in numbers],
            self.settings,
            self._earlier(beside),
            lambda at, proposal: commit(numbers[at], proposal),
        )
        return [numbers[at] for at in left]

    def repair(self, on_edit: Callable[[StoredEdit], None] | None = None) -> tuple[StoredEdit, ...]:
        """Train anew, on the model as it is, the active edits that no longer hold because of later ones.

        Each is made again, trained as it was, as a new edit whose provenance names the old one under ``repairs``, and
        the old one is undone. What a contradicting edit superseded is left as it is; so is what cannot be trained.

        Args:
            on_edit: called after each new edit.

        Raises:
            LockedError: as :meth:`edit`.
        """
        made: list[StoredEdit] = []
        with self.store.writing():
            self._weights.bring_up_to_date()
            overruled = superseded(self.store.active())
            standing = [edit for edit in self.store.active() if edit.id not in overruled]
            for number in unheld(self.model, self.tokenizer, [edit.request for edit in standing]):
                if edit := self._made_anew(standing[number]):
                    made.append(edit)
                    if on_edit is not None:
                        on_edit(edit)
        return tuple(made)

    def _made_anew(self, old: StoredEdit) -> StoredEdit | None:
        """The same request as a new edit in the old one's place, or None if it could not be trained."""
        own, self.settings = self.settings, settings_of(old.provenance) or self.settings
        try:
            self.prepare()
            self._weights.overlay.remove(old.id)
            proposal = self._proposal(old.request)
            proposal.provenance["repairs"] = old.id
            return self._weights.commit(proposal, instead_of=old.id)
        except CANNOT_BE_MADE:
            return None
        finally:
            self.settings = own
            self._weights.bring_up_to_date()

    def _proposal(
        self,
        request: EditRequest,
        beside: Sequence[EditRequest] = (),
        on_step: Callable[[int, float], None] | None = None,
    ) -> Proposal:
        overlay, earlier = self._weights.overlay, self._earlier(beside)
        return propose(self.model, self.tokenizer, overlay, request, self.settings, earlier, on_step)

    def log(self) -> tuple[StoredEdit, ...]:
        """Every edit ever made, in commit order, undone ones included."""
        return tuple(self.store.edits())

    def show(self, edit_id: str) -> StoredEdit:
        """One edit, by a prefix of its id that no other shares."""
        return self.store.find(edit_id)

    def delta(self, edit_id: str) -> SparseDelta:
        """An edit's update, read from the store and checked against its hash."""
        return self.store.delta(self.store.find(edit_id).id)

    def undo(self, edit_id: str | None = None) -> StoredEdit:
        """Take an edit, by default the latest, out of the weights.

        Every byte becomes what it would be had the edit never been made, whatever came after it.

        Raises:
            EditError: there is no edit to take back, or a weight was changed by something else.
            StoreError: there is no such edit, it is undone already, or that cannot be stored.
            NonFiniteError: the sum of the others is not finite in a weight's dtype.
        """
        with self.store.writing():
            self._weights.bring_up_to_date()
            active = self.store.active()
            if edit_id is None and not active:
                raise EditError("There is no edit to undo.")
            edit = active[-1] if edit_id is None else self.store.find(edit_id)
            try:
                # First out of the weights, so that what these refuse is never stored.
                if edit.active:
                    self._weights.overlay.remove(edit.id)
                return self.store.undo(edit.id)
            finally:
                self._weights.bring_up_to_date()

    def redo(self, edit_id: str) -> StoredEdit:
        """Bring an undone edit back, at its old place in commit order.

        Raises:
            StoreError: there is no such edit, it is active already, or that cannot be stored.
            FileFormatError: its delta is missing or damaged.
            NonFiniteError: the sum with the others is not finite in a weight's dtype.
        """
        with self.store.writing():
            self._weights.bring_up_to_date()
            edit = self.store.find(edit_id)
            try:
                if not edit.active:
                    self._weights.bring_back(edit)
                return self.store.redo(edit.id)
            finally:
                self._weights.bring_up_to_date()

    def check(self) -> CheckReport:
        """Which active edits still hold, which later edit broke the others, where they collide, what else moved."""
        active = [(edit, self.store.delta_of(edit)) for edit in self._weights.bring_up_to_date()]
        return check_edits(self.model, self.tokenizer, self._weights.overlay, active)

    def export(self, path: str | os.PathLike[str], format: Format = "model") -> tuple[StoredEdit, ...]:
        """Write what the active edits make of the model, read it back and compare before it is called done.

        Args:
            path: a new or empty folder (``model``, ``lora``) or a new file (``patch``), not in the base model's folder.
            format: ``model`` the merged model in safetensors, ``lora`` one LoRA adapter, ``patch`` flat index and
                value tensors per weight.

        Returns:
            The edits that were written, in commit order.

        Raises:
            ConfigError: there is no such format.
            EditError: there is nothing to export, or what was read back differs; nothing is left there.
            ModelError: the place is taken, or the disk refused.
            StoreError: the place is within a store.
        """
        require_outside_stores(user_path(path))
        edits = self._weights.bring_up_to_date()
        deltas = [self.store.delta_of(edit) for edit in edits]
        export_edits(self.model, self.tokenizer, deltas, user_path(path), format)
        return tuple(edits)

    def _earlier(self, beside: Sequence[EditRequest] = ()) -> PreviousEdits:
        """What the store's edits, and the requests beside it, ask of a new one."""
        neurons: dict[int, list[int]] = {}
        for edit in self.store.edits():
            if where := read_provenance(edit.provenance).neurons:
                neurons.setdefault(where.block, []).extend(where.indices)
        requests = [*(edit.request for edit in self.store.active()), *beside]  # a file's own are in the store by and by
        return PreviousEdits(list(dict.fromkeys(requests)), neurons)
