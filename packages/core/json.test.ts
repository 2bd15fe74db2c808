import { describe, expect, test } from 'vitest';
import { AppError } from './errors.ts';
import { fromJsonText, isJsonObject, JSON_DEPTH_MAX, jsonPointer, membersOf, objectFrom, parseExactJson, toJsonText } from './json.ts';

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
    ['{"a":}', 'line 1, column 6 (character 6)'],
    ['{"a":1,}', 'line 1, column 8'],
    ['{\n  "a": 1\n  "b": 2\n}', 'line 3, column 3 (character 14)'],
    ['\r\n{"a":\r\n}', 'line 3, column 1 (character 10)'],
    ['\ufeff{}', 'line 1, column 1'],
    ['"a\tb"', 'line 1, column 1'],
    ['NaN', 'line 1, column 1'],
    ['[1] // c', 'line 1, column 5'],
    ['{"a":1}\u0000', 'line 1, column 8'],
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
    ['{"e":{"ok":[1],"\\ud800":1}}', '/e'],
    ['{"f/g":"\ud800"}', '/f~1g'],
    ['{"__proto__":"\\u0000"}', '/__proto__'],
  ])('with text that cannot be stored is refused with its pointer: %s', (text, pointer) => {
    const refusal = refusalOf(text);
    expect(refusal.problems).toEqual([{ pointer, message: expect.any(String) }]);
    expect(refusal.message).toContain(`The text at "${pointer}" contains`);
  });

  test.each(['"\\u0000"', '{"ok":1,"k\\u0000":2}'])('with such text at its top is refused as a whole: %s', (text) => {
    expect(refusalOf(text)).toMatchObject({ message: expect.stringContaining('The body contains'), problems: [{ pointer: '' }] });
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

  test('are told apart by what their keys mean, however those are written', () => {
    const { text } = parseExactJson(' \t{ "c\\u0061"\t:\n[1 , 2 ]\r\n, "x" : 0 ,"ca"\t:\t-0.0e-1 }');
    expect([...membersOf(text)]).toEqual([
      ['ca', '-0.0e-1'],
      ['x', '0'],
    ]);
  });

  test('keep keys that need escapes', () => {
    const { text, value } = parseExactJson('{"a\\"b\\\\":1,"\\n":2,"":3}');
    expect(parseExactJson(objectFrom(membersOf(text))).value).toEqual(value);
  });

  test('of an empty object are none', () => {
    expect(membersOf(parseExactJson('{ }').text).size).toBe(0);
    expect(objectFrom([])).toBe('{}');
  });
});

test('a value of our own goes to text and back', () => {
  expect(fromJsonText(toJsonText({ a: [1, 'x', null] }))).toEqual({ a: [1, 'x', null] });
});

test('only an object counts as one', () => {
  expect([{}, [], null, 'x', 1, undefined].filter(isJsonObject)).toEqual([{}]);
});

test('a pointer escapes what separates its parts', () => {
  expect(jsonPointer(['a/b', 'c~d', 0])).toBe('/a~1b/c~0d/0');
  expect(jsonPointer(['~1'])).toBe('/~01');
  expect(jsonPointer([''])).toBe('/');
  expect(jsonPointer([])).toBe('');
});
