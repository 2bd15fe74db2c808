/** `npm run simulate` as a user meets it: the real process, its output and its end. */
import { listSimulators, loadSimulator } from '@claimcheck/providers/simulators';
import { expect, test } from 'vitest';
import { startProcess } from './testing/processes.ts';

const MAIN = 'apps/standalone/simulate.ts';
const start = (...args: string[]) => startProcess(MAIN, {}, args);

async function startListening(...args: string[]) {
  const started = start(...args, '--port', '0');
  const [, url = ''] = await started.printed(/listens on (http:\/\/127\.0\.0\.1:\d+)\./);
  await started.printed(/_faults/);
  return Object.assign(started, { url });
}

test('a vendor is simulated at the address that is printed with the variables to set, and Ctrl-C ends it with code 0', async () => {
  await using started = await startListening('cog', '--run-ms', '0');
  const answer = await fetch(`${started.url}/predictions/a`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: '{"input":{}}',
  });
  expect(await answer.json()).toMatchObject({ id: 'a', status: 'succeeded' });
  for (const [name, value] of Object.entries((await loadSimulator('cog'))?.environment(started.url) ?? {})) {
    expect(started.output()).toContain(`export ${name}=${value}\n`);
  }
  expect(started.output()).toContain('export UPSTREAM_ALLOW_NETWORKS=127.0.0.1\n');
  expect(await started.end('SIGINT')).toBe(0);
});

test('faults happen as often as they were asked for, in the order of calls', async () => {
  await using started = await startListening('cog', '--fault', '429:2', '--fault', '500');
  const statuses: number[] = [];
  for (let call = 0; call < 4; call += 1) statuses.push((await fetch(`${started.url}/health-check`)).status);
  expect(statuses).toEqual([429, 429, 500, 200]);
});

test('SIGTERM ends it with code 0 while an answer is due', async () => {
  await using started = await startListening('cog', '--run-ms', '3600000');
  const submitted = new AbortController();
  const answer = fetch(`${started.url}/predictions/a`, { method: 'PUT', signal: submitted.signal }).catch(() => 'no answer');
  await expect.poll(async () => (await fetch(`${started.url}/health-check`)).json(), { interval: 20 }).toMatchObject({ status: 'BUSY' });
  expect(await started.end('SIGTERM')).toBe(0);
  expect(await answer).toBe('no answer');
});

test('--help names every vendor, and ends with code 0', async () => {
  await using started = start('--help');
  expect([await started.exited, started.output()]).toEqual([0, expect.stringMatching(/^Usage: npm run simulate/)]);
  expect(started.output()).toContain(`vendor            ${(await listSimulators()).join(', ')}\n`);
});

test('every vendor that it names can be simulated', async () => {
  const names = await listSimulators();
  expect(names).toEqual(expect.arrayContaining(['cog', 'http']));
  for (const name of names) {
    await using simulated = (await (await loadSimulator(name))?.start({ port: 0, runMs: 0 })) ?? expect.unreachable();
    expect(simulated.baseUrl.startsWith(simulated.url)).toBe(true);
  }
});

test.each<[string, readonly string[], string]>([
  ['no vendor', [], 'The vendor is missing.\n\nUsage: '],
  ['an unknown vendor', ['nobody'], 'There is no simulator of "nobody".\n\nUsage: '],
  ['a part of the folder', ['../index'], 'There is no simulator of "../index".\n\nUsage: '],
  ['a wrong port', ['cog', '--port', 'http'], '--port must be a whole number from 0 to 65535, not "http".\n\nUsage: '],
  ['an unknown fault', ['cog', '--fault', 'rain:2'], '--fault must be one of slow, 429, '],
  ['a fault that happens never', ['cog', '--fault', '429:0'], '--fault 429 must be a whole number from 1 to 1000000, not "0".\n\nUsage: '],
])('%s is refused with a sentence and code 1', async (_case, args, sentence) => {
  await using started = start(...args);
  expect(await started.exited).toBe(1);
  expect(started.output().startsWith(sentence)).toBe(true);
});

test('a port that is taken is refused with a sentence and code 1', async () => {
  await using first = await startListening('cog');
  const { port } = new URL(first.url);
  await using second = start('cog', '--port', port);
  expect(await second.exited).toBe(1);
  expect(second.output()).toMatch(/^Port \d+ is taken; --port chooses another, and 0 any free one\.\n$/);
});
