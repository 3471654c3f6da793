// The search in WebAssembly (search.cpp): log-probabilities of phonemes in, words out.

import { readHeader } from "./arrays.js";

const TRIE = ["node_label", "node_first_child", "node_first_entry", "node_lookahead", "entry_word", "entry_log_prob"];
const NGRAM = [
  "unigram_log_prob", "unigram_backoff", "bigram_first", "bigram_word", "bigram_log_prob", "bigram_backoff",
  "bigram_log_prob_table", "bigram_backoff_table", "trigram_first", "trigram_word", "trigram_log_prob",
  "trigram_log_prob_table",
];
const PATH_WORD_BYTES = 40;

/**
 * @typedef {object} PathWord a word that the search has found.
 * @property {number} word its id.
 * @property {number} startFrame first output frame (20 ms) since the stream began.
 * @property {number} endFrame frame after the last one.
 * @property {number} acoustic how far its labels are from the best ones, a log-probability, at most 0.
 * @property {number} language log-probability of the word given those before it.
 */

/** Lexicon and language model in the memory of a WebAssembly module: what the searches of all streams share. */
export class Decoder {
  #wasm;
  #language;
  #lexicon;
  #hasNeural;
  #adapters = new Map(); // addresses by name

  /**
   * @param {BufferSource} code search.wasm.
   * @param {{lexicon: ArrayBuffer, ngram?: ArrayBuffer, lm?: ArrayBuffer}} files lexicon.bin, ngram.bin and lm.bin.
   * @param {Object<string, ArrayBuffer>} [adapters] of the neural language model, by name.
   * @returns {Promise<Decoder>}
   * @throws {Error} a file is damaged, or they do not belong together.
   */
  static async create(code, files, adapters = {}) {
    const host = { fail: (message) => { throw new Error(readText(instance.exports.memory, message)); } };
    const unused = () => { throw new Error("the search reads and writes no files"); };
    const wasi = { fd_close: unused, fd_seek: unused, fd_write: unused };
    const { instance } = await WebAssembly.instantiate(code, { host, wasi_snapshot_preview1: wasi });
    instance.exports._initialize();
    return new Decoder(instance.exports, files, adapters);
  }

  /** Use `Decoder.create`. */
  constructor(wasm, files, adapters) {
    this.#wasm = wasm;
    this.#lexicon = this.#place(files.lexicon, "lexicon");
    const ngram = files.ngram ? this.#place(files.ngram, "ngram") : null;
    const neural = files.lm ? this.#place(files.lm, "lm") : null;
    for (const other of [ngram, neural]) {
      if (other && other.meta.words_sha256 !== this.#lexicon.meta.words_sha256) {
        throw new Error("lexicon and language model were made for different words");
      }
    }
    const trie = this.#table(this.#addresses(this.#lexicon, TRIE));
    this.#language = wasm.create_language(trie, ngram && this.#ngram(ngram), neural && this.#network(neural));
    this.#hasNeural = neural !== null;
    for (const [name, buffer] of Object.entries(adapters)) this.#adapters.set(name, this.#adapter(buffer, neural));
  }

  /** Number of word ids. */
  get nWords() {
    return this.#lexicon.arrays.word_offset.size - 1;
  }

  /** Bytes of memory in use by the module; it never shrinks. */
  get memoryBytes() {
    return this.#wasm.memory.buffer.byteLength;
  }

  /** Spelling of a word id. */
  spell(word) {
    const { memory } = this.#wasm;
    const { word_offset: offsets, word_bytes: bytes } = this.#lexicon.arrays;
    const [start, end] = new Uint32Array(memory.buffer, offsets.address + 4 * word, 2);
    return new TextDecoder().decode(new Uint8Array(memory.buffer, bytes.address + start, end - start));
  }

  /**
   * A search for one stream.
   * @param {object} decoding settings of the bundle's manifest.
   * @param {number} neuralShare of the neural language model in a word's probability, where there is also an n-gram.
   * @param {string|null} [adapter] that the neural language model wears.
   * @throws {Error} there is no such adapter.
   */
  createSearch(decoding, neuralShare, adapter = null) {
    const search = this.#wasm.create_search(
      this.#language, this.#worn(adapter), this.#hasNeural ? neuralShare : 0, decoding.beam_size, decoding.beam_threshold, decoding.token_threshold, decoding.lm_weight,
      decoding.word_score, decoding.boundary_skip_log_prob, decoding.blank_skip_log_prob,
      decoding.stable_after_frames, decoding.semiring === "tropical" ? 1 : 0,
    );
    return new Search(this.#wasm, search);
  }

  /**
   * Run the neural language model's hidden layers.
   * @param {Uint32Array} contexts (count, context) of word ids with an embedding, oldest word first.
   * @param {number} count how many contexts.
   * @param {number} dim numbers of an embedding.
   * @param {string|null} [adapter] that it wears.
   * @returns {Float32Array} (count, dim): the embeddings that the next words should have.
   */
  predict(contexts, count, dim, adapter = null) {
    const ids = copyIn(this.#wasm, contexts);
    const rows = this.#wasm.predict(this.#language, this.#worn(adapter), ids, count);
    const copy = new Float32Array(this.#wasm.memory.buffer, rows, count * dim).slice();
    this.#wasm.release(ids);
    this.#wasm.release(rows);
    return copy;
  }

  /** Address of an adapter, 0 for none. */
  #worn(name) {
    if (name === null) return 0;
    if (!this.#adapters.has(name)) throw new Error(`there is no adapter ${name}`);
    return this.#adapters.get(name);
  }

  /** Copy a file into the module's memory; its arrays get an `address`. */
  #place(buffer, kind) {
    const { meta, arrays } = readHeader(buffer, kind);
    const base = copyIn(this.#wasm, new Uint8Array(buffer));
    for (const array of Object.values(arrays)) {
      array.address = array.values ? copyIn(this.#wasm, array.values) : base + array.offset;
      delete array.values;
    }
    return { meta, arrays };
  }

  #addresses({ arrays }, names) {
    return names.map((name) => arrays[name].address);
  }

  #table(numbers) {
    return copyIn(this.#wasm, Uint32Array.from(numbers));
  }

  #ngram(file) {
    const { unigram_log_prob: unigrams, bigram_first: rows } = file.arrays;
    return this.#table([unigrams.size, rows.size - 1, ...this.#addresses(file, NGRAM)]);
  }

  #adapter(buffer, neural) {
    const { meta, arrays } = this.#place(buffer, "lm-adapter");
    if (meta.trunk !== neural?.meta.trunk) throw new Error("the adapter was made for another language model");
    const layers = [];
    for (let number = 0; `weight.${number}` in neural.arrays; number += 1) {
      const [down, up] = [arrays[`down.${number}`], arrays[`up.${number}`]];
      const [inputs, outputs] = neural.arrays[`weight.${number}`].shape;
      const rank = down?.shape[1];
      if (!up || down.shape[0] !== inputs || up.shape[0] !== rank || up.shape[1] !== outputs) {
        throw new Error("the adapter does not fit the language model's layers");
      }
      layers.push(rank, down.address, up.address);
    }
    const { bias, bias_scale: scale } = arrays;
    if (bias.size !== 0 && bias.size !== neural.arrays.bias.size) {
      throw new Error("the adapter does not fit the language model's words");
    }
    const adapter = this.#table([bias.size, bias.address, scale.address, this.#table(layers)]);
    return this.#wasm.create_adapter(this.#language, adapter);
  }

  #network(file) {
    const { meta, arrays } = file;
    const layers = [];
    for (let number = 0; `weight.${number}` in arrays; number += 1) {
      const names = [`weight.${number}`, `weight_scale.${number}`, `layer_bias.${number}`];
      layers.push(...arrays[names[0]].shape, ...this.#addresses(file, names));
    }
    const codes = fofeMatrix(meta.model, meta.context);
    return this.#table([
      arrays.bias.size, meta.model.dim, arrays.embedding_scale.shape[1], meta.context, arrays.unknown_log_share.size,
      ...this.#addresses(file, ["embedding", "embedding_scale", "bias", "unknown_log_share"]),
      codes.length / meta.context, copyIn(this.#wasm, Float32Array.from(codes)),
      meta.model.activation === "gelu" ? 1 : 0, layers.length / 5, this.#table(layers),
    ]);
  }
}

/** The search of one stream; the counterpart of asr/decoder/search.py. */
class Search {
  #wasm;
  #search;

  constructor(wasm, search) {
    this.#wasm = wasm;
    this.#search = search;
  }

  /** Take in frames: `logProbs` (frames, width), natural logs. */
  advance(logProbs, frames) {
    const copy = copyIn(this.#wasm, logProbs);
    this.#wasm.advance(this.#search, copy, frames, logProbs.length / frames);
    this.#wasm.release(copy);
  }

  /** Words on which all hypotheses agree, each returned once: PathWord[]. */
  takeStable() {
    return this.#words(this.#wasm.take_stable(this.#search));
  }

  /** The best hypothesis after the words that were taken: PathWord[]. */
  best() {
    return this.#words(this.#wasm.best(this.#search));
  }

  /**
   * What `best` would be after more frames, which are a guess: they are not taken in, and leave no trace. `logProbs`
   * (frames, width); the first `beamSize` hypotheses are followed.
   */
  preview(logProbs, frames, beamSize) {
    if (!frames) return this.best();
    const copy = copyIn(this.#wasm, logProbs);
    const count = this.#wasm.preview(this.#search, copy, frames, logProbs.length / frames, beamSize);
    this.#wasm.release(copy);
    return this.#words(count);
  }

  /** Frames since the best hypothesis' last phoneme, or since the utterance's start if it has none. */
  trailingSilence() {
    return this.#wasm.trailing_silence(this.#search);
  }

  /** End the utterance and return the words not taken yet; then start anew, the frame count going on: PathWord[]. */
  finish() {
    return this.#words(this.#wasm.finish(this.#search));
  }

  /** Give its memory back; it must not be used afterwards. */
  free() {
    this.#wasm.delete_search(this.#search);
    this.#search = 0;
  }

  #words(count) {
    const view = new DataView(this.#wasm.memory.buffer, this.#wasm.words(this.#search), count * PATH_WORD_BYTES);
    return Array.from({ length: count }, (_, index) => {
      const at = index * PATH_WORD_BYTES;
      return {
        word: view.getUint32(at, true),
        startFrame: Number(view.getBigInt64(at + 8, true)),
        endFrame: Number(view.getBigInt64(at + 16, true)),
        acoustic: view.getFloat64(at + 24, true),
        language: view.getFloat64(at + 32, true),
      };
    });
  }
}

/** How much each word of a context counts in each code, row by row; see export/language_model.py. */
function fofeMatrix({ factors, window }, context) {
  const rows = Array.from({ length: window }, (_, shift) => [factors[0], shift]);
  for (const factor of factors.slice(1)) rows.push([factor, 0]);
  return rows.flatMap(([factor, shift]) =>
    Array.from({ length: context }, (_, place) => {
      const age = context - 1 - place - shift;
      return age >= 0 ? factor ** age : 0;
    }),
  );
}

function copyIn(wasm, array) {
  const address = wasm.allocate(array.byteLength);
  if (!address) throw new Error(`out of memory: no room for ${array.byteLength} bytes more`);
  new array.constructor(wasm.memory.buffer, address, array.length).set(array);
  return address;
}

function readText(memory, address) {
  const bytes = new Uint8Array(memory.buffer, address);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}
