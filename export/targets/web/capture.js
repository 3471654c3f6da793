// Runs where the audio is: hands the microphone's samples over in blocks.

const BLOCK_SAMPLES = 1600;

class Capture extends AudioWorkletProcessor {
  #block = new Float32Array(BLOCK_SAMPLES);
  #size = 0;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.port.postMessage(this.#block.slice(0, this.#size));
      this.port.postMessage(null);
    };
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.#block[this.#size] = sample;
      this.#size += 1;
      if (this.#size === BLOCK_SAMPLES) {
        this.port.postMessage(this.#block);
        this.#size = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
