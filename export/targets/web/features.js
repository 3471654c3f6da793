// Log-mel features as a stream: the counterpart of asr/features.py, which explains the recipe.

export const N_MELS = 80;
export const HOP_LENGTH = 160;
const FRAME_LENGTH = 400;
const FRAME_START = (HOP_LENGTH - FRAME_LENGTH) / 2;
const N_FFT = 512;
const N_BINS = N_FFT / 2;
const SAMPLE_RATE_HZ = 16000;
const LOW_HZ = 20;
const HIGH_HZ = 7600;
const PREEMPHASIS = Math.fround(0.97);
const FLOOR = 2 ** -23;

/** Every feature of digital silence, and the least that a feature can be. */
export const SILENCE_LOG_MEL = Math.fround(Math.log(FLOOR));

/** Features of one stream of audio, frame by frame as its samples arrive. */
export class FeatureStream {
  #samples = new Float32Array(0); // from the next frame's first sample on
  #nSamples = 0;
  #nFrames = 0;
  #hasLeftEdge = false;

  /**
   * Take the next samples and return the frames that they complete.
   * @param {Float32Array} samples mono, 16 kHz, in [-1, 1]; any number of them.
   * @returns {Float32Array} (T, 80), natural log, one frame every 10 ms.
   */
  accept(samples) {
    this.#samples = concatenate(this.#samples, samples);
    this.#nSamples += samples.length;
    if (!this.#hasLeftEdge) {
      if (this.#nSamples < FRAME_START + FRAME_LENGTH) return new Float32Array(0);
      this.#samples = mirror(this.#samples, -FRAME_START, 0);
      this.#hasLeftEdge = true;
    }
    return this.#takeFrames(Math.max(0, Math.floor((this.#samples.length - FRAME_LENGTH) / HOP_LENGTH) + 1));
  }

  /** End the stream and return its last frames, which reach beyond the end into mirrored samples. */
  finish() {
    const nFrames = Math.floor((this.#nSamples + HOP_LENGTH / 2) / HOP_LENGTH);
    if (nFrames > this.#nFrames) {
      const end = (nFrames - 1) * HOP_LENGTH + FRAME_START + FRAME_LENGTH;
      this.#samples = mirror(this.#samples, this.#hasLeftEdge ? 0 : -FRAME_START, end - this.#nSamples);
    }
    return this.#takeFrames(nFrames - this.#nFrames);
  }

  #takeFrames(nFrames) {
    const features = new Float32Array(nFrames * N_MELS);
    for (let frame = 0; frame < nFrames; frame += 1) {
      const samples = this.#samples.subarray(frame * HOP_LENGTH, frame * HOP_LENGTH + FRAME_LENGTH);
      logMel(samples, features.subarray(frame * N_MELS, (frame + 1) * N_MELS));
    }
    this.#samples = this.#samples.slice(nFrames * HOP_LENGTH);
    this.#nFrames += nFrames;
    return features;
  }
}

/** Two float arrays, one after the other. */
export function concatenate(first, second) {
  const whole = new Float32Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

/** Continue `samples` on both sides by their mirror image, again and again where they are shorter than that. */
function mirror(samples, before, after) {
  const period = 2 * samples.length;
  return Float32Array.from({ length: before + samples.length + after }, (_, place) => {
    const index = (((place - before) % period) + period) % period;
    return samples[Math.min(index, period - 1 - index)];
  });
}

const real = new Float64Array(N_FFT);
const imaginary = new Float64Array(N_FFT);
const power = new Float64Array(N_BINS);

function logMel(samples, out) {
  powerSpectrum(samples);
  for (let mel = 0; mel < N_MELS; mel += 1) {
    const { first, weights } = MEL_FILTERS[mel];
    let energy = 0;
    for (let bin = 0; bin < weights.length; bin += 1) energy += power[first + bin] * weights[bin];
    out[mel] = Math.log(Math.max(energy, FLOOR));
  }
}

/** Fills `power` with the power of one frame, the Nyquist bin left out. */
function powerSpectrum(samples) {
  let mean = 0;
  for (const sample of samples) mean += sample;
  mean /= FRAME_LENGTH;
  real.fill(0);
  imaginary.fill(0);
  let previous = samples[0] - mean;
  for (let n = 0; n < FRAME_LENGTH; n += 1) {
    const sample = samples[n] - mean;
    real[BIT_REVERSED[n]] = (sample - PREEMPHASIS * previous) * WINDOW[n];
    previous = sample;
  }
  transform();
  for (let bin = 0; bin < N_BINS; bin += 1) power[bin] = real[bin] ** 2 + imaginary[bin] ** 2;
}

/** Radix-2 Fourier transform in place, over input in bit-reversed order. */
function transform() {
  for (let size = 1; size < N_FFT; size *= 2) {
    const stride = N_FFT / (2 * size);
    for (let start = 0; start < N_FFT; start += 2 * size) {
      for (let k = 0; k < size; k += 1) {
        const [a, b] = [start + k, start + k + size];
        const [cosine, sine] = [COSINES[k * stride], SINES[k * stride]];
        const re = real[b] * cosine + imaginary[b] * sine;
        const im = imaginary[b] * cosine - real[b] * sine;
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
}

function melOf(hz) {
  return 1127 * Math.log1p(hz / 700);
}

/** Triangles of equal width on the mel scale, each as the bins it covers. */
function melFilters() {
  const [low, high] = [melOf(LOW_HZ), melOf(HIGH_HZ)];
  const edge = (index) => low + ((high - low) * index) / (N_MELS + 1);
  return Array.from({ length: N_MELS }, (_, mel) => {
    const weights = Array.from({ length: N_BINS }, (_, bin) => {
      const at = melOf((bin * SAMPLE_RATE_HZ) / N_FFT);
      const rising = (at - edge(mel)) / (edge(mel + 1) - edge(mel));
      const falling = (edge(mel + 2) - at) / (edge(mel + 2) - edge(mel + 1));
      return Math.max(0, Math.min(rising, falling));
    });
    const isCovered = (weight) => weight > 0;
    return { first: weights.findIndex(isCovered), weights: Float32Array.from(weights.filter(isCovered)) };
  });
}

const WINDOW = Float32Array.from(
  { length: FRAME_LENGTH },
  (_, n) => (0.5 - 0.5 * Math.cos((2 * Math.PI * n) / (FRAME_LENGTH - 1))) ** 0.85,
);
const BIT_REVERSED = Uint16Array.from({ length: N_FFT }, (_, n) =>
  parseInt(n.toString(2).padStart(Math.log2(N_FFT), "0").split("").reverse().join(""), 2),
);
const COSINES = Float64Array.from({ length: N_FFT / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / N_FFT));
const SINES = Float64Array.from({ length: N_FFT / 2 }, (_, k) => Math.sin((2 * Math.PI * k) / N_FFT));
const MEL_FILTERS = melFilters();
