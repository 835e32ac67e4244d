import shutil
import socket
from pathlib import Path

import huggingface_hub.constants
import pytest


@pytest.fixture
def connections(monkeypatch):
    """Every address that anything tries to reach; all of them fail."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.fixture
def offline(monkeypatch):
    """What an unreachable hub looks like, without its client's patient retries."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """A copy of the tiny model's folder that a test may spoil."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "copy"))


@pytest.fixture
def hub_cache(tiny_model_folder, tmp_path, monkeypatch):
    """A hub cache that holds the tiny model as owner/tiny."""
    repository = tmp_path / "hub" / "models--owner--tiny"
    commit = "a" * 40
    shutil.copytree(tiny_model_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository / "snapshots" / commit
