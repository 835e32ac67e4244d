"""One run at a time writes to an output, nothing of another's is overwritten, and nothing half-made is left."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from roselora.errors import ConfigError, ModelError, NonFiniteError, RoseLoraError
from roselora.training.config_file import as_yaml
from roselora.training.train_settings import TrainSettings
from roselora.training.training_progress import StepReport
from roselora.training.training_run import Finished, plan, train
from roselora.writer_lock import LockedError, writer_lock
from tests.training.runs import finished, interrupted, killed

Settings = Callable[..., TrainSettings]


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_second_run_into_one_output_is_refused_at_once_and_the_first_is_whole(settings: Settings) -> None:
    first, second = settings(), settings(training={"seed": 1})
    refused: list[str] = []

    def start_second(report: StepReport) -> None:
        if report.step == 2:
            with pytest.raises(LockedError, match="is locked by process"):
                train(second)
            refused.append("yes")

    outcome = finished(first, on_step=start_second)
    assert refused == ["yes"]
    assert sorted(path.name for path in Path(first.output).iterdir()) == [
        "adapter",
        "config.yaml",
        "delta.safetensors",
        "log.jsonl",
        "metrics.json",
    ]
    assert "seed: 0" in Path(outcome.settings.output, "config.yaml").read_text()


def test_what_a_killed_process_leaves_of_a_lock_keeps_nobody_out(settings: Settings) -> None:
    output = Path(settings().output)
    output.mkdir()
    with writer_lock(output / "lock"):
        left = (output / "lock.holder").read_bytes()
    (output / "lock.holder").write_bytes(left)
    (output / ".lock.holder.0123456789abcdef.tmp").write_bytes(b"")
    finished(settings())


def test_an_output_that_is_not_empty_is_refused_and_left_alone(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="not empty, and holds no whole checkpoint"):
            train(settings(), resume=resume)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_there_is_nothing_to_resume_in_a_folder_that_is_empty_or_not_there(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run to resume; start without --resume"):
        train(settings(), resume=True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="holds no run to resume; start without --resume"):
        train(settings(), resume=True)


MANIFEST_WRITER = "roselora.training.checkpoints.write_atomically"
WEIGHTS_RENAMER = "roselora.models.model_saving.put_in_place"


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (MANIFEST_WRITER, {"config.yaml", "checkpoints"}),
        (WEIGHTS_RENAMER, {"config.yaml", "checkpoints", "delta.safetensors", "log.jsonl", "metrics.json"}),
    ],
)
def test_a_run_that_was_killed_without_a_whole_checkpoint_starts_again_over_its_own_files(
    settings: Settings, tmp_path: Path, at: str, left: set[str]
) -> None:
    training = {"save_steps": 10} if at == MANIFEST_WRITER else {}
    run = settings(training=training)
    killed(run, at)
    assert {path.name for path in Path(run.output).iterdir() if not path.name.startswith((".", "lock"))} == left
    assert any(run.checkpoints.glob("checkpoint-*/optimizer.pt")) == (at == MANIFEST_WRITER)
    with pytest.raises(ConfigError, match="holds no whole checkpoint to resume from; start without --resume"):
        train(run, resume=True)
    again = finished(run)
    whole = finished(settings(training=training, output=str(tmp_path / "whole")))
    assert again.artifacts.sha256["adapter/adapter_model.safetensors"] in whole.artifacts.sha256.values()
    assert sorted(path.name for path in Path(run.output).iterdir()) == sorted(
        path.name for path in Path(whole.settings.output).iterdir()
    )


def as_killed(run: TrainSettings) -> None:
    """Leave in the output what a run leaves that is killed while it writes its first checkpoint."""
    (run.checkpoints / "checkpoint-4").mkdir(parents=True)
    (run.checkpoints / "checkpoint-4" / "optimizer.pt").write_bytes(b"half")
    Path(run.output, "config.yaml").write_text(as_yaml(run))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "model: x\n"),
        ("config.yaml", None),
        ("mine.txt", "keep"),
        ("adapter/adapter_config.json", "{}"),
        ("checkpoints/mine.txt", "keep"),
        ("checkpoints/checkpoint-4/whole.json", "{}"),  # it was whole before it was damaged
    ],
)
def test_files_that_are_not_all_an_unfinished_runs_own_are_refused_and_left_alone(
    settings: Settings, name: str, text: str | None
) -> None:
    run = settings()
    as_killed(run)
    path = Path(run.output, name)
    path.parent.mkdir(exist_ok=True)
    path.unlink() if text is None else path.write_text(text)
    before = contents(Path(run.output))
    for resume in (False, True):
        with pytest.raises(
            ConfigError, match=r"is not empty, (and holds no whole checkpoint|but holds a finished run)"
        ):
            train(run, resume=resume)
    assert contents(Path(run.output)) == before


def test_another_run_does_not_start_over_the_files_of_one_that_was_killed(settings: Settings) -> None:
    as_killed(settings())
    before = contents(Path(settings().output))
    with pytest.raises(ConfigError, match="not empty, and holds no whole checkpoint to resume from; name another"):
        train(settings(training={"seed": 1}))
    assert contents(Path(settings().output)) == before


def test_a_plan_leaves_the_files_of_a_killed_run_alone(settings: Settings) -> None:
    as_killed(settings())
    before = contents(Path(settings().output))
    assert plan(settings(), resume=False)[1] is None
    assert contents(Path(settings().output)) == before


def test_a_finished_run_is_not_trained_again(settings: Settings) -> None:
    run = settings(training={"save_steps": 4})
    finished(run)
    for resume in (False, True):
        with pytest.raises(ConfigError, match="holds a finished run"):
            train(run, resume=resume)


def test_a_run_that_fails_before_its_first_checkpoint_leaves_the_output_as_it_was(
    settings: Settings, tmp_path: Path
) -> None:
    outcomes = []
    for existing in (False, True):
        if existing:
            (tmp_path / "out").mkdir()
        with pytest.raises(NonFiniteError) as caught:
            train(settings(method="full", training={"learning_rate": 1e30, "max_grad_norm": 1e30}))
        outcomes.append(str(caught.value))
        assert (tmp_path / "out").exists() == existing
        assert not existing or not any((tmp_path / "out").iterdir())
    assert outcomes[0] == outcomes[1]


def test_a_disk_that_is_full_at_the_end_leaves_the_checkpoints_and_nothing_half_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = settings(training={"save_steps": 4})
    with monkeypatch.context() as patch:
        patch.setattr("roselora.training.artifacts.write_atomically", full)
        with pytest.raises((OSError, ModelError), match="No space left"):
            train(run)
    assert sorted(path.name for path in Path(run.output).iterdir()) == ["checkpoints", "config.yaml"]
    finished(run, resume=True)


def test_a_disk_that_is_full_at_the_description_leaves_no_finished_run_without_one(settings: Settings) -> None:
    def full(outcome: Finished, folder: Path) -> None:
        assert (folder / "adapter_model.safetensors").is_file()
        assert set(outcome.artifacts.sha256) == {"adapter/adapter_model.safetensors", "delta.safetensors"}
        raise OSError(28, "No space left on device")

    run = settings(training={"save_steps": 4})
    with pytest.raises(ModelError, match=r"adapter could not be written \(No space left"):
        train(run, describe=full)
    assert sorted(path.name for path in Path(run.output).iterdir()) == ["checkpoints", "config.yaml"]
    outcome = finished(run, resume=True, describe=lambda _, folder: (folder / "README.md").write_text("whole"))
    assert (outcome.artifacts.folder / "README.md").read_text() == "whole"


@pytest.mark.parametrize("output", ["x" * 300, "file/under", f"new/{'x' * 300}"])
def test_an_output_that_cannot_be_made_is_one_sentence_and_makes_nothing(
    settings: Settings, tmp_path: Path, output: str
) -> None:
    (tmp_path / "file").write_text("")
    run = settings(output=str(tmp_path / output))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RoseLoraError, match=r"cannot be written to \((File name too long|Not a directory)"):
        train(run)
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupted_run_holds_its_lock_no_longer(settings: Settings) -> None:
    interrupted(settings(), 3)
    assert not Path(settings().output, "lock").exists()
    finished(settings(), resume=True)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory", "ran out of memory at step 1; lower training.batch_size"),
        (RuntimeError, "a library's own", "a library's own"),
    ],
)
def test_an_error_of_the_libraries_cleans_up_as_ours_does(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RuntimeError],
    words: str,
    message: str,
) -> None:
    # Made anew: an error that lives on, as a parameter does, keeps the model that it was raised under alive.
    def broken(*_: object, **__: object) -> None:
        raise kind(words)

    monkeypatch.setattr("transformers.Trainer.training_step", broken)
    with pytest.raises((ModelError, RuntimeError), match=message):
        train(settings())
    assert not (tmp_path / "out").exists()
