// What more pictures would bring, why an answer was wrong, and the report of an evaluation.

import { api, labelsOf, loadPrompts, state, usePrompt } from "./state.js";
import { button, choice, currentLanguage, empty, h, number, percent, points, s, t, toast, tried } from "./dom.js";

/** "Enough yet?" */
export const advice = {
  async show(page, [prompt]) {
    usePrompt(prompt);
    const box = h("div", { class: "stack" }, h("p", { class: "soft", role: "status" }, t("looking")));
    page.append(h("h1", {}, t("view_enough")), box);
    let found;
    try {
      found = await api.get(api.path("prompts", state.prompt ?? "default", "enough"));
    } catch (error) {
      box.replaceChildren(empty(t("too_few"), error.message, h("a", { class: "button main", href: `#/teach/${encodeURIComponent(state.prompt ?? "")}` }, t("view_teach"))));
      return;
    }
    const cards = (found.advice ?? []).map(card);
    box.replaceChildren(
      h("ul", { class: "advice" }, cards),
      h("section", { class: "card" }, h("h2", {}, t("curve")), h("p", { class: "soft" }, t("curve_text")), curve(found.curve ?? [])),
    );
  },
};

const ORDER = { more: "plus", alike: "help", plenty: "check" };

function card(one) {
  const text = {
    more: () => (one.points === null || one.points === undefined) ? t("advice_first", { count: one.pictures, label: one.label }) : t("advice_more", { count: one.pictures, label: one.label, points: points(one.points / 100) }),
    alike: () => t("advice_alike", { label: one.label, other: one.other }),
    plenty: () => t("advice_plenty", { label: one.label }),
  }[one.kind];
  if (!text) return null;
  const prompt = encodeURIComponent(state.prompt);
  const link = one.kind === "more" ? h("a", { href: `#/teach/${prompt}` }, t("view_teach")) : one.kind === "alike" ? h("a", { href: `#/review/${prompt}/${encodeURIComponent(one.label)}` }, t("look_at_them")) : null;
  const paths = { plus: "M12 5v14M5 12h14", help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5h.01", check: "M5 12.5l4.5 4.5L19 7.5" };
  return h("li", { class: `card ${one.kind}` }, s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: paths[ORDER[one.kind]] })), h("div", {}, h("p", {}, text()), link));
}

/** Accuracy by pictures of each label. */
function curve(all) {
  if (all.length < 2) return h("p", { class: "soft" }, t("curve_short"));
  const [left, right, top, bottom] = [44, 348, 12, 170];
  const x = (place) => left + ((right - left) * place) / (all.length - 1);
  const y = (share) => bottom - (bottom - top) * share;
  const line = all.map((one, place) => `${place ? "L" : "M"}${x(place).toFixed(1)} ${y(one.accuracy).toFixed(1)}`).join("");
  const steps = [0, 0.25, 0.5, 0.75, 1];
  const told = all.map((one) => t("curve_point", { shots: one.shots, share: percent(one.accuracy) })).join("; ");
  return s(
    "svg",
    { class: "chart", viewBox: "0 0 360 206", role: "img", "aria-label": told },
    steps.map((share) => [s("line", { class: "grid-line", x1: left, x2: right, y1: y(share), y2: y(share) }), s("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share))]),
    s("path", { class: "line", d: line }),
    all.map((one, place) => [
      s("circle", { class: "dot", cx: x(place), cy: y(one.accuracy), r: 4 }),
      s("text", { class: "value", x: x(place), y: y(one.accuracy) - 9, "text-anchor": place === 0 ? "start" : place === all.length - 1 ? "end" : "middle" }, percent(one.accuracy)),
      s("text", { x: x(place), y: bottom + 17, "text-anchor": "middle" }, number(one.shots)),
    ]),
    s("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, t("shots_of_each")),
  );
}

/** "Why wrong?": of a shot or a recent frame. */
export const why = {
  async show(page, [prompt, kind, id]) {
    usePrompt(prompt);
    const root = api.path("prompts", state.prompt);
    const image = kind === "shot" ? `${root}/shots/${encodeURIComponent(id)}.jpg` : `${api.path("recent", id)}.jpg`;
    const box = h("div", { class: "stack" }, h("p", { class: "soft", role: "status" }, t("looking")));
    page.append(
      h("div", { class: "row" }, h("button", { type: "button", class: "quiet", onclick: () => history.back() }, t("back"))),
      h("h1", {}, t("view_why")),
      h("div", { class: "two" }, h("figure", { class: "card" }, h("img", { class: "large", src: image, alt: t("asked_picture") })), box),
    );
    const [found] = await Promise.all([api.get(api.query(`${root}/why`, { [kind]: id })), loadPrompts()]);
    const scores = [...(found.scores ?? [])].sort((a, b) => (b.after ?? b.before) - (a.after ?? a.before));
    const shots = (list, title, text, caption) =>
      list?.length ? h("section", { class: "card" }, h("h2", {}, title), h("p", { class: "soft" }, text), h("ul", { class: "grid small" }, list.map((one) => h("li", { class: "tile still" }, h("a", { href: `#/why/${encodeURIComponent(state.prompt)}/shot/${encodeURIComponent(one.id)}` }, h("img", { src: `${root}/shots/${encodeURIComponent(one.id)}.jpg`, alt: one.label, loading: "lazy" })), h("span", { class: "caption" }, h("b", {}, one.label), caption(one)))))) : null;
    box.replaceChildren(
      h("section", { class: "card" }, h("h2", {}, t("scores")), h("p", { class: "soft" }, summary(found, scores)), scoreTable(scores), relabel(kind, id, found.label ?? found.answer)),
    );
    page.append(
      shots(found.nearest, t("nearest"), t("nearest_text"), (one) => h("span", { class: "when" }, t("alike", { share: percent(one.similarity) }))) ?? "",
      shots(found.influential, t("influential"), t("influential_text", { label: scores[0]?.label ?? "" }), (one) => h("span", { class: "when" }, t("without_it", { points: points(one.change) }))) ?? "",
    );
  },
};

function summary(found, scores) {
  const [best, second] = scores;
  if (!best) return "";
  const close = second && best.after - second.after < 0.15;
  const nearest = found.nearest?.[0];
  const parts = [close ? t("why_close", { label: best.label, other: second.label }) : t("why_sure", { label: best.label, share: percent(best.after) })];
  if (nearest && nearest.label !== best.label) parts.push(t("why_nearest", { label: nearest.label }));
  return parts.join(" ");
}

function scoreTable(scores) {
  const row = (one) =>
    h("tr", {}, h("th", { scope: "row" }, one.label), h("td", {}, percent(one.before)), h("td", {}, h("b", {}, percent(one.after)), h("span", { class: "meter" }, h("span", { place: { width: `${100 * (one.after ?? 0)}%` } }))));
  return h("div", { class: "scroll" }, h("table", { class: "scores" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("label")), h("th", { scope: "col" }, t("before_training")), h("th", { scope: "col" }, t("now")))), h("tbody", {}, scores.slice(0, 12).map(row))));
}

/** What it is, said right there. */
function relabel(kind, id, label) {
  const labels = labelsOf(state.prompt).map((one) => one.label);
  if (!labels.length) return null;
  const which = choice(labels.map((one) => [one, one]), label ?? labels[0]);
  which.setAttribute("aria-label", t("it_is"));
  const say = async () => {
    const done = await tried(async () => {
      if (kind === "shot") await api.patch(api.path("prompts", state.prompt, "shots", id), { label: which.value });
      else await api.post(api.path("recent", "label"), { ids: [id], label: which.value });
      return true;
    });
    if (!done) return;
    toast(t("labelled", { count: 1, label: which.value }), "good");
    history.back();
  };
  return h("div", { class: "row" }, h("span", {}, t("it_is")), which, button(t("save"), say, "main"));
}

/** The report of `eval`, in a frame of its own: it brings its own style and runs nothing. */
export const report = {
  async show(page, [prompt]) {
    usePrompt(prompt);
    const address = api.query(`${api.path("prompts", state.prompt ?? "default")}/report`, { language: currentLanguage() });
    const status = h("p", { class: "soft", role: "status" }, t("report_wait"));
    page.append(h("h1", {}, t("view_report")), status);
    try {
      await api.get(address);
    } catch (error) {
      status.replaceWith(empty(t("no_report"), error.message, h("a", { class: "button main", href: `#/teach/${encodeURIComponent(state.prompt ?? "")}` }, t("view_teach"))));
      return;
    }
    status.replaceWith(
      h("div", { class: "row" }, h("a", { class: "button quiet", href: address, target: "_blank", rel: "noopener" }, t("open_alone")), h("a", { class: "button quiet", href: address, download: `${state.prompt}.html` }, t("save_report"))),
      h("iframe", { class: "report", src: address, title: t("view_report"), sandbox: "" }),
    );
  },
};
