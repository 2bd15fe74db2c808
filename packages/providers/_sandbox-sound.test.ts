import { expect, test } from 'vitest';
import { playTone } from './_sandbox-sound.ts';

const HEADER_BYTES = 44;

/** As the header of the file says. */
function read(wav: Uint8Array) {
  const bytes = Buffer.from(wav);
  const [channels, rate, bits] = [bytes.readUInt16LE(22), bytes.readUInt32LE(24), bytes.readUInt16LE(34)];
  const samples = Array.from({ length: bytes.readUInt32LE(40) / (bits / 8) }, (_, index) =>
    bytes.readInt16LE(HEADER_BYTES + index * (bits / 8)),
  );
  // A wave goes through zero upwards once.
  const waves = samples.filter((level, index) => level >= 0 && (samples[index - 1] ?? 0) < 0).length;
  const seconds = samples.length / channels / rate;
  return { seconds, pitch: waves / seconds, loudest: samples.reduce((most, level) => Math.max(most, Math.abs(level)), 0) };
}

test('is a WAV file whose header fits what follows', () => {
  const bytes = Buffer.from(playTone(1, 2));
  expect([bytes.toString('latin1', 0, 4), bytes.toString('latin1', 8, 16), bytes.toString('latin1', 36, 40)]).toEqual([
    'RIFF',
    'WAVEfmt ',
    'data',
  ]);
  const [pcm, byteRate, blockBytes] = [bytes.readUInt16LE(20), bytes.readUInt32LE(28), bytes.readUInt16LE(32)];
  expect([pcm, byteRate, blockBytes]).toEqual([1, 32_000, 2]);
  expect([bytes.readUInt32LE(4) + 8, bytes.readUInt32LE(40) + HEADER_BYTES]).toEqual([bytes.length, bytes.length]);
});

test.each([
  [0, 1, 220],
  [7, 2.5, 227],
  [219, 1, 439],
  [220, 1, 220],
  [-7, 1, 227],
  [2 ** 40, 1, 220 + (2 ** 40 % 220)],
])('the seed %i for %d seconds is a tone of %i waves a second', (seed, seconds, pitch) => {
  const tone = read(playTone(seed, seconds));
  expect(tone.seconds).toBe(seconds);
  expect(tone.pitch).toBeCloseTo(pitch, -1);
  expect(Math.abs(tone.pitch - pitch)).toBeLessThanOrEqual(1);
  expect(tone.loudest).toBeGreaterThan(7000);
});
