import { strings as s } from "./strings.js";

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

let shown = null; // the job in the bar
function showJob(job) {
  shown = job;
  $("job").hidden = !job;
  if (!job) return;
  const text = job.state === "waiting" ? s.waiting : job.stage;
  const step = job.steps ? s.stepOf(job.step, job.steps) : "";
  const left = job.seconds_left === null ? "" : s.left(Math.ceil(job.seconds_left));
  $("job-text").textContent = s.running(job.action, text) + step + left;
  if (job.steps) [$("job-progress").max, $("job-progress").value] = [job.steps, job.step];
  else $("job-progress").removeAttribute("value");
}

/** Follow a job to its end, and show what it gives on the way. */
async function follow(job) {
  for (let pause = 50; !["done", "failed", "cancelled"].includes(job.state); pause = Math.min(pause * 2, 500)) {
    showJob(job);
    job = await read(`jobs/${job.id}?wait=${pause / 1000}`);
    if (job.result?.facts) showFacts(job.result.facts);
  }
  showJob(null);
  await refresh();
  if (job.state !== "done") problem(job.error);
  return job;
}

async function run(section, action, body) {
  problem();
  showJob({ action, state: "waiting", steps: 0, seconds_left: null });
  try {
    const job = await read(action, body);
    command(section).textContent = job.command.replace("ADDRESS", location.origin);
    return await follow(job);
  } catch (error) {
    showJob(null);
    problem(error.message);
    return { state: "failed", result: null };
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
  const body = { prompt: given.prompt, target: given.target, method: given.method, dry_run: dry };
  if (given.subject.trim()) body.subject = given.subject.trim();
  for (const name of ["rephrasings", "held_out", "keep"]) body[name] = lines(given[name]);
  $("proof").replaceChildren();
  return run("edit", "edit", body);
}
form("edit").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { result } = await edit(false);
  if (!result) return;
  showProof(result);
  for (const name of ["prompt", "target", "subject", "rephrasings", "held_out", "keep"]) event.target.elements[name].value = "";
});
$("dry-run").addEventListener("click", async () => {
  if (!form("edit").reportValidity()) return;
  const { result } = await edit(true);
  if (!result) return;
  const { training, update } = result;
  $("proof").replaceChildren(make("p", {}, s.dryRunDone(training.steps, training.seconds, update.entries_changed)));
});
$("suggest").addEventListener("click", async () => {
  const fields = form("edit").elements;
  if (!fields.prompt.reportValidity()) return;
  const body = { prompt: fields.prompt.value };
  if (fields.subject.value.trim()) body.subject = fields.subject.value.trim();
  const { result } = await run("edit", "suggest", body);
  if (!result) return;
  fields.subject.value ||= result.subject ?? "";
  fields.held_out.value ||= result.held_out.join("\n");
  fields.keep.value ||= result.keep.join("\n");
});

function showProof(result) {
  const changing = ["prompt", "rephrasing", "held out"];
  const groups = [...new Set(result.proof.map((row) => row.kind))].map((kind) => {
    const rows = result.proof.filter((row) => row.kind === kind);
    const good = rows.filter((row) => row.good).length;
    const text = (changing.includes(kind) ? s.follow : s.stay)(good, rows.length);
    const whole = good === rows.length;
    const head = make("summary", { class: whole ? "good" : "bad" }, `${whole ? "✓" : "✗"} ${s.kinds[kind]}: ${text}`);
    const cells = rows.map((row) => make("tr", {}, make("td", { class: row.good ? "good" : "bad" }, row.good ? s.good : s.bad),
      make("td", {}, `${row.prompt} (${row.form})`), make("td", {}, row.before), make("td", {}, ...marked(row.after, row.before))));
    return make("details", { open: whole && kind !== "prompt" ? null : "" }, head, table(s.columns, cells));
  });
  $("proof").replaceChildren(make("h3", {}, s.proof), ...groups, make("p", {}, s.divergence(result.divergence.toPrecision(2))));
}
const table = (columns, rows) =>
  make("div", { class: "scroll", tabindex: "0" }, make("table", {}, make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ...rows)));

let state = null;
async function refresh() {
  state = await read("state");
  $("model").textContent = state.model;
  $("base").textContent = `${state.base.architecture}, SHA-256 ${state.base.sha256.slice(0, 12)}`;
  document.querySelector("#ask [value=chat]").disabled = !state.chat;
  const items = [...state.edits].reverse().map(timelineItem);
  const [focused, open] = [document.activeElement?.dataset?.edit, new Set([...document.querySelectorAll("#edits details[open]")].map((each) => each.dataset.edit))];
  $("edits").replaceChildren(...(items.length ? items : [make("li", {}, s.noEdits)]));
  if (focused) document.querySelector(`[role=switch][data-edit="${focused}"]`)?.focus();
  for (const id of open) document.querySelector(`#edits details[data-edit="${id}"]`)?.setAttribute("open", "");
}

function timelineItem(edit) {
  const toggle = make("button", {
    type: "button", role: "switch", "aria-checked": String(edit.active), "data-edit": edit.id, class: "second",
    "aria-label": s.switchLabel(edit.prompt, edit.target),
    onclick: () => flip(edit),
  }, edit.active ? s.active : s.undone);
  const text = `${edit.prompt} → ${edit.target}`;
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
  const field = make("input", { "aria-label": s.noteQuestion, required: "" });
  const save = make("form", { class: "row", onsubmit: (event) => {
    event.preventDefault();
    run("history", "note", { id: edit.id, text: field.value });
  } }, field, make("button", { class: "second" }, s.noteSave));
  return make("details", {}, make("summary", {}, s.note), save);
}

/** Blocks by modules, darker where the change is larger; each cell says its figures. */
function details(edit) {
  const place = make("div", { class: "scroll" });
  const found = make("details", { "data-edit": edit.id, ontoggle: async () => {
    if (!found.open || place.hasChildNodes()) return;
    try {
      const { weights, bytes, provenance } = await read(`edits/${edit.id}`);
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
      place.append(make("p", {}, s.size(entries.toLocaleString(), Math.ceil(bytes / 1000))), make("table", { class: "strip" }, head, ...rows), json);
    } catch (error) {
      problem(error.message);
    }
  } }, make("summary", {}, s.details), place);
  return found;
}

$("compare").addEventListener("click", compare);
$("check").addEventListener("click", async () => {
  const { result } = await run("history", "check", {});
  if (!result) return;
  const broken = result.edits.filter((edit) => !edit.holds && !edit.superseded_by);
  const list = (items) => make("ul", {}, ...items.map((parts) => make("li", {}, ...parts)));
  const link = (id) => make("a", { href: `#edit-${id}` }, id);
  $("report").replaceChildren(
    ...(broken.length ? [make("p", { class: "bad" }, s.broken), list(broken.map((edit) => [link(edit.edit_id), `: ${edit.prompt} → ${edit.answers.map((answer) => answer.text).join(" / ")}`]))] : [make("p", { class: "good" }, s.clean)]),
    ...(result.collisions.length ? [make("p", {}, s.collisions), list(result.collisions.map((pair) => [link(pair.first), " + ", link(pair.second), s.collision(pair.entries)]))] : []));
});
$("repair").addEventListener("click", async () => {
  const { result } = await run("history", "repair", {});
  if (result) $("report").replaceChildren(make("p", {}, s.repaired(result.length)));
});

form("many").addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = event.target.elements.file.files[0];
  const kind = { json: "json", csv: "csv" }[file.name.split(".").pop().toLowerCase()] ?? "jsonl";
  await run("many", "many", { text: await file.text(), kind });
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
    // A page that was closed or loaded again finds the job that still runs.
    for (const job of await read("jobs"))
      if (["waiting", "running"].includes(job.state)) {
        const { action, result } = await follow(job);
        if (action === "edit" && result?.proof) showProof(result);
      }
  } catch (error) {
    problem(error.message);
  }
