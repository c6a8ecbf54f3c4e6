// Headless Chromium over the DevTools protocol, through a pipe: no package and no port. What the page writes to its console,
// throws or asks for elsewhere is kept in `troubles`.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const FLAGS = [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-pipe",
];

/** A window of this size; `touch` makes it a phone's. */
export async function open({ width, height, touch = false, dark = false, language = "en" }) {
  const profile = mkdtempSync(join(tmpdir(), "chromium-"));
  const child = spawn("chromium", [...FLAGS, `--user-data-dir=${profile}`, `--lang=${language}`, `--accept-lang=${language}`, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [to, from] = [child.stdio[3], child.stdio[4]];
  const waiting = new Map();
  const troubles = [];
  let session;
  let count = 0;
  let rest = "";
  const heard = {
    "Runtime.exceptionThrown": ({ exceptionDetails: of }) => troubles.push(`threw: ${of.exception?.description ?? of.text}`),
    "Runtime.consoleAPICalled": ({ type, args }) => troubles.push(`console.${type}: ${args.map((one) => one.value ?? one.description).join(" ")}`),
    "Log.entryAdded": ({ entry }) => troubles.push(`${entry.level}: ${entry.text} ${entry.url ?? ""}`),
    "Page.javascriptDialogOpening": ({ message }) => troubles.push(`a dialog opened: ${message}`),
    "Network.requestWillBeSent": ({ request }) => {
      const host = new URL(request.url).hostname;
      if (!["", "127.0.0.1", "localhost"].includes(host)) troubles.push(`asked another host: ${request.url}`);
    },
  };
  from.on("data", (data) => {
    const parts = (rest + data).split("\0");
    rest = parts.pop();
    for (const part of parts) {
      const message = JSON.parse(part);
      if (message.id) {
        const [done, failed] = waiting.get(message.id);
        waiting.delete(message.id);
        if (message.error) failed(new Error(message.error.message));
        else done(message.result);
      } else heard[message.method]?.(message.params);
    }
  });
  const send = (method, parameters = {}) =>
    new Promise((done, failed) => {
      count += 1;
      waiting.set(count, [done, failed]);
      to.write(`${JSON.stringify({ id: count, method, params: parameters, sessionId: session })}\0`);
    });
  const { targetInfos } = await send("Target.getTargets");
  const page = targetInfos.find((target) => target.type === "page");
  session = (await send("Target.attachToTarget", { targetId: page.targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network", "DOM"]) await send(`${domain}.enable`);
  await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: touch });
  if (touch) await send("Emulation.setTouchEmulationEnabled", { enabled: true });
  await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
  const browser = { send, troubles, width, touch };
  browser.close = async () => {
    child.kill();
    await new Promise((done) => child.once("exit", done));
    // Its other processes write for a while longer; `maxRetries` does not remove again what they make meanwhile.
    for (let left = 100; ; left -= 1) {
      try {
        return rmSync(profile, { recursive: true, force: true });
      } catch (error) {
        if (!left) throw error;
        await sleep(200);
      }
    }
  };
  return Object.assign(browser, acts(browser));
}

function acts(browser) {
  const { send } = browser;
  /** What an expression gives in the page. */
  const ask = async (expression) => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  };
  /** Waits until an expression holds. */
  const until = async (expression, seconds = 15) => {
    for (const end = Date.now() + 1000 * seconds; ; await sleep(100)) {
      const found = await ask(`(() => { try { return ${expression}; } catch { return false; } })()`);
      if (found) return found;
      if (Date.now() > end) throw new Error(`waited ${seconds} s for: ${expression}\n${await ask("document.body.innerText")}`);
    }
  };
  /** Where the middle of an element is that can be seen and has nothing before it. */
  const middle = async (element) => {
    await until(`(${element}) !== undefined && (${element}) !== null`);
    return ask(`(async () => {
      const element = ${element};
      element.scrollIntoView({ block: "center" });
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const box = element.getBoundingClientRect();
      return { x: box.x + box.width / 2, y: box.y + box.height / 2, width: box.width, height: box.height, left: box.x, top: box.y };
    })()`);
  };
  const pointer = (type, { x, y }, more = {}) =>
    browser.touch
      ? send("Input.dispatchTouchEvent", { type: { mousePressed: "touchStart", mouseMoved: "touchMove", mouseReleased: "touchEnd" }[type], touchPoints: type === "mouseReleased" ? [] : [{ x, y }] })
      : send("Input.dispatchMouseEvent", { type, x, y, button: "left", buttons: type === "mouseReleased" ? 0 : 1, clickCount: 1, ...more });
  /** Taps an element, as a finger or a mouse does; `hold` keeps it down for so many milliseconds. */
  const tap = async (element, hold = 40, more = {}) => {
    const at = await middle(element);
    await pointer("mousePressed", at, more);
    await sleep(hold);
    await pointer("mouseReleased", at, more);
  };
  const button = (text, within = "document") => `[...${within}.querySelectorAll("button, a, summary")].find((one) => one.innerText.trim() === ${JSON.stringify(text)} && one.offsetParent)`;
  return {
    ask,
    until,
    tap,
    button,
    goto: (address) => send("Page.navigate", { url: address }),
    click: (text, within) => tap(button(text, within)),
    says: (text, seconds) => until(`document.body.innerText.includes(${JSON.stringify(text)})`, seconds),
    /** Drags within an element, from and to shares of it. */
    drag: async (element, from, to) => {
      const box = await middle(element);
      const at = ([x, y]) => ({ x: box.left + x * box.width, y: box.top + y * box.height });
      await pointer("mousePressed", at(from));
      for (let step = 1; step <= 5; step += 1) {
        await pointer("mouseMoved", at([0, 1].map((axis) => from[axis] + ((to[axis] - from[axis]) * step) / 5)));
        await sleep(20);
      }
      await pointer("mouseReleased", at(to));
    },
    key: async (key, modifiers = 0) => {
      const code = key === " " ? "Space" : /^\d$/.test(key) ? `Digit${key}` : key;
      const text = key === "Enter" ? { text: "\r" } : key.length === 1 && !modifiers ? { text: key } : {};
      const numbers = { " ": 32, Enter: 13, Delete: 46, Escape: 27, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40, Tab: 9 };
      const base = { key, code, modifiers, windowsVirtualKeyCode: numbers[key] ?? key.toUpperCase().charCodeAt(0) };
      await send("Input.dispatchKeyEvent", { type: "keyDown", ...base, ...text });
      await send("Input.dispatchKeyEvent", { type: "keyUp", ...base });
    },
    type: async (element, text) => {
      await until(`(${element}) !== undefined && (${element}) !== null`);
      await ask(`(() => { const element = ${element}; element.focus(); element.select?.(); })()`);
      await send("Input.insertText", { text });
      await ask(`(${element}).dispatchEvent(new Event("change", { bubbles: true }))`);
    },
    choose: (element, value) => ask(`(() => { const element = ${element}; element.value = ${JSON.stringify(value)}; element.dispatchEvent(new Event("change", { bubbles: true })); })()`),
    /** Drops files and folders of this machine on an element. */
    drop: async (element, files) => {
      const { x, y } = await middle(element);
      const data = { items: [], files, dragOperationsMask: 1 };
      for (const type of ["dragEnter", "dragOver", "drop"]) await send("Input.dispatchDragEvent", { type, x, y, data });
    },
    files: async (selector, files) => {
      const { root } = await send("DOM.getDocument");
      const { nodeId } = await send("DOM.querySelector", { nodeId: root.nodeId, selector });
      await send("DOM.setFileInputFiles", { nodeId, files });
    },
    shot: async (file) => {
      const { data } = await send("Page.captureScreenshot", { format: "png" });
      writeFileSync(file, Buffer.from(data, "base64"));
    },
  };
}
