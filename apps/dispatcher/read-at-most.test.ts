import { expect, test } from 'vitest';
import { readAtMost } from './read-at-most.ts';

async function* streamOf(...chunks: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

test('what fits is returned whole', async () => {
  expect((await readAtMost(streamOf('ab', 'cd'), 4))?.toString()).toBe('abcd');
});

test('one byte more is too much, and the sender is read to its end all the same', async () => {
  let isRead = false;
  async function* tooMuch(): AsyncGenerator<Uint8Array> {
    yield* streamOf('ab', 'cde', 'f');
    isRead = true;
  }
  expect(await readAtMost(tooMuch(), 4)).toBeUndefined();
  expect(isRead).toBe(true);
});
