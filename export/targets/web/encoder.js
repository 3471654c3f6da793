// The streaming encoder in onnxruntime-web; the counterpart of asr/onnx_encoder.py.

import * as ort from "./ort/ort.wasm.min.mjs";
import { N_MELS } from "./features.js";

ort.env.wasm.numThreads = 1; // more would need a server that sends the headers of cross-origin isolation
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;

const LOOK_AHEAD_STATE = 1; // its first numbers are log-probabilities of the look-ahead; see asr/onnx_encoder.py
const EMPTY = { float32: (size) => new Float32Array(size), int64: (size) => new BigInt64Array(size) };

/** One inference session for all streams; what belongs to a stream is in its state. */
export class Encoder {
  #session;
  #states;

  /**
   * @param {ArrayBuffer} graph encoder.onnx.
   * @param {{name: string, shape: number[], dtype: string}[]} states as in the bundle's manifest.
   * @returns {Promise<Encoder>}
   */
  static async create(graph, states) {
    const options = { executionProviders: ["wasm"], enableMemPattern: false, logSeverityLevel: 3 };
    return new Encoder(await ort.InferenceSession.create(new Uint8Array(graph), options), states);
  }

  /** Use `Encoder.create`. */
  constructor(session, states) {
    this.#session = session;
    this.#states = states;
  }

  /** State before the first chunk: zeros. */
  initialState() {
    return this.#states.map(({ shape, dtype }) => {
      const size = shape.reduce((product, length) => product * length, 1);
      return new ort.Tensor(dtype, EMPTY[dtype](size), shape);
    });
  }

  /**
   * Encode one chunk.
   * @param {Float32Array} features (T, 80): the chunk's frames of 10 ms and its look-ahead.
   * @param {ort.Tensor[]} state from `initialState` or the step before.
   * @returns {Promise<{logProbs: Float32Array, frames: number, state: ort.Tensor[]}>} log-probabilities of the chunk
   *     (frames, phonemes), one row every 20 ms, and the next state.
   */
  async step(features, state) {
    const { inputNames, outputNames } = this.#session;
    const x = new ort.Tensor("float32", features, [1, features.length / N_MELS, N_MELS]);
    const feeds = Object.fromEntries([x, ...state].map((tensor, index) => [inputNames[index], tensor]));
    const found = await this.#session.run(feeds);
    const [logProbs, ...next] = outputNames.map((name) => found[name]);
    return { logProbs: logProbs.data, frames: logProbs.dims[1], state: next };
  }

  /** What the last step made of the first `frames` frames of its look-ahead, (frames, width): a guess. */
  lookAhead(state, frames, width) {
    return state[LOOK_AHEAD_STATE].data.slice(0, frames * width);
  }
}
