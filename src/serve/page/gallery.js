// Many pictures at once: the recent frames to label, and the labelled ones to look over again. A tap selects, shift or a long
// press selects up to there, a label's key or a tap on it labels what is selected.

import { api, keyOf, labelsOf, loadPrompts, placeOf, state, usePrompt } from "./state.js";
import { ask, button, choice, clock, empty, h, icon, isKnown, number, percent, shown, t, toast, tried, typing } from "./dom.js";

/** Milliseconds of a long press. */
const LONG = 450;
/** Pictures that are drawn at first, and with each "more". */
const PAGE = 60;

class Gallery {
  /** `items`, each drawn by `image(item)` and `caption(item)`; `acts(ids)` are buttons, `label(ids, label)` labels. */
  constructor(work) {
    this.work = work;
    this.items = work.items;
    this.selected = new Set();
    this.anchor = 0;
    this.shown = PAGE;
    this.grid = h("ul", { class: "grid", role: "listbox", "aria-multiselectable": "true", "aria-label": work.title });
    this.more = button(t("more"), () => { this.shown += PAGE; this.draw(); }, "wide");
    this.bar = h("div", { class: "actionbar" });
    this.element = h("div", {}, this.grid, this.more, this.bar);
    this.draw();
  }

  draw() {
    const shown = this.items.slice(0, this.shown);
    this.grid.replaceChildren(...shown.map((item, place) => this.tile(item, place)));
    this.more.hidden = this.items.length <= this.shown;
    if (!this.items.length) this.grid.replaceChildren(h("li", { class: "span", role: "presentation" }, empty(...this.work.nothing)));
    this.drawBar();
  }

  /** Shows others; what is selected stays so, and so does the one that was touched last, where they are among them. */
  replace(items) {
    const touched = this.items[this.anchor]?.id;
    this.items = items;
    this.anchor = Math.max(0, items.findIndex((item) => item.id === touched));
    this.draw();
  }

  tile(item, place) {
    const tile = h(
      "li",
      { role: "option", class: "tile", tabindex: place === this.anchor ? 0 : -1, "aria-selected": String(this.selected.has(item.id)) },
      h("img", { src: this.work.image(item), alt: "", loading: "lazy", draggable: "false" }),
      h("span", { class: "tick" }, icon("check")),
      h("span", { class: "caption" }, this.work.caption(item)),
    );
    // Others before it may go.
    const at = () => this.items.indexOf(item);
    let timer = null;
    let long = false;
    tile.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      long = false;
      timer = setTimeout(() => { long = true; this.range(at()); navigator.vibrate?.(15); }, LONG);
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) tile.addEventListener(end, () => clearTimeout(timer));
    tile.addEventListener("contextmenu", (event) => event.preventDefault());
    tile.addEventListener("click", (event) => {
      if (long) return;
      if (event.shiftKey) this.range(at());
      else this.flip(at());
    });
    return tile;
  }

  flip(place) {
    const { id } = this.items[place];
    if (!this.selected.delete(id)) this.selected.add(id);
    this.anchor = place;
    this.mark();
  }

  /** Selects from the last one that was touched up to `place`. */
  range(place) {
    const from = this.selected.size ? this.anchor : place;
    for (let at = Math.min(from, place); at <= Math.max(from, place); at += 1) this.selected.add(this.items[at].id);
    this.anchor = place;
    this.mark();
  }

  mark() {
    [...this.grid.children].forEach((tile, place) => {
      const item = this.items[place];
      if (!item) return;
      tile.setAttribute("aria-selected", String(this.selected.has(item.id)));
      tile.tabIndex = place === this.anchor ? 0 : -1;
    });
    this.drawBar();
  }

  ids() {
    return this.items.filter((item) => this.selected.has(item.id)).map((item) => item.id);
  }

  drawBar() {
    const ids = this.ids();
    this.bar.hidden = !this.items.length;
    if (!ids.length) {
      this.bar.replaceChildren(h("p", { class: "soft small" }, t("select_hint")), button(t("select_all"), () => this.all(), "quiet"));
      return;
    }
    const labels = labelsOf(state.prompt).map(({ label }, place) => h("button", { type: "button", class: "label", onclick: () => this.label(place) }, h("kbd", {}, keyOf(place)), h("span", { class: "name" }, label)));
    this.bar.replaceChildren(
      h("div", { class: "row between" }, h("b", { role: "status" }, t("selected", { count: ids.length })), h("div", { class: "row" }, this.work.acts(ids, this), h("button", { type: "button", class: "quiet round", "aria-label": t("clear"), onclick: () => this.none() }, icon("close")))),
      h("div", { class: "labels" }, labels.length ? labels : h("p", { class: "soft" }, t("no_labels_yet"))),
    );
  }

  all() {
    this.items.slice(0, this.shown).forEach((item) => this.selected.add(item.id));
    this.mark();
  }

  none() {
    this.selected.clear();
    this.mark();
  }

  async label(place) {
    const label = labelsOf(state.prompt)[place]?.label;
    const ids = this.ids();
    if (!label || !ids.length) return;
    const count = await tried(() => this.work.label(ids, label));
    if (count === undefined) return;
    toast(t("labelled", { count, label }), "good");
    this.gone(ids);
  }

  /** One was labelled or deleted elsewhere; the others stay as they are. */
  left(id) {
    const place = this.items.findIndex((item) => item.id === id);
    if (place < 0) return;
    this.items.splice(place, 1);
    this.selected.delete(id);
    if (place < this.shown) this.grid.children[place]?.remove();
    if (this.anchor > place || this.anchor === this.items.length) this.anchor = Math.max(0, this.anchor - 1);
    if (this.items.length && this.grid.childElementCount) this.mark();
    else this.draw();
  }

  /** Takes pictures out of what is shown. */
  gone(ids) {
    const left = new Set(ids);
    this.items = this.items.filter((item) => !left.has(item.id));
    this.selected.clear();
    this.anchor = Math.min(this.anchor, Math.max(0, this.items.length - 1));
    const focused = this.grid.contains(document.activeElement);
    this.draw();
    if (focused) this.grid.children[this.anchor]?.focus?.();
  }

  key(event) {
    if (typing(event) || !this.items.length) return;
    const columns = Math.max(1, Math.round(this.grid.clientWidth / (this.grid.firstChild.offsetWidth || 1)));
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (step) {
      event.preventDefault();
      const to = Math.min(Math.min(this.items.length, this.shown) - 1, Math.max(0, this.anchor + step));
      if (event.shiftKey) this.range(to);
      this.anchor = to;
      this.mark();
      this.grid.children[to].focus();
    } else if (event.key === " ") {
      if (event.target.closest("button, a, summary")) return;
      event.preventDefault();
      this.flip(this.anchor);
    } else if (event.key === "Escape") {
      this.none();
    } else if (event.key === "a") {
      this.all();
    } else if (event.key === "Delete") {
      this.work.discard?.(this.ids(), this);
    } else if (this.selected.size && placeOf(event) >= 0) {
      this.label(placeOf(event));
    }
  }
}

let gallery = null;

function whyButton(ids, kind) {
  return ids.length === 1 ? button(t("why"), () => { location.hash = `#/why/${encodeURIComponent(state.prompt)}/${kind}/${encodeURIComponent(ids[0])}`; }, "quiet", "help") : null;
}

async function discard(ids, one, address) {
  if (!ids.length) return;
  const sure = await ask({ title: t("delete_sure", { count: ids.length }), content: h("p", {}, t("delete_text")), ok: t("delete"), danger: true });
  if (!sure) return;
  const done = [];
  await tried(async () => {
    for (const id of ids) {
      await api.remove(address(id));
      done.push(id);
    }
  });
  one.gone(done);
  if (done.length) toast(t("deleted", { count: done.length }));
  await tried(loadPrompts);
}

/** Frames that the model was unsure of, or at which the label changed. */
export const recent = {
  async show(page, [prompt]) {
    usePrompt(prompt);
    const fetched = () => api.get(api.query(api.path("recent"), { prompt: state.prompt }));
    let [items] = await Promise.all([fetched(), loadPrompts()]);
    // Somebody has gone on: keys are for what is shown there.
    if (!page.isConnected) return undefined;
    items = api.list(items, "recent");
    const heading = h("h1", {}, t("view_recent"));
    const fresh = button("", () => renew(), "wide", "undo");
    fresh.hidden = true;
    let waiting = 0;
    const remove = (ids, one) => discard(ids, one, (id) => api.path("recent", id));
    gallery = new Gallery({
      title: t("view_recent"),
      items,
      nothing: [t("no_recent"), t("no_recent_text")],
      image: (item) => `${api.path("recent", item.id)}.jpg`,
      caption: (item) => [h("b", {}, shown(item.label)), " ", isKnown(item.label) ? `${percent(item.probability)} ` : null, h("span", { class: `why ${item.reason}` }, t(`reason_${item.reason}`)), h("span", { class: "when" }, `${item.camera ?? ""} ${clock(item.at)}`)],
      label: async (ids, label) => { const answer = await api.post(api.path("recent", "label"), { ids, label }); await loadPrompts(); return answer.shots?.length ?? ids.length; },
      acts: (ids, one) => [whyButton(ids, "recent"), button(t("delete"), () => remove(ids, one), "quiet")],
      discard: remove,
    });
    const renew = async () => {
      const found = await tried(fetched);
      if (!found) return;
      waiting = 0;
      fresh.hidden = true;
      gallery.replace(api.list(found, "recent"));
    };
    page.append(heading, h("p", { class: "soft" }, t("recent_text")), fresh, gallery.element);
    // New ones do not push away what somebody is about to tap.
    const ends = [
      api.listen("recent", (data) => {
        if (data.gone) {
          gallery.left(data.id);
          return;
        }
        waiting += 1;
        fresh.hidden = false;
        fresh.lastChild.textContent = t("new_pictures", { count: waiting });
      }),
      // What went while nothing was heard is not there to be labelled.
      api.listen("open", renew),
    ];
    return () => ends.forEach((end) => end());
  },
  keys: (event) => gallery?.element.isConnected && gallery.key(event),
};

/** The labelled pictures of a label, the most suspicious first. */
export const review = {
  async show(page, [prompt, wanted]) {
    usePrompt(prompt);
    await loadPrompts();
    const labels = labelsOf(state.prompt);
    page.append(h("h1", {}, t("view_review")), h("p", { class: "soft" }, t("review_text")));
    if (!labels.some((one) => one.shots)) {
      page.append(empty(t("no_shots"), t("no_shots_text"), h("a", { class: "button main", href: `#/teach/${encodeURIComponent(state.prompt ?? "")}` }, t("view_teach"))));
      return undefined;
    }
    const address = (label) => `#/review/${encodeURIComponent(state.prompt)}/${encodeURIComponent(label)}`;
    const label = labels.some((one) => one.label === wanted) ? wanted : "";
    const names = [["", t("all_labels")], ...labels.map((one) => [one.label, `${one.label} (${number(one.shots)})`])];
    const which = choice(names, label, (name) => { location.hash = address(name); });
    which.setAttribute("aria-label", t("label"));
    const box = h("div", {}, h("p", { class: "soft", role: "status" }, t("looking")));
    page.append(h("div", { class: "row" }, which), box);
    const shots = (...parts) => api.path("prompts", state.prompt, "shots", ...parts);
    const items = api.list(await api.get(api.query(shots(), { label, order: "suspicious" })), "shots");
    if (!page.isConnected) return undefined;
    const remove = (ids, one) => discard(ids, one, (id) => shots(id));
    gallery = new Gallery({
      title: t("view_review"),
      items,
      nothing: [t("no_shots"), t("no_shots_text")],
      image: (item) => `${shots(item.id)}.jpg`,
      caption: (item) => [h("b", {}, item.label), " ", item.suspicion > 0 ? h("span", { class: "why uncertain" }, item.seems ? t("looks_like", { label: item.seems }) : t("suspicious")) : null, h("span", { class: "when" }, clock(item.at))],
      label: async (ids, name) => { await api.patch(shots(), { ids, label: name }); await loadPrompts(); return ids.length; },
      acts: (ids, one) => [whyButton(ids, "shot"), button(t("delete"), () => remove(ids, one), "quiet")],
      discard: remove,
    });
    box.replaceChildren(gallery.element);
    return undefined;
  },
  keys: (event) => gallery?.element.isConnected && gallery.key(event),
};
