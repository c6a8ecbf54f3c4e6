// What a person does with the page once a prompt is in use: goes back to an earlier training, drops a folder, merges labels,
// labels many recent pictures at once, teaches with the keyboard alone, and reads it all in German.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { english } from "./page-checks.mjs";
import { sleep } from "./chromium.mjs";

const dialog = "document.querySelector('dialog')";
const SHIFT = 8;

export async function more(b, { at, view, shot, label, shots, shotsAre, field }, pictures, out) {
  async function history() {
    at("somebody else goes back to a training, which is seen at once; and back again");
    await view("#/history/shelf", "Training 1");
    const made = await b.ask(`fetch("api/v1/prompts/shelf/rollback", { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"generation":1}' }).then((answer) => answer.status)`);
    assert.equal(made, 200);
    await b.says("Training 2");
    const old = `[...document.querySelectorAll(".generations li")].find((one) => one.innerText.startsWith("Training 1"))`;
    await b.click("Compare", old);
    await b.says("From training 1 to 2");
    await b.says("100.0% alike");
    await b.click("Go back to it", old);
    await b.says("Go back to training 1?");
    await shot("rollback");
    await b.click("Go back to it", dialog);
    await b.says("Training 1 is in use again.");
    await b.until(`document.querySelector(".generations li.now").innerText.startsWith("Training 3")`);
  }

  async function folders() {
    at("a folder is dropped");
    const folder = join(out, `dropped-${b.touch ? "phone" : "desktop"}`);
    for (const [name, from] of [["cup", "chair"], ["fish", "fish"]]) {
      mkdirSync(join(folder, name), { recursive: true });
      const some = readdirSync(join(pictures, from)).slice(0, 2);
      some.forEach((file) => cpSync(join(pictures, from, file), join(folder, name, file)));
    }
    await view("#/teach/shelf", "What does the picture show?");
    const fish = await shots("fish");
    await b.drop("document.querySelector('.drop')", [folder]);
    await b.says("as their folders say: cup, fish");
    await shot("folder");
    await b.click("Keep them", dialog);
    await b.until(`document.querySelectorAll(".labels.big .label").length === 5`, 20);
    await shotsAre("cup", 2, 20);
    await shotsAre("fish", fish + 2, 20);
  }

  async function merge() {
    at("labels are merged");
    const mugs = await shots("mug");
    await b.click("Rename, merge …");
    await b.choose(`${dialog}.querySelector("select")`, "cup");
    await b.type(field("New name"), "mug");
    await b.click("Save", dialog);
    await b.says("Merge cup into mug?");
    await shot("merge");
    await b.tap(`[...document.querySelectorAll("dialog button")].find((one) => one.innerText === "Merge")`);
    await b.until(`document.querySelectorAll(".labels.big .label").length === 4`);
    await shotsAre("mug", mugs + 2);
  }

  async function recent() {
    at("recent pictures are labelled, several at once");
    await view("#/recent/shelf", "Recent");
    const tiles = "document.querySelectorAll('.tile')";
    await b.until(`(document.querySelector(".view > .wide:not([hidden])")?.click(), ${tiles}.length >= 3)`, 90);
    // Those that were asked for last may come yet.
    await sleep(1000);
    await b.tap(`${tiles}[0]`);
    await b.says("1 selected");
    // A long press selects up to there, and so does Shift.
    if (b.touch) await b.tap(`${tiles}[1]`, 700);
    else await b.tap(`${tiles}[1]`, 40, { modifiers: SHIFT });
    await b.says("2 selected");
    const pictures = (which) => b.ask(`[...document.querySelectorAll('.tile${which}')].map((one) => one.querySelector("img").getAttribute("src"))`);
    const two = await pictures("[aria-selected=true]");
    await shot("recent");
    if (b.touch) await b.tap("[...document.querySelectorAll('.actionbar .label')].find((one) => one.innerText.includes('mug'))");
    else await b.key("1");
    await b.says("2 pictures are now mug.");
    const left = await pictures("");
    assert.equal(two.length, 2);
    assert.deepEqual(two.filter((one) => left.includes(one)), []);
  }

  /** Presses Tab until `holds` of the focused element `it`; what has the focus must be seen to have it. */
  async function tabTo(holds, most = 60) {
    for (let press = 0; press < most; press += 1) {
      await b.key("Tab");
      const seen = await b.ask(`(() => { const style = getComputedStyle(document.activeElement); return document.activeElement === document.body || document.activeElement.tagName === "IFRAME" || style.outlineStyle !== "none"; })()`);
      assert.ok(seen, `nothing shows that ${await b.ask("document.activeElement.outerHTML.slice(0, 100)")} has the focus`);
      if (await b.ask(`((it) => ${holds})(document.activeElement)`)) return;
    }
    throw new Error(`Tab does not lead to ${holds}`);
  }
  const called = (text) => `it.innerText?.trim().startsWith(${JSON.stringify(text)})`;

  async function keyboard() {
    at("by keyboard alone");
    await view("#/live", "shop-door");
    await b.send("Page.reload");
    await b.until("document.querySelector('.camera') && document.activeElement === document.body", 20);
    await tabTo(called("Skip"), 3);
    await b.key("Enter");
    await b.until("document.activeElement.id === 'main'");
    await b.ask("document.activeElement.blur()");
    await tabTo(called("Teach"));
    await b.key("Enter");
    await b.says("What does the picture show?");
    await b.until("document.querySelector('.teach-view img').naturalWidth > 0", 20);
    const before = await shots("fish");
    await tabTo(`it.querySelector?.(".name")?.innerText === "fish"`);
    await b.key("Enter");
    await shotsAre("fish", before + 1, 20);
    await tabTo(called("Undo"));
    await b.key(" ");
    await shotsAre("fish", before, 20);
    await tabTo(called("Rename"));
    await b.key("Enter");
    await b.until(`${dialog}.open && ${dialog}.contains(document.activeElement)`);
    await b.key("Escape");
    await b.until("!document.querySelector('dialog')");
    await b.until(`document.activeElement.innerText.startsWith("Rename")`);
    await b.ask("document.activeElement.blur()");
    await tabTo(called("Look over"));
    await b.key("Enter");
    await b.until("document.querySelectorAll('.tile').length > 4", 120);
    await tabTo(`it.classList.contains("tile")`);
    await b.key("ArrowRight");
    await b.key(" ");
    await b.says("1 selected");
    await b.key("ArrowRight", SHIFT);
    await b.says("2 selected");
    await b.key("Escape");
    await b.says("Tap pictures to select them");
  }

  async function german() {
    at("in German");
    await b.tap(`document.querySelector("#bar .round")`);
    await b.choose(field("Language"), "de");
    await b.click("Done", dialog);
    await b.until("document.documentElement.lang === 'de'");
    for (const [name, text] of [["live", "Kamera"], ["teach", "Anlernen"], ["recent", "Neueste"], ["train", "Jetzt trainieren"], ["history", "In Gebrauch"], ["enough", "Richtige"]]) {
      await view(`#/${name}${name === "live" ? "" : "/shelf"}`, text, 120);
      if (name === "history") {
        await b.click("Vergleichen");
        await b.says("Richtig benannt");
        await shot("history-de");
      }
      assert.deepEqual(await english(b), [], `English on the German ${name}`);
      if (["live", "teach"].includes(name)) {
        await b.until(`document.querySelector("img")?.naturalWidth > 0`, 20);
        await b.ask("window.scrollTo(0, 0)");
        await b.ask(`document.documentElement.dataset.theme = "dark"`);
        await shot(`${name}-de`);
        await b.ask("delete document.documentElement.dataset.theme");
      }
    }
    await view("#/report/shelf", "Einzeln öffnen", 240);
    const report = await b.ask(`fetch(document.querySelector("iframe").src).then((answer) => answer.text())`);
    assert.ok(report.includes('<html lang="de">') && report.includes("Was wofür gehalten wird"), "the report is not German");
    await b.until("document.querySelector('iframe').getBoundingClientRect().height > 200");
    await shot("report-de");
    assert.deepEqual(await english(b), [], "English around the German report");
    // What the box says is German as well; names stay what they are.
    const said = (sentence) => b.ask(`import("/dom.js").then(({ said }) => said(${JSON.stringify(sentence)}))`);
    assert.equal(await said(`there is no camera "camera"`), "Es gibt nichts mit dem Namen „camera“ (Kamera).");
    assert.equal(await said("no picture came for 10 s (the camera has gone quiet)"), "Seit 10 s kam kein Bild (Die Kamera ist verstummt.).");
    assert.equal(await said("a sentence of tomorrow"), "a sentence of tomorrow");
    assert.equal(await said("cannot reach 10.0.0.7:554 (Connection refused (os error 111)); trying again in 4 s"), "10.0.0.7:554 ist nicht zu erreichen (Verbindung abgelehnt). Neuer Versuch in 4 s.");
    assert.equal(await said(`the body does not fit at "labels": it has to be a list`), "Die Anfrage passt bei „labels“ nicht: Erwartet wird eine Liste.");
    await sleep(100);
  }

  await history();
  await folders();
  await merge();
  await recent();
  if (!b.touch) await keyboard();
  await german();
}
