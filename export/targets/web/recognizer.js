/**
 * Speech recognition on the user's own machine: a module for any web page or worker, without other dependencies than
 * the files beside it.
 *
 *     import { fetchFrom, Recognizer } from "./recognizer.js";
 *
 *     const recognizer = await Recognizer.load(fetchFrom("./model/"));
 *     const stream = recognizer.createStream();
 *     const partial = await stream.accept(samples); // Float32Array, mono, 16 kHz: {stable, volatile, isEndpoint}
 *     const result = await stream.finish(); // {text, words: [{text, start, end, confidence}], duration}
 *
 * Encoding takes time: run it in a worker, as worker.js does, where the page must not stutter. microphone.js gives
 * samples, `readAudio` of audio.js those of a file.
 */

import { Decoder } from "./decoder.js";
import { Encoder } from "./encoder.js";
import { Stream } from "./stream.js";

/** One opened model, shared by any number of streams. */
export class Recognizer {
  #encoder;
  #decoder;

  /**
   * @param {(name: string) => Promise<ArrayBuffer>} read gives a file of the model's folder.
   * @returns {Promise<Recognizer>}
   * @throws {Error} a file is missing or damaged.
   */
  static async load(read) {
    const settings = JSON.parse(new TextDecoder().decode(await read("model.json")));
    const names = Object.keys(settings.files);
    const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await read(name)])));
    const language = { lexicon: files["lexicon.bin"], ngram: files["ngram.bin"], lm: files["lm.bin"] };
    const encoder = await Encoder.create(files["encoder.onnx"], settings.state);
    const worn = Object.values(settings.domains).map(({ adapter }) => adapter).filter(Boolean);
    const adapters = Object.fromEntries(worn.map((name) => [name, files[name]]));
    const decoder = await Decoder.create(files["search.wasm"], language, adapters);
    return new Recognizer(encoder, decoder, settings);
  }

  /** Use `Recognizer.load`. */
  constructor(encoder, decoder, settings) {
    this.#encoder = encoder;
    this.#decoder = decoder;
    /** Contents of model.json. */
    this.settings = settings;
  }

  /** Number of words that can be recognised. */
  get nWords() {
    return this.#decoder.nWords - 3; // <unk>, <s> and </s> are none
  }

  /** Bytes of memory that lexicon, language model and searches take. */
  get decoderBytes() {
    return this.#decoder.memoryBytes;
  }

  /** Kinds of speech that `createStream` may be told to expect. */
  get domains() {
    return Object.keys(this.settings.domains);
  }

  /**
   * Start a stream of speech.
   * @param {{domain?: string|null}} [options] kind of speech to expect, one of `domains`; null expects anything.
   * @throws {Error} there is no such domain.
   */
  createStream({ domain = null } = {}) {
    const { domains, decoding, neural_share: neuralShare } = this.settings;
    if (domain !== null && !Object.hasOwn(domains, domain)) {
      throw new Error(`domain: expected one of ${this.domains.join(", ") || "none"}, found ${domain}`);
    }
    const chosen = domain === null ? { adapter: null, neural_share: neuralShare, decoding } : domains[domain];
    const search = this.#decoder.createSearch(chosen.decoding, chosen.neural_share, chosen.adapter);
    return new Stream(this.#encoder, this.#decoder, search, this.settings);
  }
}

/**
 * A function that fetches files of a folder.
 * @param {string|URL} folder its address, ending in a slash.
 * @param {(bytes: number) => void} [onBytes] called with the size of each piece that arrives.
 * @returns {(name: string) => Promise<ArrayBuffer>}
 */
export function fetchFrom(folder, onBytes = () => {}) {
  return async (name) => {
    const response = await fetch(new URL(name, new URL(folder, globalThis.location?.href)));
    if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
    const counted = new TransformStream({
      transform(piece, controller) {
        onBytes(piece.byteLength);
        controller.enqueue(piece);
      },
    });
    return new Response(response.body.pipeThrough(counted)).arrayBuffer();
  };
}
