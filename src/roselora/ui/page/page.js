import { strings as s } from "./strings.js";

addEventListener("hashchange", () => location.hash.includes("token=") && location.reload()); // a new address in an old tab
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? sessionStorage.getItem("token");
if (token) sessionStorage.setItem("token", token);
history.replaceState(null, "", location.pathname); // the token stays out of bookmarks and screenshots
const $ = (id) => document.getElementById(id);
const command = (section) => document.querySelector(`#${section} > .command`);

/** An element with its attributes, and children that are elements or plain text; nothing is ever parsed as HTML. */
function make(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

async function call(path, body) {
  const options = { headers: { Authorization: `Bearer ${token}` } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch {
    throw new Error(s.gone);
  }
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? response.statusText);
  return response;
}
const read = async (path, body) => (await call(path, body)).json();

function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text ?? "";
}

const followed = new Map(); // the jobs that this page waits for
let shown = null; // the one in the bar
function showJobs() {
  const jobs = [...followed.values()];
  const job = (shown = jobs.find((each) => each.state === "running") ?? jobs[0] ?? null);
  $("job").hidden = !job;
  if (!job) return ($("stage").textContent = "");
  const text = s.running(job.action, job.state === "waiting" ? s.waiting : job.stage);
  const step = job.steps ? s.stepOf(job.step, job.steps) : "";
  const left = job.seconds_left == null ? "" : s.left(Math.ceil(job.seconds_left));
  $("job-text").textContent = text + step + left;
  $("job-cancel").disabled = !job.id || !job.can_be_cancelled;
  if ($("stage").textContent !== text) $("stage").textContent = text; // what is read aloud: stages, not steps
  if (job.steps) [$("job-progress").max, $("job-progress").value] = [job.steps, job.step];
  else $("job-progress").removeAttribute("value");
}

/** Follow a job to its end, and show what it gives on the way; a network that is away for a while does not end it. */
async function follow(job) {
  try {
    for (let pause = 50, lost = 0; !["done", "failed", "cancelled"].includes(job.state); pause = Math.min(pause * 2, 500)) {
      followed.set(job.id, job);
      showJobs();
      try {
        job = await read(`jobs/${job.id}?wait=${pause / 1000}`);
        if (lost) problem();
        lost = 0;
      } catch (error) {
        if (error.message !== s.gone || ++lost > 60) throw error;
        problem(error.message);
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      if (job.result?.facts) showFacts(job.result.facts);
    }
  } finally {
    followed.delete(job.id);
    showJobs();
  }
  await refresh();
  if (job.state !== "done") problem(job.error);
  return job;
}

const busy = new Set(); // the sections whose job is not finished: a double click is one click
async function run(section, action, body) {
  if (busy.has(section)) return { state: "busy", result: null };
  busy.add(section);
  problem();
  followed.set(section, { action, state: "waiting" });
  showJobs();
  try {
    const job = await read(action, body);
    followed.delete(section);
    command(section).textContent = job.command.startsWith("curl") ? job.command.replace("ADDRESS", location.origin) : job.command;
    return await follow(job);
  } catch (error) {
    followed.delete(section);
    showJobs();
    problem(error.message);
    return { state: "failed", result: null };
  } finally {
    busy.delete(section);
  }
}

/** Two texts as words, with those that are not in the other marked. */
function marked(own, other) {
  const [a, b] = [own, other].map((text) => text.split(/(\s+)/));
  const length = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  const found = [];
  for (let i = 0, j = 0; i < a.length; i++) {
    while (j < b.length && a[i] !== b[j] && length[i][j + 1] > length[i + 1][j]) j++;
    if (a[i] === b[j]) found.push(a[i]), j++;
    else found.push(a[i].trim() ? make("mark", {}, a[i]) : a[i]);
  }
  return found;
}

const form = (section) => document.querySelector(`#${section} form`);
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

form("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const body = { prompt: given.get("prompt"), form: given.get("form") };
  $("answers").hidden = true;
  if (given.get("follow_up").trim()) body.follow_up = given.get("follow_up");
  const { result } = await run("ask", "ask", body);
  if (!result) return;
  const side = (name, other) =>
    make("div", {}, make("h3", {}, name === "base" ? s.baseModel : s.editedModel),
      ...["", "_follow_up"].filter((part) => !part || body.follow_up).map((part) =>
        make("p", {}, ...(result[name + part] ? marked(result[name + part], result[other + part]) : [s.nothing]))));
  const same = result.base === result.edited && result.base_follow_up === result.edited_follow_up;
  $("answers").replaceChildren(side("base", "edited"), side("edited", "base"), ...(same ? [make("p", {}, s.same)] : []));
  $("answers").hidden = false;
});

function edit(dry) {
  const given = Object.fromEntries(new FormData(form("edit")));
  const body = { prompt: given.prompt, target: given.target, method: given.method, form: given.form, dry_run: dry };
  if (given.subject.trim()) body.subject = given.subject.trim();
  for (const name of ["rephrasings", "held_out", "keep"]) body[name] = lines(given[name]);
  body.consequences = [...$("consequences").querySelectorAll("input:checked")].map((box) => JSON.parse(box.value));
  if (!busy.has("edit")) $("proof").replaceChildren();
  return run("edit", "edit", body);
}
const factFields = ["prompt", "target", "subject", "rephrasings", "held_out", "keep"];
form("edit").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = form("edit").elements;
  const sent = Object.fromEntries(factFields.map((name) => [name, fields[name].value]));
  const job = await edit(false);
  if (!job.result) return;
  showProof(job);
  // The next fact may have been begun meanwhile.
  if (factFields.every((name) => fields[name].value === sent[name])) {
    for (const name of factFields) fields[name].value = "";
    showConsequences([]);
  }
});
// They were proposed for another fact.
for (const name of ["prompt", "target", "subject"]) form("edit").elements[name].addEventListener("input", () => showConsequences([]));
function showConsequences(facts) {
  const boxes = facts.map((fact) => make("label", {}, make("input", { type: "checkbox", checked: "", value: JSON.stringify(fact) }), ` ${s.consequence(fact)}`));
  $("consequences").replaceChildren($("consequences").firstElementChild, ...boxes);
  $("consequences").hidden = !facts.length;
}
$("dry-run").addEventListener("click", async () => {
  if (!form("edit").reportValidity()) return;
  const { result } = await edit(true);
  if (!result) return;
  const { training, update } = result;
  $("proof").replaceChildren(make("p", {}, s.dryRunDone(training.steps, training.seconds, update.entries_changed)), ...leftOut(result));
});
$("suggest").addEventListener("click", async () => {
  const fields = form("edit").elements;
  if (!fields.prompt.reportValidity()) return;
  const body = { prompt: fields.prompt.value };
  if (fields.target.value.trim()) body.target = fields.target.value;
  if (fields.subject.value.trim()) body.subject = fields.subject.value.trim();
  const { result } = await run("edit", "suggest", body);
  // Another fact may have been begun meanwhile.
  if (!result || fields.prompt.value !== body.prompt) return;
  if (fields.target.value === body.target) showConsequences(result.consequences);
  fields.subject.value ||= result.subject ?? "";
  fields.held_out.value ||= result.held_out.join("\n");
  fields.keep.value ||= result.keep.join("\n");
});

const leftOut = ({ left_out = [] }) => left_out.map((fact) => make("p", { class: "bad" }, s.leftOut(fact)));
function showProof({ asked, result }) {
  const groups = [...new Set(result.proof.map((row) => row.kind))].map((kind) => {
    const rows = result.proof.filter((row) => row.kind === kind);
    const good = rows.filter((row) => row.good).length;
    const text = (rows[0].target === null ? s.stay : s.follow)(good, rows.length);
    const whole = good === rows.length;
    const head = make("summary", { class: whole ? "good" : "bad" }, `${whole ? "✓" : "✗"} ${s.kinds[kind]}: ${text}`);
    const cells = rows.map((row) => make("tr", {}, make("td", { class: row.good ? "good" : "bad" }, row.good ? s.good : s.bad),
      make("td", {}, `${row.prompt} (${row.form})`), make("td", {}, row.before || s.nothing), make("td", {}, ...(row.after ? marked(row.after, row.before) : [s.nothing]))));
    return make("details", { open: whole && kind !== "prompt" ? null : "" }, head, table(s.columns, cells));
  });
  $("proof").replaceChildren(make("h3", {}, s.proof(asked.prompt, asked.target)), ...groups, make("p", {}, s.divergence(result.divergence.toPrecision(2))), ...leftOut(result.provenance));
}
const table = (columns, rows) =>
  make("div", { class: "scroll", tabindex: "0" }, make("table", {}, make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ...rows)));

let state = null;
async function refresh() {
  state = await read("state");
  $("model").textContent = state.model;
  $("base").textContent = `${state.base.architecture}, SHA-256 ${state.base.sha256.slice(0, 12)}`;
  for (const each of document.querySelectorAll("[value=chat]")) each.disabled = !state.chat;
  const items = [...state.edits].reverse().map(timelineItem);
  keepingPlace(() => $("edits").replaceChildren(...(items.length ? items : [make("li", {}, s.noEdits)])));
}

/** Replace a part of the page, and keep what was open, written and focused in it. */
function keepingPlace(replace) {
  const keyed = () => [...document.querySelectorAll("#edits [data-key]")];
  const focused = document.activeElement?.dataset?.key;
  const before = new Map(keyed().map((each) => [each.dataset.key, each]));
  replace();
  for (const each of keyed()) {
    const old = before.get(each.dataset.key);
    if (old?.open) each.open = true;
    if (old?.value) each.value = old.value;
    if (focused && each.dataset.key === focused) each.focus();
  }
}

function timelineItem(edit) {
  const toggle = make("button", {
    type: "button", role: "switch", "aria-checked": String(edit.active), "data-key": `switch ${edit.id}`, class: "second",
    "aria-label": s.switchLabel(edit.prompt, edit.target),
    onclick: () => flip(edit),
  }, edit.active ? s.active : s.undone);
  const text = `${edit.prompt} → ${edit.target}${edit.consequences.length ? s.andMore(edit.consequences.length) : ""}`;
  const title = edit.superseded_by ? make("s", {}, text) : make("span", {}, text);
  const about = [edit.id, edit.method, new Date(edit.created).toLocaleString()];
  if (edit.superseded_by) about.push(s.superseded(edit.superseded_by));
  const notes = state.history.filter((event) => event.kind === "note" && event.edit === edit.id)
    .map((event) => make("p", { class: "quiet" }, `“${event.detail.text}” ${new Date(event.time).toLocaleString()}`));
  return make("li", { id: `edit-${edit.id}` }, make("div", { class: "row" }, toggle, title), make("p", { class: "quiet" }, about.join(" · ")), ...notes, details(edit), noteForm(edit));
}

async function flip(edit) {
  $("equal").textContent = "";
  const { state: ended } = await run("history", edit.active ? "undo" : "redo", { id: edit.id });
  if (ended === "done" && !state.edits.some((each) => each.active)) await compare();
}

async function compare() {
  const { result } = await run("history", "compare", {});
  if (result) $("equal").textContent = (result.equal ? s.equal : s.unequal)(result.sha256);
}

function noteForm(edit) {
  const field = make("input", { "aria-label": s.noteQuestion, required: "", "data-key": `note ${edit.id}` });
  const save = make("form", { class: "row", onsubmit: async (event) => {
    event.preventDefault();
    const text = field.value;
    field.value = "";
    const { state: ended } = await run("history", "note", { id: edit.id, text });
    if (ended !== "done") document.querySelector(`[data-key="note ${edit.id}"]`).value = text;
  } }, field, make("button", { class: "second" }, s.noteSave));
  return make("details", { "data-key": `notes ${edit.id}` }, make("summary", { "data-key": `notes of ${edit.id}` }, s.note), save);
}

/** Blocks by modules, darker where the change is larger; each cell says its figures. */
function details(edit) {
  const place = make("div", { class: "scroll" });
  const found = make("details", { "data-key": `details ${edit.id}`, ontoggle: async () => {
    if (!found.open || place.hasChildNodes()) return;
    try {
      const { weights, bytes, provenance, consequences } = await read(`edits/${edit.id}`);
      const parts = weights.map(({ name, entries, norm }) => ({ name, entries, norm, block: name.match(/\.(\d+)\./)?.[1] ?? "", module: name.replace(/^.*\.\d+\./, "").replace(/\.weight$/, "") }));
      const [blocks, modules] = ["block", "module"].map((key) => [...new Set(parts.map((part) => part[key]))]);
      const most = Math.max(...parts.map((part) => part.norm), 1e-30);
      const rows = modules.map((module) => make("tr", {}, make("th", { scope: "row" }, module), ...blocks.map((block) => {
        const part = parts.find((each) => each.block === block && each.module === module);
        const label = part ? s.cell(part.name, part.entries, part.norm.toPrecision(3)) : "";
        const cell = make("td", { title: label, "aria-label": label || null });
        if (part) cell.style.setProperty("--share", 0.2 + (0.8 * part.norm) / most);
        return cell;
      })));
      const head = make("tr", {}, make("td", { hidden: "" }), make("th", {}), ...blocks.map((block) => make("th", { scope: "col" }, block)));
      const entries = parts.reduce((sum, part) => sum + part.entries, 0);
      const json = make("pre", {}, JSON.stringify({ method: provenance.method, training: provenance.training, update: provenance.update, versions: provenance.versions }, null, 1));
      const implied = consequences.map((fact) => make("p", {}, s.consequence(fact)));
      place.append(...implied, make("p", {}, s.size(entries.toLocaleString(), Math.ceil(bytes / 1000))), make("table", { class: "strip" }, head, ...rows), json);
    } catch (error) {
      problem(error.message);
    }
  } }, make("summary", { "data-key": `details of ${edit.id}` }, s.details), place);
  return found;
}

$("compare").addEventListener("click", compare);
$("check").addEventListener("click", async () => {
  const { result } = await run("history", "check", {});
  if (!result) return;
  const broken = result.edits.filter((edit) => !edit.holds && !edit.superseded_by);
  const list = (items) => make("ul", {}, ...items.map((parts) => make("li", {}, ...parts)));
  const link = (id) => make("a", { href: `#edit-${id}` }, id);
  const moved = result.kept.filter((answer) => answer.moved);
  const group = (title, items) => (items.length ? [make("p", {}, title), list(items)] : []);
  $("report").replaceChildren(
    make("p", { class: broken.length ? "bad" : "good" }, broken.length ? s.broken : s.clean),
    ...(broken.length ? [list(broken.map((edit) => [link(edit.edit_id), s.brokenEdit(edit), ...(edit.broken_by ? [s.brokenBy, link(edit.broken_by)] : [])]))] : []),
    ...group(s.moved, moved.map((answer) => [link(answer.edit_id), s.movedAnswer(answer)])),
    ...group(s.collisions, result.collisions.map((pair) => [link(pair.first), " + ", link(pair.second), s.collision(pair)])));
});
$("repair").addEventListener("click", async () => {
  const { result } = await run("history", "repair", {});
  if (result) $("report").replaceChildren(make("p", {}, s.repaired(result.length)));
});

form("many").addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = event.target.elements.file.files[0];
  const kind = { json: "json", csv: "csv" }[file.name.split(".").pop().toLowerCase()] ?? "jsonl";
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch (error) {
    return problem(error instanceof TypeError ? s.notUtf8(file.name) : s.cannotRead(file.name));
  }
  await run("many", "many", { text, kind });
});
function showFacts(facts) {
  const rows = facts.map((fact) => make("tr", {}, make("td", {}, s.states[fact.state]), make("td", {}, fact.prompt),
    make("td", {}, fact.target), make("td", {}, fact.why)));
  $("facts").replaceChildren(table(s.factColumns, rows));
}
for (const name of ["dragover", "drop"])
  form("many").addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop") form("many").elements.file.files = event.dataTransfer.files;
  });

const formats = form("export").elements.format;
for (const [name, [title]] of Object.entries(s.formats)) formats.append(make("option", { value: name }, title));
const tellFormat = () => ($("format-note").textContent = s.formats[formats.value][1]);
formats.addEventListener("change", tellFormat);
form("export").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const { result } = await run("export", "export", { format: given.get("format"), name: given.get("name") });
  if (!result) return;
  const serve = result.serve ? [make("p", {}, s.serve), make("code", { class: "command" }, result.serve)] : [];
  $("exported").replaceChildren(make("p", {}, s.exported(result.path)), ...serve);
});
for (const kind of ["html", "json"])
  $(`report-${kind}`).addEventListener("click", async () => {
    try {
      const address = URL.createObjectURL(await (await call(`report.${kind}`)).blob());
      make("a", { href: address, download: `audit-report.${kind}` }).click();
      URL.revokeObjectURL(address);
    } catch (error) {
      problem(error.message);
    }
  });
$("job-cancel").addEventListener("click", () => shown && call(`jobs/${shown.id}/cancel`, {}).catch((error) => problem(error.message)));

for (const each of document.querySelectorAll("[data-s]")) each.textContent = s[each.dataset.s];
tellFormat();
if (!token) problem(s.noToken);
else
  try {
    await refresh();
    if (state.chat) document.querySelector("#ask [value=chat]").checked = true;
    // A page that was closed or loaded again finds the job that still runs, and what the last edit did.
    const jobs = await read("jobs");
    const last = jobs.findLast((job) => job.action === "edit" && job.state === "done");
    const seen = (job) => job.action === "edit" && job.result?.proof && showProof(job);
    if (last) seen(await read(`jobs/${last.id}`));
    await Promise.all(jobs.filter((job) => ["waiting", "running"].includes(job.state)).map(async (job) => seen(await follow(job))));
    addEventListener("focus", () => refresh().catch(() => {})); // another tab or process may have changed the store
  } catch (error) {
    problem(error.message);
  }
