// Drives the web page in Chromium, without a screen. The task comes in as JSON on standard input, what was seen goes
// out the same way; benchmarks/web.py and tests/export/test_web_page.py say what is in them.

import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const TYPES = {
  ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
  ".json": "application/json", ".wasm": "application/wasm",
};
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream", "--autoplay-policy=no-user-gesture-required",
];
const MINUTES = 60000;

function serve(folder) {
  const server = createServer((request, response) => {
    const path = join(folder, normalize(new URL(request.url, "http://localhost").pathname));
    const file = path.endsWith("/") ? join(path, "index.html") : path;
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
    return createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** Do something, wait until the page is done with it, and tell what it showed on the way and shows then. */
async function watch(page, act) {
  await page.evaluate(() => {
    const transcript = document.querySelector("#transcript");
    const text = () => transcript.innerText.replaceAll(/\s+/g, " ").trim();
    globalThis.seen = [];
    globalThis.observer?.disconnect();
    globalThis.observer = new MutationObserver(() => seen.at(-1) !== text() && seen.push(text()));
    observer.observe(transcript, { subtree: true, childList: true, characterData: true });
  });
  await act();
  await page.waitForFunction(() => document.body.dataset.state === "ready", null, { timeout: 5 * MINUTES });
  return page.evaluate(() => {
    const shown = ["error", "audio", "speed", "memory"].map((id) => [id, document.getElementById(id).innerText]);
    return { text: seen.at(-1) ?? "", partials: seen, ...Object.fromEntries(shown) };
  });
}

async function open(context, address, result) {
  const page = await context.newPage();
  page.on("console", (message) => result.log.push(message.text()));
  page.on("pageerror", (error) => result.log.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!/^(data|blob):/.test(url) && !url.startsWith(address)) result.elsewhere.push(url);
  });
  const start = performance.now();
  await page.goto(address);
  const isLoaded = () => ["ready", "broken"].includes(document.body.dataset.state);
  await page.waitForFunction(isLoaded, null, { timeout: 5 * MINUTES });
  result.load_s = (performance.now() - start) / 1000;
  result.error = await page.locator("#error").innerText();
  return page;
}

async function listen(page, task) {
  await page.click("#microphone");
  await page.waitForFunction(() => document.body.dataset.state === "listening");
  await page.waitForTimeout(1000 * task.seconds);
  if (task.screenshot) await page.screenshot({ path: `${task.screenshot}-listening.png` });
  await page.click("#microphone");
}

async function run(task, context, address) {
  const result = { log: [], elsewhere: [], recordings: [] };
  const page = await open(context, address, result);
  if (task.domain) await page.selectOption("#domain", task.domain);
  for (const file of task.files ?? []) {
    result.recordings.push(await watch(page, () => page.setInputFiles("#file", file)));
  }
  if (task.microphone) result.live = await watch(page, () => listen(page, task));
  if (task.screenshot) await page.screenshot({ path: `${task.screenshot}.png` });
  return result;
}

const task = JSON.parse(readFileSync(0, "utf-8"));
const { chromium } = await import(pathToFileURL(task.playwright).href);
const profile = mkdtempSync(join(tmpdir(), "web-page-"));
const server = await serve(task.folder);
const context = await chromium.launchPersistentContext(profile, {
  executablePath: task.chromium,
  headless: true,
  args: [...FLAGS, ...(task.microphone ? [`--use-file-for-fake-audio-capture=${task.microphone}%noloop`] : [])],
  permissions: ["microphone"],
  viewport: task.viewport ?? { width: 1000, height: 760 },
  colorScheme: task.dark ? "dark" : "light",
});
try {
  const result = await run(task, context, `http://127.0.0.1:${server.address().port}/`);
  result.browser = context.browser()?.version() ?? "";
  process.stdout.write(JSON.stringify(result));
} finally {
  await context.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
