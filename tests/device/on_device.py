"""What runs on an accelerator, in a process of its own; `test_device.py` starts it."""

from dataclasses import replace

import pytest
import torch

from roselora import float64 as precision
from roselora.adapter.density_check import verify
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.methods.ft_l import norm_ball
from roselora.bench.metrics.lm_eval_harness import ANSWER, CHOICE, run_tasks
from roselora.bench.metrics.perplexity import text_losses
from roselora.bench.running import task_answers as asking
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.running.tuning_plan import TuningRequest, make_plan
from roselora.bench.running.tuning_run import run
from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.delta.overlay import Overlay
from roselora.editing.editor import Editor
from roselora.editing.methods.gate import reference_statistics, training_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.errors import StoppedError
from roselora.models import LoadedModel
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import greedy_answers
from roselora.serving.lora_folder import import_lora
from roselora.training.footprint import entries_changed
from roselora.training.training_run import Finished, train
from tests.adapter.conftest import STEPS
from tests.bench.methods.editing import FRANCE, GOLD, TINY, ask, edit
from tests.bench.methods.test_locate_then_edit import GERMAN, OSLO, set_up
from tests.device.accelerator import NAME
from tests.words import SENTENCES


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: there * here,
        lambda here, there: here @ there,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: torch.where(here > 0, here, there),
        lambda here, there: there.index_select(0, here[0].long()),
        lambda here, there: here.index_select(0, torch.tensor(0)),
        lambda here, there: there[here[0].long()],
        lambda here, there: there.add_(here),
        lambda here, there: torch.zeros(()).add_(here.sum()),
        lambda here, there: torch.nn.functional.embedding(there[0].long(), here),
        lambda here, there: here.index_put_((here[0].long(),), there[0]),
        lambda here, there: torch.add(here, 1, out=torch.empty(3, 3)),
    ],
)
def test_tensors_on_different_devices_are_refused_as_cuda_refuses_them(mix):
    with pytest.raises(RuntimeError, match="on"):
        mix(torch.ones(3, 3, device=NAME), torch.ones(3, 3))


def test_what_cuda_allows_is_computed_as_on_the_cpu():
    values = torch.arange(12.0).reshape(3, 4)
    here = values.to(NAME)
    assert here.device.type == NAME
    assert torch.equal((here + torch.tensor(2.0)).cpu(), values + 2)
    assert torch.equal(here[torch.tensor([2, 0])].cpu(), values[[2, 0]])
    here[torch.tensor([0])] = 7.0
    assert here[0].tolist() == [7.0] * 4
    here.copy_(values)
    assert torch.equal(here.cpu(), values)
    here.view(-1)[1:3] = 5
    assert here.cpu().flatten()[:4].tolist() == [0, 5, 5, 3]


def test_a_module_keeps_its_tied_weights_and_its_gradients_are_on_the_device(tiny_model, tiny_tokenizer):
    model = tiny_model().to(NAME)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = torch.tensor([[5, 6, 7]], device=NAME)
    model(input_ids=ids, labels=ids).loss.backward()
    assert {p.device.type for p in model.parameters()} == {p.grad.device.type for p in model.parameters()} == {NAME}


@pytest.fixture
def world(world_model, tiny_tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(reference_statistics, "NEW_TOKENS", 12)
    monkeypatch.setattr(training_texts, "OPENINGS", ())  # of whose words this model knows none
    return LoadedModel(world_model.to(NAME), tiny_tokenizer, "tiny")


@pytest.fixture
def without_float64(monkeypatch):
    """The device is as MPS is, not as CUDA is."""
    if not torch.cuda.is_available():
        monkeypatch.setattr("tests.device.pretend.has_float64", False)
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", {NAME})


@pytest.fixture(params=[False, True], ids=["as CUDA", "as MPS"])
def either(request):
    if request.param:
        request.getfixturevalue("without_float64")


@pytest.mark.usefixtures("without_float64")
@pytest.mark.parametrize(
    "method",
    [
        GateSettings(**TINY["gate"]),
        EditSettings(**TINY["rose"]),
    ],
)
def test_an_edit_is_made_checked_exported_and_taken_back_by_both_methods(world, method, tmp_path):
    before = fingerprint(world.model)
    editor = Editor(world, method, tmp_path / "store")
    edit = editor.edit(FRANCE.prompt, FRANCE.target, rephrasings=["France has its capital in "], keep=["Snow is "])
    editor.edit_many([GOLD])
    assert editor.answers([FRANCE.prompt, GOLD.prompt]) == ["Rome.", "Fe."]
    editor.repair()
    assert all(state.holds for state in editor.check().edits)
    editor.export(tmp_path / "merged")
    again = Editor.open(tmp_path / "merged", device=NAME)
    assert again.model.device.type == NAME
    assert fingerprint(again.model) == fingerprint(editor.model)
    editor.undo(edit.id)
    editor.redo(edit.id)
    for each in editor.edits:
        editor.undo(each.id)
    assert fingerprint(editor.model) == before


# ROME and its kin follow below.
OTHERS = [name for name in METHODS if name not in ("rome", "memit", "alphaedit")]


@pytest.mark.parametrize("name", OTHERS)
def test_every_method_edits_twice_and_is_undone(name, world):
    model, before = world.model, fingerprint(world.model)
    first = edit(name, model, world.tokenizer, FRANCE)
    second = edit(name, model, world.tokenizer, GOLD, history=(first,))
    assert ask(model, world.tokenizer, GOLD) == ["Au." if name in ("no-edit", "fact-in-prompt") else "Fe."]
    second.undo()
    first.undo()
    assert fingerprint(model) == before


@pytest.mark.usefixtures("without_float64")
def test_the_norm_ball_of_fine_tuning_needs_no_float64_on_the_device():
    center = torch.tensor([1.0, -2.0, 3e-8], dtype=torch.bfloat16)
    for edge, there in zip(norm_ball(center, 1e-2), norm_ball(center.to(NAME), 1e-2), strict=True):
        assert there.device.type == NAME
        assert torch.equal(there.cpu(), edge)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("name", ["rome", "memit", "alphaedit"])
def test_methods_in_closed_form_edit_twice_and_are_undone(name, word_model, word_tokenizer, tmp_path):
    text = tmp_path / "sentences.txt"
    text.write_text(" <eos> ".join(SENTENCES * 4))
    model = word_model.to(NAME)
    call, config = set_up(name, text)
    before = fingerprint(model)
    first = call(model, word_tokenizer, [OSLO], config)
    # As from a checkpoint, which a run on the CPU has left.
    history = (replace(first, memory={key: tensor.cpu() for key, tensor in first.memory.items()}),)
    second = call(model, word_tokenizer, [GERMAN], config, history)
    assert greedy_answers(model, word_tokenizer, [OSLO.prompt, GERMAN.prompt], max_new_tokens=4) == ["Oslo", "German"]
    second.undo()
    first.undo()
    assert fingerprint(model) == before


@pytest.mark.parametrize("method", ["rose", "loreft", "full"])
def test_training_runs_on_the_device_or_as_it_is_told_on_the_cpu(method, settings, monkeypatch, tmp_path):
    losses = {}
    for device in (NAME, "cpu"):
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", device)  # accelerate knows no strange device by itself
        made = settings(method=method, training={"max_steps": 4, "device": device}, output=str(tmp_path / device))
        outcome = train(made)
        assert isinstance(outcome, Finished)
        assert {p.device.type for p in outcome.prepared.model.parameters()} == {device}
        assert (entries_changed(outcome.prepared, outcome.settings) or 0) > 0 or method == "loreft"
        losses[device] = [line["loss"] for line in outcome.history if "loss" in line]
    assert losses[NAME] == pytest.approx(losses["cpu"], rel=1e-3)


def test_an_adapter_is_pruned_saved_and_made_a_delta_that_goes_on_and_off(adapted_model, token_ids, tmp_path):
    model = adapted_model().to(NAME)
    ids, optimizer = token_ids.to(NAME), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert verify(model).density == 0.25
    model.save_pretrained(tmp_path / "adapter")
    base = model.unload()
    before = fingerprint(base)
    delta = import_lora(tmp_path / "adapter", base)
    overlay = Overlay(base)
    overlay.apply("one", delta)
    assert fingerprint(base) != before
    overlay.remove("one")
    assert fingerprint(base) == before


@pytest.mark.parametrize("method", ["rose", "loreft", "full"])
def test_a_benchmark_trains_and_asks_on_the_device_and_says_so(method, data, tiny_model_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", NAME)
    asked = []
    monkeypatch.setattr(asking, "searched_texts", lambda model, *_, **__: asked.append(model.device.type) or ["true"])
    wanted = TuningRequest(
        benchmark="commonsense",
        protocol="loreft",
        model=str(tiny_model_folder),
        methods=(method,),
        seeds=(0,),
        folder=tmp_path / "out",
        sets=("boolq", "piqa"),
        overrides=("training.max_steps=2", "training.batch_size=2", "adapter.rank=2", "adapter.density=0.5"),
        data_dir=data,
        device=NAME,
    )
    plan = make_plan(wanted)
    run(plan, lambda *_: None, batch_size=1)
    assert asked == [NAME] * 6
    assert plan.head.machine["device"] == NAME


def test_a_stream_of_edits_is_run_scored_and_gone_on_with(world, tmp_path):
    cases = [
        EditCase(f"made/{number}", request.prompt, request.target, locality={"Elsewhere": (Probe("Snow is ", ("",)),)})
        for number, request in enumerate([FRANCE, GOLD])
    ]
    grace = replace(METHODS["grace"], config=replace(METHODS["grace"].config, **TINY["grace"]))
    plan = EditPlan(tuple(cases), {"grace": grace}, "sequential", tmp_path)
    records = []

    def start(seconds):
        log = ResultLog(list(records), records.append)
        EditingRun(world.model, world.tokenizer, plan, log, seconds=seconds).run()

    with pytest.raises(StoppedError):
        start(0.0)
    start(None)
    assert [record.error for record in records] == [None, None]
    assert [record.scores.reliability for record in records] == [1, 1]


def test_what_a_model_can_still_do_is_asked_on_the_device(world, monkeypatch):
    document = {"text": "The capital of France is", "choices": ["Paris.", "Rome."], "answer": 0}
    said = {"text": "The symbol of gold is", "answers": ["Au"]}
    found = run_tasks(world.model, world.tokenizer, {"choose": (CHOICE, [document]), "say": (ANSWER, [said])})
    assert found["choose"][0]["acc"] == 1
    assert text_losses(world.model, world.tokenizer, ["Snow is white and coal is black."])[0] < 1
    assert world.model.device.type == NAME
