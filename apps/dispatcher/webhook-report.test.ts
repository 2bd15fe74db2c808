import { expect, test } from 'vitest';
import type { WebhookReport } from './webhook-receiver.ts';
import { formatReport } from './webhook-report.ts';

const REPORT: WebhookReport = {
  receivedAtMs: Date.UTC(2026, 10, 21, 3, 10, 18, 349),
  path: '/hook',
  id: 'msg_1',
  event: 'request.completed',
  sequence: '3',
  status: 'COMPLETED',
  check: { kind: 'verified' },
  timesSeen: 1,
  body: Buffer.from('{"id":"job_1","status":9,"output":{"images":[],"seed":12345678901234567890},"error":""}'),
  answer: { status: 204, delayMs: 0 },
};

function linesOf(report: Partial<WebhookReport>): string {
  return formatReport({ ...REPORT, ...report }, { isColoured: false });
}

test('a webhook is a block with when it came, what it is called, whether it is genuine, and its body', () => {
  expect(linesOf({})).toBe(`2026-11-21T03:10:18.349Z  POST /hook
  webhook-id  msg_1
  event       request.completed
  sequence    3
  signature   ✓ verified
  status      9 COMPLETED
  answered    204
{
  "id": "job_1",
  "status": 9,
  "output": {
    "images": [],
    "seed": 12345678901234567890
  },
  "error": ""
}
`);
});

test.each<[string, string, Partial<WebhookReport>]>([
  ['a number and a word', '9 COMPLETED', {}],
  ['a word alone', 'COMPLETED', { body: Buffer.from('{"type":"request.completed"}') }],
])('a status may be %s', (_case, shown, report) => {
  expect(linesOf(report)).toContain(`  status      ${shown}\n`);
});

test('what a sender does not tell is shown as none', () => {
  const { id: _id, event: _event, sequence: _sequence, status: _status, ...bare } = REPORT;
  const text = formatReport({ ...bare, body: Buffer.from('{}') }, { isColoured: false });
  expect(text.match(/none$/gm)).toHaveLength(4);
});

test('why a webhook is not genuine stands beside the verdict', () => {
  const text = linesOf({ check: { kind: 'refused', problem: 'headers missing: webhook-id' } });
  expect(text).toContain('  signature   ✗ not verified: headers missing: webhook-id\n');
});

test('without a secret, the block says that nothing was checked', () => {
  expect(linesOf({ check: { kind: 'unchecked' } })).toContain('  signature   not checked: no secret given\n');
});

test('a repeated id is marked, a new one is not', () => {
  expect(linesOf({ timesSeen: 2 })).toContain('  webhook-id  msg_1  duplicate: seen 2 times\n');
  expect(linesOf({})).not.toContain('duplicate');
});

test('an answer in trouble is told with its Retry-After and its delay', () => {
  expect(linesOf({ answer: { status: 503, retryAfterSeconds: 5, delayMs: 2000 } })).toContain(
    '  answered    503, Retry-After: 5, after 2000 ms\n',
  );
});

test('punctuation and spaces within texts stay as they are', () => {
  const body = Buffer.from('{ "a" : "x, {y}: [ \\"q\\" ]" , "b" : [ 1.0 , { } ] }');
  expect(linesOf({ body })).toContain('{\n  "a": "x, {y}: [ \\"q\\" ]",\n  "b": [\n    1.0,\n    {}\n  ]\n}\n');
});

test.each([
  ['that is not JSON', 'hello\nthere', 'hello\nthere'],
  ['without anything in it', '', '(no body)'],
  ['nested deeper than the service ever does', '['.repeat(65) + ']'.repeat(65), '['.repeat(65) + ']'.repeat(65)],
])('a body %s is shown as it is', (_case, body, shown) => {
  const text = linesOf({ body: Buffer.from(body) });
  expect(text.endsWith(`  answered    204\n${shown}\n`)).toBe(true);
});

test('nothing in a webhook can steer the terminal', () => {
  const hostile = '\u001b[2J\u009b31m\r\u202e';
  const text = linesOf({
    id: hostile,
    event: hostile,
    sequence: hostile,
    status: hostile,
    path: `/${hostile}`,
    body: Buffer.from(hostile),
  });
  expect(text).not.toMatch(/[^\P{Cc}\n]|\u202e/u);
  expect(text.match(/\\u001b\[2J\\u009b31m\\u000d\\u202e/g)).toHaveLength(6);
});

test('colours appear only when asked for, and change nothing else', () => {
  const coloured = formatReport(REPORT, { isColoured: true });
  expect(coloured).toContain('\u001b[32m✓ verified\u001b[39m');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what colours are made of
  expect(coloured.replaceAll(/\u001b\[\d+m/g, '')).toBe(linesOf({}));
  expect(linesOf({})).not.toContain('\u001b');
});
