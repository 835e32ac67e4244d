import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from roselora.bench.metrics import judge as judging
from roselora.bench.metrics.judge import Judge, endpoint, judge_answers, verdict
from roselora.bench.records.run_files import read_records
from roselora.bench.records.tuning_bench_records import Answered, Judgement
from roselora.bench.tasks.instruct import Reference
from roselora.bench.tasks.task import Prediction
from roselora.errors import ConfigError

REFERENCES = [
    Reference(instruction=f"Name {number}.", output=f"reference {number}", dataset="koala") for number in range(8)
]
ANSWERS = [
    Answered("rose", 0, Prediction("alpaca_eval", f"f:{number}", "", f"ours {number}", float("nan"), ""))
    for number in range(8)
]


def no_progress(done: int, of: int) -> None:
    pass


@pytest.mark.parametrize(
    ("reply", "ours_first", "wins"),
    [
        ("A", True, 1.0),
        ("A", False, 0.0),
        (" b.\n", False, 1.0),
        ("**B**", True, 0.0),
        ("Answer A", True, 1.0),
        ("T", True, 0.5),
        ("Both are good", True, None),
        ("A, for B is wrong", True, None),
        ("", False, None),
    ],
)
def test_a_reply_is_read_only_where_it_names_one_letter(reply: str, ours_first: bool, wins: float | None) -> None:
    assert verdict(reply, ours_first) == wins


def prefers_ours(prompt: str) -> str:
    return "A" if prompt.index("ours") < prompt.index("reference") else "B"


def test_the_two_change_places_and_a_verdict_follows_the_answer(tmp_path: Path) -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return prefers_ours(prompt)

    judge_answers(tmp_path, ANSWERS, REFERENCES, Judge("j", ask), no_progress)
    judged = read_records(tmp_path, Judgement)
    assert {one.reply for one in judged} == {"A", "B"}
    assert [one.verdict for one in judged] == [1.0] * 8
    assert all(f"Name {n}." in prompt and f"ours {n}" in prompt for n, prompt in enumerate(prompts))


def test_a_judge_that_falls_silent_loses_nothing_and_is_not_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "PAUSE", 0.0)
    asked: list[str] = []

    def tires(prompt: str) -> str:
        asked.append(prompt)
        if len(asked) > 3:
            raise ConnectionError("gone.\nsecond line")
        return "T"

    with pytest.raises(ConfigError, match=r"judge j does not answer \(gone\)"):
        judge_answers(tmp_path, ANSWERS, REFERENCES, Judge("j", tires), no_progress)
    assert len(asked) == 3 + judging.TRIES
    judge_answers(tmp_path, ANSWERS, REFERENCES, Judge("j", prefers_ours), no_progress)
    assert [one.verdict for one in read_records(tmp_path, Judgement)] == [0.5] * 3 + [1.0] * 5
    judge_answers(tmp_path, ANSWERS, REFERENCES, Judge("other", prefers_ours), no_progress)
    assert len(read_records(tmp_path, Judgement)) == 16


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that speaks OpenAI's chat protocol, and what it was sent."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append({"path": self.path, "key": self.headers["Authorization"], **body})
            message = {"role": "assistant", "content": prefers_ours(body["messages"][0]["content"])}
            reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "id": "1", "created": 1}
            content = json.dumps({**reply, "model": body["model"], "object": "chat.completion"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1", received
        http.shutdown()
        thread.join()


def test_an_endpoint_is_asked_by_openais_protocol(tmp_path: Path, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = server
    judge_answers(tmp_path, ANSWERS[:2], REFERENCES, endpoint(url, "arbiter", "secret"), no_progress)
    assert [one.verdict for one in read_records(tmp_path, Judgement)] == [1.0, 1.0]
    assert received[0]["path"] == "/v1/chat/completions"
    assert (received[0]["model"], received[0]["temperature"], received[0]["key"]) == ("arbiter", 0.0, "Bearer secret")
    assert "secret" not in (tmp_path / "judgements.jsonl").read_text()
