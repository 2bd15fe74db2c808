import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { parseTypeface } from './_typeface.ts';
import { LINE_HEIGHT, typeset } from './_typeset.ts';

const typeface = parseTypeface(await readFile(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf')));
const box = { width: 800, height: 600 };
const set = (text: string) => typeset(typeface, text, box, 20, 100);

test('short text is set as large as allowed, on one line', () => {
  expect(set('a fox')).toEqual({ size: 100, lines: ['a fox'] });
});

test('longer text wraps between words, gets smaller, and stays in the box', () => {
  const words = Array.from({ length: 80 }, (_, index) => `word${index}`);
  const { size, lines } = set(words.join(' '));
  expect(size).toBeGreaterThan(20);
  expect(size).toBeLessThan(100);
  expect(lines.join(' ')).toBe(words.join(' '));
  expect(lines.length * size * LINE_HEIGHT).toBeLessThanOrEqual(box.height);
  for (const line of lines) expect(typeface.measure(line) * size).toBeLessThanOrEqual(box.width);
});

test('a long word shrinks the text before it is broken', () => {
  expect(set('Donaudampfschifffahrtsgesellschaft').lines).toEqual(['Donaudampfschifffahrtsgesellschaft']);
});

test('a word wider than the box at the smallest size is broken, without losing a character', () => {
  const { size, lines } = set('x'.repeat(200));
  expect(size).toBe(20);
  expect(lines.length).toBeGreaterThan(1);
  expect(lines.join('')).toBe('x'.repeat(200));
});

test('text that does not fit at the smallest size ends with an ellipsis inside the box', () => {
  const { size, lines } = set('the quick brown fox '.repeat(500));
  expect(size).toBe(20);
  expect(lines.at(-1)).toMatch(/\S…$/);
  expect(lines.length * size * LINE_HEIGHT).toBeLessThanOrEqual(box.height);
  for (const line of lines) expect(typeface.measure(line) * size).toBeLessThanOrEqual(box.width);
});

test('megabytes of text cost no more than a page', () => {
  const measured: number[] = [];
  const counting = { ...typeface, measure: (text: string) => measured.push(text.length) && typeface.measure(text) };
  typeset(counting, 'i'.repeat(5_000_000), box, 20, 100);
  expect(Math.max(...measured)).toBeLessThan(5000);
});

test('line breaks of the author are kept, other white space is one space', () => {
  expect(set('one\r\ntwo\n\n  three \t\u00a0 four ').lines).toEqual(['one', 'two', '', 'three four']);
});

test('what cannot be seen is left out', () => {
  expect(set('a\u200db\ufe0f\u0000c').lines).toEqual(['ab c']);
  expect(set('e\u0301').lines).toEqual(['é']);
  expect(set('\ud800').lines).toEqual(['\ufffd']);
  expect(set(' \n\u200b ').lines).toEqual([]);
});
