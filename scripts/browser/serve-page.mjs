// A person's way through the page of a running `edge-rlp serve`, from the first visit to an accepted prompt: cameras are added,
// a region is drawn, labels are chosen, pictures are brought and kept, one is put right, it is trained and accepted; then what
// serve-page-more.mjs adds.
// node serve-page.mjs ADDRESS PICTURES OUT phone|desktop

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { open, sleep } from "./chromium.mjs";
import { check } from "./page-checks.mjs";
import { more } from "./serve-page-more.mjs";

const [address, pictures, out, size] = process.argv.slice(2);
const SIZES = { phone: { width: 360, height: 740, touch: true }, desktop: { width: 1280, height: 800 } };
/** Labels of the demo, and one that must stay text whatever it holds. */
const NASTY = '<script>alert(1)<b>"it&';
const LABELS = { mug: "mug", key: "key", fish: "fish", [NASTY]: "umbrella" };

const b = await open(SIZES[size]);
let step = "first visit";
const at = (what) => {
  step = what;
  console.log(`${size}: ${what}`);
};
const dialog = "document.querySelector('dialog')";
const field = (label) => `[...document.querySelectorAll("dialog .field, .field")].find((one) => one.querySelector("label").innerText === ${JSON.stringify(label)}).querySelector("input, textarea, select")`;
const shot = async (name) => {
  await sleep(400);
  await check(b, name);
  await b.shot(join(out, `${name}-${size}.png`));
};
const view = async (hash, text, seconds = 60) => {
  await b.ask(`location.hash = ${JSON.stringify(hash)}`);
  await b.says(text, seconds);
};
const label = (name) => `[...document.querySelectorAll(".labels.big .label")].find((one) => one.querySelector(".name").innerText === ${JSON.stringify(name)})`;
const shots = (name) => b.ask(`Number((${label(name)}).querySelector(".count").innerText)`);
const shotsAre = (name, count, seconds) => b.until(`(${label(name)}).querySelector(".count").innerText === "${count}"`, seconds);

async function cameras() {
  at("first visit");
  await b.goto(address);
  await b.says("No camera yet");
  await shot("first");
  for (const [name, source] of [["shop-door", "demo:squeezed"], ["workshop", "demo:clear"]]) {
    at(`camera ${name}`);
    await b.click("Add a camera");
    await b.type(field("Name"), name);
    await b.type(field("Where its picture comes from"), source);
    await b.type(field("Prompt"), "shelf");
    await b.click("Add", dialog);
    await b.until(`[...document.querySelectorAll(".camera h2")].some((one) => one.innerText === ${JSON.stringify(name)})`);
  }
  await b.until("[...document.querySelectorAll('.camera .state.live')].length === 2", 20);
  for (const place of [1, 0]) {
    const picture = `document.querySelectorAll('.view-of img')[${place}]`;
    await b.ask(`${picture}.scrollIntoView({ block: "center" })`);
    await b.until(`${picture}.naturalWidth > 0`, 20);
  }
}

async function region() {
  at("a region is drawn, moved by keys and saved");
  const card = "document.querySelector('.camera')";
  await b.click("Regions", card);
  await b.drag(`${card}.querySelector(".regions")`, [0.1, 0.1], [0.9, 0.85]);
  await b.until(`${card}.querySelectorAll(".region").length === 1`);
  const left = `${card}.querySelector(".region").style.left`;
  const before = await b.ask(left);
  await b.ask(`${card}.querySelector(".region").focus()`);
  await b.key("ArrowRight");
  await b.until(`${left} !== ${JSON.stringify(before)}`);
  await shot("region");
  await b.click("Save", card);
  await b.until(`${card}.querySelector("[data-region=region1] .tag") && !${card}.querySelector(".editing")`);
}

async function teach() {
  at("labels");
  await view("#/teach/shelf", "What does the picture show?");
  await b.click("Add labels");
  await b.type(field("One a line"), Object.keys(LABELS).join("\n"));
  await b.click("Add", dialog);
  await b.until(`document.querySelectorAll(".labels.big .label").length === ${Object.keys(LABELS).length}`);
  for (const [name, folder] of Object.entries(LABELS)) {
    at(`pictures of ${folder}`);
    const files = readdirSync(join(pictures, folder)).map((file) => resolve(pictures, folder, file));
    // One of the keys is put among the mugs by mistake.
    await send(name === "key" ? files.slice(1) : files, name);
    await shotsAre(name, name === "key" ? files.length - 1 : files.length, 30);
    if (name === "key") {
      await send([files[0]], "mug");
      await b.until(`Number((${label("mug")}).querySelector(".count").innerText) === ${files.length + 1}`, 20);
    }
  }
  at("a tap, a burst and undo");
  const before = await shots("fish");
  await b.tap(label("fish"));
  await shotsAre("fish", before + 1);
  // The same picture is not kept twice: the next one is waited for.
  await sleep(3500);
  await b.tap(label("fish"), 900);
  // A drawn scene is over with its first picture: a burst of it is one.
  await shotsAre("fish", before + 2, 30);
  await b.ask("window.scrollTo(0, 0)");
  await shot("teach");
  for (let left = before + 1; left >= before; left -= 1) {
    if (b.touch) await b.click("Undo");
    else await b.key("u");
    await shotsAre("fish", left);
  }
}

async function send(files, name) {
  await b.files("#files", files);
  const select = `${dialog}.querySelector("select")`;
  await b.until(select);
  await b.choose(select, await b.ask(`[...${select}.options].find((one) => one.text === ${JSON.stringify(name)}).value`));
  await b.click("Keep them", dialog);
}

async function putRight() {
  at("the one with the wrong label is found and put right");
  await view("#/review/shelf/mug", "Pictures that were kept");
  await b.until("document.querySelectorAll('.tile').length > 4", 120);
  await b.says("looks like key");
  await b.tap("document.querySelector('.tile')");
  await b.says("1 selected");
  await shot("review");
  await b.tap("[...document.querySelectorAll('.actionbar .label')].find((one) => one.innerText.includes('key'))");
  await b.says("1 picture is now key.");
}

async function train() {
  at("training");
  await view("#/train/shelf", "Ready to learn");
  await b.click("Train now");
  await b.until("document.querySelector('progress')", 10);
  await b.says("The result", 360);
  await b.until("document.querySelector('.confusion tbody').rows.length === 4");
  await b.ask("window.scrollTo(0, 0)");
  await shot("verdict");
  const named = `[...document.querySelectorAll(".confusion tbody th")].map((one) => one.textContent)`;
  assert.ok((await b.ask(named)).includes(NASTY), "the nasty label is not shown as it is");
  assert.equal(await b.ask("document.querySelectorAll('body script, .confusion b').length"), 0, "a label became markup");
  const [before, after] = await b.ask("[...document.querySelectorAll('.share-bar b')].map((one) => parseInt(one.innerText, 10))");
  console.log(`${size}: before ${before} %, after ${after} %`);
  assert.ok(after >= before, "training made it worse");
  await b.click("Use it");
  await b.says("In use from now on.");
  await view("#/history/shelf", "Training 1");
  await b.says("In use");
  await shot("history");
}

async function advice() {
  at("enough yet?");
  await view("#/enough/shelf", "Right answers by pictures of each label", 60);
  await b.until("document.querySelectorAll('.chart .dot').length > 2");
  await b.until("document.querySelectorAll('.advice .card').length > 0");
  await shot("enough");
  at("why?");
  await view("#/review/shelf", "Pictures that were kept");
  await b.until("document.querySelectorAll('.tile').length > 4", 120);
  await b.tap("document.querySelector('.tile')");
  await b.click("Why?");
  await b.says("How likely each label is", 60);
  await b.until("document.querySelectorAll('.tile.still').length > 4");
  await shot("why");
  at("report");
  await view("#/report/shelf", "Open by itself", 240);
  await b.until("document.querySelector('iframe').getBoundingClientRect().height > 200");
  await shot("report");
}

async function answers() {
  at("the cameras answer by it");
  await view("#/live", "shop-door");
  await b.until("[...document.querySelectorAll('.answer b')].some((one) => one.className === '')", 30);
  await b.ask("window.scrollTo(0, 0)");
  await shot("live");
}

try {
  await cameras();
  await region();
  await teach();
  await putRight();
  await train();
  await advice();
  await answers();
  await more(b, { at, view, shot, label, shots, shotsAre, field }, pictures, out);
  assert.deepEqual(b.troubles, [], "the page is not quiet");
} catch (error) {
  await b.shot(join(out, `failed-${size}.png`));
  console.error(`error: ${size}, ${step}: ${error.message}`);
  if (b.troubles.length) console.error(b.troubles.join("\n"));
  process.exitCode = 1;
} finally {
  await b.close();
}
