"""Editor: one model, the edits in its weights, and the store that remembers them."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Unpack

import torch

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.consequences.proposed_consequences import proposed_consequences
from roselora.editing.edit_check import CheckReport, check_edits
from roselora.editing.edit_repair import repair
from roselora.editing.edited_model import EditedModel
from roselora.editing.feasibility import require_feasible
from roselora.editing.many_edits import ManyEdits, with_room
from roselora.editing.methods.gate.layer_choice import editable_mlps, edits_neurons
from roselora.editing.methods.gate.reference_statistics import cached_statistics, reference_statistics
from roselora.editing.methods.train_edit import Settings, default_settings, settings_of
from roselora.editing.proposal import Proposal
from roselora.editing.propose import propose
from roselora.editing.request import EditRequest, Form, RequestDetails, require_subject, texts
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.store_folder import require_outside_stores
from roselora.errors import ConfigError, EditError, RoseLoraError
from roselora.files import user_path
from roselora.models.devices import AUTO
from roselora.models.generation import greedy_answers
from roselora.models.inference import Progress
from roselora.models.loading import LoadedModel, load
from roselora.serving.edit_export import Edited, Format, export_edits
from roselora.user_files import shown


class Editor:
    """Corrects facts in a model's own weights, and takes any correction back exactly.

    Args:
        loaded: the base model; while the editor lives, only the editor may change its weights.
        settings: how edits are trained, `GateSettings` (gated neurons) or `EditSettings` (RoseLoRA); by default the
            former, if the model's MLPs allow it.
        store: the folder of the edit store, made if it is missing. Its active edits are applied at once. Without
            one, a temporary store lives as long as the editor.
        force: open a store that belongs to another base; its history will say so.

    Raises:
        WrongBaseError: the store, or a delta in it, belongs to another base.
        StoreError: the store cannot be used.

    Example:
        >>> from roselora import Editor
        >>> from roselora.editing.methods.gate.gate_settings import GateSettings
        >>> settings = GateSettings(learning_rate=0.3, threshold=0.4, full=0.8)  # as a tiny model needs
        >>> editor = Editor.open("model", store="edits", settings=settings)  # a folder with a small language model
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
        self._edited = EditedModel(loaded, store, force)
        self.store = self._edited.store

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
            dtype: such as ``bfloat16``; ``auto`` is the checkpoint's own, for which a store's edits were made.
            device: such as ``cuda:1``; ``auto`` is CUDA, then MPS, then the CPU.

        Raises:
            ConfigError: the device does not exist, or cannot compute in the dtype.
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
        """The edited model's greedy answer to each prompt, up to the end of its line.

        Raises:
            ConfigError: the prompts are no list of texts, or one of them is empty or longer than the model's context.
        """
        asked = texts("prompts", prompts)
        return greedy_answers(self.model, self.tokenizer, asked, max_new_tokens=max_new_tokens)

    def refresh(self) -> None:
        """Make the weights hold exactly the store's active edits, which another process may have changed.

        Raises:
            WrongBaseError, NonFiniteError: as at opening.
        """
        self._edited.bring_up_to_date()

    def without_edits(self) -> AbstractContextManager[None]:
        """Inside the block, the weights are the base's own.

        >>> with editor.without_edits():  # doctest: +SKIP
        ...     editor.answers(["The capital of France is"])
        ['Paris']
        """
        return self._edited.without_edits()

    def prepare(self, on_progress: Progress | None = None) -> None:
        """Measure the statistics of the base model that gated edits need; without this call, the first edit does it.

        It takes seconds to minutes, once for a model: the result is cached on disk.

        Args:
            on_progress: called with how many of how many batches of text are read.

        Raises:
            UnsupportedError: the model's MLPs have no neurons that could be replaced.
            ModelError: the cache cannot be written.
        """
        self._prepare(self.settings, on_progress)

    def edit(
        self,
        prompt: str,
        target: str,
        *,
        subject: str | None = None,
        rephrasings: Sequence[str] = (),
        keep: Sequence[str] = (),
        space: bool | None = None,
        form: Form = "both",
        consequences: Sequence[EditRequest] | bool = (),
        on_step: Callable[[int, float], None] | None = None,
    ) -> StoredEdit:
        """Make the model answer ``target`` to ``prompt`` and its rephrasings, and remember the edit in the store.

        Args:
            prompt: text whose greedy continuation is to become the target.
            target: one line.
            subject: the name of what the fact is about, as the prompt has it. It shapes a gated edit, whose negatives
                and generated rephrasings are made of it; None guesses it from the prompt.
            rephrasings: prompts that must give the target too.
            keep: prompts whose continuations must not change.
            space: whether a space stands between prompt and target; by default as language and prompt want it.
            form: "bare", the prompts as they stand; "chat", as a user's turn of the model's chat template, with and
                without a system prompt; or both, where there is a template.
            consequences: facts that are edited with this one, as one edit; True takes what :meth:`consequences`
                proposes. Those that cannot be learned are left out; the edit's provenance names them (`left_out`).
            on_step: called with each step's number and loss.

        Raises:
            ConfigError: the request is invalid, or does not fit the model.
            EditError: the target was not reached; model and store are unchanged.
            LockedError: another process is writing to the store.
        """
        details = RequestDetails(
            subject=subject, rephrasings=rephrasings, keep=keep, space=space, form=form, consequences=consequences
        )
        with self._edited.writing():
            return self._edited.commit(self.propose(prompt, target, on_step=on_step, **details))

    def propose(
        self,
        prompt: str,
        target: str,
        *,
        on_step: Callable[[int, float], None] | None = None,
        **details: Unpack[RequestDetails],
    ) -> Proposal:
        """Train an edit and try it in the weights, but leave the model and the store unchanged.

        Arguments and errors are those of :meth:`edit`.
        """
        implied = details.pop("consequences", ())
        request = EditRequest(prompt, target, **details)  # type: ignore[arg-type]  # it makes tuples of the lists
        implied = self.consequences(request) if implied is True else implied or ()
        request = replace(request, consequences=implied)  # type: ignore[arg-type]
        require_subject(request)
        self.prepare()
        return propose(self._edited, request, self.settings, on_step=on_step)

    def consequences(self, request: EditRequest) -> tuple[EditRequest, ...]:
        """What follows from a fact: the same of its subject's other names, its inverse, and one step further.

        They are guesses, from the words of an English prompt and from what the model says: look at them before you edit
        with them, as ``dataclasses.replace(request, consequences=...)`` or :meth:`edit` has it.

        Raises:
            ConfigError: a prompt does not fit the model's context.
        """
        return proposed_consequences(self.model, self.tokenizer, request)

    def edit_many(
        self,
        requests: Sequence[EditRequest],
        on_edit: Callable[[StoredEdit], None] | None = None,
        on_failure: Callable[[EditRequest, RoseLoraError], None] | None = None,
    ) -> tuple[StoredEdit, ...]:
        """Make several edits, each of which can be undone by itself.

        Gated edits are trained together (see `JointEdits`), so that each stays silent at the prompts of the others, and
        are committed batch by batch, those in the lower MLPs first. Of two contradicting requests the later one wins.
        :meth:`repair` replaces the edits that later ones have broken.

        Args:
            on_edit: called after each edit.
            on_failure: called for each request whose target is not reached, for which no neurons are left, or whose
                update overflows the weights' dtype; the others are made. Without it, the first failure is raised, and
                the edits made before stay.

        Returns:
            The edits in the order of their requests.

        Raises:
            ConfigError: a request is invalid, or does not fit the model; no edit was made.
            EditError, LockedError: as :meth:`edit`.
        """
        if not isinstance(requests, Sequence):
            raise ConfigError(f"edit_many takes a list of EditRequest, not {shown(requests)}.")
        with self._edited.writing():
            for request in requests:  # all of them before the first change
                require_feasible(self.model, self.tokenizer, request, self.settings)
                require_subject(request)
            self.prepare()
            return ManyEdits(self._edited, requests, self.settings, on_edit, on_failure).make()

    def that_fit(self, requests: Sequence[EditRequest]) -> list[int]:
        """The indices of the requests for which there is certainly room, if they are made in this order.

        RoseLoRA's edits always have room; a gated edit needs free neurons.
        """
        return with_room(self._edited, requests, self.settings)

    def repair(self, on_edit: Callable[[StoredEdit], None] | None = None) -> tuple[StoredEdit, ...]:
        """Replace the active edits that no longer hold because of later ones.

        Each becomes a new edit, trained with the old one's settings, whose provenance names the old one under
        ``repairs``; the old one is undone. Edits that a contradicting edit superseded are left alone, and so are those
        that cannot be trained.

        Args:
            on_edit: called after each new edit.

        Raises:
            LockedError: as :meth:`edit`.
        """
        with self._edited.writing():
            return tuple(repair(self._edited, self._settings_of, on_edit))

    def log(self) -> tuple[StoredEdit, ...]:
        """Every edit ever made, in commit order, undone ones included."""
        return tuple(self.store.edits())

    def show(self, edit_id: str) -> StoredEdit:
        """One edit, by any unambiguous prefix of its id."""
        return self.store.find(edit_id)

    def delta(self, edit_id: str) -> SparseDelta:
        """An edit's update, read from the store and checked against its hash."""
        return self.store.delta(edit_id)

    def undo(self, edit_id: str | None = None) -> StoredEdit:
        """Take an edit, by default the latest, out of the weights.

        Every byte becomes what it would be if the edit had never been made, whatever came after it.

        Raises:
            EditError: there is no edit to undo, or something else changed a weight.
            StoreError: there is no such edit, it is undone already, or the undo cannot be stored.
            NonFiniteError: the sum of the others is not finite in a weight's dtype.
        """
        with self._edited.writing():
            active = self.store.active()
            if edit_id is None and not active:
                raise EditError("There is no edit to undo.")
            return self._edited.undo(active[-1] if edit_id is None else self.store.find(edit_id))

    def redo(self, edit_id: str) -> StoredEdit:
        """Bring an undone edit back, at its old place in commit order.

        Raises:
            StoreError: there is no such edit, it is active already, another active edit has its neurons, or the redo
                cannot be stored.
            FileFormatError: its delta is missing or damaged.
            NonFiniteError: the sum with the others is not finite in a weight's dtype.
        """
        with self._edited.writing():
            return self._edited.redo(self.store.find(edit_id))

    def check(self, on_progress: Progress | None = None) -> CheckReport:
        """Which active edits still hold, which later edit broke the others, where they collide, what else changed.

        Args:
            on_progress: called with how many of how many prompts are answered; then, in each pass of the search for
                what broke an edit, with how many of how many broken edits are asked about; last with those of the
                keep-prompts.
        """
        active = [(edit, self.store.delta_of(edit)) for edit in self._edited.bring_up_to_date()]
        return check_edits(self._edited, active, on_progress)

    def export(self, path: str | os.PathLike[str], format: Format = "model") -> tuple[StoredEdit, ...]:
        """Write the edited model, or only what the active edits change; read it back and compare.

        Args:
            path: a new or empty folder (``model``, ``lora``, ``mlx``) or a new file, not in the base model's folder.
            format: ``model`` the merged model in safetensors, ``lora`` one LoRA adapter, ``gguf`` a copy of the base's
                GGUF file with the edited weights, ``gguf-lora`` a LoRA adapter for llama.cpp, ``mlx`` one for
                mlx-lm, ``patch`` the positions, new and old values of the entries that change.

        Returns:
            The edits that were written, in commit order.

        Raises:
            ConfigError: there is no such format.
            EditError: there is nothing to export, or what was read back differs; nothing is left at the path.
            ModelError: something is at the path already, the disk refused, or the base is no GGUF file to copy.
            StoreError: the path is inside a store.
            UnsupportedError: the format does not know such a model, or an edited layer.
        """
        require_outside_stores(user_path(path))
        edits = self._edited.bring_up_to_date()
        deltas = [self.store.delta_of(edit) for edit in edits]
        export_edits(Edited(self.model, self.tokenizer, self._edited.overlay, deltas), user_path(path), format)
        return tuple(edits)

    def _prepare(self, settings: Settings, on_progress: Progress | None = None) -> None:
        if not edits_neurons(self.model, settings):
            return
        blocks = [place.block for place in editable_mlps(self.model, settings)]
        base = self._edited.sha256
        if len(cached_statistics(self.model, blocks, identity=base)) == len(blocks):
            return
        with self._edited.without_edits():
            reference_statistics(self.model, self.tokenizer, blocks, identity=base, on_progress=on_progress)

    def _settings_of(self, edit: StoredEdit) -> Settings:
        """The settings that a stored edit was trained with, or the editor's, ready for training."""
        settings = settings_of(edit.provenance) or self.settings
        self._prepare(settings)
        return settings
