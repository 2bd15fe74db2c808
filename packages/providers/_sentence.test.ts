import { expect, test } from 'vitest';
import { sentenceOf } from './_sentence.ts';

test('a sentence stays as it is, in one line', () => {
  expect(sentenceOf(' The key prompt-strength\n must be text.\t', '')).toBe('The key prompt-strength must be text.');
});

test.each([
  ['a link with a token', 'See https://u:pw@cdn.example/a?token=abc now.', 'See https://cdn.example/… now.'],
  ['a bearer key', 'Header was Bearer sk-12345678abc.', 'Header was Bearer …'],
  ['a named key', 'api_key=abcdef123456, key: abcdef123456!', 'api_key=…, key: …!'],
  ['a data URI', 'Not an image: data:image/png;base64,iVBORw0KGgoAAAANSUhEUg', 'Not an image: data:…'],
])('%s is left out', (_what, text, shown) => {
  expect(sentenceOf(text, '')).toBe(shown);
});

test('what is too long is cut, at 300 characters and between them', () => {
  expect(sentenceOf('x'.repeat(301), '')).toBe(`${'x'.repeat(299)}…`);
  expect(sentenceOf('😀'.repeat(200), '').isWellFormed()).toBe(true);
});

test.each([undefined, null, 7, {}, ['a'], '', ' \n'])('%j is no sentence', (text) => {
  expect(sentenceOf(text, 'It failed.')).toBe('It failed.');
});
