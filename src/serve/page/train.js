// Train: how it goes, what it brought, and whether it stays; what was kept before, and the way back to it.

import { api, labelsOf, loadPrompts, state, usePrompt } from "./state.js";
import { ask, button, clock, empty, h, number, percent, points, s, said, t, toast, tried } from "./dom.js";

/** Pictures of a label below which it lacks some. */
const LEAST = 2;

export async function show(page, [prompt]) {
  usePrompt(prompt);
  await loadPrompts();
  const labels = labelsOf(state.prompt);
  page.append(h("h1", {}, t("view_train")));
  if (!labels.length) {
    page.append(empty(t("no_shots"), t("no_shots_text"), h("a", { class: "button main", href: `#/teach/${encodeURIComponent(state.prompt ?? "")}` }, t("view_teach"))));
    return undefined;
  }
  const view = new Train(page, state.prompt);
  await view.refresh();
  const ends = [
    api.listen("training", (data) => data.prompt === view.prompt && view.told(data)),
    api.listen("open", () => tried(() => view.refresh())),
  ];
  return () => ends.forEach((end) => end());
}

class Train {
  constructor(page, prompt) {
    this.prompt = prompt;
    this.address = api.path("prompts", prompt, "training");
    this.box = h("section", { class: "card" });
    this.status = h("p", { class: "hidden", role: "status" });
    page.append(this.box, this.status, this.shots());
  }

  async refresh() {
    this.draw(await api.get(this.address));
  }

  async told(data) {
    if (data.state === "running" && this.state === "running" && this.bar) this.progress(data);
    else await tried(() => this.refresh());
  }

  draw(training) {
    this.state = training.state;
    this.bar = null;
    const shown = { running: () => this.running(training), judged: () => this.judged(training), failed: () => this.failed(training) }[training.state];
    this.box.replaceChildren(...(shown ? shown() : this.idle(training)));
  }

  startButton(text, kind = "main wide") {
    return button(text, () => this.act(() => api.post(this.address)), kind, "train");
  }

  async act(work) {
    // A second tap on a slow line would be told that there is nothing to do.
    if (this.busy) return;
    this.busy = true;
    await tried(work);
    await tried(() => this.refresh());
    this.busy = false;
  }

  idle(training) {
    const few = labelsOf(this.prompt).filter((one) => one.shots < LEAST);
    const start = this.startButton(t("train_now"));
    start.disabled = few.length > 0 || labelsOf(this.prompt).length < 2;
    return [
      h("h2", {}, t("train_ready")),
      h("p", { class: "soft" }, t("train_ready_text")),
      few.length ? h("p", { class: "note warn" }, t("lacking", { labels: few.map((one) => one.label).join(", "), least: LEAST })) : null,
      training.error ? h("p", { class: "note failed" }, said(training.error)) : null,
      start,
    ].filter(Boolean);
  }

  running(training) {
    this.bar = h("progress", { max: 1, "aria-label": t("training") });
    this.step = h("p", { class: "soft" });
    this.progress(training);
    this.status.textContent = t("training");
    return [h("h2", {}, t("training")), h("p", { class: "soft" }, t("training_text")), this.bar, this.step, button(t("stop_training"), () => this.act(() => api.remove(this.address)), "quiet")];
  }

  progress({ step, steps, stage }) {
    if (steps) {
      this.bar.value = Math.min(1, (step ?? 0) / steps);
      this.step.textContent = t("step", { share: percent((step ?? 0) / steps) });
    } else {
      this.bar.removeAttribute("value");
      this.step.textContent = stage ? String(stage) : t("preparing");
    }
  }

  failed(training) {
    return [h("h2", {}, t("training_failed")), h("p", { class: "note failed" }, training.error ? said(training.error) : t("training_failed_text")), this.startButton(t("again"))];
  }

  judged(training) {
    const { before, after, interval } = training;
    const [low, high] = interval ?? [null, null];
    const kind = training.judgement ?? "unsure";
    const better = after >= before;
    const sentence = t(`verdict_${kind}`, { gain: points(after - before), low: points(low ?? 0), high: points(high ?? 0) });
    this.status.textContent = sentence;
    const accept = button(t("accept"), () => this.act(async () => { await api.post(`${this.address}/accept`); toast(t("accepted"), "good"); }), better ? "main" : "", "check");
    const reject = button(t("keep_old"), () => this.act(async () => { await api.post(`${this.address}/reject`); toast(t("kept_old")); }), better ? "" : "main");
    return [
      h("h2", {}, t("verdict")),
      h("p", { class: `verdict ${kind}` }, sentence),
      sisterNote(training),
      h("div", { class: "beforeafter" }, bar(t("before"), before, "old"), bar(t("after"), after, "new")),
      interval ? intervalPicture(after - before, low, high) : null,
      h("p", { class: "soft small" }, t("verdict_text")),
      // What is in use is the best: there is nothing to accept.
      h("div", { class: "row" }, training.kept_sister === this.prompt ? null : accept, reject),
      lackingNote(training.lacking),
      confusionTable(training.confusion, training.labels ?? labelsOf(this.prompt).map((one) => one.label)),
      h("div", { class: "row" }, this.startButton(t("train_again"), "quiet"), h("a", { class: "button quiet", href: `#/enough/${encodeURIComponent(this.prompt)}` }, t("view_enough"))),
    ].filter(Boolean);
  }

  /** What it will learn from. */
  shots() {
    const labels = labelsOf(this.prompt);
    const most = Math.max(1, ...labels.map((one) => one.shots));
    const row = ({ label, shots }) =>
      h("li", {}, h("a", { href: `#/review/${encodeURIComponent(this.prompt)}/${encodeURIComponent(label)}` }, label), h("span", { class: "meter" }, h("span", { place: { width: `${(100 * shots) / most}%` } })), h("span", { class: "count" }, number(shots)));
    return h("section", { class: "card" }, h("h2", {}, t("learns_from")), h("ul", { class: "bars" }, labels.map(row)));
  }
}

function bar(text, share, kind) {
  return h("div", { class: `share-bar ${kind}` }, h("span", {}, text), h("b", {}, percent(share)), h("span", { class: "meter" }, h("span", { place: { width: `${100 * (share ?? 0)}%` } })));
}

/** The gain with the interval that it lies in, on a line with nothing gained in the middle. */
function intervalPicture(gain, low, high) {
  const most = Math.max(0.1, Math.abs(low), Math.abs(high)) * 1.1;
  const x = (share) => 160 + (150 * share) / most;
  return s(
    "svg",
    { class: "interval", viewBox: "0 0 320 44", role: "img", "aria-label": t("interval", { gain: points(gain), low: points(low), high: points(high) }) },
    s("line", { class: "axis", x1: 8, x2: 312, y1: 18, y2: 18 }),
    s("line", { class: "zero", x1: 160, x2: 160, y1: 6, y2: 30 }),
    s("line", { class: "range", x1: x(low), x2: x(high), y1: 18, y2: 18 }),
    s("circle", { class: "gain", cx: x(gain), cy: 18, r: 6 }),
    s("text", { x: 160, y: 42, "text-anchor": "middle" }, t("as_before")),
    s("text", { x: Math.max(20, x(low)), y: 42, "text-anchor": "middle" }, Math.abs(x(low) - 160) > 55 ? points(low) : ""),
    s("text", { x: Math.min(300, x(high)), y: 42, "text-anchor": "middle" }, Math.abs(x(high) - 160) > 55 ? points(high) : ""),
  );
}

/** What prompts of other cameras came to, where they came to something. */
function sisterNote({ prompt, started_from: start, kept_sister: kept }) {
  const note = (key, sister) => h("p", { class: "note" }, t(key, { sister }));
  // What came from the fleet has the name of the prompt itself.
  if (kept) return kept === prompt ? note("sister_in_use") : note("sister_kept", kept);
  if (start) return start === prompt ? note("sister_start_in_use") : note("sister_start", start);
  return null;
}

function lackingNote(lacking) {
  if (!lacking?.length) return null;
  const names = lacking.map((one) => (typeof one === "string" ? one : `${one.label} (${one.shots})`)).join(", ");
  return h("p", { class: "note warn" }, t("lacking_more", { labels: names }));
}

/** What a picture shows by what it was named. */
function confusionTable(confusion, labels) {
  const rows = Array.isArray(confusion) ? confusion : confusion?.rows;
  const names = confusion?.labels ?? labels;
  if (!rows?.length) return null;
  const cell = (count, row, column) => {
    const all = rows[row].reduce((sum, one) => sum + one, 0) || 1;
    const kind = row === column ? "right" : "wrong";
    const data = h("td", { class: count ? kind : "none" }, count ? number(count) : "·");
    data.style.setProperty("--share", `${Math.round((100 * count) / all)}%`);
    return data;
  };
  const table = h(
    "table",
    { class: "confusion" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("shows_named")), names.map((name) => h("th", { scope: "col" }, h("span", {}, name))))),
    h("tbody", {}, rows.map((row, place) => h("tr", {}, h("th", { scope: "row" }, names[place] ?? ""), row.map((count, column) => cell(count, place, column))))),
  );
  const wrong = [];
  rows.forEach((row, place) => row.forEach((count, column) => count && column !== place && wrong.push([count, names[place], names[column]])));
  wrong.sort((a, b) => b[0] - a[0]);
  const worst = wrong[0] ? t("worst_mistake", { count: wrong[0][0], from: wrong[0][1], to: wrong[0][2] }) : t("no_mistake");
  return h("div", {}, h("h3", {}, t("confusion")), h("p", { class: "soft" }, worst), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("confusion") }, table));
}

/** What was kept before. */
export async function showHistory(page, [prompt]) {
  usePrompt(prompt);
  const root = api.path("prompts", state.prompt ?? "default");
  const box = h("div", {});
  const difference = h("section", { class: "card", hidden: true, tabindex: -1 });
  page.append(h("h1", {}, t("view_history")), h("p", { class: "soft" }, t("history_text")), box, difference);
  const compare = async (from, to) => {
    const content = await tried(() => api.get(api.query(`${root}/diff`, { from, to })));
    if (content === undefined) return;
    difference.hidden = false;
    difference.replaceChildren(h("h2", {}, t("diff_of", { from, to })), ...diff(content));
    difference.focus();
    difference.scrollIntoView({ block: "nearest" });
  };
  const back = async (generation) => {
    const sure = await ask({ title: t("rollback_sure", { generation }), content: h("p", {}, t("rollback_text")), ok: t("rollback") });
    if (!sure) return;
    if ((await tried(() => api.post(`${root}/rollback`, { generation }).then(() => true))) !== true) return;
    toast(t("rolled_back", { generation }), "good");
    difference.hidden = true;
    await tried(draw);
  };
  const row = (one, current) => {
    const now = one.generation === current;
    const accuracy = one.adapted_accuracy ?? one.after ?? one.metrics?.adapted_accuracy;
    const facts = [clock(one.at ?? one.created_unix ?? one.created), accuracy === undefined ? null : t("accuracy", { share: percent(accuracy) }), one.images ? t("pictures", { count: one.images }) : null, one.labels?.length ? t("labels_count", { count: one.labels.length }) : null];
    return h(
      "li",
      { class: now ? "now" : "" },
      h("div", {}, h("b", {}, t("generation", { generation: one.generation })), now ? h("span", { class: "state live" }, t("in_use")) : null, h("p", { class: "soft small" }, facts.filter(Boolean).join(" · "))),
      now ? null : h("div", { class: "row" }, button(t("compare"), () => compare(one.generation, current), "quiet"), button(t("rollback"), () => back(one.generation), "", "undo")),
    );
  };
  async function draw() {
    const found = await api.get(`${root}/history`).catch((error) => {
      if (error.status !== 404) throw error;
      return [];
    });
    const all = api.list(found, "history").sort((a, b) => b.generation - a.generation);
    const current = all.find((one) => one.current)?.generation ?? all[0]?.generation;
    const nothing = () => empty(t("no_history"), t("no_history_text"), h("a", { class: "button main", href: `#/train/${encodeURIComponent(state.prompt ?? "")}` }, t("view_train")));
    box.replaceChildren(all.length ? h("ol", { class: "card generations" }, all.map((one) => row(one, current))) : nothing());
  }
  await draw();
  // Somebody else may accept a training or go back to one.
  const ends = [api.listen("prompt", (data) => data.prompt === state.prompt && tried(draw)), api.listen("open", () => tried(draw))];
  return () => ends.forEach((end) => end());
}

/** What a comparison tells, in this order. */
const TOLD = ["at", "adapted_accuracy", "zero_shot_accuracy", "images", "holdout_images", "labels", "method", "steps", "bytes", "restores"];
const SHARES = ["adapted_accuracy", "zero_shot_accuracy"];

/** What changed from one to the other. */
function diff(content) {
  const said = (key, value) => {
    if (value === null || value === undefined) return "–";
    if (key === "at") return clock(value);
    if (SHARES.includes(key)) return percent(value);
    return Array.isArray(value) ? value.join(", ") : typeof value === "number" ? number(value) : String(value);
  };
  const { from, to } = content;
  const row = (key) => h("tr", { class: said(key, from[key]) === said(key, to[key]) ? "" : "other" }, h("th", { scope: "row" }, t(`diff_${key}`)), h("td", {}, said(key, from[key])), h("td", {}, said(key, to[key])));
  const head = h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, t("before")), h("th", { scope: "col" }, t("after"))));
  const labels = (key) => (content[key]?.length ? h("p", {}, t(`diff_${key}`, { labels: content[key].join(", ") })) : null);
  return [
    h("p", { class: "soft" }, t("diff_alike", { share: percent(Math.max(0, content.text_cosine), 1) })),
    labels("only_in_from"),
    labels("only_in_to"),
    h("div", { class: "scroll" }, h("table", { class: "diff" }, head, h("tbody", {}, TOLD.map(row)))),
  ].filter(Boolean);
}
