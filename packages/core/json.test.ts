import { describe, expect, test } from 'vitest';
import { AppError } from './errors.ts';
import { fromJsonText, JSON_DEPTH_MAX, jsonPointer, membersOf, objectFrom, parseExactJson, toJsonText } from './json.ts';

function refusalOf(text: string): AppError {
  try {
    parseExactJson(text);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('the text was accepted');
}
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

describe('a document', () => {
  test('keeps its exact text', () => {
    const text = ' {"b" : 12345678901234567890, "a":1.0, "10":1e2, "2":-0 } ';
    expect(parseExactJson(text).text).toBe(text);
  });

  test.each([
    ['{"a":}', 'line 1, column 6'],
    ['{"a":1,}', 'line 1, column 8'],
    ['{\n  "a": 1\n  "b": 2\n}', 'line 3, column 3'],
    ['[1 2]', 'line 1, column 4'],
    ['{"a":01}', 'line 1, column 7'],
    ['{"a":1}}', 'line 1, column 8'],
    ['"open', 'line 1, column 1'],
    ['{/* c */"a":1}', 'line 1, column 2'],
    ['nul', 'line 1, column 1'],
  ])('%j is refused with its place', (text, place) => {
    expect(refusalOf(text)).toMatchObject({ code: 'invalid_json', status: 400, message: expect.stringContaining(place) });
  });

  test.each(['', '  \n'])('that is empty is said to be empty: %j', (text) => {
    expect(refusalOf(text).message).toBe('The body is not valid JSON: it is empty.');
  });

  test('may be nested as deep as allowed and no deeper, however deep it goes and whether or not it ends', () => {
    expect(parseExactJson(nested(JSON_DEPTH_MAX)).text).toHaveLength(2 * JSON_DEPTH_MAX);
    for (const text of [nested(JSON_DEPTH_MAX + 1), nested(100_000), '['.repeat(100_000), '{"a":'.repeat(100_000)]) {
      expect(refusalOf(text).message).toBe(`The body is nested deeper than ${JSON_DEPTH_MAX} levels.`);
    }
  });

  test.each([
    ['{"a":"x\\u0000"}', '/a'],
    ['{"b":["ok","\\ud800"]}', '/b/1'],
    ['{"c":{"d":"\\udc00\\ud800"}}', '/c/d'],
    ['{"e":{"k\\u0000":1}}', '/e'],
  ])('with text that cannot be stored is refused with its pointer: %s', (text, pointer) => {
    expect(refusalOf(text).problems).toEqual([{ pointer, message: expect.any(String) }]);
  });

  test('may hold any real character, in pairs of surrogates too', () => {
    expect(parseExactJson('{"a":"\\ud83c\\udf4a 🍊"}').value).toEqual({ a: '🍊 🍊' });
  });
});

describe('the members of an object', () => {
  test('come in the order of the client, each as its exact text', () => {
    const { text } = parseExactJson('{"b":1.0, "10": {"x": [1, 2]} ,"2":"é","__proto__":12345678901234567890}');
    expect([...membersOf(text)]).toEqual([
      ['b', '1.0'],
      ['10', '{"x": [1, 2]}'],
      ['2', '"é"'],
      ['__proto__', '12345678901234567890'],
    ]);
    expect(objectFrom(membersOf(text))).toBe('{"b":1.0,"10":{"x": [1, 2]},"2":"é","__proto__":12345678901234567890}');
  });

  test('count once when repeated, with the last value, as JSON.parse has it', () => {
    const { text, value } = parseExactJson('{"a":1,"b":2,"a":3}');
    expect(objectFrom(membersOf(text))).toBe('{"a":3,"b":2}');
    expect(value).toEqual({ a: 3, b: 2 });
  });

  test('of an empty object are none', () => {
    expect(membersOf(parseExactJson('{ }').text).size).toBe(0);
    expect(objectFrom([])).toBe('{}');
  });
});

test('a value of our own goes to text and back', () => {
  expect(fromJsonText(toJsonText({ a: [1, 'x', null] }))).toEqual({ a: [1, 'x', null] });
});

test('a pointer escapes what separates its parts', () => {
  expect(jsonPointer(['a/b', 'c~d', 0])).toBe('/a~1b/c~0d/0');
  expect(jsonPointer([])).toBe('');
});
