// Recordings as samples: any format that the browser plays.

export const SAMPLE_RATE_HZ = 16000;

/**
 * Decode a recording.
 * @param {Blob} file
 * @returns {Promise<Float32Array>} mono, 16 kHz, in [-1, 1]: the mean of its channels.
 * @throws {Error} the browser cannot decode it.
 */
export async function readAudio(file) {
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ);
  const audio = await context.decodeAudioData(await file.arrayBuffer()).catch(() => {
    throw new Error(`${file.name || "the file"}: this browser cannot decode it; try WAV, FLAC or MP3`);
  });
  const mono = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel += 1) {
    const samples = audio.getChannelData(channel);
    for (let n = 0; n < mono.length; n += 1) mono[n] += samples[n] / audio.numberOfChannels;
  }
  return mono;
}
