import { type Output, RetryableError, TerminalError } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { endedLinesOf, endTold, entriesOf, linesOf, progressIn, seedIn } from './_log-progress.ts';

describe('linesOf', () => {
  test.each<[string, string, readonly string[]]>([
    ['an empty text', '', []],
    ['a line that has not ended', 'Loading', []],
    ['a line that has', 'Loading\n', ['Loading']],
    ['a line that has, and one that has not', 'Loading\nUsing s', ['Loading']],
    ['empty lines between others', 'a\n\nb\n', ['a', '', 'b']],
    ['a bar that was drawn over itself', '  0%|    | 0/2\r 50%|##  | 1/2\r100%|####| 2/2\nDone\n', ['100%|####| 2/2', 'Done']],
    ['line ends of Windows', 'a\r\nb\r\n', ['a', 'b']],
  ])('%s', (_what, logs, lines) => {
    expect(linesOf(logs)).toEqual(lines);
  });
});

test('entries are lines of their own, whether they end like one or not, and may hold several', () => {
  expect(entriesOf(['a', 'b\n', 'c\nd', 7, undefined, ''])).toEqual(['a', 'b', 'c', 'd', '']);
});

test.each<[unknown, readonly string[]]>([
  ['a\nb', ['a', 'b']],
  ['a\n', ['a']],
  ['', []],
  [null, []],
])('of the whole log %j the last line has ended too', (logs, lines) => {
  expect(endedLinesOf(logs)).toEqual(lines);
});

describe('the end of a run', () => {
  const output: Output = { media: [], text: 'done' };

  test('that succeeded has what it printed', async () => {
    expect(await endTold(['a'], () => Promise.resolve(output))).toEqual({ kind: 'finished', output, logs: ['a'] });
    expect(await endTold([], () => Promise.resolve(output))).toEqual({ kind: 'finished', output });
  });

  test.each([new TerminalError('no'), new RetryableError('later')])('that failed for good or not knows it too: %s', async (error) => {
    await expect(endTold(['a'], () => Promise.reject(error))).rejects.toBe(error);
    expect(error.logs).toEqual(['a']);
  });

  test('that broke for another reason stays as it is', async () => {
    const error = new Error('broken');
    await expect(endTold(['a'], () => Promise.reject(error))).rejects.toBe(error);
    expect(error).not.toHaveProperty('logs');
  });
});

test.each<[string, object]>([
  ['', {}],
  ['nothing of the kind: 50%', {}],
  [' 42%|####      | 21/50', { progress: 0.42 }],
  ['  4%|#| 1/25\n100%|#| 25/25\n 48%|##| 12/25', { progress: 0.48 }],
  ['100%|####| 25/25', { progress: 0.99 }],
])('the last bar of %j tells progress', (logs, progress) => {
  expect(progressIn(logs)).toEqual(progress);
});

test.each<[string, number | undefined]>([
  ['Using seed: 1234', 1234],
  ['seed=7 steps=4', 7],
  ['Seed : 0', 0],
  ['no number of the kind', undefined],
  ['seed: 99999999999999999999', undefined],
])('the seed of %j is %s', (logs, seed) => {
  expect(seedIn(logs)).toBe(seed);
});
