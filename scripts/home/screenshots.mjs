// The pages of Home Assistant that scripts/home/screenshots.py wants pictures of.

import { open, sleep } from "../browser/chromium.mjs";

const { url, tokens, out } = JSON.parse(process.argv[2]);

// Home Assistant's page is made of shadows within shadows: a walk through all of them finds its words.
const TEXT = `(() => {
  const words = [];
  const walk = (node) => {
    if (node.nodeType === 3) words.push(node.data);
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.body);
  return words.join(" ");
})()`;

const page = await open({ width: 1100, height: 860 });
try {
  await page.goto(`${url}/manifest.json`);
  await page.until("document.readyState === 'complete'");
  await page.ask(`localStorage.setItem("hassTokens", ${JSON.stringify(JSON.stringify(tokens))})`);
  await page.goto(`${url}/lovelace/0`);
  await page.until(`${TEXT}.includes("shop door")`, 90);
  await sleep(6000);
  await page.shot(`${out}/home-assistant-overview.png`);
  const device = await page.ask(`(() => {
    const { devices } = document.querySelector("home-assistant").hass;
    return Object.values(devices).find((one) => one.name === "shop door").id;
  })()`);
  await page.goto(`${url}/config/devices/device/${device}`);
  await page.until(`${TEXT}.includes("edge-rlp")`, 90);
  await sleep(6000);
  await page.shot(`${out}/home-assistant-device.png`);
} finally {
  await page.close();
}
