// The regions of a camera, drawn over its picture: drag to draw, move or resize one, or use the keys or the numbers.

import { api, state } from "./state.js";
import { ask, button, field, h, isKnown, percent, t, toast, tried } from "./dom.js";

/** What the box calls the region of a camera that has none of its own. */
export const WHOLE = "whole";
/** The smallest side of a region, and a step of an arrow key, as shares of the picture. */
const SMALLEST = 0.03;
const STEP = 0.01;
const CORNERS = ["nw", "ne", "sw", "se"];

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A rectangle inside the picture, at least as large as the smallest. */
function inside(box) {
  const width = clamp(box.width, SMALLEST, 1);
  const height = clamp(box.height, SMALLEST, 1);
  return { x: clamp(box.x, 0, 1 - width), y: clamp(box.y, 0, 1 - height), width, height };
}

/** Those that have a place in the picture, to be drawn. */
function drawn(regions) {
  return (regions || []).filter((region) => region.name !== WHOLE && typeof region.x === "number").map((region) => ({ ...region }));
}

export class Regions {
  constructor(card, redraw) {
    this.card = card;
    this.redraw = redraw;
    this.list = [];
    this.editing = false;
    this.selected = null;
    this.toggle = button(t("regions"), () => this.edit(!this.editing), "", "region");
    this.toggle.setAttribute("aria-pressed", "false");
    this.form = h("div", { class: "region-form", hidden: true });
    card.overlay.addEventListener("pointerdown", (event) => this.down(event));
  }

  chosen() {
    return this.list.find((region) => region.name === this.selected);
  }

  /** What the box says; what is being drawn stays as it is. */
  update(regions) {
    if (this.drag) return;
    if (this.editing) return;
    this.list = drawn(regions);
    this.draw();
  }

  edit(on) {
    this.editing = on;
    /** As they were: only what is changed from here on is sent. */
    if (on) this.start = new Map(this.list.map((region) => [region.name, { ...region }]));
    this.selected = on ? (this.list[0]?.name ?? null) : null;
    this.toggle.setAttribute("aria-pressed", String(on));
    this.card.view.classList.toggle("editing", on);
    this.form.hidden = !on;
    if (!on) this.list = drawn(this.card.camera.regions);
    this.draw();
    this.drawForm();
  }

  draw() {
    this.card.overlay.replaceChildren(...this.list.map((region) => this.box(region)));
  }

  box(region) {
    const element = h("div", { class: `region${region.name === this.selected ? " selected" : ""}`, "data-region": region.name }, h("span", { class: "tag" }));
    if (this.editing) {
      element.tabIndex = 0;
      element.setAttribute("role", "button");
      element.setAttribute("aria-label", t("region_keys", { region: region.name }));
      element.addEventListener("focus", () => this.select(region.name));
      element.append(...CORNERS.map((corner) => h("i", { class: `corner ${corner}`, "data-corner": corner })));
    }
    this.place(element, region);
    return element;
  }

  place(element, region) {
    const { x, y, width, height } = region;
    Object.assign(element.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * width}%`, height: `${100 * height}%` });
    const answer = isKnown(region.label) && !this.editing ? `: ${region.label} ${percent(region.probability)}` : "";
    element.querySelector(".tag").textContent = region.name + answer;
  }

  labels() {
    for (const region of this.list) {
      const element = this.element(region.name);
      if (element) this.place(element, region);
    }
  }

  element(name) {
    return [...this.card.overlay.children].find((one) => one.dataset.region === name);
  }

  select(name) {
    if (this.selected === name) return;
    this.selected = name;
    for (const element of this.card.overlay.children) element.classList.toggle("selected", element.dataset.region === name);
    this.drawForm();
  }

  /** Where a pointer is, as shares of the picture. */
  at(event) {
    const box = this.card.overlay.getBoundingClientRect();
    return { x: clamp((event.clientX - box.left) / box.width, 0, 1), y: clamp((event.clientY - box.top) / box.height, 0, 1) };
  }

  down(event) {
    if (!this.editing || event.button) return;
    event.preventDefault();
    const from = this.at(event);
    const element = event.target.closest(".region");
    let region = element && this.list.find((one) => one.name === element.dataset.region);
    let corner = event.target.dataset.corner;
    const fresh = !region;
    if (fresh) {
      region = this.added({ x: from.x, y: from.y, width: SMALLEST, height: SMALLEST });
      corner = "se";
    }
    this.select(region.name);
    const start = { x: region.x, y: region.y, width: region.width, height: region.height };
    const overlay = this.card.overlay;
    this.drag = true;
    overlay.setPointerCapture(event.pointerId);
    const move = (moved) => {
      const to = this.at(moved);
      Object.assign(region, dragged(start, corner, to.x - from.x, to.y - from.y));
      this.labels();
      this.fill(region);
    };
    const up = () => {
      overlay.removeEventListener("pointermove", move);
      this.drag = false;
      this.element(region.name)?.focus();
    };
    overlay.addEventListener("pointermove", move);
    overlay.addEventListener("pointerup", up, { once: true });
    overlay.addEventListener("pointercancel", up, { once: true });
  }

  /** Arrows move the selected region, with shift they resize it; Delete takes it away. */
  key(event) {
    if (!this.editing || !event.target.classList?.contains("region")) return;
    const region = this.chosen();
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!region || !this.card.overlay.contains(event.target)) return;
    if (by) {
      event.preventDefault();
      const [x, y] = by.map((step) => step * STEP);
      const moved = event.shiftKey ? dragged(region, "se", x, y) : dragged(region, undefined, x, y);
      Object.assign(region, moved);
      this.labels();
      this.fill(region);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.remove(region);
    } else if (event.key === "Enter") {
      this.save();
    }
  }

  added(box) {
    let place = this.list.length + 1;
    while (this.list.some((region) => region.name === `region${place}`)) place += 1;
    const prompt = this.card.camera.regions?.[0]?.prompt ?? state.prompt ?? "default";
    const region = { ...inside(box), name: `region${place}`, prompt, fresh: true };
    this.list.push(region);
    this.selected = region.name;
    this.draw();
    this.drawForm();
    return region;
  }

  drawForm() {
    const region = this.chosen();
    const add = button(t("add_region"), () => { this.added({ x: 0.3, y: 0.3, width: 0.4, height: 0.4 }); this.element(this.selected)?.focus(); }, "", "plus");
    const done = button(t("close"), () => this.edit(false), "quiet");
    if (!region) {
      this.form.replaceChildren(h("p", { class: "soft" }, t("draw_region")), h("div", { class: "row" }, add, done));
      return;
    }
    const name = h("input", { value: region.name, disabled: !region.fresh, maxlength: 60, autocomplete: "off", onchange: () => this.rename(region, name.value.trim()) });
    const prompt = h("input", { value: region.prompt ?? "", autocomplete: "off", onchange: () => { region.prompt = prompt.value.trim(); } });
    this.numbers = {};
    const numbers = ["x", "y", "width", "height"].map((side) => {
      const control = h("input", { type: "number", min: 0, max: 100, step: 1, onchange: () => this.typed(region, side, Number(control.value) / 100) });
      this.numbers[side] = control;
      return field(t(`side_${side}`), control);
    });
    this.form.replaceChildren(
      h("p", { class: "soft small" }, t("draw_region")),
      h("div", { class: "pair" }, field(t("name"), name), field(t("prompt"), prompt)),
      h("div", { class: "quad" }, numbers),
      h("div", { class: "row" }, button(t("save"), () => this.save(), "main"), add, button(t("remove"), () => this.remove(region), "quiet"), done),
    );
    this.fill(region);
  }

  fill(region) {
    for (const [side, control] of Object.entries(this.numbers || {})) control.value = Math.round(100 * region[side]);
  }

  typed(region, side, value) {
    Object.assign(region, inside({ ...region, [side]: Number.isFinite(value) ? value : region[side] }));
    this.labels();
    this.fill(region);
  }

  rename(region, name) {
    if (!name || this.list.some((one) => one !== region && one.name === name)) return;
    region.name = name;
    this.selected = name;
    this.draw();
  }

  address(region) {
    return api.path("cameras", this.card.name, "regions", region.name);
  }

  async save() {
    const saved = await tried(async () => {
      for (const region of this.list) {
        const { x, y, width, height, prompt } = region;
        const before = this.start.get(region.name);
        const same = !region.fresh && before && ["x", "y", "width", "height", "prompt"].every((key) => before[key] === region[key]);
        if (!same) await api.put(this.address(region), { x, y, width, height, prompt });
        region.fresh = false;
      }
      return true;
    });
    if (!saved) return;
    toast(t("saved"), "good");
    await this.redraw();
    this.edit(false);
  }

  async remove(region) {
    if (!region.fresh) {
      const sure = await ask({ title: t("remove_region_sure", { region: region.name }), content: h("p", {}, t("remove_region_text")), ok: t("remove"), danger: true });
      if (!sure) return;
      if ((await tried(() => api.remove(this.address(region)).then(() => true))) !== true) return;
      this.start.delete(region.name);
      await tried(this.redraw);
    }
    this.list = this.list.filter((one) => one !== region);
    this.selected = this.list[0]?.name ?? null;
    this.draw();
    this.drawForm();
  }
}

/** A rectangle after a drag by `dx`, `dy`: moved, or with one corner elsewhere. */
function dragged(box, corner, dx, dy) {
  if (!corner) return inside({ ...box, x: box.x + dx, y: box.y + dy });
  const right = box.x + box.width;
  const bottom = box.y + box.height;
  const east = corner.includes("e");
  const south = corner.includes("s");
  // A corner dragged across the opposite one turns the rectangle over.
  const [x1, x2] = [east ? box.x : clamp(box.x + dx, 0, 1), east ? clamp(right + dx, 0, 1) : right].sort((a, b) => a - b);
  const [y1, y2] = [south ? box.y : clamp(box.y + dy, 0, 1), south ? clamp(bottom + dy, 0, 1) : bottom].sort((a, b) => a - b);
  return inside({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
}
