// What must hold of the page of `edge-rlp serve` whatever it shows: texts that can be read, nothing wider than the window, no
// word of another language.

import assert from "node:assert/strict";

/** Text whose contrast with what is behind it is below WCAG 2.2 AA, in the colours that are shown; runs in the page. */
function faint() {
  const paper = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  paper.canvas.width = paper.canvas.height = 1;
  const known = new Map();
  /** Any colour of CSS as [red, green, blue, alpha], each in 0..=1. */
  const parts = (color) => {
    if (!known.has(color)) {
      paper.clearRect(0, 0, 1, 1);
      paper.fillStyle = color;
      paper.fillRect(0, 0, 1, 1);
      known.set(color, [...paper.getImageData(0, 0, 1, 1).data].map((part) => part / 255));
    }
    return known.get(color);
  };
  const over = (front, back) => [0, 1, 2].map((at) => front[at] * front[3] + back[at] * (1 - front[3]));
  const light = (color) => {
    const [r, g, b] = color.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  /** What may be behind an element: one colour, or black and white where a picture is. */
  const behind = (element) => {
    const layers = [];
    let bases = null;
    for (let at = element; at && !bases; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color[3] === 1) bases = [color.slice(0, 3)];
      else if (color[3] > 0) layers.push(color);
      if (at.classList.contains("regions")) bases = [[0, 0, 0], [1, 1, 1]];
    }
    bases ??= [[1, 1, 1]];
    return bases.map((base) => layers.reduceRight((back, front) => over(front, back), base));
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    const style = getComputedStyle(element);
    if (!text || element.closest("option, script, style, .toast, .skip") || element.closest("button:disabled, input:disabled")) continue;
    if (!element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) || !element.getClientRects().length) continue;
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    for (const back of behind(element)) {
      const is = ratio(over(parts(ink), back), back);
      if (is < (large ? 3 : 4.5) - 0.005) found.push(`${is.toFixed(2)}: "${text.slice(0, 40)}" (${element.tagName} ${element.className.baseVal ?? element.className})`);
    }
  }
  return [...new Set(found)];
}

/** Buttons and fields that nothing names; runs in the page. */
function nameless() {
  const all = [...document.querySelectorAll("button, a[href], input:not(.hidden), select, textarea, [role=option], iframe")].filter((one) => one.checkVisibility());
  const named = (one) => one.innerText?.trim() || one.getAttribute("aria-label") || one.querySelector("img[alt]:not([alt=''])") || one.labels?.length || one.getAttribute("title");
  return all.filter((one) => !named(one)).map((one) => one.outerHTML.slice(0, 120));
}

/** Fails where the page in its present state is wider than the window or has controls without a name; text that is too faint is
 * told with what is on the console. */
export async function check(b, name) {
  const width = await b.ask("document.documentElement.scrollWidth");
  assert.ok(width <= b.width, `${name} is ${width} pixels wide`);
  assert.deepEqual(await b.ask(`(${nameless})()`), [], `${name}: controls without a name`);
  const before = await b.ask("document.documentElement.dataset.theme ?? null");
  for (const theme of ["light", "dark"]) {
    // Colours fade into each other, which is not waited for.
    await b.ask(`(() => { document.documentElement.dataset.theme = "${theme}"; document.getAnimations().forEach((one) => one.finish()); })()`);
    const found = await b.ask(`(${faint})()`);
    b.troubles.push(...found.map((one) => `too faint, ${name}, ${theme}: ${one}`));
  }
  await b.ask(before === null ? "delete document.documentElement.dataset.theme" : `document.documentElement.dataset.theme = ${JSON.stringify(before)}`);
}

/** Lines that the page shows and that are a text of English alone. */
export const english = (b) => b.ask(`(async () => {
  const { en, de } = await (await fetch("texts.json")).json();
  const plain = (text) => typeof text === "string" && !text.includes("{");
  const only = new Set(Object.keys(en).filter((key) => plain(en[key]) && !key.endsWith("_example") && en[key] !== de[key] && !Object.values(de).includes(en[key])).map((key) => en[key]));
  return document.body.innerText.split("\\n").map((line) => line.trim()).filter((line) => only.has(line));
})()`);
