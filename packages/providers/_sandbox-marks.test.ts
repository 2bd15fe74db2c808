import { expect, test } from 'vitest';
import { DURATION_MS_MAX, readMarks } from './_sandbox-marks.ts';

const plain = { durationMs: undefined, failure: undefined, flakyAttempts: 0, hangs: false, refused: false };

test.each([
  ['a [[slow:1500]]fox', { ...plain, text: 'a fox', durationMs: 1500 }],
  ['[[slow:0]]', { ...plain, text: '', durationMs: 0 }],
  ['[[slow:20]][[slow:30]]', { ...plain, text: '', durationMs: 50 }],
  [`[[slow:${'9'.repeat(400)}]]`, { ...plain, text: '', durationMs: DURATION_MS_MAX }],
  ['[[fail:Out of memory: 3 GB]] fox', { ...plain, text: ' fox', failure: 'Out of memory: 3 GB' }],
  ['[[fail:see [1]]] fox', { ...plain, text: ' fox', failure: 'see [1]' }],
  ['[[fail:two\nlines]]', { ...plain, text: '', failure: 'two\nlines' }],
  ['[[flaky:2]]', { ...plain, text: '', flakyAttempts: 2 }],
  ['[[hang]]', { ...plain, text: '', hangs: true }],
  ['[[nsfw]]', { ...plain, text: '', refused: true }],
  ['[[slow:10]]a[[flaky:1]]b[[fail:no]]c', { ...plain, text: 'abc', durationMs: 10, flakyAttempts: 1, failure: 'no' }],
])('%j is read', (prompt, expected) => {
  expect(readMarks(prompt)).toEqual(expected);
});

test.each([
  '[[slow:abc]]',
  '[[slow:-1]]',
  '[[slow:1.5]]',
  '[[slow:]]',
  '[[fail:]]',
  '[[fail]]',
  '[hang]',
  '[[ hang ]]',
  '[[HANG]]',
  '[[nsfw',
  '[[other]]',
  'plain',
])('%j is plain text', (prompt) => {
  expect(readMarks(prompt)).toEqual({ ...plain, text: prompt });
});

test('a hostile prompt of many half marks is read in linear time', () => {
  const prompt = '[[fail:'.repeat(100_000);
  const startedAt = performance.now();
  expect(readMarks(prompt).text).toBe(prompt);
  // Under a second even on a busy machine; quadratic work would take minutes.
  expect(performance.now() - startedAt).toBeLessThan(60_000);
});
