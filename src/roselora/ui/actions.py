"""What jobs do: one method for each action of the API."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roselora.editing.contradictions import still_to_edit
from roselora.editing.editor import Editor
from roselora.editing.fact_files import requests_in
from roselora.editing.methods.gate.prompt_subjects import guess_subject
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance
from roselora.errors import ConfigError
from roselora.models.fingerprint import fingerprint
from roselora.serving.engines import Export
from roselora.serving.start_lines import served_base, start_line
from roselora.ui.bodies import Ask, Edit, ExportTo, Many, Note, Nothing, Suggest, Switch
from roselora.ui.conversation import answers
from roselora.ui.jobs import Progress
from roselora.ui.neutral_divergence import divergence, neutral_predictions
from roselora.ui.proof_questions import (
    proof_questions,
    suggested_neighbours,
    suggested_rephrasings,
)

TOGETHER = 8
"""How many questions are asked at a time, so that a job can be cancelled between."""


class Actions:
    """Everything that asks or changes a model; one job calls them at a time.

    Args:
        editor: whose model is asked and edited.
        exports: the folder of exports, made when it is needed.
        settings: how each method trains.

    Attributes:
        last_check: when the last check was, of which active edits, and what it found.
    """

    def __init__(self, editor: Editor, exports: Path, settings: Mapping[str, Settings]) -> None:
        self._editor, self._exports, self._settings = editor, exports, settings
        self.last_check: dict[str, Any] | None = None

    def ask(self, body: Ask, progress: Progress) -> dict[str, str]:
        """What the base and the edited model say to a question."""
        progress.last_stage("asking")
        edited = answers(self._editor.model, self._editor.tokenizer, body)
        with self._editor.without_edits():
            base = answers(self._editor.model, self._editor.tokenizer, body)
        return {
            "base": base[0],
            "edited": edited[0],
            "base_follow_up": base[1],
            "edited_follow_up": edited[1],
        }

    def suggest(self, body: Suggest, progress: Progress) -> dict[str, Any]:
        """A prompt's subject, test prompts, neighbours and consequences."""
        subject = body.subject or guess_subject(body.prompt)
        model, tokenizer = self._editor.model, self._editor.tokenizer
        implied: Sequence[EditRequest] = ()
        if body.target is not None:
            progress.stage("looking for consequences")
            implied = self._editor.consequences(EditRequest(body.prompt, body.target, body.subject))
        progress.last_stage("looking for neighbours")
        return {
            "consequences": [
                {name: vars(fact)[name] for name in ("prompt", "target", "subject", "rephrasings")} for fact in implied
            ],
            "subject": subject,
            "held_out": suggested_rephrasings(body.prompt),
            "keep": suggested_neighbours(model, tokenizer, body.prompt, subject),
        }

    def edit(self, body: Edit, progress: Progress) -> dict[str, Any]:
        """An edit, and what was asked before and after it."""
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
        progress.stage("training", editor.settings.max_steps * len(request.facts))
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
            row = {"kind": question.kind, "prompt": question.prompt, "form": question.form, "target": question.target}
            rows.append({**row, "before": was, "after": now, "good": question.is_good(was, now)})
        return {**summary(edit), "proof": rows, "divergence": divergence(old, new), "provenance": edit.provenance}

    def many(self, body: Many, progress: Progress) -> dict[str, Any]:
        """What became of each fact of a file."""
        editor = self._editor
        editor.settings = self._settings[body.method]
        requests = requests_in(body.text, body.kind)
        new = still_to_edit(requests, editor.edits)
        self._measure(progress)
        progress.stage("editing", len(new))
        # By what is asked itself, for an edit may lack consequences that could not be made.
        facts = {
            request.facts[0]: {"prompt": request.prompt, "target": request.target, "state": "already there", "why": ""}
            for request in requests
        }
        done = 0

        def seen(request: EditRequest, state: str, why: str = "") -> None:
            nonlocal done
            facts[request.facts[0]] |= {"state": state, "why": why}
            progress.show({"facts": list(facts.values())})
            done += 1
            progress.step(done)

        for request in new:
            facts[request.facts[0]]["state"] = "waiting"
        progress.show({"facts": list(facts.values())})
        editor.edit_many(
            new,
            lambda edit: seen(edit.request, "done", left_out(edit)),
            lambda request, error: seen(request, "failed", str(error)),
        )
        return {"facts": list(facts.values())}

    def undo(self, body: Switch, progress: Progress) -> dict[str, Any]:
        """The edit that was undone."""
        progress.last_stage("undoing")
        return summary(self._editor.undo(body.id))

    def redo(self, body: Switch, progress: Progress) -> dict[str, Any]:
        """The edit that was redone."""
        progress.last_stage("redoing")
        return summary(self._editor.redo(body.id))

    def note(self, body: Note, progress: Progress) -> dict[str, Any]:
        """The event of the note."""
        progress.last_stage("writing the note")
        with self._editor.store.writing():
            return asdict(self._editor.store.note(self._editor.show(body.id).id, body.text))

    def check(self, _: Nothing, progress: Progress) -> dict[str, Any]:
        """What `Editor.check` found; `last_check` keeps it."""
        at = 0

        def asked(done: int, of: int) -> None:
            nonlocal at
            if at == 0 or done <= at:  # a pass begins
                progress.stage("checking", of)
            progress.step(done)
            at = done

        progress.stage("checking")
        active, report = [edit.id for edit in self._editor.edits], self._editor.check(asked)
        kept = [{**asdict(answer), "moved": answer.moved} for answer in report.kept]
        found = {"clean": report.clean, **asdict(report), "kept": kept}
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self.last_check = {"time": time, "active": active, **found}
        return found

    def repair(self, _: Nothing, progress: Progress) -> list[dict[str, Any]]:
        """The edits that were trained anew."""
        progress.stage("repairing", len(self._editor.edits))
        made: list[StoredEdit] = []

        def repaired(edit: StoredEdit) -> None:
            made.append(edit)
            progress.show([summary(each) for each in made])
            progress.step(len(made))

        self._editor.repair(repaired)
        return [summary(edit) for edit in made]

    def compare(self, _: Nothing, progress: Progress) -> dict[str, Any]:
        """The SHA-256 of all weights as they are, and the base's."""
        progress.last_stage("comparing every weight")
        now, base = fingerprint(self._editor.model), self._editor.store.base.sha256
        return {"sha256": now, "base_sha256": base, "equal": now == base}

    def export(self, body: ExportTo, progress: Progress) -> dict[str, Any]:
        """Where it was written, and the line that starts a server."""
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


def left_out(edit: StoredEdit) -> str:
    """Which consequences of an edit could not be made, and why."""
    facts = read_provenance(edit.provenance).left_out or ()
    return " ".join(f"Left out: {fact}" for fact in facts)
