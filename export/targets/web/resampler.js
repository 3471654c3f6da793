// Any sample rate to 16 kHz, as a stream: a low-pass filter (a windowed sinc) around each new place.

const OUT_HZ = 16000;
const LOBES = 24; // zero crossings of the sinc on either side
const PASSED = 0.92; // share of the band below half the lower rate that is kept

/** Brings one mono stream to 16 kHz; how the input is sliced makes no difference. */
export class Resampler {
  #rate;
  #cutoff; // as a share of half the input's rate
  #radius; // input samples that the filter reaches on either side
  #filters = new Map(); // by how far a place lies behind an input sample
  #samples; // from input sample #first on
  #first;
  #next = 0; // output samples given so far

  /** @param {number} rate of the input in Hz, a whole number. */
  constructor(rate) {
    this.#rate = rate;
    this.#cutoff = PASSED * Math.min(1, OUT_HZ / rate);
    this.#radius = Math.ceil(LOBES / this.#cutoff);
    this.#first = -this.#radius;
    this.#samples = new Float32Array(this.#radius);
  }

  /**
   * Take the next samples and return what can be computed so far.
   * @param {Float32Array} samples
   * @returns {Float32Array}
   */
  process(samples) {
    const whole = new Float32Array(this.#samples.length + samples.length);
    whole.set(this.#samples);
    whole.set(samples, this.#samples.length);
    const fitting = this.#first + whole.length - 1 - this.#radius; // the last place that the filter fits around
    const count = Math.max(0, Math.floor((fitting * OUT_HZ) / this.#rate) + 1 - this.#next);
    const out = Float32Array.from({ length: count }, (_, n) => this.#at((this.#next + n) * this.#rate, whole));
    this.#next += count;
    const used = Math.max(0, Math.floor((this.#next * this.#rate) / OUT_HZ) - this.#radius - this.#first);
    this.#samples = whole.slice(used);
    this.#first += Math.min(used, whole.length);
    return out;
  }

  /** Value at a place, which is given in input samples / OUT_HZ. */
  #at(place, samples) {
    const phase = place % OUT_HZ;
    if (!this.#filters.has(phase)) this.#filters.set(phase, this.#filter(phase / OUT_HZ));
    const start = (place - phase) / OUT_HZ - this.#radius - this.#first;
    return this.#filters.get(phase).reduce((sum, weight, index) => sum + weight * samples[start + index], 0);
  }

  #filter(behind) {
    return Float32Array.from({ length: 2 * this.#radius + 1 }, (_, index) => {
      const x = index - this.#radius - behind;
      const angle = Math.PI * x * this.#cutoff;
      const sinc = Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle;
      return this.#cutoff * sinc * Math.cos((Math.PI * x) / (2 * (this.#radius + 1))) ** 2;
    });
  }
}
