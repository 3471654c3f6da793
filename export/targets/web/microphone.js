// The microphone as 16 kHz samples.

import { SAMPLE_RATE_HZ } from "./audio.js";
import { Resampler } from "./resampler.js";

const CONSTRAINTS = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };

/** An open microphone. */
export class Microphone {
  #stream;
  #context;
  #node;
  #ended;

  /**
   * Ask for the microphone; call it when the user has pressed something.
   * @param {(samples: Float32Array) => void} onSamples gets mono samples, 16 kHz, about every 100 ms.
   * @returns {Promise<Microphone>}
   * @throws {Error} there is none, or it was refused.
   */
  static async open(onSamples) {
    if (!navigator.mediaDevices) throw new Error("browsers give the microphone to https: and localhost pages only");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: CONSTRAINTS });
    try {
      const [context, source] = connect(stream);
      await context.resume(); // Safari starts it asleep once the press has been waited on
      await context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
      return new Microphone(stream, context, source, onSamples);
    } catch (error) {
      stop(stream);
      throw error;
    }
  }

  /** Use `Microphone.open`. */
  constructor(stream, context, source, onSamples) {
    this.#stream = stream;
    this.#context = context;
    const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    this.#node = new AudioWorkletNode(context, "capture", mono);
    const resampler = context.sampleRate === SAMPLE_RATE_HZ ? null : new Resampler(context.sampleRate);
    this.#ended = new Promise((resolve) => {
      this.#node.port.onmessage = ({ data }) => {
        if (data) onSamples(resampler ? resampler.process(data) : data);
        else resolve();
      };
    });
    source.connect(this.#node);
  }

  /** Close the microphone, once the last samples have been handed over. */
  async close() {
    this.#node.port.postMessage(null);
    await this.#ended;
    stop(this.#stream);
    await this.#context.close();
  }
}

/** A context at 16 kHz, or at the microphone's own rate where the browser cannot mix the two (Firefox). */
function connect(stream) {
  const context = new AudioContext({ sampleRate: SAMPLE_RATE_HZ });
  try {
    return [context, context.createMediaStreamSource(stream)];
  } catch {
    context.close();
    const own = new AudioContext();
    return [own, own.createMediaStreamSource(stream)];
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
