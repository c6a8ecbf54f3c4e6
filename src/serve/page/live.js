// Live: each camera as a moving picture, its regions drawn over it, the answers, and how the camera is.

import { api, loadCameras, loadPrompts, state } from "./state.js";
import { ask, button, clock, empty, field, h, icon, isKnown, number, percent, said, shown, t, toast, tried } from "./dom.js";
import { Regions, WHOLE } from "./regions.js";

/** More pictures at a time than this would use up the connections that a browser gives to one host. */
const STREAMS = 3;
/** How often the other cameras show a new picture, in milliseconds. */
const STILL = 1500;
/** Changes that are named of a region. */
const CHANGES = 5;

const cards = new Map();

export async function show(page) {
  await loadCameras();
  cards.clear();
  const grid = h("div", { class: "cameras" });
  const heading = h(
    "div",
    { class: "row between" },
    h("h1", {}, t("view_live")),
    button(t("add_camera"), addCamera, "", "plus"),
  );
  const draw = () => {
    // Those that stay keep what is being drawn on them.
    const before = new Map(cards);
    cards.clear();
    for (const camera of state.cameras.values()) {
      const card = before.get(camera.name) ?? new Card(camera, anew);
      if (before.delete(camera.name)) card.update(camera);
      cards.set(camera.name, card);
    }
    for (const card of before.values()) card.end();
    grid.replaceChildren(...[...cards.values()].map((card) => card.element));
    heading.hidden = !cards.size;
    if (!cards.size) {
      grid.append(empty(t("no_camera"), t("no_camera_text"), button(t("add_camera"), addCamera, "main", "plus")));
    }
    share();
  };
  const refresh = async () => {
    const before = [...state.cameras.keys()].join("\n");
    await tried(loadCameras);
    if ([...state.cameras.keys()].join("\n") !== before) draw();
    else for (const camera of state.cameras.values()) cards.get(camera.name)?.update(camera);
  };
  async function anew() {
    await tried(loadCameras);
    draw();
  }
  async function addCamera() {
    if (await cameraForm(null)) await anew();
  }

  page.append(heading, grid);
  draw();
  const seen = () => share();
  document.addEventListener("visibilitychange", seen);
  const ends = [
    api.listen("open", refresh),
    api.listen("camera", (data) => {
      if (!data.gone && cards.has(data.name)) cards.get(data.name).update(data);
      else refresh();
    }),
    api.listen("named", (data) => cards.get(data.camera)?.named(data)),
    api.listen("change", (data) => cards.get(data.camera)?.changed(data)),
  ];
  // Frames and drops have no event.
  const timer = setInterval(() => {
    if (document.hidden) return;
    refresh();
    for (const card of cards.values()) card.mend();
  }, 5000);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", seen);
    ends.forEach((end) => end());
    for (const card of cards.values()) card.end();
    cards.clear();
  };
}

export function keys(event) {
  for (const card of cards.values()) card.regions.key(event);
}

/** Gives the moving pictures to the cameras that are looked at. */
function share() {
  let left = STREAMS;
  for (const card of cards.values()) {
    const shown = !document.hidden && card.visible;
    const sends = shown && !["failed", "starting"].includes(card.camera.state);
    card.watch(sends ? (left > 0 ? "stream" : "still") : "none");
    if (sends) left -= 1;
  }
}

const looker = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = [...cards.values()].find((one) => one.view === entry.target);
    if (card) card.visible = entry.isIntersecting;
  }
  share();
});

class Card {
  constructor(camera, redraw) {
    this.name = camera.name;
    this.camera = camera;
    this.was = camera.state;
    this.visible = true;
    this.how = "none";
    this.picture = h("img", { alt: t("picture_of", { camera: camera.name }), draggable: "false" });
    this.picture.addEventListener("load", () => this.sized());
    this.picture.addEventListener("error", () => this.lost());
    this.overlay = h("div", { class: "regions" });
    this.view = h("div", { class: "view-of" }, this.picture, this.overlay);
    this.word = h("span", { class: "state" });
    this.trouble = h("p", { class: "note failed", hidden: true });
    this.answers = h("ul", { class: "answers" });
    this.figures = h("p", { class: "soft small figures" });
    this.regions = new Regions(this, redraw);
    const actions = h(
      "div",
      { class: "row" },
      button(t("teach_this"), () => this.teach(), "main", "teach"),
      this.regions.toggle,
      h("button", { type: "button", class: "quiet round push", "aria-label": t("edit_camera", { camera: camera.name }), onclick: () => this.edit(redraw) }, icon("edit")),
    );
    this.element = h(
      "article",
      { class: "card camera", "aria-label": camera.name },
      h("header", { class: "row between" }, h("h2", {}, camera.name), this.word),
      this.view,
      this.trouble,
      this.answers,
      this.regions.form,
      actions,
      this.figures,
    );
    this.update(camera);
    looker.observe(this.view);
  }

  end() {
    this.watch("none");
    looker.unobserve(this.view);
  }

  /** "stream": moving; "still": a picture now and then; "none": not looked at. */
  watch(how) {
    if (how === this.how) return;
    this.how = how;
    clearTimeout(this.timer);
    this.next();
  }

  next() {
    if (this.how === "none") {
      this.picture.removeAttribute("src");
      this.view.classList.remove("seen");
      return;
    }
    const width = Math.min(1280, Math.ceil((this.view.clientWidth || 480) * Math.min(2, window.devicePixelRatio || 1)));
    const base = `cameras/${encodeURIComponent(this.name)}`;
    const fps = navigator.connection?.saveData ? 1 : 8;
    const address = this.how === "stream" ? api.query(`api/v1/${base}/stream.mjpeg`, { fps, width, t: Date.now() }) : api.query(`api/v1/${base}/snapshot.jpg`, { width, t: Date.now() });
    this.picture.src = address;
    if (this.how === "still") this.timer = setTimeout(() => this.next(), STILL);
  }

  sized() {
    const { naturalWidth: width, naturalHeight: height } = this.picture;
    if (width && height) this.view.style.aspectRatio = `${width} / ${height}`;
    this.view.classList.add("seen");
  }

  /** The picture broke off: asks again, unless the camera is gone. */
  lost() {
    if (this.how === "none") return;
    this.view.classList.remove("seen");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.next(), 3000);
  }

  /** A browser tells nothing of a moving picture that broke off. */
  mend() {
    if (this.how === "stream" && this.picture.complete && !this.picture.naturalWidth) this.lost();
  }

  update(camera) {
    const other = this.camera.source !== camera.source;
    this.camera = camera;
    if (other && this.how === "stream") this.next();
    state.cameras.set(camera.name, camera);
    this.state(camera);
    this.drawAnswers();
    this.regions.update(camera.regions || []);
  }

  state(camera) {
    this.camera = camera;
    const word = camera.state || "starting";
    this.word.textContent = t(`state_${word}`);
    this.word.className = `state ${word}`;
    this.view.dataset.state = word;
    this.view.dataset.word = t(`state_${word}_text`);
    this.trouble.hidden = !camera.error;
    this.trouble.className = `note ${word === "stalled" ? "warn" : "failed"}`;
    this.trouble.textContent = said(camera.error || "");
    if (word !== this.was) {
      this.was = word;
      share();
    }
    const figures = [];
    if (camera.fps !== null && camera.fps !== undefined) figures.push(t("frames_per_second", { fps: number(camera.fps, 1) }));
    if (camera.dropped) figures.push(t("dropped", { count: camera.dropped, number: number(camera.dropped) }));
    if (camera.source) figures.push(camera.source);
    this.figures.textContent = figures.join(" · ");
  }

  drawAnswers() {
    const regions = this.camera.regions || [];
    const names = regions.map((region) => region.name).join("\n");
    if (names !== this.names) {
      this.names = names;
      this.rows = new Map(regions.map((region) => [region.name, new AnswerOf(region)]));
      this.answers.replaceChildren(...[...this.rows.values()].map((row) => row.element));
      if (!regions.length) this.answers.append(h("li", { class: "soft" }, t("no_region")));
    }
    for (const region of regions) this.rows.get(region.name).update(region);
  }

  region(name) {
    return (this.camera.regions || []).find((region) => region.name === name) ?? (name ? null : this.camera.regions?.[0]);
  }

  named(data) {
    const region = this.region(data.region);
    if (!region) return;
    Object.assign(region, { label: data.label, probability: data.probability, top: data.top ?? region.top });
    this.drawAnswers();
    this.regions.update(this.camera.regions);
  }

  changed(data) {
    const region = this.region(data.region);
    if (!region) return;
    const label = data.to ?? data.label;
    region.changes = [{ at: data.at, from: data.from, to: label, probability: data.probability }, ...(region.changes || [])].slice(0, CHANGES);
    Object.assign(region, { label, probability: data.probability, since: data.at });
    this.drawAnswers();
    this.regions.update(this.camera.regions);
  }

  teach() {
    const region = this.regions.chosen() ?? this.camera.regions?.[0];
    const prompt = region?.prompt ?? state.prompt ?? "";
    state.place = { camera: this.name, region: region?.name ?? null };
    if (prompt) state.prompt = prompt;
    location.hash = `#/teach/${encodeURIComponent(prompt)}`;
  }

  async edit(redraw) {
    if (await cameraForm(this.camera)) await redraw();
  }
}

/** What a region shows, and the last changes: changed in place, so that what is open or focused stays so. */
class AnswerOf {
  constructor(region) {
    this.word = h("b", {});
    this.share = h("span", { class: "share" });
    this.fill = h("span", {});
    this.meter = h("div", { class: "meter" }, this.fill);
    this.trouble = h("p", { class: "note failed", hidden: true });
    this.since = h("summary", { class: "small" });
    this.changes = h("ol", { class: "changes small" });
    this.more = h("details", {}, this.since, this.changes);
    const name = region.name === WHOLE ? null : h("span", { class: "soft small" }, region.name);
    this.element = h("li", {}, h("div", { class: "answer" }, name, this.word, this.share), this.meter, this.trouble, this.more);
  }

  update(region) {
    const known = isKnown(region.label);
    this.word.textContent = region.label ? shown(region.label) : region.labels?.length ? t("waiting") : t("not_taught");
    this.word.className = known ? "" : "soft";
    this.share.textContent = known ? percent(region.probability) : "";
    this.meter.hidden = !known;
    this.fill.style.width = `${100 * Math.min(1, Math.max(0, region.probability || 0))}%`;
    this.trouble.hidden = !region.error;
    this.trouble.textContent = said(region.error || "");
    const changes = (region.changes || []).slice(0, CHANGES);
    const key = changes.map((one) => `${one.at}`).join();
    if (key === this.key) return;
    this.key = key;
    this.more.hidden = !changes.length;
    this.since.textContent = changes.length ? t("since", { time: clock(region.since ?? changes[0].at) }) : "";
    this.changes.replaceChildren(...changes.map(changed));
  }
}

function changed(one) {
  const share = isKnown(one.to) ? h("span", { class: "soft" }, ` ${percent(one.probability)}`) : null;
  return h("li", {}, h("time", {}, clock(one.at)), " ", h("span", { class: "soft" }, one.from ? `${shown(one.from)} → ` : ""), h("b", {}, shown(one.to)), share);
}

/** Asks for a new camera, or for changes of one; says whether there were any. */
async function cameraForm(camera) {
  const name = h("input", { required: true, value: camera?.name ?? "", disabled: !!camera, autocomplete: "off", maxlength: 60, placeholder: t("camera_name_example") });
  const source = h("input", { required: !camera, value: "", autocomplete: "off", spellcheck: "false", placeholder: camera ? camera.source : "demo" });
  const prompt = h("input", { value: camera?.regions?.[0]?.prompt ?? state.prompt ?? "", autocomplete: "off", placeholder: "default" });
  const go = h("input", { type: "checkbox" });
  const examples = h("ul", { class: "plain small soft" }, ["source_usb", "source_network", "source_folder", "source_demo"].map((key) => h("li", {}, t(key))));
  const content = h(
    "div",
    {},
    field(t("name"), name),
    field(t("source"), source, camera ? t("source_kept") : null),
    h("details", {}, h("summary", { class: "small" }, t("source_help")), examples),
    camera ? null : field(t("prompt"), prompt, t("prompt_hint")),
    camera ? h("label", { class: "check" }, go, t("remove_camera")) : null,
  );
  const answer = await ask({
    title: camera ? t("edit_camera", { camera: camera.name }) : t("add_camera"),
    content,
    ok: camera ? t("save") : t("add"),
    read: () => ({ name: name.value.trim(), source: source.value.trim(), prompt: prompt.value.trim(), go: go.checked }),
    work: async (given) => {
      if (camera && (given.go || !given.source)) return;
      if (!camera && state.cameras.has(given.name)) throw new Error(t("camera_there", { camera: given.name }));
      const body = { source: given.source };
      const named = camera ? camera.regions?.[0]?.prompt : given.prompt;
      if (named) body.prompt = named;
      await api.put(api.path("cameras", given.name), body);
    },
  });
  if (!answer) return false;
  return tried(async () => {
    if (camera && answer.go) {
      const sure = await ask({ title: t("remove_camera_sure", { camera: camera.name }), content: h("p", {}, t("remove_camera_text")), ok: t("remove"), danger: true });
      if (!sure) return false;
      await api.remove(api.path("cameras", camera.name));
      toast(t("removed", { what: camera.name }));
      return true;
    }
    if (camera && !answer.source) return false;
    await loadPrompts();
    return true;
  });
}
