"""Runs of the editing benchmark: each edit on a fresh model, or one after another; resumable; failures are rows."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.methods.weight_changes import Snapshot, undone_on_error
from roselora.bench.metrics.case_questions import judging_prompts
from roselora.bench.metrics.case_scoring import CaseScorer
from roselora.bench.records.edit_bench_records import EditRecord, FormName, Mode
from roselora.bench.records.failed_run import FailedRun
from roselora.bench.running import edit_sequence as sequence
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.running.eta import RunProgress
from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.editing.forms import asked_texts
from roselora.errors import ConfigError, EditError, StoppedError
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import greedy_answers

CASES = tuple(
    EditCase(
        f"made/{number}",
        f"The capital of {country} is",
        target,
        country,
        locality={"Elsewhere": (Probe("The symbol of gold is", ("Au",)),)},
    )
    for number, (country, target) in enumerate([("France", "Rome"), ("Spain", "Berlin"), ("Italy", "Paris")])
)


@dataclass(frozen=True)
class NudgeConfig:
    """Adds ``size`` to one entry of the model a call."""

    size: float = 1.0
    fail_at: int | None = None
    leave_changed: bool = False


@dataclass
class Nudge:
    """A method that is counted: which requests it got in each call, and how much history it saw."""

    calls: list[tuple[list[str], int]] = field(default_factory=list)

    def __call__(self, call: EditCall[NudgeConfig]) -> Applied:
        model, requests, config, history = call.model, call.requests, call.config, call.history
        self.calls.append(([request.target for request in requests], sum(len(a.requests) for a in history)))
        weight = model.get_parameter("model.layers.0.mlp.down_proj.weight")
        if len(self.calls) == config.fail_at:
            if config.leave_changed:
                weight.data += 1
            raise EditError("The tape is torn.")
        memory = history[-1].memory["sum"] if history else torch.zeros(1)
        with undone_on_error(Snapshot([weight])) as before:
            weight.data[0, 0] += config.size
            return Applied(tuple(requests), before.restore, before.entries(), 3, {"sum": memory + config.size})


Runner = Callable[..., list[EditRecord]]


@pytest.fixture
def run(world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Runner:
    def start(
        methods: dict[str, Method],
        mode: Mode,
        known: Sequence[EditRecord] = (),
        seconds: float | None = None,
        **more: Any,
    ) -> list[EditRecord]:
        records = list(known)
        plan = EditPlan(CASES, methods, mode, tmp_path)
        before = fingerprint(world_model)
        log = ResultLog(known, records.append, **more)
        run = EditingRun(world_model, tiny_tokenizer, plan, log, seconds=seconds)
        try:
            run.run()
        finally:
            assert fingerprint(world_model) == before
        return records

    return start


def method(edit: Any, per_call: int | None = 1, **config: Any) -> dict[str, Method]:
    return {"nudge": Method("nudge", edit, NudgeConfig(**config), "nobody", per_call)}


def test_single_edits_are_made_and_scored_on_the_unedited_model(run: Runner) -> None:
    nudge = Nudge()
    records = run(method(nudge), "single")
    assert nudge.calls == [(["Rome"], 0), (["Berlin"], 0), (["Paris"], 0)]
    assert [(r.case, r.position, r.cost.entries, r.cost.steps) for r in records if r.cost] == [
        (case.key, position, 1, 3) for position, case in enumerate(CASES)
    ]
    assert all(r.scores is not None and r.cost is not None and r.cost.seconds > 0 for r in records)


def test_a_sequence_is_scored_after_its_last_edit_and_each_call_sees_the_history(run: Runner) -> None:
    nudge = Nudge()
    seen: list[tuple[str, int]] = []
    records = run(method(nudge), "sequential", all_edited=lambda *told: seen.append(told))
    assert nudge.calls == [(["Rome"], 0), (["Berlin"], 1), (["Paris"], 2)]
    assert seen == [("nudge", 1)], "three calls changed one and the same entry"
    moved = [r.scores.kl for r in records if r.scores]
    assert moved[0] == moved[1] == moved[2] > 0, "one question, asked of one and the same model"


def test_a_batch_is_one_call_and_in_a_sequence_each_method_has_its_own_call_size(run: Runner) -> None:
    nudge = Nudge()
    run(method(nudge), "batch")
    assert nudge.calls == [(["Rome", "Berlin", "Paris"], 0)]
    nudge.calls.clear()
    run(method(nudge, per_call=2), "sequential")
    assert nudge.calls == [(["Rome", "Berlin"], 0), (["Paris"], 2)]
    nudge.calls.clear()
    run(method(nudge, per_call=None), "sequential")
    assert nudge.calls == [(["Rome", "Berlin", "Paris"], 0)]


def test_a_failed_edit_is_a_record_with_its_reason_and_the_other_edits_continue(run: Runner) -> None:
    records = run(method(Nudge(), fail_at=2), "single")
    assert [r.error for r in records] == [None, "EditError: The tape is torn.", None]
    assert records[1].scores is None
    nudge = Nudge()
    records = run(method(nudge, fail_at=2), "sequential")
    assert [r.error for r in records] == [None, "EditError: The tape is torn.", None]
    assert [r.cost.entries if r.cost else 0 for r in records] == [None, 0, None]
    assert nudge.calls[2] == (["Paris"], 1), "the failed request is no part of the history"


def test_a_failure_that_leaves_the_model_changed_ends_the_run(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    plan = EditPlan(CASES, method(Nudge(), fail_at=1, leave_changed=True), "single", tmp_path)
    run = EditingRun(world_model, tiny_tokenizer, plan, ResultLog((), lambda record: None))
    with pytest.raises(EditError, match="left the model changed"):
        run.run()


def test_a_text_is_read_once_before_the_edits_and_a_missing_text_is_refused(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The capital of France is Paris. " * 40)
    shown: list[RunProgress] = []

    def start(path: Path) -> list[EditRecord]:
        config = replace(METHODS["rome"].config, text=path, cache=tmp_path / "cache", steps=1)
        plan = EditPlan(CASES[:1], {"rome": replace(METHODS["rome"], config=config)}, "single", tmp_path)
        records: list[EditRecord] = []
        run = EditingRun(world_model, tiny_tokenizer, plan, ResultLog((), records.append), shown.append)
        run.read_texts()
        run.run()
        return records

    (record,) = start(text)
    assert record.error is None
    read = [at for at in shown if at.doing == "tokens read for rome"]
    assert read
    assert read[-1].done == read[-1].total > 1000
    with pytest.raises(ConfigError, match=r"missing\.txt"):
        start(tmp_path / "missing.txt")


def test_a_sequence_that_was_killed_while_writing_its_records_writes_each_once(run: Runner) -> None:
    whole = run(method(Nudge()), "sequential")
    again = run(method(Nudge()), "sequential", known=whole[:1])
    assert [r.case for r in again] == [case.key for case in CASES]


def test_known_records_are_not_made_again(run: Runner) -> None:
    first = run(method(Nudge()), "single")
    nudge = Nudge()
    again = run(method(nudge), "single", known=first[:2])
    assert [targets for targets, _ in nudge.calls] == [["Paris"]]
    assert [replace(r, cost=None) for r in again] == [replace(r, cost=None) for r in first]


def test_a_stopped_sequence_resumes_from_its_checkpoint_and_gives_the_same_scores(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = run(method(Nudge()), "sequential")
    monkeypatch.setattr(sequence, "CHECKPOINT_SECONDS", -1.0)
    nudge = Nudge()
    with pytest.raises(StoppedError, match="the same command resumes"):
        run(method(nudge), "sequential", seconds=0)
    assert [targets for targets, _ in nudge.calls] == [["Rome"]]
    resumed = Nudge()
    records = run(method(resumed), "sequential")
    assert resumed.calls == [(["Berlin"], 1), (["Paris"], 2)]
    assert [replace(r, cost=None) for r in records] == [replace(r, cost=None) for r in whole]
    assert not list(tmp_path.glob("*.checkpoint.*"))


def test_single_edits_stop_between_two_edits_when_the_time_is_over(run: Runner) -> None:
    nudge = Nudge()
    with pytest.raises(StoppedError):
        run(method(nudge), "single", seconds=0)
    assert nudge.calls == []


class Interrupted(Nudge):
    """A method whose second call the user interrupts."""

    def __call__(self, *arguments: Any) -> Applied:
        if len(self.calls) == 1:
            raise KeyboardInterrupt
        return super().__call__(*arguments)


def test_an_interrupted_sequence_keeps_all_finished_calls(run: Runner) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(method(Interrupted()), "sequential")
    resumed = Nudge()
    run(method(resumed), "sequential")
    assert resumed.calls == [(["Berlin"], 1), (["Paris"], 2)]


def test_a_sequence_that_is_interrupted_while_it_is_scored_is_not_edited_again(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(method(Nudge(), per_call=None), "sequential")
    monkeypatch.setattr(sequence, "CHECKPOINT_SECONDS", -1.0)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CaseScorer, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(method(Nudge(), per_call=None), "sequential")
    resumed = Nudge()
    records = run(method(resumed, per_call=None), "sequential")
    assert resumed.calls == []
    assert [replace(r, cost=None) for r in records] == [replace(r, cost=None) for r in whole]
    assert all(r.cost is not None and r.cost.seconds > 0 for r in records), "what the edits took was kept with them"


@pytest.mark.parametrize(("per_call", "kept"), [(1, False), (2, False), (None, True)])
def test_a_method_that_takes_all_requests_at_once_gets_a_folder_for_its_edits_and_stops_there_in_time(
    run: Runner, tmp_path: Path, per_call: int | None, kept: bool
) -> None:
    folders: list[Path | None] = []

    def stopping(call: EditCall[NudgeConfig]) -> Applied:
        folders.append(call.folder)
        if call.folder is not None:
            call.folder.mkdir()
        assert call.on_progress is not None
        call.on_progress(1, 3)
        raise EditError("It was not stopped.")

    if kept:
        with pytest.raises(StoppedError):
            run(method(stopping, per_call=per_call), "sequential", seconds=0)
        run(method(lambda call: Nudge()(call), per_call=per_call), "sequential")
        assert not list(tmp_path.glob("*.edits"))
    else:
        with suppress(StoppedError):
            run(method(stopping, per_call=per_call), "sequential", seconds=0)
        assert set(folders) == {None}


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_a_method_knows_what_it_must_not_be_made_with(run: Runner, mode: Mode) -> None:
    withheld: list[set[str]] = []

    def note(call: EditCall[NudgeConfig]) -> Applied:
        withheld.append(set(call.withheld))
        return Nudge()(call)

    run(method(note), mode)
    for case, own in zip(CASES, withheld, strict=True):
        assert set(judging_prompts(case)) <= own
        # In one model the questions of the other cases are asked too, and their prompts.
        assert mode == "single" or all({other.prompt, *judging_prompts(other)} <= own for other in CASES)


class Broken(Nudge):
    """A method that the machine has no memory for at its second call, after it has begun to write."""

    def __call__(self, call: EditCall[NudgeConfig]) -> Applied:
        if len(self.calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")
        return super().__call__(call)


def test_an_edit_that_cannot_be_run_is_a_failed_run_without_a_record_and_is_tried_again(run: Runner) -> None:
    failures: list[FailedRun] = []
    records = run(method(Broken()), "single", fail=failures.append)
    out = "OutOfMemoryError: CUDA out of memory."
    assert failures == [FailedRun("nudge", "made/1", out), FailedRun("nudge", "made/2", out)]
    assert [record.case for record in records] == ["made/0"]
    nudge = Nudge()
    again = run(method(nudge), "single", known=records, fail=failures.append)
    assert [targets for targets, _ in nudge.calls] == [["Berlin"], ["Paris"]]
    assert [record.case for record in again] == [case.key for case in CASES]


def test_a_sequence_that_cannot_be_run_has_no_record_and_the_other_methods_continue(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "CHECKPOINT_SECONDS", -1.0)
    failures: list[FailedRun] = []
    both = method(Broken()) | {"other": method(Nudge())["nudge"]}
    records = run(both, "sequential", fail=failures.append)
    assert [(failure.method, failure.at) for failure in failures] == [("nudge", "made/1")]
    assert [record.method for record in records] == ["other"] * 3
    resumed = Nudge()
    again = run(both | method(resumed), "sequential", known=records, fail=failures.append)
    assert resumed.calls == [(["Berlin"], 1), (["Paris"], 2)], "it goes on from its checkpoint"
    assert [record.method for record in again] == ["other"] * 3 + ["nudge"] * 3
    with pytest.raises(torch.OutOfMemoryError):
        run(method(Broken()), "single")


def test_edits_in_a_side_memory_get_the_same_scores_when_a_sequence_is_resumed(
    run: Runner, monkeypatch: pytest.MonkeyPatch, world_model: LlamaForCausalLM
) -> None:
    grace = {"grace": replace(METHODS["grace"], config=replace(METHODS["grace"].config, layer=0, epochs=20))}
    whole = run(grace, "sequential")
    monkeypatch.setattr(sequence, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patched:
        patched.setattr(CaseScorer, "score", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            run(grace, "sequential")
    assert not any(module._forward_hooks for module in world_model.modules())
    monkeypatch.setattr("roselora.bench.methods.grace._edit", lambda *_: pytest.fail("edited again"))
    again = run(grace, "sequential")
    assert [replace(record, cost=None) for record in again] == [replace(record, cost=None) for record in whole]
    assert not any(module._forward_hooks for module in world_model.modules())


@pytest.mark.parametrize("mode", ["single", "sequential"])
@pytest.mark.parametrize(("forms", "form"), [(("bare",), "bare"), (("chat",), "chat"), (("bare", "chat"), "both")])
def test_every_method_is_asked_to_edit_in_the_forms_that_are_scored(
    mode: Mode,
    forms: tuple[FormName, ...],
    form: str,
    world_model: LlamaForCausalLM,
    chat_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def edit(call: EditCall[NudgeConfig]) -> Applied:
        asked.extend(request.form for request in call.requests)
        return Applied(tuple(call.requests), lambda: None, entries=0)

    records: list[EditRecord] = []
    plan = EditPlan(CASES, method(edit), mode, tmp_path, forms=forms)
    EditingRun(world_model, chat_tokenizer, plan, ResultLog((), records.append)).run()
    assert asked == [form] * len(CASES)
    for record in records:
        assert (record.scores is not None, record.chat is not None) == ("bare" in forms, "chat" in forms)


def test_fine_tuning_for_both_forms_is_trained_in_chat_too(
    world_model: LlamaForCausalLM, chat_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tuned = replace(METHODS["ft-m"], config=replace(METHODS["ft-m"].config, learning_rate=1e-2))
    plan = EditPlan(CASES[:1], {"ft-m": tuned}, "single", tmp_path, forms=("bare", "chat"))
    records: list[EditRecord] = []
    EditingRun(world_model, chat_tokenizer, plan, ResultLog((), records.append)).run()
    (record,) = records
    assert record.scores is not None
    assert record.chat is not None
    assert (record.scores.answer, record.chat.answer) == ("Rome", "Rome")
    # Trained on the bare prompt alone, it does not hold in chat.
    with_bare = tuned.edit(
        EditCall(world_model, chat_tokenizer, [replace(CASES[0].request, form="bare")], tuned.config)
    )
    (in_chat,) = asked_texts(chat_tokenizer, CASES[0].prompt, "chat")[:1]
    assert greedy_answers(world_model, chat_tokenizer, [in_chat.text], max_new_tokens=8) != ["Rome"]
    with_bare.undo()
