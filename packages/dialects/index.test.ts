import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError, type DialectRoute, ERROR_STATUS, type ErrorCode, isTerminal, STATES } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadDialects, webhookSigner } from './index.ts';
import { aJob, JOB_ID } from './testing/fixtures.ts';

/** Where a vendor answers an error with another status than ours, with the reason. Every other case must pass as it is. */
const VENDOR_STATUS: Record<string, Partial<Record<ErrorCode, { readonly status: number; readonly reason: string }>>> = {
  fal: { invalid_parameters: { status: 422, reason: 'its clients throw a ValidationError with fields for this status alone' } },
  replicate: { invalid_parameters: { status: 422, reason: 'what is wrong with an input is told by its fields, and by this status' } },
};

const ERROR_CODES = Object.keys(ERROR_STATUS) as ErrorCode[];

describe.each((await loadDialects()).map((dialect) => [dialect.name, dialect] as const))('the dialect %s', (name, dialect) => {
  test('has no two lines for the same method and path', () => {
    const lines = dialect.routes.map(({ method, path }) => `${method} ${path}`);
    expect(lines).toEqual([...new Set(lines)]);
  });

  test('says of each line what it answers, for the description of the API', () => {
    const silent = dialect.routes.filter(({ answers = {} }) => Object.keys(answers).length === 0);
    expect(silent.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
  });

  test('hides no line behind an earlier one', () => {
    for (const route of dialect.routes) expect(firstLineFor(dialect.routes, route)).toBe(route);
  });

  test.each(ERROR_CODES)('answers %s as JSON with its status', (code) => {
    const answer = dialect.encodeError(new AppError(code, 'Something is wrong.', { requestId: JOB_ID }));
    expect(answer.status).toBe(VENDOR_STATUS[name]?.[code]?.status ?? ERROR_STATUS[code]);
    expect(answer.body.kind).toBe('json');
    expect(JSON.stringify(answer.body)).toContain('Something is wrong.');
  });

  test('shows a client nothing of the cause of an error', () => {
    const answer = dialect.encodeError(new AppError('internal', 'Something is wrong.', { cause: new Error('select secret') }));
    expect(JSON.stringify(answer)).not.toContain('select secret');
  });

  test.each(STATES.filter(isTerminal))('tells a webhook about a %s job in JSON', (state) => {
    const message = dialect.encodeWebhook(aJob(state, { dialect: name }), { statusNumbering: 'documented' });
    expect(message.contentType).toMatch(/^application\/json\b/);
    expect(message.body).toContain(JOB_ID);
    expect(() => JSON.parse(message.body)).not.toThrow();
  });
});

describe('signatures of webhooks', () => {
  const message = { id: 'event', jobId: JOB_ID, timestamp: 1_700_000_000, body: '{}' };
  const keys = { callerId: 'caller', secrets: ['whsec_AA=='], signEd25519: (bytes: Uint8Array) => bytes };
  const plain = { routes: [], encodeError: () => expect.unreachable(), encodeWebhook: () => expect.unreachable() };

  test('are those of the dialect that the job came through', () => {
    const sign = webhookSigner([
      { ...plain, name: 'a', signWebhook: ({ id }, { callerId }) => ({ 'x-a': `${id} for ${callerId}` }) },
      { ...plain, name: 'b' },
    ]);
    expect(sign('a', message, keys)).toEqual({ 'x-a': 'event for caller' });
    // It has no way of its own; it is gone.
    expect([sign('b', message, keys), sign('c', message, keys)]).toEqual([undefined, undefined]);
  });
});

describe('the registry', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dialects-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  function write(file: string, exported: string): Promise<void> {
    return writeFile(join(folder, file), `export default ${exported};\n`);
  }
  const dialectNamed = (name: string) => `{ name: '${name}', routes: [], encodeError() {}, encodeWebhook() {} }`;

  test('holds the dialects of this folder under the names of their files', async () => {
    expect((await loadDialects()).map(({ name }) => name)).toContain('native');
  });

  test('takes every file for a dialect, in the order of names', async () => {
    await write('b.ts', dialectNamed('b'));
    await write('a.ts', dialectNamed('a'));
    expect((await loadDialects(folder)).map(({ name }) => name)).toEqual(['a', 'b']);
  });

  test.each(['index.ts', 'a.test.ts', '_a-part.ts', 'a.md'])('leaves %s alone', async (file) => {
    await write(file, '{}');
    expect(await loadDialects(folder)).toEqual([]);
  });

  test('refuses a dialect whose name is not its file name', async () => {
    await write('a.ts', dialectNamed('b'));
    await expect(loadDialects(folder)).rejects.toThrow('a.ts must default-export a Dialect named "a", not "b".');
  });

  test.each(['undefined', '{}', '{ name: "a", routes: [] }'])('refuses a file that exports %s', async (exported) => {
    await write('a.ts', exported);
    await expect(loadDialects(folder)).rejects.toThrow('a.ts must default-export a Dialect:');
  });
});

/** The first line that takes a path made for `wanted`, with one segment for each of its parameters. */
function firstLineFor(routes: readonly DialectRoute[], wanted: DialectRoute): DialectRoute | undefined {
  // An expression may want a beginning, as `req_[^/]+` does, or one of some words, as `(?:a|b)` does.
  const path = wanted.path.replaceAll(
    PARAMETER,
    (_whole, expression = '') => /^\(\?:([\w-]+)/.exec(expression)?.[1] ?? `${/^\w*/.exec(expression)?.[0]}x`,
  );
  return routes.find((route) => {
    const pattern = route.path.replaceAll(PARAMETER, (_whole, expression?: string) => expression ?? '[^/]+');
    return route.method === wanted.method && new RegExp(`^${pattern}$`).test(path);
  });
}

/** Hono's `:name` or `:name{expression}`. */
const PARAMETER = /:\w+(?:\{([^}]+)\})?/g;
