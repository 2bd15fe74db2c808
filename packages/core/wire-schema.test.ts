import { expect, test } from 'vitest';
import { z } from 'zod';
import { AppError } from './errors.ts';
import { parseExactJson } from './json.ts';
import { flagText, instant, readHeaders, readMembers, readQuery, readQueryAndHeaders, wholeNumberText, wordText } from './wire-schema.ts';

const query = z.object({
  limit: wholeNumberText({ min: 1, max: 100, rule: 'a whole number from 1 to 100' }).default(20),
  wait: wholeNumberText({ min: 0, max: 60, isCut: true, rule: 'a whole number' }).optional(),
  state: wordText(['ON', 'OFF']).optional(),
  logs: flagText().default(false),
  since: instant().optional(),
});
const headers = z.object({ 'X-Level': wordText(['low', 'high']).optional(), 'x-must': z.string({ error: 'must be a text' }) });

const read = (text: string) => readQuery({ query: new URLSearchParams(text) }, query);
const headerOf = (given: Readonly<Record<string, string>>) => ({ header: (name: string) => given[name] });

function refusal(attempt: () => unknown): AppError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('It was not refused.');
}

test('an address line that says nothing has what is usual', () => {
  expect(read('')).toEqual({ limit: 20, logs: false });
});

test('values are read as what their text means', () => {
  expect(read('limit=007&wait=99&state=off&logs=1&since=2030-01-31T09:00:00%2B01:00&other=x')).toEqual({
    limit: 7,
    wait: 60,
    state: 'OFF',
    logs: true,
    since: new Date('2030-01-31T08:00:00Z'),
  });
});

test('of a value that is given twice the first counts', () => {
  expect(read('limit=1&limit=2').limit).toBe(1);
});

test.each([
  ['limit=0', 'limit', 'must be a whole number from 1 to 100, not "0"'],
  ['limit=101', 'limit', 'must be a whole number from 1 to 100, not "101"'],
  ['limit=1.5', 'limit', 'must be a whole number from 1 to 100, not "1.5"'],
  ['limit=', 'limit', 'must be a whole number from 1 to 100, not ""'],
  ['state=maybe', 'state', 'must be one of ON, OFF, not "maybe"'],
  ['logs=yes', 'logs', 'must be true or false, not "yes"'],
  ['since=2030-01-31', 'since', 'must be an instant such as 2030-01-31T09:00:00Z, with its offset from UTC, not "2030-01-31"'],
  ['since=2030-13-31T09:00:00Z', 'since', 'must be an instant'],
])('?%s is refused in one sentence', (text, name, sentence) => {
  const { code, message, problems } = refusal(() => read(text));
  expect(code).toBe('invalid_parameters');
  expect(message).toContain(`The query parameter \`${name}\` ${sentence}`);
  expect(problems).toEqual([{ pointer: `/${name}`, message }]);
});

test('everything that is wrong is told at once, in the order of the schema, each once', () => {
  expect(refusal(() => read('logs=x&state=y&limit=z')).problems.map(({ pointer }) => pointer)).toEqual(['/limit', '/state', '/logs']);
});

test('headers are found whatever the case of their names, and named as people write them', () => {
  expect(readHeaders(headerOf({ 'x-level': 'HIGH', 'x-must': '' }), headers)).toEqual({ 'X-Level': 'high', 'x-must': '' });
  const { problems } = refusal(() => readHeaders(headerOf({ 'x-level': 'none' }), headers));
  expect(problems).toEqual([
    { pointer: '/X-Level', message: 'The header `X-Level` must be one of low, high, not "none".' },
    { pointer: '/x-must', message: 'The header `x-must` is missing; it must be a text.' },
  ]);
});

test('what is wrong with both is told together', () => {
  const request = { query: new URLSearchParams('limit=0'), ...headerOf({ 'x-must': 'x', 'x-level': '' }) };
  expect(refusal(() => readQueryAndHeaders(request, { query, headers })).problems.map(({ pointer }) => pointer)).toEqual([
    '/limit',
    '/X-Level',
  ]);
  expect(readQueryAndHeaders(headerAndQuery(), { headers: z.object({}) })).toEqual({ query: {}, headers: {} });
});

function headerAndQuery() {
  return { query: new URLSearchParams('a=1'), ...headerOf({ b: '2' }) };
}

const members = z.strictObject({ url: z.string({ error: 'must be a text' }), count: z.int({ error: 'must be a number' }).nullish() });
const readBody = (text: string) => readMembers({ body: parseExactJson(text) }, members);

test('members of a body are read', () => {
  expect(readBody('{"url":"x","count":null}')).toEqual({ url: 'x', count: null });
});

test.each([
  ['[]', [['', 'must be a JSON object']]],
  ['{}', [['/url', 'is missing; it must be a text']]],
  [
    '{"a/b":1,"url":7,"count":"1"}',
    [
      ['/a~1b', 'is not known here; there is url, count'],
      ['/url', 'must be a text'],
      ['/count', 'must be a number'],
    ],
  ],
])('the body %s is refused with everything that is wrong', (text, problems) => {
  const error = refusal(() => readBody(text));
  expect(error.code).toBe('invalid_parameters');
  expect(error.problems.map(({ pointer, message }) => [pointer, message])).toEqual(problems);
  for (const [, message] of problems) expect(error.message).toContain(message);
});

test('no body is no object', () => {
  expect(refusal(() => readMembers({}, members)).problems).toEqual([{ pointer: '', message: 'must be a JSON object' }]);
});
