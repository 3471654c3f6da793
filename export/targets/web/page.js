// The page: what the worker hears, as text on the screen.

import { readAudio, SAMPLE_RATE_HZ } from "./audio.js";
import { Microphone } from "./microphone.js";

const UNSURE = 0.5; // words less certain than this are marked
const find = (id) => document.getElementById(id);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
let microphone = null;
let modelBytes = 1;
let loadedBytes = 0;
let endedText = ""; // of the utterances that are over
let recording = null; // what is left of a recording; the worker gets it second by second

/** "loading", "ready", "listening", "busy" (with a recording) or "broken". */
function setState(state) {
  document.body.dataset.state = state;
  find("microphone").disabled = state !== "ready" && state !== "listening";
  find("microphone").setAttribute("aria-pressed", String(state === "listening"));
  find("microphone").setAttribute("aria-label", state === "listening" ? "Stop" : "Listen");
  find("file").disabled = state !== "ready";
  find("domain").disabled = state !== "ready";
  find("progress").classList.toggle("idle", state !== "loading" && state !== "busy");
  if (state !== "listening") find("microphone").style.removeProperty("--level");
}

function showError(error) {
  find("error").textContent = error.message ?? String(error);
  find("error").hidden = false;
}

function clear() {
  endedText = "";
  find("ended").replaceChildren();
  find("stable").textContent = find("volatile").textContent = "";
  find("hint").hidden = true;
  find("error").textContent = "";
  find("error").hidden = true;
  find("copy").disabled = true;
}

function showPartial({ stable, volatile, isEndpoint }) {
  if (isEndpoint) {
    const paragraph = document.createElement("p");
    paragraph.textContent = stable;
    find("ended").append(paragraph);
    endedText = `${endedText} ${stable}`.trim();
  }
  find("stable").textContent = isEndpoint ? "" : stable;
  find("volatile").textContent = volatile;
  find("transcript").scrollTop = find("transcript").scrollHeight;
}

function showResult({ text, words }) {
  const count = (part) => (part ? part.split(" ").length : 0);
  const rest = words.slice(count(endedText));
  find("volatile").textContent = "";
  find("stable").replaceChildren(...rest.flatMap((word) => [wordElement(word), " "]));
  find("hint").hidden = text !== "";
  find("hint").textContent = "Nothing was understood.";
  find("copy").disabled = text === "";
}

function wordElement({ text, start, end, confidence }) {
  const element = document.createElement("span");
  element.textContent = text;
  element.title = `${start.toFixed(2)}–${end.toFixed(2)} s, ${Math.round(100 * confidence)} % certain`;
  element.classList.toggle("unsure", confidence < UNSURE);
  return element;
}

function showUsage({ audioS, busyS, bytes }) {
  find("audio").textContent = `${audioS.toFixed(1)} s`;
  find("speed").textContent = audioS ? (busyS / audioS).toFixed(2) : "–";
  find("memory").textContent = `${Math.round(bytes / 1e6)} MB`;
}

const answers = {
  bytes({ bytes }) {
    loadedBytes += bytes;
    find("progress").value = loadedBytes / modelBytes;
  },
  ready({ words, domains }) {
    find("model").append(` It knows ${words.toLocaleString("en")} words.`);
    find("domain").append(...domains.map((name) => new Option(name, name)));
    find("expect").hidden = domains.length === 0;
    setState("ready");
  },
  partial({ partial, usage }) {
    showPartial(partial);
    showUsage(usage);
    if (recording) sendRecording(usage.audioS);
  },
  result({ result, usage }) {
    showResult(result);
    showUsage(usage);
    setState("ready");
  },
  error({ message }) {
    showError(message);
    microphone?.close();
    microphone = recording = null;
    setState(document.body.dataset.state === "loading" ? "broken" : "ready");
  },
};

async function listen() {
  clear();
  find("microphone").disabled = true; // until it is open
  microphone = await Microphone.open((samples) => {
    find("microphone").style.setProperty("--level", Math.min(1, 4 * loudness(samples)).toFixed(2));
    worker.postMessage({ type: "audio", samples });
  });
  setState("listening");
}

async function stopListening() {
  const open = microphone;
  microphone = null;
  find("microphone").disabled = true;
  await open.close();
  worker.postMessage({ type: "finish" });
}

async function transcribe(file) {
  clear();
  setState("busy");
  recording = await readAudio(file);
  find("progress").max = recording.length / SAMPLE_RATE_HZ;
  sendRecording(0);
}

/** Send the next second of the recording, of which `doneS` seconds are done, or its end. */
function sendRecording(doneS) {
  find("progress").value = doneS;
  const samples = recording.slice(0, SAMPLE_RATE_HZ);
  recording = recording.subarray(SAMPLE_RATE_HZ);
  if (samples.length) worker.postMessage({ type: "audio", samples });
  else {
    recording = null;
    worker.postMessage({ type: "finish" });
  }
}

async function copyText() {
  if (!navigator.clipboard) throw new Error("browsers let https: and localhost pages copy only");
  const paragraphs = [...find("ended").children].map((paragraph) => paragraph.textContent);
  await navigator.clipboard.writeText([...paragraphs, find("stable").textContent.trim()].filter(Boolean).join("\n"));
}

function loudness(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, samples.length));
}

/** Run an action of the user; what goes wrong is shown. */
function attempt(action) {
  action().catch((error) => {
    showError(error);
    setState("ready");
  });
}

function acceptDrops() {
  const target = find("transcript");
  for (const type of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      target.classList.toggle("over", type === "dragover" && document.body.dataset.state === "ready");
    });
  }
  document.addEventListener("drop", ({ dataTransfer }) => {
    const [file] = dataTransfer.files;
    if (file && document.body.dataset.state === "ready") attempt(() => transcribe(file));
  });
}

async function load() {
  const response = await fetch("model/model.json");
  if (!response.ok) throw new Error(`model/model.json: the server answers ${response.status}`);
  const { files } = await response.json();
  modelBytes = Object.values(files).reduce((sum, bytes) => sum + bytes, 0);
  worker.postMessage({ type: "load", folder: new URL("model/", location.href).href });
}

worker.onmessage = ({ data }) => answers[data.type](data);
worker.onerror = (event) => answers.error({ message: event.message || "the recogniser could not be started" });
find("microphone").addEventListener("click", () => attempt(microphone ? stopListening : listen));
find("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (file) attempt(() => transcribe(file));
});
find("domain").addEventListener("change", ({ target }) => {
  worker.postMessage({ type: "domain", domain: target.value || null });
});
find("copy").addEventListener("click", () => attempt(copyText));
acceptDrops();
load().catch((error) => answers.error({ message: error.message }));
