"""The page in a real browser: the story of a user, and what others may try to do in it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from roselora.editing.editor import Editor
from roselora.editing.request import EditRequest
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import load
from roselora.ui import actions
from roselora.ui.jobs import Job
from tests.editing.gate_edits import FRANCE, GOLD
from tests.ui.conftest import TOKEN, Served

# Absolute, because the tests run in other folders.
PICTURES = Path(folder).absolute() if (folder := os.environ.get("ROSELORA_SCREENSHOTS")) else None
"""A folder; set, the main states are photographed into it."""
SHAPES = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
SCRIPT = "<img src=x onerror='window.attacked=1'><script>window.attacked=1</script>"


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page, opened by the address that is printed; every error in it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    opened.goto(served.page)
    expect(opened.locator("#edits li")).to_have_count(1)
    yield opened
    context.close()
    # A call that is refused, or sent while the network is away, is an error there too.
    assert [error for error in errors if "status of" not in error and "DISCONNECTED" not in error] == []


def photograph(page: Page, name: str, place: str) -> None:
    """A place of the page in all shapes, if pictures are wanted."""
    if PICTURES is None:
        return
    for width, scheme in SHAPES:
        page.set_viewport_size({"width": width, "height": 1300})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.locator(place).scroll_into_view_if_needed()
        page.screenshot(path=Path(PICTURES, f"{name}-{width}-{scheme}.png"))
    page.set_viewport_size({"width": 1280, "height": 900})


def fill_fact(page: Page, prompt: str, target: str, subject: str = "") -> None:
    """A fact in the form of edits."""
    for name, value in (("prompt", prompt), ("target", target), ("subject", subject)):
        page.locator(f"#edit [name={name}]").fill(value)


def make_edit(page: Page, prompt: str, target: str, subject: str = "") -> None:
    """A fact, edited by the page's button."""
    fill_fact(page, prompt, target, subject)
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#job")).to_be_hidden(timeout=60_000)
    expect(page.locator("#problem")).to_be_hidden()


def ask(page: Page, prompt: str) -> list[str]:
    """What the base and the edited model say."""
    page.locator("#ask textarea").fill(prompt)
    page.get_by_role("button", name="Ask both models").click()
    expect(page.locator("#job")).to_be_hidden(timeout=60_000)
    expect(page.locator("#answers")).to_be_visible()
    return page.locator("#answers div p:first-of-type").all_inner_texts()


def held_up(served: Served) -> None:
    """Make training stay at its second step until the job is cancelled."""
    propose = served.editor.propose

    def held(*arguments: Any, on_step: Callable[[int, float], None], **details: Any) -> Any:
        def step(number: int, loss: float) -> None:
            for _ in range(600 if number == 2 else 1):
                on_step(number, loss)
                time.sleep(0.1)

        return propose(*arguments, on_step=step, **details)

    served.editor.propose = held  # type: ignore[method-assign]


def test_the_story_of_a_user(page: Page, served: Served, tmp_path: Path) -> None:
    base = fingerprint(served.editor.model)
    assert ask(page, FRANCE[0]) == ["Paris.", "Paris."]
    expect(page.locator("#answers")).to_contain_text("Both say the same.")
    page.locator("#edit [name=prompt]").fill(FRANCE[0])
    page.get_by_role("button", name=re.compile("^Suggest")).click()
    expect(page.locator("#edit [name=subject]")).to_have_value("France")
    expect(page.locator("#edit [name=held_out]")).to_have_value(re.compile("quiz"))
    page.locator("#edit [name=keep]").fill("")
    fill_fact(page, *FRANCE, "France")
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator("#proof")).to_contain_text("Nothing was saved.", timeout=60_000)
    expect(page.locator("#edits")).to_contain_text("No edit yet.")
    make_edit(page, *FRANCE, "France")
    expect(page.locator("#proof")).to_contain_text("✓ prompt: 1 of 1 give the target")
    expect(page.locator("#edit .command")).to_contain_text("roselora edit '--prompt=")
    assert ask(page, FRANCE[0]) == ["Paris.", FRANCE[1]]
    assert page.locator("#answers mark").all_inner_texts() == ["Paris.", FRANCE[1]]
    page.get_by_label("rose").check()
    make_edit(page, *GOLD, "gold")
    switches = page.get_by_role("switch")
    expect(switches).to_have_count(2)
    page.get_by_text("What changed").first.click()
    expect(page.locator(".strip td[aria-label]").first).to_be_visible()
    photograph(page, "edited", "#proof")
    # The older edit, below in the timeline, is undone first.
    switches.nth(1).click()
    expect(switches.nth(1)).to_have_attribute("aria-checked", "false")
    assert served.editor.answers([FRANCE[0], GOLD[0]]) == ["Paris.", GOLD[1]]
    switches.nth(0).press("Space")
    expect(page.locator("#equal")).to_have_text(f"✓ All weights equal the base (SHA-256 {base}).", timeout=30_000)
    assert fingerprint(served.editor.model) == base
    photograph(page, "undone", "#edits")
    switches.nth(1).click()
    expect(switches.nth(1)).to_have_attribute("aria-checked", "true")
    expect(page.locator("#equal")).to_be_empty()
    page.get_by_role("button", name="Check all edits").click()
    expect(page.locator("#report")).to_contain_text("✓ Every active edit holds.")
    page.locator("#export [name=name]").fill("adapter")
    page.locator("#export select").select_option("lora")
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.locator("#exported")).to_contain_text("--enable-lora", timeout=30_000)
    assert (tmp_path / "exports" / "adapter" / "adapter_model.safetensors").is_file()
    with page.expect_download() as download:
        page.get_by_role("button", name="Audit report (JSON)").click()
    assert len(json.loads(Path(download.value.path()).read_text())["edits"]) == 2
    page.reload()
    expect(page.get_by_role("switch")).to_have_count(2)  # the token outlives the address


def test_ticked_consequences_are_edited_and_undone_with_the_fact(page: Page, served: Served) -> None:
    gold, iron = EditRequest(*GOLD, "gold"), EditRequest("The symbol of iron is ", "Pb.", "iron", ("Iron: ",))
    served.editor.consequences = lambda request: (gold, iron)  # type: ignore[method-assign]
    fill_fact(page, *FRANCE, "France")
    boxes = page.locator("#consequences input")
    page.get_by_role("button", name=re.compile("^Suggest")).click()
    expect(boxes).to_have_count(2)
    page.locator("#edit [name=target]").fill("Lima.")
    expect(page.locator("#consequences")).to_be_hidden()  # they followed from another target
    page.locator("#edit [name=target]").fill(FRANCE[1])
    page.get_by_role("button", name=re.compile("^Suggest")).click()
    page.get_by_label("The symbol of iron is / Iron: → Pb.").uncheck()
    page.locator("#edit [name=keep]").fill("")
    photograph(page, "consequences", "#consequences")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#job")).to_be_hidden(timeout=60_000)
    expect(page.locator("#proof")).to_contain_text("consequences: 1 of 1 give the target")
    expect(page.locator("#edits")).to_contain_text("and 1 consequence")
    expect(page.locator("#edit .command")).to_contain_text(f"--consequence={GOLD[0]} => {GOLD[1]}")
    expect(page.locator("#consequences")).to_be_hidden()
    (edit,) = served.editor.edits
    assert [fact.prompt for fact in edit.request.consequences] == [GOLD[0]]
    page.get_by_role("switch").click()
    expect(page.locator("#equal")).to_contain_text("equal the base", timeout=30_000)
    page.get_by_text("What changed").click()
    expect(page.locator("#edits")).to_contain_text(f"{GOLD[0]}→ {GOLD[1]}")


def test_many_facts_from_a_file(page: Page, tmp_path: Path) -> None:
    facts = [{"prompt": prompt, "target": target, "form": "bare"} for prompt, target in (FRANCE, GOLD)]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    page.locator("#many input").set_input_files(tmp_path / "facts.jsonl")
    page.get_by_role("button", name="Edit all facts of the file").click()
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=60_000)
    expect(page.locator("#job")).to_be_hidden(timeout=60_000)
    assert page.locator("#facts td:first-child").all_inner_texts() == ["✓ done", "✓ done"]
    expect(page.get_by_role("switch")).to_have_count(2)


def test_a_reload_in_mid_edit_finds_it_again_and_it_can_be_cancelled(page: Page, served: Served) -> None:
    base = fingerprint(served.editor.model)
    held_up(served)
    fill_fact(page, *FRANCE, "France")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#job-text")).to_contain_text("step", timeout=30_000)
    photograph(page, "running", "#edit h2")
    page.reload()
    expect(page.locator("#job-text")).to_contain_text("step", timeout=30_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#problem")).to_contain_text("Cancelled", timeout=30_000)
    expect(page.locator("#job")).to_be_hidden()
    assert fingerprint(served.editor.model) == base
    expect(page.locator("#edits")).to_contain_text("No edit yet.")


def test_what_is_typed_meanwhile_stays_a_double_click_is_one_and_a_lost_request_is_sent_again(
    page: Page, served: Served
) -> None:
    hold = threading.Event()
    served.session.jobs.add(Job("hold", {}, ""), lambda _: hold.wait(30))
    fill_fact(page, *FRANCE, "France")
    page.get_by_role("button", name="Edit", exact=True).dblclick()
    expect(page.locator("#job-text")).to_contain_text("edit: waiting")
    fill_fact(page, GOLD[0], "")
    page.context.set_offline(True)
    expect(page.locator("#problem")).to_contain_text("does not answer")
    page.context.set_offline(False)
    hold.set()
    expect(page.get_by_role("switch")).to_have_count(1, timeout=60_000)
    expect(page.locator("#job")).to_be_hidden(timeout=30_000)
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#proof")).to_contain_text("The capital of France is")
    expect(page.locator("#edit [name=prompt]")).to_have_value(GOLD[0])
    assert [job.action for job in served.session.jobs.all()] == ["hold", "edit"]
    note = page.get_by_label("Note on this edit")
    page.get_by_text("Note", exact=True).click()
    note.fill("half a th")
    served.do("check")
    page.get_by_role("button", name="Check all edits").click()
    expect(page.locator("#report")).to_contain_text("Every active edit holds.")
    expect(note).to_be_visible()
    expect(note).to_have_value("half a th")
    page.reload()
    expect(page.locator("#proof")).to_contain_text("The capital of France is")  # what the last edit did


def test_a_file_in_another_encoding_and_an_error_far_down_are_told_where_one_looks(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 700})
    (tmp_path / "facts.csv").write_bytes("prompt,target\nThe capital of Österreich is,Wien\n".encode("latin-1"))
    page.locator("#many input").set_input_files(tmp_path / "facts.csv")
    page.get_by_role("button", name="Edit all facts of the file").click()
    expect(page.locator("#problem")).to_contain_text("facts.csv is not text in UTF-8")
    expect(page.locator("#problem")).to_be_in_viewport()
    expect(page.locator("#edits")).to_contain_text("No edit yet.")


def test_an_error_is_one_sentence_on_the_page(page: Page) -> None:
    fill_fact(page, FRANCE[0], "Rome.", "Atlantis")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("Atlantis")
    expect(page.locator("#edits")).to_contain_text("No edit yet.")


def test_a_script_in_a_prompt_a_target_a_note_or_an_answer_stays_text(
    page: Page, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "answers", lambda *_: (SCRIPT, SCRIPT))
    ask(page, SCRIPT)
    expect(page.locator("#answers")).to_contain_text("window.attacked=1")
    store = served.editor.store
    made = served.do("edit", prompt=FRANCE[0], target=FRANCE[1], subject="France", form="bare")["result"]
    assert served.do("note", id=made["id"], text=SCRIPT)["state"] == "done"
    with store.writing():
        edit = store.find(made["id"])
        details = {**edit.provenance, "versions": {SCRIPT: SCRIPT}}
        request = type(edit.request)(SCRIPT, SCRIPT, rephrasings=(SCRIPT + "!",))
        store.add(request, store.delta_of(edit), details)
    page.reload()
    expect(page.locator("#edits")).to_contain_text("onerror")
    page.get_by_text("What changed").first.click()
    expect(page.locator(".strip").first).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.attacked") is None
    assert page.locator("main img, main script").count() == 0


def test_two_tabs_see_the_same_store_and_the_second_undo_is_refused(page: Page, served: Served) -> None:
    make_edit(page, *FRANCE, "France")
    other = page.context.new_page()
    other.goto(served.page)
    expect(other.get_by_role("switch")).to_have_count(1)
    page.get_by_role("switch").click()
    expect(page.locator("#equal")).to_contain_text("equal the base", timeout=30_000)
    other.get_by_role("switch").click()  # which still shows it as active
    expect(other.locator("#problem")).to_contain_text("undone")
    expect(other.get_by_role("switch")).to_have_attribute("aria-checked", "false")


def test_another_site_can_neither_read_nor_frame_the_page(page: Page, served: Served, browser: Browser) -> None:
    context = browser.new_context()
    foreign = context.new_page()
    foreign.route("https://evil.example/**", lambda route: route.fulfill(body="<p>evil", content_type="text/html"))
    foreign.goto("https://evil.example/")
    sent = foreign.evaluate(
        """async ([address, token]) => {
            const tries = [{}, {method: "POST", body: "{}"}, {method: "POST", body: "{}", mode: "no-cors"},
                {method: "POST", body: "{}", headers: {Authorization: `Bearer ${token}`}}];
            return Promise.all(tries.map((options) =>
                fetch(address + "api/check", options).then((answer) => answer.type, () => "refused")));
        }""",
        [served.address, TOKEN],
    )
    assert set(sent) <= {"refused", "opaque"}
    assert served.session.jobs.all() == []
    context.close()
    status, _ = served.send("GET", "/")
    assert status == 200


def test_without_the_token_the_page_says_where_it_is(browser: Browser, served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.address)
    expect(page.locator("#problem")).to_contain_text("holds the token")
    page.goto("about:blank")
    page.goto(f"{served.address}#token=wrong")
    expect(page.locator("#problem")).to_contain_text("missing or wrong")
    context.close()


def test_everything_has_a_name_and_can_be_reached_by_keyboard(page: Page) -> None:
    fields = page.locator("input, textarea, select, button")
    names = fields.evaluate_all("all => all.map(e => (e.labels?.[0]?.innerText || e.ariaLabel || e.innerText).trim())")
    assert names
    assert all(names), names
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.name || document.activeElement.innerText"))
    assert {"prompt", "target", "Edit", "Ask both models", "Check all edits", "Export"} <= reached
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_texts_have_the_contrast_of_wcag_aa(page: Page) -> None:
    colours = {"--ink": 4.5, "--quiet": 4.5, "--good": 4.5, "--bad": 4.5, "--rose": 4.5, "--line": 3.0}

    def light(colour: str) -> float:
        parts = [int(colour.strip("# ")[n : n + 2], 16) / 255 for n in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        value = "name => getComputedStyle(document.documentElement).getPropertyValue(name)"
        paper = light(page.evaluate(value, "--paper"))
        for name, least in colours.items():
            ink = light(page.evaluate(value, name))
            assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= least, (scheme, name)


def test_the_page_is_light_and_needs_no_other_server(browser: Browser, served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    size = 0
    page.on("request", lambda request: asked.append(request.url))

    def weigh(response: Any) -> None:
        nonlocal size
        if "/api/" not in response.url and not response.url.startswith("data:"):
            size += len(response.body())

    page.on("response", weigh)
    page.goto(served.page)
    expect(page.locator("#edits li")).to_have_count(1)
    assert all(url.startswith((served.address, "data:")) for url in asked)
    assert 0 < size <= 150_000
    context.close()


def test_a_kill_in_mid_edit_leaves_the_store_as_it_was(
    world_model: Any, tiny_tokenizer: Any, tmp_path: Path, served: Served
) -> None:
    roselora, model, store = Path(sys.executable).with_name("roselora"), tmp_path / "world", tmp_path / "killed"
    world_model.save_pretrained(model)
    tiny_tokenizer.save_pretrained(model)
    command = [str(roselora), "ui", str(model), "--store", str(store), "--no-open"]
    environment = {**os.environ, "ROSELORA_UI_TOKEN": TOKEN}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    assert server.stdout is not None
    address = server.stdout.readline()
    found = re.fullmatch(rf"http://127\.0\.0\.1:(\d+)/#token={TOKEN}\n", address)
    assert found
    killed = Served(served.session, served.editor, int(found[1]))
    fact = {"prompt": FRANCE[0], "target": "Nowhere at all.", "subject": "France", "form": "bare"}
    status, job = killed.send("POST", "/api/edit", json.dumps(fact).encode())
    assert status == 202
    while job["stage"] != "training" and job["state"] in ("waiting", "running"):
        _, job = killed.send("GET", f"/api/jobs/{job['id']}")
    server.send_signal(signal.SIGKILL)
    server.wait(20)
    editor = Editor(load(model), store=store)
    assert all(problem.harmless for problem in editor.store.verify())
    assert editor.log() == ()
