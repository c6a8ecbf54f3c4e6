// Teach: the labels, the picture of a camera to keep under one with a tap, and pictures that are brought along.

import { api, keyOf, labelsOf, loadCameras, loadPrompts, placeOf, placesOf, state, usePrompt } from "./state.js";
import { ask, button, choice, empty, field, h, number, t, toast, tried, typing } from "./dom.js";

/** Milliseconds of a press that takes a burst. */
const HOLD = 500;
/** Pictures of a label that work well. */
const ENOUGH = 16;
/** Pictures that are sent at the same time. */
const AT_ONCE = 2;

let view = null;

export async function show(page, [prompt]) {
  usePrompt(prompt);
  await Promise.all([loadCameras(), loadPrompts()]);
  if (!page.isConnected) return undefined;
  if (!state.prompt) state.prompt = "default";
  view = new Teach(page);
  const ends = [
    api.listen("shot", (data) => data.prompt === state.prompt && view.refresh()),
    api.listen("prompt", () => view.refresh()),
    api.listen("open", () => view.refresh()),
  ];
  const seen = () => view.seen();
  document.addEventListener("visibilitychange", seen);
  // A browser tells nothing of a moving picture that broke off.
  const timer = setInterval(() => view.mend(), 3000);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", seen);
    ends.forEach((end) => end());
    view.picture?.removeAttribute("src");
    view = null;
  };
}

export function keys(event) {
  if (!view || event.repeat || typing(event)) return;
  if (event.key === "u" || (event.key === "Backspace" && !event.target.closest("button"))) view.undo();
  else if (placeOf(event) >= 0) view.keep(placeOf(event), event.shiftKey);
}

class Teach {
  constructor(page) {
    this.labels = h("div", { class: "labels big" });
    this.status = h("p", { role: "status", class: "soft" });
    this.undoButton = button(t("undo"), () => this.undo(), "", "undo");
    const add = button(t("add_label"), () => this.add(), "", "plus");
    const edit = button(t("edit_labels"), () => this.edit(), "quiet", "edit");
    this.hint = h("p", { class: "soft small" }, t("teach_hint"));
    page.append(
      h("h1", {}, t("view_teach")),
      h(
        "div",
        { class: "two" },
        this.camera(),
        h("section", { class: "card" }, h("h2", {}, t("what_is_it")), this.hint, this.labels, h("div", { class: "row" }, this.undoButton, add, edit), this.status, this.next()),
      ),
      this.upload(),
    );
    this.draw();
  }

  /** The moving picture of the region that is taught. */
  camera() {
    const places = placesOf(state.prompt);
    const all = places.length ? places : [...state.cameras.values()].flatMap((camera) => (camera.regions?.length ? camera.regions : [null]).map((region) => ({ camera: camera.name, region })));
    if (!all.length) {
      return h("section", { class: "card" }, empty(t("no_camera"), t("no_camera_teach"), h("a", { class: "button", href: "#/live" }, t("view_live"))));
    }
    const same = (one) => one.camera === state.place?.camera && (one.region?.name ?? null) === (state.place.region ?? null);
    let chosen = all.findIndex(same);
    if (chosen < 0) chosen = 0;
    this.picture = h("img", { alt: "", draggable: "false" });
    const look = (place) => {
      this.place = { camera: all[place].camera, region: all[place].region?.name ?? null };
      state.place = this.place;
      this.picture.alt = t("picture_of", { camera: this.place.camera });
      this.picture.src = api.query(`${api.path("cameras", this.place.camera)}/stream.mjpeg`, { fps: 8, width: 640, region: this.place.region, t: Date.now() });
    };
    const names = all.map((one, place) => [String(place), one.region && one.region.name !== one.camera ? `${one.camera} · ${one.region.name}` : one.camera]);
    const which = choice(names, String(chosen), (place) => look(Number(place)));
    which.setAttribute("aria-label", t("camera"));
    which.hidden = all.length < 2;
    this.look = () => look(Number(which.value));
    this.look();
    this.flash = h("div", { class: "view-of teach-view" }, this.picture);
    return h("section", { class: "card" }, which, this.flash);
  }

  /** A page that is not in view asks for no pictures: a browser has few connections to one host. */
  seen() {
    if (document.hidden) this.picture?.removeAttribute("src");
    else this.look?.();
  }

  mend() {
    if (!document.hidden && this.picture?.complete && !this.picture.naturalWidth) this.look();
  }

  next() {
    const address = encodeURIComponent(state.prompt);
    return h("a", { class: "button main wide", href: `#/train/${address}` }, t("go_on_train"));
  }

  draw() {
    const labels = labelsOf(state.prompt);
    const names = JSON.stringify(labels.map((one) => one.label));
    // In place where only the numbers are others: a finger may be on one of them, or the focus.
    if (names !== this.names) {
      this.names = names;
      this.labels.replaceChildren(...labels.map((one, place) => this.label(one, place)));
      if (!labels.length) this.labels.append(h("p", { class: "soft" }, t("no_labels_yet")));
    }
    labels.forEach((one, place) => this.labels.children[place].update(one));
    const all = labels.reduce((sum, one) => sum + one.shots, 0);
    this.undoButton.disabled = !all;
    this.hint.hidden = !labels.length || !this.place;
  }

  label({ label }, place) {
    const count = h("span", { class: "count" });
    const full = h("span", {});
    const tile = h("button", { type: "button", class: "label" }, h("kbd", {}, keyOf(place)), h("span", { class: "name" }, label), count, h("span", { class: "meter" }, full));
    tile.update = ({ shots }) => {
      tile.setAttribute("aria-label", t("label_button", { label, count: shots }));
      count.textContent = number(shots);
      full.style.width = `${100 * Math.min(1, shots / ENOUGH)}%`;
    };
    let timer = null;
    let held = false;
    tile.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = false;
      tile.classList.add("pressed");
      timer = setTimeout(() => { held = true; this.keep(place, true); }, HOLD);
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      tile.addEventListener(end, () => { clearTimeout(timer); tile.classList.remove("pressed"); });
    }
    tile.addEventListener("contextmenu", (event) => event.preventDefault());
    tile.addEventListener("click", () => held || this.keep(place, false));
    return tile;
  }

  /** Keeps what the camera shows under a label. */
  async keep(place, burst) {
    const label = labelsOf(state.prompt)[place]?.label;
    if (!label) return;
    if (!this.place) {
      toast(t("no_camera_teach"));
      return;
    }
    this.flash.classList.remove("kept");
    void this.flash.offsetWidth;
    this.flash.classList.add("kept");
    if (burst) this.status.textContent = t("burst", { label });
    const kept = await tried(() => api.post(api.path("prompts", state.prompt, "shots", "capture"), { ...this.place, label, burst }));
    if (kept === undefined) {
      this.status.textContent = "";
      return;
    }
    this.status.textContent = t("kept", { count: kept.shots.length, label });
    await this.refresh();
  }

  async undo() {
    const answer = await tried(() => api.post(api.path("prompts", state.prompt, "shots", "undo")));
    if (answer === undefined) return;
    this.status.textContent = answer?.label ? t("undone_of", { label: answer.label }) : t("undone");
    await this.refresh();
  }

  async refresh() {
    await tried(loadPrompts);
    this.draw();
  }

  async add() {
    const names = h("textarea", { rows: 4, placeholder: t("labels_example"), required: true, spellcheck: "false" });
    const prompt = state.prompt;
    const add = async (text) => {
      const fresh = text.split("\n").map((line) => line.trim()).filter(Boolean);
      const all = labelsOf(prompt).map((one) => one.label);
      if (fresh.length) await api.put(api.path("prompts", prompt, "labels"), { labels: [...all, ...fresh.filter((one) => !all.includes(one))] });
    };
    const answer = await ask({ title: t("add_label"), content: field(t("labels_each"), names), ok: t("add"), read: () => names.value, work: add });
    if (answer !== undefined) await this.refresh();
  }

  /** Renames, merges and takes away labels. */
  async edit() {
    const labels = labelsOf(state.prompt);
    if (!labels.length) return this.add();
    const which = choice(labels.map(({ label, shots }) => [label, `${label} (${number(shots)})`]), labels[0].label, (name) => { to.value = name; });
    const to = h("input", { value: labels[0].label, autocomplete: "off", maxlength: 80 });
    const go = h("input", { type: "checkbox" });
    const answer = await ask({
      title: t("edit_labels"),
      content: h("div", {}, field(t("label"), which), field(t("new_name"), to, t("merge_hint")), h("label", { class: "check" }, go, t("remove_label"))),
      ok: t("save"),
      read: () => ({ from: which.value, to: to.value.trim(), go: go.checked }),
    });
    if (!answer) return undefined;
    const address = api.path("prompts", state.prompt);
    const all = labels.map((one) => one.label);
    await tried(async () => {
      if (answer.go) {
        const shots = labels.find((one) => one.label === answer.from).shots;
        const sure = await ask({ title: t("remove_label_sure", { label: answer.from }), content: h("p", {}, t("remove_label_text", { count: shots })), ok: t("remove"), danger: true });
        if (!sure) return;
        if (shots) await api.remove(api.query(`${address}/shots`, { label: answer.from }));
        await api.put(`${address}/labels`, { labels: all.filter((one) => one !== answer.from) });
        toast(t("removed", { what: answer.from }));
        return;
      }
      if (!answer.to || answer.to === answer.from) return;
      if (all.includes(answer.to)) {
        const sure = await ask({ title: t("merge_sure", { from: answer.from, to: answer.to }), content: h("p", {}, t("merge_text")), ok: t("merge") });
        if (!sure) return;
      }
      await api.post(`${address}/labels/rename`, { from: answer.from, to: answer.to });
    });
    return this.refresh();
  }

  /** Pictures from this phone or computer. */
  upload() {
    const files = h("input", { type: "file", accept: "image/*", multiple: true, class: "hidden", id: "files", onchange: () => { this.send(withLabels([...files.files])); files.value = ""; } });
    const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "hidden", id: "folder", onchange: () => { this.send(withLabels([...folder.files])); folder.value = ""; } });
    this.progress = h("p", { role: "status" });
    const zone = h(
      "section",
      { class: "card drop" },
      h("h2", {}, t("own_pictures")),
      h("p", { class: "soft" }, t("own_pictures_text")),
      h("div", { class: "row" }, button(t("choose_pictures"), () => files.click(), "", "upload"), button(t("choose_folder"), () => folder.click(), "", "upload")),
      files,
      folder,
      this.progress,
    );
    for (const control of [files, folder]) control.setAttribute("aria-label", t("own_pictures"));
    for (const [kind, on] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
      zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.toggle("over", on); });
    }
    zone.addEventListener("drop", async (event) => this.send(await dropped(event.dataTransfer)));
    return zone;
  }

  /** `files`: [{file, label}], the label from the folder it lay in, if it lay in one. */
  async send(files) {
    const pictures = files.filter(({ file }) => file.type.startsWith("image/"));
    const known = labelsOf(state.prompt).map((one) => one.label);
    const folders = [...new Set(pictures.map((one) => one.label).filter(Boolean))];
    if (!pictures.length) {
      toast(t("no_pictures"), "failed");
      return;
    }
    const chosen = await this.ofWhat(known, folders, pictures.length);
    if (!chosen || !(chosen.folders || chosen.label)) return;
    const labelled = pictures.map((one) => ({ file: one.file, label: chosen.folders && one.label ? one.label : chosen.label })).filter((one) => one.label);
    if (chosen.folders && labelled.length < pictures.length) toast(t("in_no_folder", { count: pictures.length - labelled.length }), "failed");
    const fresh = [...new Set(labelled.map((one) => one.label))].filter((one) => !known.includes(one));
    if (fresh.length && (await tried(() => api.put(api.path("prompts", state.prompt, "labels"), { labels: [...known, ...fresh] }).then(() => true))) !== true) return;
    let done = 0;
    const failed = [];
    const address = `${api.path("prompts", state.prompt)}/shots`;
    const queue = [...labelled];
    const worker = async () => {
      for (let one = queue.shift(); one; one = queue.shift()) {
        try {
          await api.post(api.query(address, { label: one.label }), one.file);
          done += 1;
        } catch (error) {
          failed.push(`${one.file.name}: ${error.message}`);
          if (error.status === 0 || error.status === 401) queue.length = 0;
        }
        this.progress.textContent = t("sent", { count: done, all: labelled.length });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    if (failed.length) toast(`${t("not_sent", { count: labelled.length - done })} ${failed[0]}`, "failed");
    await this.refresh();
  }

  /** Under which label the pictures go. */
  async ofWhat(known, folders, count) {
    const options = [];
    if (folders.length) options.push(["folders", t("by_folder", { folders: folders.slice(0, 6).join(", ") + (folders.length > 6 ? " …" : "") })]);
    options.push(...known.map((label, place) => [`label${place}`, label]), ["new", t("another_label")]);
    const which = choice(options, options[0][0], (value) => { name.parentElement.hidden = value !== "new"; name.required = value === "new"; });
    const name = h("input", { autocomplete: "off", maxlength: 80, required: options[0][0] === "new" });
    const named = field(t("new_name"), name);
    named.hidden = options[0][0] !== "new";
    return ask({
      title: t("what_show", { count }),
      content: h("div", {}, field(t("label"), which), named),
      ok: t("keep_them"),
      read: () => {
        if (which.value === "folders") return { folders: true, label: null };
        if (which.value === "new") return { folders: false, label: name.value.trim() };
        return { folders: false, label: known[Number(which.value.slice(5))] };
      },
    });
  }
}

/** The folder that a file lay in, inside the chosen one, is its label. */
function withLabels(files) {
  return files.map((file) => {
    const parts = (file.webkitRelativePath || "").split("/");
    return { file, label: parts.length > 2 ? parts[parts.length - 2] : null };
  });
}

/** What was dropped, folders opened. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return withLabels([...transfer.files]);
  const found = [];
  const walk = async (entry, folder, top) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, label: folder });
      return;
    }
    const reader = entry.createReader();
    const all = [];
    // A reader gives a hundred at a time.
    for (;;) {
      const inner = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!inner.length) break;
      all.push(...inner);
    }
    // One that holds the folders of labels is none itself.
    const own = top && all.some((one) => one.isDirectory) ? null : entry.name;
    for (const one of all) await walk(one, own, false);
  };
  for (const entry of entries) await walk(entry, null, entries.length === 1);
  return found;
}
