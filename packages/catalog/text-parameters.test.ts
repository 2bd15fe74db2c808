import { type JsonObject, type JsonValue, parseExactJson } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { readTextParameters } from './text-parameters.ts';

const SCHEMA: JsonObject = {
  type: 'object',
  properties: {
    prompt: { type: 'string' },
    steps: { type: 'integer' },
    scale: { type: 'number' },
    safe: { type: 'boolean' },
    size: { type: 'object' },
    tags: { type: 'array' },
    seed: { type: ['integer', 'null'] },
    either: { anyOf: [{ type: 'integer' }, { type: 'string' }] },
    count: { enum: [1, 2, 4] },
  },
};
const read = (parameters: JsonObject): JsonValue => readTextParameters(SCHEMA, parseExactJson(JSON.stringify(parameters))).value;

describe('text', () => {
  test.each([
    ['steps', '16', 16],
    ['steps', ' -1 ', -1],
    ['scale', '1.5', 1.5],
    ['scale', '1e-3', 0.001],
    ['safe', 'true', true],
    ['safe', 'False', false],
    ['safe', '0', false],
    ['size', '{"width":8}', { width: 8 }],
    ['tags', '["a"]', ['a']],
    ['seed', '7', 7],
    ['count', '4', 4],
  ])('of %s %j becomes what the schema wants', (name, text, value) => {
    expect(read({ [name]: text })).toEqual({ [name]: value });
  });

  test.each([
    ['prompt', '16'],
    ['unknown', '16'],
    ['either', '16'],
    ['steps', 'many'],
    ['steps', ''],
    ['steps', '0x10'],
    ['safe', 'yes'],
    ['size', '{'],
    ['size', '7'],
  ])('of %s %j stays text', (name, text) => {
    expect(read({ [name]: text })).toEqual({ [name]: text });
  });
});

test('what is no text stays what it is, to the digit', () => {
  const parameters = parseExactJson('{"steps":1.0,"scale":"2","safe":null}');
  expect(readTextParameters(SCHEMA, parameters).text).toBe('{"steps":1.0,"scale":2,"safe":null}');
});
