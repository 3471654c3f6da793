// The recogniser in a worker, so that the page never waits for it. Messages in: {type: "load", folder},
// {type: "domain", domain}, {type: "audio", samples}, {type: "finish"}; a domain counts for the streams that start after
// it. Messages out: {type: "bytes", bytes}, {type: "ready", words, domains},
// {type: "partial", partial, usage}, {type: "result", result, usage}, {type: "error", message}.

const memories = [];
const { Memory } = WebAssembly;
// onnxruntime-web does not tell how much memory it takes, so what it asks for is noted.
WebAssembly.Memory = function NotedMemory(limits) {
  const memory = new Memory(limits);
  memories.push(memory);
  return memory;
};
WebAssembly.Memory.prototype = Memory.prototype;

let recognizer = null;
let stream = null;
let domain = null;
let audioS = 0;
let busyS = 0;
let last = Promise.resolve();

const actions = {
  async load({ folder }) {
    const { fetchFrom, Recognizer } = await import("./recognizer.js");
    recognizer = await Recognizer.load(fetchFrom(folder, (bytes) => postMessage({ type: "bytes", bytes })));
    postMessage({ type: "ready", words: recognizer.nWords, domains: recognizer.domains });
  },
  domain(message) {
    domain = message.domain;
  },
  async audio({ samples }) {
    if (!stream) startStream();
    audioS += samples.length / 16000;
    const partial = await timed(() => stream.accept(samples));
    postMessage({ type: "partial", partial, usage: usage() });
  },
  async finish() {
    if (!stream) startStream();
    const result = await timed(() => stream.finish());
    stream = null;
    postMessage({ type: "result", result, usage: usage() });
  },
};

function startStream() {
  stream = recognizer.createStream({ domain });
  audioS = 0;
  busyS = 0;
}

async function timed(action) {
  const start = performance.now();
  const found = await action();
  busyS += (performance.now() - start) / 1000;
  return found;
}

function usage() {
  const bytes = memories.reduce((sum, memory) => sum + memory.buffer.byteLength, recognizer.decoderBytes);
  return { audioS, busyS, bytes };
}

onmessage = ({ data }) => {
  last = last.then(() => actions[data.type](data)).catch((error) => {
    stream = null;
    postMessage({ type: "error", message: error.message ?? String(error) });
  });
};
