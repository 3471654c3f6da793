// One stream of speech: samples in, partial results and finally words out; the counterpart of asr/stream.py.

import { concatenate, FeatureStream, N_MELS, SILENCE_LOG_MEL } from "./features.js";

const SAMPLE_RATE_HZ = 16000;
const FRAMES_PER_SECOND = 100;
const FLUSH_FRAMES = 40; // silent frames after the last real one at least, so that the last word is heard out
const BLOCK_SAMPLES = 16000;

/**
 * @typedef {object} Partial what the utterance in progress reads as.
 * @property {string} stable words that will not change.
 * @property {string} volatile words that may.
 * @property {boolean} isEndpoint the utterance has ended, with `stable` as its text.
 */
/**
 * @typedef {object} Word
 * @property {string} text
 * @property {number} start in seconds since the stream began.
 * @property {number} end in seconds.
 * @property {number} confidence estimated probability that the word is right.
 */

/** One stream in progress; made by `Recognizer.createStream`. */
export class Stream {
  #encoder;
  #decoder;
  #search;
  #settings;
  #state;
  #features = new FeatureStream();
  #pending = new Float32Array(0); // feature frames of the next window
  #nSamples = 0;
  #nFrames = 0; // output frames searched
  #words = [];
  #width = 0; // of a row of log-probabilities
  #shown = null; // the partial result, until the next chunk has been searched
  #utterance = 0; // index of its first word
  #busy = Promise.resolve(); // calls wait for the ones before them
  #isFinished = false;

  constructor(encoder, decoder, search, settings) {
    this.#encoder = encoder;
    this.#decoder = decoder;
    this.#search = search;
    this.#settings = settings;
    this.#state = encoder.initialState();
  }

  /**
   * Take the next samples.
   * @param {Float32Array} samples mono, 16 kHz, in [-1, 1]; any number of them. The array may be used again only when
   *     the promise is kept.
   * @returns {Promise<Partial>}
   * @throws {Error} NaN or infinity among the samples; the stream has been finished.
   */
  accept(samples) {
    if (!samples.every(Number.isFinite)) throw new Error("the samples hold NaN or infinity");
    return this.#next(async () => {
      const before = this.#utterance;
      for (let start = 0; start < samples.length; start += BLOCK_SAMPLES) {
        const block = samples.subarray(start, start + BLOCK_SAMPLES);
        this.#nSamples += block.length;
        await this.#hear(this.#features.accept(block));
      }
      return this.#partial(before);
    });
  }

  /**
   * End the stream: hear out the last word and return everything that was said.
   * @returns {Promise<{text: string, words: Word[], duration: number}>} duration in seconds.
   */
  finish() {
    const result = this.#next(async () => {
      if (this.#nSamples > 0) await this.#flush();
      this.#commit(this.#search.finish());
      this.#search.free();
      return this.#result(this.#nSamples / SAMPLE_RATE_HZ);
    });
    this.#isFinished = true;
    return result;
  }

  #next(action) {
    if (this.#isFinished) throw new Error("this stream has been finished; create another one for more audio");
    this.#busy = this.#busy.then(action);
    return this.#busy;
  }

  async #flush() {
    await this.#hear(this.#features.finish());
    const chunk = this.#chunkFrames;
    const pending = this.#pending.length / N_MELS + FLUSH_FRAMES;
    const silent = FLUSH_FRAMES + ((chunk - (pending % chunk)) % chunk) + this.#lookAheadFrames;
    await this.#hear(new Float32Array(silent * N_MELS).fill(SILENCE_LOG_MEL));
  }

  get #chunkFrames() {
    return (this.#settings.chunk_ms * FRAMES_PER_SECOND) / 1000;
  }

  get #lookAheadFrames() {
    return (this.#settings.look_ahead_ms * FRAMES_PER_SECOND) / 1000;
  }

  /** Take feature frames (T, 80) and search every chunk that they complete. */
  async #hear(features) {
    this.#pending = concatenate(this.#pending, features);
    const chunk = this.#chunkFrames * N_MELS;
    const window = chunk + this.#lookAheadFrames * N_MELS;
    while (this.#pending.length >= window) {
      const { logProbs, frames, state } = await this.#encoder.step(this.#pending.slice(0, window), this.#state);
      this.#state = state;
      this.#nFrames += frames;
      this.#width = logProbs.length / frames;
      this.#shown = null;
      this.#advance(logProbs, frames);
      this.#pending = this.#pending.slice(chunk);
    }
  }

  #advance(logProbs, frames) {
    this.#search.advance(logProbs, frames);
    this.#commit(this.#search.takeStable());
    if (this.#isEndpoint()) {
      this.#commit(this.#search.finish());
      this.#utterance = this.#words.length;
    }
  }

  #isEndpoint() {
    const first = this.#words[this.#utterance] ?? this.#search.best()[0];
    if (!first) return false;
    const frameS = this.#settings.frame_ms / 1000;
    const silenceS = this.#search.trailingSilence() * frameS;
    const utteranceS = (this.#nFrames - first.startFrame) * frameS;
    const { min_silence_s, max_utterance_s, long_utterance_silence_s } = this.#settings.endpoint;
    if (silenceS >= min_silence_s || utteranceS >= 2 * max_utterance_s) return true;
    return utteranceS >= max_utterance_s && silenceS >= long_utterance_silence_s;
  }

  #commit(words) {
    this.#words.push(...words);
  }

  /** What is known now; `before` is the utterance (index of its first word) at the start of the call. */
  #partial(before) {
    if (this.#utterance > before) {
      return { stable: this.#text(this.#words.slice(before, this.#utterance)), volatile: "", isEndpoint: true };
    }
    this.#shown ??= {
      stable: this.#text(this.#words.slice(this.#utterance)),
      volatile: this.#text(this.#newest()),
      isEndpoint: false,
    };
    return this.#shown;
  }

  /** The search's best words after the audio that the encoder has seen, its look-ahead included. */
  #newest() {
    const { frames, beam_size: beamSize } = this.#settings.preview;
    if (!this.#width) return this.#search.best();
    return this.#search.preview(this.#encoder.lookAhead(this.#state, frames, this.#width), frames, beamSize);
  }

  #text(words) {
    return words.map(({ word }) => this.#decoder.spell(word)).join(" ");
  }

  #result(duration) {
    const seconds = (frame) => Math.min((frame * this.#settings.frame_ms) / 1000, duration);
    const words = this.#words.map((word) => ({
      text: this.#decoder.spell(word.word),
      start: seconds(word.startFrame),
      end: seconds(word.endFrame),
      confidence: confidence(this.#settings.confidence, word),
    }));
    return { text: words.map((word) => word.text).join(" "), words, duration };
  }
}

/** Estimated probability that a word is right; see asr/confidence.py. */
function confidence(weights, { startFrame, endFrame, acoustic, language }) {
  const frames = Math.max(endFrame - startFrame, 1);
  const logit =
    weights.bias +
    (weights.acoustic_per_frame * acoustic) / frames +
    weights.acoustic * acoustic +
    weights.language * language +
    weights.log_frames * Math.log(frames);
  return 0.5 * (1 + Math.tanh(0.5 * logit));
}
