import { type JsonObject, type Problem, parseExactJson } from '@claimcheck/core';
import { describe, expect, it } from 'vitest';
import { compileParameters } from './parameter-schema.ts';

function problemsOf(schema: JsonObject, text: string): readonly Problem[] {
  const compiled = compileParameters({ type: 'object', ...schema });
  if (compiled.kind === 'broken') throw new Error(JSON.stringify(compiled.problems));
  return compiled.schema.problemsWith(parseExactJson(text));
}

/** The messages about the parameter `a`, which has this schema. */
const about = (property: JsonObject, value: string) =>
  problemsOf({ properties: { a: property } }, `{"a":${value}}`).map(({ pointer, message }) => `${pointer} ${message}`);

describe('problems with parameters', () => {
  it.each<[JsonObject, string, string[]]>([
    [{ type: 'string' }, '1', ['/a is 1; it must be a string']],
    [{ type: 'integer' }, '1.5', ['/a is 1.5; it must be an integer']],
    [{ type: 'integer' }, '"7"', ['/a is "7"; it must be an integer']],
    [{ type: 'boolean' }, 'null', ['/a is null; it must be true or false']],
    [{ type: 'string' }, '[1,2]', ['/a is an array of 2 items; it must be a string']],
    [{ type: 'array' }, '{"b":1}', ['/a is an object; it must be an array']],
    [{ type: ['integer', 'null'] }, 'true', ['/a is true; it must be an integer or null']],
    [{ type: 'string', enum: ['x', 'y'] }, '"z"', ['/a is "z"; it must be one of "x", "y"']],
    [{ type: 'string', enum: ['x', 'y'] }, '3', ['/a is 3; it must be one of "x", "y"']],
    [{ const: 'x' }, '"z"', ['/a is "z"; it must be "x"']],
    [{ type: 'number', minimum: 0, maximum: 1 }, '1.01', ['/a is 1.01; it must be a number from 0 to 1']],
    [{ type: 'number', minimum: 0 }, '-1', ['/a is -1; it must be a number of at least 0']],
    [{ type: 'number', exclusiveMinimum: 0, maximum: 1 }, '0', ['/a is 0; it must be a number of at most 1 above 0']],
    [{ type: 'integer', multipleOf: 8 }, '7', ['/a is 7; it must be an integer that is a multiple of 8']],
    [{ type: 'string', minLength: 1, maxLength: 3 }, '"four"', ['/a is "four"; it must be a string of 1 to 3 characters']],
    [{ type: 'string', pattern: '^#' }, '"red"', ['/a is "red"; it must be a string that matches ^#']],
    [{ type: 'array', maxItems: 1 }, '[1,2]', ['/a is an array of 2 items; it must be an array of at most 1 items']],
    [{ anyOf: [{ type: 'string' }, { type: 'integer' }] }, 'true', ['/a is true; it must be a string or an integer']],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, '1', ['/a is 1; it must match exactly one schema in oneOf']],
    [{ anyOf: [{ type: 'string' }, { not: {} }] }, '1', ['/a is 1; it must be a string', '/a is 1; it must NOT be valid']],
    [{ not: { type: 'string' } }, '"x"', ['/a is "x"; it must NOT be valid']],
    [{ type: 'array', items: { type: 'string' } }, '["x",1,2]', ['/a/1 is 1; it must be a string', '/a/2 is 2; it must be a string']],
  ])('for %j and %s: %j', (property, value, expected) => {
    expect(about(property, value)).toEqual(expected);
  });

  it('says that a parameter is not allowed when its schema is false', () => {
    expect(problemsOf({ properties: { a: false } }, '{"a":1}')).toEqual([{ pointer: '/a', message: 'is not allowed' }]);
  });

  it('points into the document with escaped names', () => {
    expect(problemsOf({ properties: { 'a/b~c': { type: 'string' } } }, '{"a/b~c":1}')).toEqual([
      { pointer: '/a~1b~0c', message: 'is 1; it must be a string' },
    ]);
  });

  it('names a missing parameter, with what it would have to be', () => {
    expect(problemsOf({ properties: { a: { type: 'integer', minimum: 1, maximum: 4 } }, required: ['a'] }, '{}')).toEqual([
      { pointer: '/a', message: 'is missing; it must be an integer from 1 to 4' },
    ]);
  });

  it('names unknown parameters of a closed schema, with those it knows', () => {
    const schema = { properties: { a: { type: 'string' }, b: { type: 'string' } }, additionalProperties: false };
    expect(problemsOf(schema, '{"c":1,"d":2}')).toEqual([
      { pointer: '/c', message: 'is not known; allowed are a, b' },
      { pointer: '/d', message: 'is not known; allowed are a, b' },
    ]);
  });

  it('names a parameter whose name is not allowed, once', () => {
    expect(problemsOf({ propertyNames: { maxLength: 2, type: 'string' } }, '{"abc":1}')).toEqual([
      { pointer: '/abc', message: 'has a name that is not allowed' },
    ]);
  });

  it('shows a number as the client wrote it, and takes one too large for JSON.parse for no number', () => {
    expect(about({ type: 'integer', maximum: 5 }, '12345678901234567890')).toEqual([
      '/a is 12345678901234567890; it must be an integer of at most 5',
    ]);
    expect(about({ type: 'integer' }, '1e400')).toEqual(['/a is 1e400; it must be an integer']);
  });

  it('accepts whole numbers however they are written', () => {
    expect(['1', '1.0', '1e2', '12345678901234567890'].flatMap((value) => about({ type: 'integer' }, value))).toEqual([]);
  });

  it('shortens a long text and never cuts a character in two', () => {
    expect(about({ type: 'string', enum: ['x'] }, JSON.stringify('y'.repeat(500)))).toEqual([
      `/a is "${'y'.repeat(80)}…" (500 characters); it must be "x"`,
    ]);
    expect(about({ type: 'string', enum: ['x'] }, JSON.stringify(`y${'🍊'.repeat(50)}`))).toEqual([
      `/a is "y${'🍊'.repeat(39)}…" (101 characters); it must be "x"`,
    ]);
  });

  it('counts only members of the body itself, whatever objects inherit', () => {
    const schema = { properties: { constructor: { type: 'string' } }, required: ['constructor'] };
    expect(problemsOf(schema, '{}')).toEqual([{ pointer: '/constructor', message: 'is missing; it must be a string' }]);
    expect(problemsOf({ properties: { toString: { type: 'string' } } }, '{}')).toEqual([]);
    expect(problemsOf({ properties: { a: { type: 'string' } }, required: ['a'] }, '{"__proto__":{"a":"x"}}')).toMatchObject([
      { pointer: '/a' },
    ]);
  });

  it('explains all of an ordinary body but only the first problem of a huge one', () => {
    const schema = { properties: { a: { type: 'array', items: { type: 'string' } } } };
    const body = (items: number) => JSON.stringify({ a: Array.from({ length: items }, () => 1) });
    expect(problemsOf(schema, body(1_000))).toHaveLength(1_000);
    expect(problemsOf(schema, body(100_000))).toEqual([{ pointer: '/a/0', message: 'is 1; it must be a string' }]);
  });
});

describe('a compiled schema', () => {
  it('knows the names and the defaults of its top-level parameters', () => {
    const compiled = compileParameters({
      type: 'object',
      properties: { a: { type: 'integer', default: 0 }, b: { type: 'string' }, c: { default: [1.5, 'é'] }, d: true },
    });
    expect(compiled).toMatchObject({
      kind: 'ready',
      schema: {
        names: new Set(['a', 'b', 'c', 'd']),
        defaults: new Map([
          ['a', '0'],
          ['c', '[1.5,"é"]'],
        ]),
      },
    });
  });

  it('does not take the absence of required parameters for a fault of the defaults', () => {
    const compiled = compileParameters({
      type: 'object',
      properties: { a: { type: 'integer', default: 0 }, b: { type: 'string' } },
      required: ['b'],
    });
    expect(compiled.kind).toBe('ready');
  });

  it('places the faults of several parameters apart, and those of the whole at the root', () => {
    expect(
      compileParameters({
        type: 'object',
        properties: { a: { nonsense: 1 }, fine: { $ref: '#/$defs/text' }, b: { $ref: '#/properties/c' }, c: { rubbish: 1 } },
        $defs: { text: { type: 'string' } },
        twaddle: 1,
      }),
    ).toEqual({
      kind: 'broken',
      problems: [
        { path: [], reason: 'strict mode: unknown keyword: "twaddle"' },
        { path: ['properties', 'a'], reason: 'strict mode: unknown keyword: "nonsense"' },
        { path: ['properties', 'c'], reason: 'strict mode: unknown keyword: "rubbish"' },
      ],
    });
  });
});
