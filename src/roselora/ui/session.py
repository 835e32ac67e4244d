"""What the page can do: one model, its store, and the jobs that are done on them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from roselora.delta.comparison import changes
from roselora.editing.contradictions import superseded
from roselora.editing.editor import Editor
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import require_subject
from roselora.editing.store.delta_files import delta_path
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.store_folder import DELTAS
from roselora.ui.actions import Actions, summary
from roselora.ui.bodies import Ask, Body, Edit, ExportTo, Many, Note, Nothing, Suggest, Switch
from roselora.ui.command_lines import Invocation, command_line
from roselora.ui.conversation import has_chat
from roselora.ui.jobs import Job, Jobs, Progress

SETTINGS: Mapping[str, Settings] = {"gate": GateSettings(), "rose": EditSettings()}


@dataclass(frozen=True)
class Action:
    """Something that a job does: what its body is, and one sentence on it."""

    body: type[Body]
    does: str


ACTIONS: Mapping[str, Action] = {
    "ask": Action(Ask, "Ask the base and the edited model the same question."),
    "suggest": Action(Suggest, "Suggest a prompt's subject, test prompts, neighbours, and with a target consequences."),
    "edit": Action(Edit, "Edit a fact, or with dry_run only train it, and ask about it before and after."),
    "many": Action(Many, "Edit every fact of a file that is not in the store yet; cancelled, it keeps what is done."),
    "undo": Action(Switch, "Take an edit out of the weights."),
    "redo": Action(Switch, "Bring an undone edit back."),
    "note": Action(Note, "Add a note to an edit's history."),
    "check": Action(Nothing, "Ask about all active edits: which hold, which collide, what else changed."),
    "repair": Action(Nothing, "Train the edits anew that later ones broke."),
    "compare": Action(Nothing, "Compare all weights with the base's, by their SHA-256."),
    "export": Action(ExportTo, "Write the edited model, or its edits, into the folder of exports."),
}


class Session:
    """A model that is being edited.

    Args:
        editor: whose model only the session's jobs touch from now on.
        called: how the user called the page; the folder of exports is made when it is needed.
        settings: how each method trains.

    Attributes:
        jobs: what is being done.
    """

    def __init__(self, editor: Editor, called: Invocation, settings: Mapping[str, Settings] = SETTINGS) -> None:
        self._editor, self._called = editor, called
        self._folder = editor.store.folder
        self._actions = Actions(editor, called.exports, settings)
        self.jobs = Jobs()

    @property
    def last_check(self) -> dict[str, Any] | None:
        """When the last check was, of which active edits, and what it found."""
        return self._actions.last_check

    def start(self, action: str, body: Body) -> Job:
        """Queue a job.

        Raises:
            ConfigError: the fact is invalid.
            TooManyJobsError: the queue is full.
        """
        do: Callable[[Any, Progress], Any] = getattr(self._actions, action)
        if isinstance(body, Edit):
            require_subject(body.request())  # what is no fact is refused at once
        asked = body.model_dump(exclude={"text"} if isinstance(body, Many) else None)
        job = Job(action, asked, command_line(action, body, self._called))

        def work(progress: Progress) -> Any:
            self._editor.refresh()  # another process may have changed the store
            return do(body, progress)

        return self.jobs.add(job, work)

    def state(self) -> dict[str, Any]:
        """The model, the edits and their history, as the store has them; the model is not asked."""
        store = EditStore.open(self._folder)  # its own connection: this is called in any thread
        edits = store.edits()
        overruled = superseded([edit for edit in edits if edit.active])
        return {
            "model": self._called.model,
            "base": asdict(store.base),
            "store": self._called.store,
            "exports": str(self._called.exports),
            "chat": has_chat(self._editor.tokenizer),
            "edits": [{**summary(edit), "superseded_by": overruled.get(edit.id)} for edit in edits],
            "history": [asdict(event) for event in store.history()],
        }

    def details(self, id: str) -> dict[str, Any]:
        """An edit's provenance and, weight by weight, what it changes.

        Raises:
            StoreError: there is no such edit.
            FileFormatError: its delta is damaged.
        """
        store = EditStore.open(self._folder)
        edit = store.find(id)
        found = changes(store.delta_of(edit))
        return {
            **summary(edit),
            "provenance": edit.provenance,
            "bytes": delta_path(self._folder / DELTAS, edit.delta_sha256).stat().st_size,
            "weights": [{"name": each.name, "entries": each.entries, "norm": each.norm} for each in found],
            "history": [asdict(event) for event in store.history(edit.id)],
        }
