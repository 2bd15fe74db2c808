/** The sandbox's sound: a tone whose pitch comes from the seed, as WAV. Same seed in, same bytes out. */

const SAMPLES_PER_SECOND = 16_000;
const BYTES_PER_SAMPLE = 2;
const PITCH_MIN = 220;
const LOUDNESS = 8_000;

export function playTone(seed: number, seconds: number): Uint8Array {
  const pitch = PITCH_MIN + (Math.abs(seed) % PITCH_MIN);
  const samples = Math.round(seconds * SAMPLES_PER_SECOND);
  const bytes = Buffer.alloc(44 + samples * BYTES_PER_SAMPLE);
  bytes.write('RIFF', 0, 'latin1');
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.write('WAVEfmt ', 8, 'latin1');
  bytes.writeUInt32LE(16, 16); // length of what describes the format
  bytes.writeUInt16LE(1, 20); // not compressed
  bytes.writeUInt16LE(1, 22); // mono
  bytes.writeUInt32LE(SAMPLES_PER_SECOND, 24);
  bytes.writeUInt32LE(SAMPLES_PER_SECOND * BYTES_PER_SAMPLE, 28);
  bytes.writeUInt16LE(BYTES_PER_SAMPLE, 32);
  bytes.writeUInt16LE(8 * BYTES_PER_SAMPLE, 34);
  bytes.write('data', 36, 'latin1');
  bytes.writeUInt32LE(samples * BYTES_PER_SAMPLE, 40);
  for (let sample = 0; sample < samples; sample += 1) {
    const level = LOUDNESS * Math.sin((2 * Math.PI * pitch * sample) / SAMPLES_PER_SECOND);
    bytes.writeInt16LE(Math.round(level), 44 + sample * BYTES_PER_SAMPLE);
  }
  return bytes;
}
