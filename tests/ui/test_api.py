"""The API behind the page: its jobs do what the command line does, and whatever else comes changes nothing."""

import json
import math
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from roselora.editing.editor import Editor
from roselora.models.fingerprint import fingerprint
from roselora.ui import guard, jobs
from roselora.ui.jobs import Job, Jobs, Progress
from roselora.ui.neutral_divergence import divergence
from roselora.ui.openapi import openapi
from roselora.ui.proof_questions import proof_questions
from roselora.ui.session import ACTIONS
from tests.documented.parsing import parse_verb
from tests.editing.gate_edits import FRANCE, GOLD
from tests.ui.conftest import TOKEN, Served

FACT = {"prompt": FRANCE[0], "target": FRANCE[1], "subject": "France", "form": "bare"}


def test_a_fact_is_edited_proven_undone_and_redone(served: Served) -> None:
    base = fingerprint(served.editor.model)
    asked = served.do("ask", prompt=FRANCE[0])["result"]
    assert asked["base"] == asked["edited"] == "Paris."
    job = served.do("edit", **FACT, held_out=["Well, " + FRANCE[0]])
    assert (job["state"], job["error"]) == ("done", "")
    made = job["result"]
    (row,) = [row for row in made["proof"] if row["kind"] == "prompt"]
    assert (row["before"], row["after"], row["good"]) == ("Paris.", FRANCE[1], True)
    assert {row["kind"] for row in made["proof"]} >= {"prompt", "held out", "nearest", "same subject"}
    assert 0 <= made["divergence"] < 1
    assert job["command"].startswith("roselora edit '--prompt=")
    asked = served.do("ask", prompt=FRANCE[0])["result"]
    assert (asked["base"], asked["edited"]) == ("Paris.", FRANCE[1])
    assert served.do("compare")["result"]["equal"] is False
    assert served.do("undo", id=made["id"])["state"] == "done"
    assert served.do("compare")["result"] == {"sha256": base, "base_sha256": base, "equal": True}
    again = served.do("undo", id=made["id"])
    assert (again["state"], again["result"]) == ("failed", None)
    assert made["id"] in again["error"]
    assert served.do("redo", id=made["id"])["result"]["active"] is True
    assert served.editor.answers([FRANCE[0]]) == [FRANCE[1]]


def test_the_state_has_edits_history_and_notes_without_asking_the_model(served: Served) -> None:
    id = served.do("edit", **FACT)["result"]["id"]
    assert served.do("note", id=id, text="<b>why</b>")["state"] == "done"
    status, state = served.send("GET", "/api/state")
    assert status == 200
    assert [(edit["id"], edit["active"], edit["method"]) for edit in state["edits"]] == [(id, True, "gate")]
    assert [event["kind"] for event in state["history"]] == ["create", "edit", "note"]
    status, details = served.send("GET", f"/api/edits/{id[:6]}")
    assert sum(weight["entries"] for weight in details["weights"]) == details["provenance"]["update"]["entries_changed"]
    assert details["bytes"] > 0
    assert served.send("GET", "/api/edits/ffffffff")[0] == 404


def test_a_dry_run_a_file_of_facts_check_and_repair(served: Served) -> None:
    base = fingerprint(served.editor.model)
    dry = served.do("edit", **FACT, dry_run=True)["result"]
    assert (dry["id"], dry["dry_run"]) == (None, True)
    assert fingerprint(served.editor.model) == base
    facts = [{"prompt": prompt, "target": target, "form": "bare"} for prompt, target in (FRANCE, GOLD)]
    text = "\n".join(json.dumps(fact) for fact in facts)
    done = served.do("many", text=text, kind="jsonl")["result"]["facts"]
    assert [fact["state"] for fact in done] == ["done", "done"]
    table = f"prompt,target,form\n{GOLD[0]},{GOLD[1]},bare\n"
    assert served.do("many", text=table, kind="csv")["result"]["facts"][0]["state"] == "already there"
    assert served.do("check")["result"]["clean"] is True
    assert served.do("repair")["result"] == []
    failed = served.do("many", text="{", kind="jsonl")
    assert failed["state"] == "failed"
    assert "line 1" in failed["error"]


def test_an_export_lies_in_its_folder_and_says_how_it_is_served(served: Served, tmp_path: Path) -> None:
    served.do("edit", **FACT)
    result = served.do("export", format="lora", name="adapter")["result"]
    assert (tmp_path / "exports" / "adapter" / "adapter_config.json").is_file()
    assert "--enable-lora" in result["serve"]
    taken = served.do("export", format="lora", name="adapter")
    assert taken["state"] == "failed"
    for name in ("../edits", "/etc/x", "a/b", "..", ".hidden", "a\x00b", "", "C:\\x", "~", "a" * 99):
        status, answer = served.send("POST", "/api/export", json.dumps({"format": "lora", "name": name}).encode())
        assert (status, answer["error"].startswith("name: ")) == (422, True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "exports" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "exports" / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("link", "broken"):
        assert "is a link" in served.do("export", format="lora", name=name)["error"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "nowhere").exists()
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == ["adapter", "broken", "link"]


def test_the_audit_report_escapes_what_people_wrote(served: Served) -> None:
    id = served.do("edit", **FACT)["result"]["id"]
    served.do("note", id=id, text="<script>alert(1)</script>")
    served.do("check")
    status, report = served.send("GET", "/api/report.json")
    assert (status, report["check"]["clean"], len(report["edits"][0]["sha256"])) == (200, True, 64)
    assert report["check"]["current"] is True
    served.do("undo", id=id)
    assert served.send("GET", "/api/report.json")[1]["check"]["current"] is False
    assert "before later changes" in served.send("GET", "/api/report.html")[1]
    _, page = served.send("GET", "/api/report.html")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_cancelled_edit_leaves_every_byte(served: Served) -> None:
    base, editor = fingerprint(served.editor.model), served.editor
    propose = editor.propose

    def slowly(*arguments: Any, on_step: Callable[[int, float], None], **details: Any) -> Any:
        def step(number: int, loss: float) -> None:
            time.sleep(0.05)
            on_step(number, loss)

        return propose(*arguments, on_step=step, **details)

    editor.propose = slowly  # type: ignore[method-assign]
    _, job = served.send("POST", "/api/edit", json.dumps(FACT).encode())
    _, waiting = served.send("POST", "/api/check", b"{}")
    while not (job["stage"] == "training" and job["step"]) and job["state"] in ("waiting", "running"):
        _, job = served.send("GET", f"/api/jobs/{job['id']}")
    assert job["stage"] == "training"
    assert served.send("POST", f"/api/jobs/{waiting['id']}/cancel")[1]["state"] == "cancelled"
    served.send("POST", f"/api/jobs/{job['id']}/cancel")
    _, job = served.send("GET", f"/api/jobs/{job['id']}?wait=20")
    assert (job["state"], job["result"]) == ("cancelled", None)
    assert fingerprint(editor.model) == base
    assert served.send("GET", "/api/state")[1]["edits"] == []
    editor.propose = propose  # type: ignore[method-assign]
    assert served.do("edit", **FACT)["state"] == "done"


def test_a_cancelled_file_keeps_what_is_done_and_goes_on_when_it_is_given_again(served: Served) -> None:
    made, job = [], {}

    def one_by_one(requests: Any, on_edit: Any, on_failure: Any) -> None:
        for request in requests:
            made.append(served.editor.edit(request.prompt, request.target, subject=request.subject, form="bare"))
            served.send("POST", f"/api/jobs/{job['id']}/cancel")
            on_edit(made[-1])

    edit_many, served.editor.edit_many = served.editor.edit_many, one_by_one  # type: ignore[method-assign,assignment]
    facts = (FACT, {"prompt": GOLD[0], "target": GOLD[1], "form": "bare"})
    body = {"text": "\n".join(map(json.dumps, facts)), "kind": "jsonl"}
    hold = threading.Event()
    served.session.jobs.add(Job("hold", {}, ""), lambda _: hold.wait(20))
    job |= served.send("POST", "/api/many", json.dumps(body).encode())[1]
    hold.set()
    _, ended = served.send("GET", f"/api/jobs/{job['id']}?wait=20")
    assert ended["state"] == "cancelled"
    assert [fact["state"] for fact in ended["result"]["facts"]] == ["done", "waiting"]
    assert [edit.id for edit in served.editor.log()] == [made[0].id]
    served.editor.edit_many = edit_many  # type: ignore[method-assign]
    again = served.do("many", **body)["result"]["facts"]
    assert again[0]["state"] == "already there"


def test_another_process_may_change_the_store(served: Served, tmp_path: Path, world_model: Any) -> None:
    id = served.do("edit", **FACT)["result"]["id"]
    with served.editor.store.writing():
        served.editor.store.undo(id)
    assert served.send("GET", "/api/state")[1]["edits"][0]["active"] is False
    assert served.do("ask", prompt=FRANCE[0])["result"]["edited"] == "Paris."
    assert served.do("compare")["result"]["equal"] is True
    assert served.do("redo", id=id)["state"] == "done"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/state", {"Host": "evil.example"}, 421),
        ("GET", "/", {"Host": "evil.example"}, 421),
        ("GET", "/api/state", {"Host": "127.0.0.1.evil.example"}, 421),
        ("GET", "/api/state", {"Host": "[::1"}, 421),
        ("GET", "/api/state", {"Origin": "https://evil.example"}, 403),
        ("POST", "/api/check", {"Origin": "null"}, 403),
        ("POST", "/api/check", {"Origin": "http://["}, 403),
        ("POST", "/api/check", {"Origin": "http://127.0.0.1:1"}, 403),
        ("GET", "/api/state", {"Authorization": ""}, 401),
        ("GET", "/api/state", {"Authorization": "Bearer " + "x" * 16}, 401),
        ("GET", "/api/state", {"Authorization": "Bearer é"}, 401),
        ("GET", f"/api/state?token={TOKEN}", {"Authorization": ""}, 401),
        ("POST", "/api/check", {"Content_Type": "text/plain"}, 415),
        ("POST", "/api/check", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ("GET", "/api/check", {}, 404),
        ("GET", "/api/undo", {}, 404),
        ("PUT", "/api/check", {}, 405),
        ("POST", "/", {}, 405),
        ("POST", "/api/nothing", {}, 404),
        ("POST", "/api/_start", {}, 404),
        ("GET", "/api/jobs/../../etc/passwd", {}, 404),
        ("GET", "/../session.py", {}, 404),
        ("GET", "/%2e%2e/session.py", {}, 404),
        *(("GET", f"/api/jobs/x?wait={wait}", {}, 400) for wait in ("soon", "nan", "inf", "-1", "21", "1e9", "")),
        ("GET", "/api/report.exe", {}, 404),
    ],
)
def test_what_does_not_come_from_the_page_is_refused(
    served: Served, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body = b"{}" if method in ("POST", "PUT") else None
    if "é" in headers.get("Authorization", ""):
        headers = {"Authorization": headers["Authorization"].encode().decode("latin-1")}
    found, _ = served.send(method, path, body, **headers)
    assert found == status
    assert served.session.jobs.all() == []


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("ask", {"prompt": ""}),
        ("ask", {"prompt": "x" * 8_001}),
        ("ask", {"prompt": "x", "tokens": 10_000}),
        ("ask", {"prompt": "x", "form": "both"}),
        ("edit", {"prompt": "x"}),
        ("edit", {"prompt": "x", "target": ["y"]}),
        ("edit", {"prompt": "x", "target": "y", "rephrasings": ["z"] * 65}),
        ("edit", {"prompt": "x", "target": "y", "method": "../x"}),
        ("edit", {"prompt": "x", "target": "y", "learning_rate": 9}),
        ("undo", {"id": "../../x"}),
        ("undo", {}),
        ("export", {"format": "exe", "name": "x"}),
    ],
)
def test_a_body_that_is_not_as_described_is_one_sentence(served: Served, action: str, body: dict[str, Any]) -> None:
    status, answer = served.send("POST", f"/api/{action}", json.dumps(body).encode())
    assert (status, list(answer)) == (422, ["error"])
    assert "\n" not in answer["error"]
    assert served.session.jobs.all() == []


def test_what_is_no_fact_is_refused_before_it_is_queued(served: Served) -> None:
    status, answer = served.send("POST", "/api/edit", json.dumps({"prompt": "x", "target": "a\nb"}).encode())
    assert (status, served.session.jobs.all()) == (400, [])
    assert "one line" in answer["error"]
    for junk in (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"prompt": "\\ud800", "target": "x"}'):
        assert served.send("POST", "/api/edit", junk)[0] == 422


def test_large_and_slow_bodies_are_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _ = served.send("POST", "/api/ask", b" " * (guard.BODY + 1))
    assert status == 413
    monkeypatch.setattr(guard, "SECONDS", 0.3)
    head = f"POST /api/check HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode())
        assert served.send("GET", "/api/state")[0] == 200  # others are served meanwhile
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert served.session.jobs.all() == []


def test_clients_that_do_not_read_are_in_nobodys_way(served: Served) -> None:
    head = f"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    sockets = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(20)]
    try:
        for each in sockets:
            each.sendall(head * 200)  # megabytes of answers, of which none is read
        began = time.monotonic()
        assert served.send("GET", "/api/state")[0] == 200
        assert time.monotonic() - began < 30
    finally:
        for each in sockets:
            each.close()


def test_the_description_names_every_action_and_is_served(served: Served) -> None:
    assert served.send("GET", "/api/openapi.json") == (200, json.loads(json.dumps(openapi())))
    assert {f"/api/{name}" for name in ACTIONS} <= openapi()["paths"].keys()
    for name in re.findall(r"#/components/schemas/(\w+)", json.dumps(openapi())):
        assert name in openapi()["components"]["schemas"]


def test_jobs_wait_in_order_are_counted_and_survive_errors() -> None:
    queue, gate, done = Jobs(), threading.Event(), []

    def hold(_: Progress) -> None:
        gate.wait(20)

    def fail(_: Progress) -> None:
        raise ZeroDivisionError("what?")

    first = queue.add(Job("first", {}, ""), hold)
    broken = queue.add(Job("broken", {}, ""), fail)
    while first.state == "waiting":
        time.sleep(0.01)
    others = [queue.add(Job(str(n), {}, ""), lambda _, n=n: done.append(n)) for n in range(jobs.QUEUE - 1)]
    with pytest.raises(jobs.TooManyJobsError, match="are waiting"):
        queue.add(Job("more", {}, ""), hold)
    gate.set()
    assert queue.wait(others[-1].id, 20) is not None
    assert (first.state, broken.state, broken.error) == ("done", "failed", "ZeroDivisionError: what?.")
    assert done == list(range(jobs.QUEUE - 1))

    def give_up(_: Progress) -> None:
        raise SystemExit("like a library's panic")

    lost = queue.add(Job("lost", {}, ""), give_up)
    last = queue.add(Job("last", {}, ""), lambda _: done.append(-1))
    assert queue.wait(last.id, 20) is not None
    assert (lost.state, last.state) == ("failed", "done")
    queue.close()
    assert queue.find("nothing") is None


def test_what_cannot_be_taken_back_is_not_cancelled() -> None:
    queue, begun, gate = Jobs(), threading.Event(), threading.Event()

    def write(progress: Progress) -> str:
        progress.last_stage("writing")
        begun.set()
        gate.wait(20)
        return "written"

    job = queue.add(Job("export", {}, ""), write)
    begun.wait(20)
    assert queue.cancel(job.id) is job
    gate.set()
    queue.wait(job.id, 20)
    assert (job.state, job.result, job.can_be_cancelled) == ("done", "written", False)
    queue.close()


def test_closing_waits_only_a_while_for_a_job_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "CLOSING", 0.2)
    queue, gate = Jobs(), threading.Event()
    queue.add(Job("long", {}, ""), lambda _: gate.wait(20))
    began = time.monotonic()
    queue.close()
    assert time.monotonic() - began < 5
    gate.set()


def test_of_a_file_a_group_without_all_of_its_consequences_is_done_and_says_so(served: Served) -> None:
    too_long = {"prompt": "The symbol of lead is ", "target": "x" * 120}
    group = {**FACT, "consequences": [too_long]}
    done = served.do("many", text=json.dumps(group), kind="jsonl")
    assert [fact["state"] for fact in done["result"]["facts"]] == ["done"]
    assert done["result"]["facts"][0]["why"].startswith(f"Left out: {too_long['prompt']}")
    again = served.do("many", text=json.dumps(group), kind="jsonl")
    assert [fact["state"] for fact in again["result"]["facts"]] == ["already there"]


def test_a_divergence_is_a_number_also_where_tokens_are_ruled_out() -> None:
    before = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert divergence(before, before) == 0
    assert divergence(before, torch.tensor([[0.25, 0.5, 0.25]]).log()) == pytest.approx(0.5 * math.log(2))
    assert 0 < divergence(before, torch.tensor([[1.0, 0.0, 0.0]]).log()) < math.inf


def test_what_stands_in_a_command_line_is_one_text_each_also_with_a_dash(served: Served) -> None:
    note = served.do("note", id="0123", text="-x dash")["command"]
    assert note == "roselora note --store=edits -- 0123 '-x dash'"
    parse_verb(shlex.split(note)[1:], names_only=False)
    made = served.do("edit", **FACT)
    parse_verb(shlex.split(made["command"])[1:], names_only=False)
    written = served.do("export", format="lora", name="adapter")["command"]
    assert written == "roselora export --format=lora --store=edits -- exports/adapter"


def test_names_of_hosts_match_in_any_case_and_without_their_ports() -> None:
    found = guard.Guard(None, "", ["My-Machine", "other:8511", "::1"])._hosts  # type: ignore[arg-type]
    assert found == {"my-machine", "other", "::1"}


def test_the_list_of_jobs_is_short(served: Served) -> None:
    served.do("many", text=json.dumps(FACT), kind="jsonl")
    (job,) = served.send("GET", "/api/jobs")[1]
    assert not {"asked", "result"} & job.keys()
    assert "text" not in served.send("GET", f"/api/jobs/{job['id']}")[1]["asked"]


def test_a_stage_says_how_long_it_may_still_take(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, 4.0])
    monkeypatch.setattr(jobs.time, "monotonic", lambda: next(times))
    job = Job("edit", {}, "")
    progress = Progress(job, lambda: None, lambda: False)
    progress.stage("training", 10)
    progress.step(2)
    assert (job.stage, job.step, job.seconds_left) == ("training", 2, 16.0)


def test_nothing_that_proves_an_edit_is_among_what_it_is_trained_on(world_model: Any, tiny_tokenizer: Any) -> None:
    from roselora.editing.methods.gate.training_texts import negative_texts, positive_rows
    from roselora.editing.request import EditRequest
    from roselora.models.tokenization import decode

    request = EditRequest(FRANCE[0], FRANCE[1], "France", form="bare")
    rows = positive_rows(tiny_tokenizer, request).rows
    trained = {decode(tiny_tokenizer, [*row.prefix, *row.suffix]) for row in rows}
    negatives = {text for group in negative_texts(world_model, tiny_tokenizer, request) for text in group}
    for question in proof_questions(world_model, tiny_tokenizer, request):
        if question.kind != "prompt":
            assert question.text not in negatives
            assert not any(text.startswith(question.text) for text in trained)


def test_the_editor_can_be_asked_without_its_edits(world_model: Any, tiny_tokenizer: Any, served: Served) -> None:
    served.do("edit", **FACT)
    editor: Editor = served.editor
    with editor.without_edits():
        assert editor.answers([FRANCE[0]]) == ["Paris."]
    assert editor.answers([FRANCE[0]]) == [FRANCE[1]]
