"""A page that is served over the tiny world model, and a browser, if this machine has one."""

import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright

from roselora.editing.editor import Editor
from roselora.models import LoadedModel
from roselora.ui.app import create_app
from roselora.ui.command_lines import Invocation
from roselora.ui.session import Session
from tests.editing.gate_edits import FACTORS, SETTINGS

TOKEN = "0123456789abcdef"


@dataclass
class Served:
    """A page, and how to call its API."""

    session: Session
    editor: Editor
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def page(self) -> str:
        return f"{self.address}#token={TOKEN}"

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """The status and the JSON of a response; a header named None is left out."""
        own = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        given = own | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name: value for name, value in given.items() if value})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    def do(self, action: str, **body: Any) -> dict[str, Any]:
        """A job, once it is finished."""
        status, job = self.send("POST", f"/api/{action}", json.dumps(body).encode())
        assert status == 202, job
        while job["state"] not in ("done", "failed", "cancelled"):
            _, job = self.send("GET", f"/api/jobs/{job['id']}?wait=5")
        return dict(job)


@pytest.fixture
def serve(tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Served]]:
    """Serves a model, with its store and exports in the test's folder, until the test ends."""
    monkeypatch.chdir(tmp_path)
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(model: Any) -> Served:
        editor = Editor(LoadedModel(model, tiny_tokenizer, "world"), SETTINGS, "edits")
        settings = {"gate": SETTINGS, "rose": FACTORS}
        session = Session(editor, Invocation("world", "edits", Path("exports")), settings)
        listening = socket.create_server(("127.0.0.1", 0))
        app = create_app(session, TOKEN, ["127.0.0.1", "localhost"])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread))
        return Served(session, editor, listening.getsockname()[1])

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


@pytest.fixture
def served(serve: Callable[[Any], Served], world_model: Any) -> Served:
    """A page over the tiny world model."""
    return serve(world_model)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
