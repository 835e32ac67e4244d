"""What the page can do: one model, its store, and the jobs that are done on them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roselora.delta.comparison import changes
from roselora.editing.answer_match import matches
from roselora.editing.contradictions import still_to_edit, superseded
from roselora.editing.editor import Editor
from roselora.editing.fact_files import requests_in
from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.prompt_subjects import guess_subject
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import BARE, EditRequest, require_subject
from roselora.editing.store.delta_files import delta_path
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.provenance import read_provenance
from roselora.editing.store.store_folder import DELTAS
from roselora.errors import ConfigError
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import greedy_tokens
from roselora.models.tokenization import decode
from roselora.serving.engines import Export
from roselora.serving.start_lines import served_base, start_line
from roselora.ui.bodies import Ask, Body, Edit, ExportTo, Many, Note, Nothing, Suggest, Switch
from roselora.ui.command_lines import command_line
from roselora.ui.jobs import Job, Jobs, Progress
from roselora.ui.neutral_divergence import divergence, neutral_predictions
from roselora.ui.proof_questions import (
    CHANGED,
    proof_questions,
    suggested_neighbours,
    suggested_rephrasings,
)

TOGETHER = 8
"""How many questions are asked at a time, so that a job can be cancelled between."""
SETTINGS: Mapping[str, Settings] = {"gate": GateSettings(), "rose": EditSettings()}


@dataclass(frozen=True)
class Action:
    """Something that a job does: what its body is, and one sentence on it."""

    body: type[Body]
    does: str


ACTIONS: Mapping[str, Action] = {
    "ask": Action(Ask, "Ask the base and the edited model the same question."),
    "suggest": Action(Suggest, "Suggest a prompt's subject, rephrasings that no edit is trained on, and neighbours."),
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
        model: what the user called the model.
        store: what the user called the store's folder.
        exports: the folder of exports, made when it is needed.
        settings: how each method trains.

    Attributes:
        jobs: what is being done.
        last_check: when the last check was, of which active edits, and what it found.
    """

    def __init__(
        self, editor: Editor, model: str, store: Path, exports: Path, settings: Mapping[str, Settings] = SETTINGS
    ) -> None:
        self._editor, self._model, self._settings = editor, model, settings
        self._store, self._exports = str(store), exports
        self._folder = editor.store.folder
        self.last_check: dict[str, Any] | None = None
        self.jobs = Jobs()

    def start(self, action: str, body: Body) -> Job:
        """Queue a job.

        Raises:
            ConfigError: the fact is invalid.
            TooManyJobsError: the queue is full.
        """
        do: Callable[[Any, Progress], Any] = getattr(self, f"_{action}")
        if isinstance(body, Edit):
            require_subject(body.request())  # what is no fact is refused at once
        asked = body.model_dump(exclude={"text"} if isinstance(body, Many) else None)
        job = Job(action, asked, command_line(action, body, self._model, self._store, self._exports))

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
            "model": self._model,
            "base": asdict(store.base),
            "store": self._store,
            "exports": str(self._exports),
            "chat": self._has_chat(),
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

    def _has_chat(self) -> bool:
        return len(asked_texts(self._editor.tokenizer, "?", "both")) > 1

    def _ask(self, body: Ask, progress: Progress) -> dict[str, str]:
        progress.last_stage("asking")
        edited = self._answers(body)
        with self._editor.without_edits():
            base = self._answers(body)
        return {
            "base": base[0],
            "edited": edited[0],
            "base_follow_up": base[1],
            "edited_follow_up": edited[1],
        }

    def _answers(self, body: Ask) -> tuple[str, str]:
        """The answers to a question and to what follows it."""
        model, tokenizer = self._editor.model, self._editor.tokenizer

        def said(turns: list[str]) -> str:
            if body.form == BARE:
                text = "\n".join(turns)
            else:
                roles = ("user", "assistant")
                chat = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]
                rendered: Any = tokenizer.apply_chat_template
                text = str(rendered(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False))
            (ids,) = greedy_tokens(model, tokenizer, [text], max_new_tokens=body.tokens)
            return decode(tokenizer, ids).strip() + ("…" if len(ids) == body.tokens else "")

        if body.form != BARE and not self._has_chat():
            raise ConfigError("The model has no chat template; ask in the bare form.")
        first = said([body.prompt])
        return first, said([body.prompt, first, body.follow_up]) if body.follow_up else ""

    def _suggest(self, body: Suggest, progress: Progress) -> dict[str, Any]:
        progress.last_stage("looking for neighbours")
        subject = body.subject or guess_subject(body.prompt)
        model, tokenizer = self._editor.model, self._editor.tokenizer
        return {
            "subject": subject,
            "held_out": suggested_rephrasings(body.prompt),
            "keep": suggested_neighbours(model, tokenizer, body.prompt, subject),
        }

    def _edit(self, body: Edit, progress: Progress) -> dict[str, Any]:
        editor, request = self._editor, body.request()
        editor.settings = self._settings[body.method]
        self._measure(progress)
        if not body.dry_run:
            progress.stage("looking for questions")
            asked = proof_questions(editor.model, editor.tokenizer, request, body.held_out)
            texts = [question.text for question in asked]
            progress.stage("asking before", len(texts))
            before: list[str] = []
            for start in range(0, len(texts), TOGETHER):
                before += editor.answers(texts[start : start + TOGETHER])
                progress.step(len(before))
            old = neutral_predictions(editor.model, editor.tokenizer)
        progress.stage("training", editor.settings.max_steps)
        details: dict[str, Any] = {
            name: value for name, value in vars(request).items() if name not in ("prompt", "target")
        }
        if body.dry_run:
            proposal = editor.propose(request.prompt, request.target, on_step=progress.step, **details)
            return {"id": None, "dry_run": True, **proposal.provenance}
        edit = editor.edit(request.prompt, request.target, on_step=progress.step, **details)
        progress.afterwards("asking after")
        after, new = editor.answers(texts), neutral_predictions(editor.model, editor.tokenizer)
        rows = []
        for question, was, now in zip(asked, before, after, strict=True):
            good = matches(now, [request.target]) if question.kind in CHANGED else was == now
            row = {"kind": question.kind, "prompt": question.prompt, "form": question.form}
            rows.append({**row, "before": was, "after": now, "good": good})
        return {**summary(edit), "proof": rows, "divergence": divergence(old, new), "provenance": edit.provenance}

    def _many(self, body: Many, progress: Progress) -> dict[str, Any]:
        editor = self._editor
        editor.settings = self._settings[body.method]
        requests = requests_in(body.text, body.kind)
        new = still_to_edit(requests, editor.edits)
        self._measure(progress)
        progress.stage("editing", len(new))
        facts = {
            request: {"prompt": request.prompt, "target": request.target, "state": "already there", "why": ""}
            for request in requests
        }
        done = 0

        def seen(request: EditRequest, state: str, why: str = "") -> None:
            nonlocal done
            facts[request] = {**facts[request], "state": state, "why": why}
            progress.show({"facts": list(facts.values())})
            done += 1
            progress.step(done)

        for request in new:
            facts[request]["state"] = "waiting"
        progress.show({"facts": list(facts.values())})
        editor.edit_many(
            new, lambda edit: seen(edit.request, "done"), lambda request, error: seen(request, "failed", str(error))
        )
        return {"facts": list(facts.values())}

    def _undo(self, body: Switch, progress: Progress) -> dict[str, Any]:
        progress.last_stage("undoing")
        return summary(self._editor.undo(body.id))

    def _redo(self, body: Switch, progress: Progress) -> dict[str, Any]:
        progress.last_stage("redoing")
        return summary(self._editor.redo(body.id))

    def _note(self, body: Note, progress: Progress) -> dict[str, Any]:
        progress.last_stage("writing the note")
        with self._editor.store.writing():
            return asdict(self._editor.store.note(self._editor.show(body.id).id, body.text))

    def _check(self, _: Nothing, progress: Progress) -> dict[str, Any]:
        progress.last_stage("checking")
        active, report = [edit.id for edit in self._editor.edits], self._editor.check()
        kept = [{**asdict(answer), "moved": answer.moved} for answer in report.kept]
        found = {"clean": report.clean, **asdict(report), "kept": kept}
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self.last_check = {"time": time, "active": active, **found}
        return found

    def _repair(self, _: Nothing, progress: Progress) -> list[dict[str, Any]]:
        progress.stage("repairing", len(self._editor.edits))
        made: list[StoredEdit] = []

        def repaired(edit: StoredEdit) -> None:
            made.append(edit)
            progress.show([summary(each) for each in made])
            progress.step(len(made))

        self._editor.repair(repaired)
        return [summary(edit) for edit in made]

    def _compare(self, _: Nothing, progress: Progress) -> dict[str, Any]:
        progress.last_stage("comparing every weight")
        now, base = fingerprint(self._editor.model), self._editor.store.base.sha256
        return {"sha256": now, "base_sha256": base, "equal": now == base}

    def _export(self, body: ExportTo, progress: Progress) -> dict[str, Any]:
        progress.last_stage("writing")
        self._exports.mkdir(parents=True, exist_ok=True)
        path = self._exports / body.name
        if path.is_symlink():
            raise ConfigError(f"{path} is a link, and exports are written into their own folder; name another one.")
        edits = self._editor.export(path, body.format)
        base = served_base(body.format, self._editor.model.name_or_path or "")
        line = None if body.format == "patch" else start_line(Export(body.format, str(path), base))
        return {"path": str(path), "edits": [edit.id for edit in edits], "serve": line}

    def _measure(self, progress: Progress) -> None:
        """What a gated edit needs to know of the base, measured once a model."""
        progress.stage("measuring the model, once")
        self._editor.prepare(lambda done, _: progress.step(done))


def summary(edit: StoredEdit) -> dict[str, Any]:
    """An edit without its provenance."""
    return {
        "id": edit.id,
        "position": edit.position,
        "created": edit.created,
        "active": edit.active,
        "method": read_provenance(edit.provenance).method,
        "sha256": edit.delta_sha256,
        **asdict(edit.request),
    }
