import { isJsonObject, type JsonValue } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import type { NewEvent, Told } from './storage/events.ts';
import { type Heard, LINE_CHARACTERS_MAX, LINES_MAX, openUntold, TEXT_CHARACTERS_MAX, type Untold } from './untold.ts';

const toldOf = (lines: readonly string[], text: string): Told => ({
  lines,
  lineCount: lines.length,
  text,
  textCharacters: text.length,
  sequence: 0,
});
const NOTHING = toldOf([], '');

/** All statements until nothing is left. */
function drain(untold: Untold): readonly (readonly NewEvent[])[] {
  const statements: (readonly NewEvent[])[] = [];
  while (!untold.isEmpty) {
    const events = untold.next();
    if (events.length > 0) statements.push(events);
  }
  return statements;
}

function after(heard: Heard, before = NOTHING) {
  const untold = openUntold(before);
  untold.take(heard);
  return drain(untold);
}

const linesIn = (events: readonly NewEvent[]) => events.flatMap(({ data }) => (Array.isArray(data.lines) ? data.lines.map(String) : []));
const textIn = (events: readonly NewEvent[]) => events.map(({ data }) => (typeof data.text === 'string' ? data.text : '')).join('');
const sizeOf = (data: JsonValue) => Buffer.byteLength(JSON.stringify(data));

test('a run that tells nothing leaves nothing to write', () => {
  const untold = openUntold(NOTHING);
  expect(untold.isEmpty).toBe(true);
  for (const heard of [{}, { logs: [] }, { partialText: '' }]) untold.take(heard);
  expect(drain(untold)).toEqual([]);
});

test('lines come before text, and nothing comes twice', () => {
  const untold = openUntold(NOTHING);
  untold.take({ logs: ['a', 'b'], partialText: 'Once' });
  untold.take({ logs: ['a', 'b', 'c'], partialText: 'Once upon' });
  expect(drain(untold)).toEqual([
    [
      { type: 'log', data: { lines: ['a', 'b', 'c'] } },
      { type: 'partial', data: { text: 'Once upon' } },
    ],
  ]);
  untold.take({ logs: ['a', 'b', 'c'], partialText: 'Once upon' });
  expect(drain(untold)).toEqual([]);
});

test('lines that were cut off between two looks are told all the same', () => {
  const untold = openUntold(NOTHING);
  untold.take({ logs: ['a', 'b'] });
  untold.take({ logs: ['b', 'c'] });
  untold.take({ logs: ['c', 'd'] });
  expect(drain(untold).map(linesIn)).toEqual([['a', 'b', 'c', 'd']]);
});

describe('what is told is bounded', () => {
  test('in lines of an event, in its size, in events of a statement, and in all', () => {
    const printed = Array.from(
      { length: 3 * LINES_MAX },
      (_, index) => `${index} ${'x'.repeat(index % 7 === 0 ? 3 * LINE_CHARACTERS_MAX : 9)}`,
    );
    const statements = after({ logs: printed });
    const events = statements.flat();
    expect(Math.max(...statements.map((one) => one.length))).toBeLessThanOrEqual(20);
    expect(Math.max(...events.map(({ data }) => (Array.isArray(data.lines) ? data.lines.length : 0)))).toBeLessThanOrEqual(100);
    expect(Math.max(...events.map(({ data }) => sizeOf(data)))).toBeLessThan(16_384);
    const told = linesIn(events);
    expect(told).toHaveLength(LINES_MAX);
    expect(told.map((line) => Number.parseInt(line, 10))).toEqual(Array.from({ length: LINES_MAX }, (_, index) => index));
    expect(told[7]).toBe(`${printed[7]?.slice(0, LINE_CHARACTERS_MAX)}…`);
    expect(told[8]).toBe(printed[8]);
  });

  test('also when a run prints on and on', () => {
    const untold = openUntold(NOTHING);
    let told = 0;
    for (let look = 1; look <= 20; look += 1) {
      untold.take({ logs: Array.from({ length: look * 100 }, (_, index) => `${index}`) });
      told += linesIn(drain(untold).flat()).length;
    }
    expect(told).toBe(LINES_MAX);
  });

  test('in pieces of a long text, which make it up again', () => {
    const text = '🙂 grün '.repeat(30_000);
    const statements = after({ partialText: text });
    expect(statements.length).toBeGreaterThan(1);
    for (const { data } of statements.flat()) {
      expect(sizeOf(data)).toBeLessThan(24_576);
      expect(String(data.text).isWellFormed()).toBe(true);
    }
    expect(textIn(statements.flat())).toBe(text);
    expect(statements.flat().some(({ data }) => data.isReset)).toBe(false);
  });

  test('in the text of a run, also of one that changes its mind all the time', () => {
    const untold = openUntold(NOTHING);
    let told = 0;
    for (let look = 0; look < 100; look += 1) {
      untold.take({ partialText: `${look} ${'x'.repeat(50_000)}` });
      told += textIn(drain(untold).flat()).length;
    }
    expect(told).toBeGreaterThanOrEqual(TEXT_CHARACTERS_MAX);
    expect(told).toBeLessThan(TEXT_CHARACTERS_MAX + 160_000);
    expect(untold.isEmpty).toBe(true);
  });
});

describe('a run that was told of before', () => {
  const before = toldOf(['a', 'b'], 'Once');

  test('goes on where that ended', () => {
    expect(after({ logs: ['a', 'b', 'c'], partialText: 'Once upon' }, before)).toEqual([
      [
        { type: 'log', data: { lines: ['c'] } },
        { type: 'partial', data: { text: ' upon' } },
      ],
    ]);
  });

  test('has what is left of its bounds', () => {
    const much = { ...before, lineCount: LINES_MAX - 1, textCharacters: TEXT_CHARACTERS_MAX };
    const events = after({ logs: ['b', 'c', 'd'], partialText: 'Once upon' }, much).flat();
    expect([linesIn(events), textIn(events)]).toEqual([['c'], '']);
  });
});

test('a long text in place of another one is a reset in its first piece only', () => {
  const events = after({ partialText: 'y'.repeat(20_000) }, toldOf([], 'x')).flat();
  expect(events.map(({ data }) => data.isReset)).toEqual([true, undefined, undefined]);
});

test('half of a character waits for its other half', () => {
  const untold = openUntold(NOTHING);
  untold.take({ partialText: 'a \ud83d' });
  const first = drain(untold).flat();
  untold.take({ partialText: 'a \ud83d\ude42!' });
  expect([first, drain(untold).flat()].map(textIn)).toEqual(['a ', '🙂!']);
});

test('what Postgres cannot read out of JSON is replaced, and known again all the same', () => {
  const heard = { logs: ['a\u0000b', `\ud800c`, 'x'.repeat(5_000)], partialText: 'a\u0000b \udc00 c' };
  const events = after(heard).flat();
  expect(linesIn(events).slice(0, 2)).toEqual(['a\ufffdb', '\ufffdc']);
  expect(textIn(events)).toBe('a\ufffdb \ufffd c');
  expect(after(heard, toldOf(linesIn(events), textIn(events)))).toEqual([]);
  expect(events.every(({ data }) => isJsonObject(data))).toBe(true);
});
