/** `npm start` as a user meets it: the real process, from the first start to kill -9. */
import { execFile } from 'node:child_process';
import { access, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pathWithCurl } from './testing/curl.ts';
import { clientOf, type Folder, startProcess, startStandalone, temporaryFolder } from './testing/processes.ts';
import { startReceiver } from './testing/receiver.ts';

const run = promisify(execFile);
const POLL = { timeout: 60_000, interval: 50 };

/** True while a process exists. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Pid of the embedded server, from the file it keeps; the data may be elsewhere when its user cannot reach the folder. */
async function postgresPid(dataDir: string): Promise<number> {
  const [pid] = (await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n');
  return Number(pid);
}

/** Size of a WebP file with a lossy picture, from its header (RFC 9649 section 2.5). */
function webpSize(bytes: Buffer): { width: number; height: number } {
  expect(bytes.toString('latin1', 0, 4) + bytes.toString('latin1', 8, 16)).toBe('RIFFWEBPVP8 ');
  return { width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff };
}

async function assetFiles(dataDir: string): Promise<string[]> {
  const entries = await readdir(join(dataDir, 'assets'), { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

/** One that nobody stops, for all that needs no other. */
let folder: Folder;
let service: Awaited<ReturnType<typeof startStandalone>>;
beforeAll(async () => {
  folder = await temporaryFolder();
  service = await startStandalone(folder.path);
}, 300_000);
afterAll(async () => {
  await service?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

test('the first job: the printed line works as pasted, the result is a picture, and the webhook has its seven fields', async () => {
  await using receiver = await startReceiver();
  const client = clientOf(service.url, service.key);

  const [line = ''] = /curl -s .*/.exec(service.output()) ?? [];
  const { stdout } = await run('sh', ['-c', line], {
    env: { ...process.env, PATH: await pathWithCurl(folder.path, process.env.PATH ?? '') },
  });
  const { request_id: id, status } = JSON.parse(stdout);
  expect(status).toBe('QUEUED');
  expect((await client.ended(id)).status).toBe('COMPLETED');
  const { body: result } = await client.get(`/v2/requests/${id}`);
  const file = await fetch(String(result.output));
  expect(file.headers.get('content-type')).toBe('image/webp');
  expect(webpSize(Buffer.from(await file.arrayBuffer()))).toEqual({ width: 1024, height: 1024 });

  const told = await client.submit({ prompt: 'tell me', webhook: `${receiver.url}/hook` });
  await expect.poll(() => receiver.received.length, POLL).toBe(1);
  expect(Object.keys(receiver.received[0]?.body ?? {})).toEqual([
    'id',
    'status',
    'output',
    'error',
    'session_id',
    'created_at',
    'updated_at',
  ]);
  expect(receiver.received[0]?.body).toMatchObject({ id: told, status: 9, error: '', session_id: null });
}, 300_000);

test('a second start on the same data is refused with a sentence, and a restart keeps jobs, keys and secrets', async () => {
  await using folder = await temporaryFolder();
  const first = await startStandalone(folder.path);
  const id = await clientOf(first.url, first.key).submit({ prompt: 'kept' });
  await clientOf(first.url, first.key).ended(id);
  const secret = (await clientOf(first.url, first.key).get('/v2/webhooks/secret')).body;
  expect(secret.secret).toMatch(/^whsec_/);

  await using second = startProcess('apps/standalone/main.ts', { DATA_DIR: folder.path, PORT: '0' });
  expect(await second.exited).toBe(1);
  expect(second.output().trim().split('\n')).toEqual([expect.stringContaining(folder.path)]);
  expect((await fetch(`${first.url}/readyz`)).status).toBe(200);

  const pid = await postgresPid(folder.path);
  expect(await first.end('SIGINT')).toBe(0);
  expect(isAlive(pid)).toBe(false);

  await using again = await startStandalone(folder.path);
  expect(again.key).toBe('');
  expect((await clientOf(again.url, first.key).get(`/v2/requests/${id}`)).body).toMatchObject({ status: 'COMPLETED', prompt: 'kept' });
  const { secret: kept } = (await clientOf(again.url, first.key).get('/v2/webhooks/secret')).body;
  expect(kept).toBe(secret.secret);
  for (const one of [first, again]) expect(one.output()).not.toContain(kept);
}, 300_000);

test('Ctrl-C ends it cleanly, with a job, a stream and a long poll under way', async () => {
  await using folder = await temporaryFolder();
  await using service = await startStandalone(folder.path);
  const client = clientOf(service.url, service.key);
  const id = await client.submit({ prompt: '[[hang]]' });
  await expect.poll(async () => (await client.get(`/v2/requests/${id}/status`)).body.status, POLL).toBe('PROCESSING');
  const stream = await fetch(`${service.url}/v2/requests/${id}/events`, { headers: { 'x-api-key': service.key } });
  const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader();
  let streamed = '';
  // All that a run which hangs tells.
  while (!/event: log\ndata: .*\n\n/.test(streamed)) streamed += (await reader?.read())?.value ?? '';
  const polled = client.get(`/v2/requests/${id}/status?wait=60`);
  const pid = await postgresPid(folder.path);

  // 1 when it had to give up waiting.
  expect(await service.end('SIGINT')).toBe(0);
  expect(isAlive(pid)).toBe(false);
  // Ended, and not cut off.
  expect(await reader?.read()).toMatchObject({ done: true });
  expect((await polled).status).toBe(200);
}, 300_000);

test('kill -9 in the middle of ten jobs: after the next start all complete, and every webhook arrives', async () => {
  await using folder = await temporaryFolder();
  await using receiver = await startReceiver();
  const first = await startStandalone(folder.path);
  const client = clientOf(first.url, first.key);
  const ids = await Promise.all(
    Array.from({ length: 10 }, (_, index) => client.submit({ prompt: `[[slow:1500]] ${index}`, webhook: `${receiver.url}/${index}` })),
  );
  await expect.poll(async () => (await client.get('/v2/requests?status=processing')).body.requests, POLL).toHaveLength(10);
  const pid = await postgresPid(folder.path);
  await first.end('SIGKILL');
  await expect.poll(() => isAlive(pid), POLL).toBe(false);

  await using again = await startStandalone(folder.path);
  const recovered = clientOf(again.url, first.key);
  const statuses = await Promise.all(ids.map(async (id) => (await recovered.ended(id)).status));
  expect(statuses).toEqual(ids.map(() => 'COMPLETED'));
  await expect.poll(() => new Set(receiver.received.map(({ body }) => body.id)), POLL).toEqual(new Set(ids));
}, 300_000);

test('a result is there for its time, and then the id is unknown and the file gone', async () => {
  await using folder = await temporaryFolder();
  await using service = await startStandalone(folder.path, { RESULT_TTL_SECONDS: '2' });
  const client = clientOf(service.url, service.key);
  const id = await client.submit({ prompt: 'short-lived' });
  await client.ended(id);
  const { status, body } = await client.get(`/v2/requests/${id}`);
  expect(status).toBe(200);
  expect(await assetFiles(folder.path)).toHaveLength(1);
  await expect.poll(async () => (await client.get(`/v2/requests/${id}`)).status, POLL).toBe(404);
  expect((await fetch(String(body.output))).status).toBe(404);
  await expect.poll(() => assetFiles(folder.path), POLL).toEqual([]);
}, 300_000);

test('a failed job is a 422 with its error, and a flaky one completes at its third attempt', async () => {
  const client = clientOf(service.url, service.key);
  const failing = await client.submit({ prompt: '[[fail:the GPU is on fire]]' });
  const flaky = await client.submit({ prompt: '[[flaky:2]] third time lucky' });
  await client.ended(failing);
  expect(await client.get(`/v2/requests/${failing}`)).toMatchObject({
    status: 422,
    body: { status: 'FAILED', error: 'the GPU is on fire' },
  });
  expect((await client.ended(flaky)).status).toBe('COMPLETED');
  const events = await (await fetch(`${service.url}/v2/requests/${flaky}/events`, { headers: { 'x-api-key': service.key } })).text();
  expect(events.match(/event: status\ndata: .*"PROCESSING"/g)).toHaveLength(3);
}, 300_000);

test('keys are made, listed without their secrets, and revoked, while the service runs and while it does not', async () => {
  await using folder = await temporaryFolder();
  const environment = { DATA_DIR: folder.path };
  const keys = async (...args: string[]) => {
    await using tool = startProcess('apps/standalone/keys.ts', environment, args);
    return { code: await tool.exited, output: tool.output() };
  };
  const offline = await keys('create', '--caller', 'acme', '--name', 'before the first start');
  const key = /ck_\S+/.exec(offline.output)?.[0] ?? '';

  await using service = await startStandalone(folder.path);
  expect((await clientOf(service.url, key).get('/v2/requests')).status).toBe(200);
  const listed = await keys('list');
  expect(listed.output).toContain('acme');
  expect(listed.output).not.toContain(key);
  const id = /^\S+/.exec(listed.output)?.[0] ?? '';
  expect((await keys('revoke', id)).output).toContain('is revoked');
  expect((await clientOf(service.url, key).get('/v2/requests')).status).toBe(401);

  expect(await keys('revoke', id)).toMatchObject({ code: 1, output: expect.stringContaining('no live key') });
  expect(await keys('burn')).toMatchObject({ code: 1, output: expect.stringContaining('Usage:') });
  expect(await keys('--help')).toMatchObject({ code: 0, output: expect.stringContaining('Usage:') });
}, 300_000);

test('a start that cannot work says why in one go, without a stack, and exits with 1', async () => {
  await using other = await temporaryFolder();
  await writeFile(join(other.path, 'broken.yaml'), 'name: mine\ntitle: [\n');
  const cases: [Readonly<Record<string, string>>, RegExp][] = [
    [{ PORT: new URL(service.url).port }, /Port \d+ on 127\.0\.0\.1 is in use/],
    [{ PORT: '99999', RESULT_TTL_SECONDS: 'soon' }, /PORT: .*\n.*RESULT_TTL_SECONDS: |RESULT_TTL_SECONDS: .*\n(.*\n)*.*PORT: /],
    [{ BOOTSTRAP_API_KEY: 'short' }, /BOOTSTRAP_API_KEY: must have 24 characters or more/],
    [{ MODELS_DIR: other.path }, /broken\.yaml:\d+:\d+: /],
    [{ REDIS_URL: 'redis://127.0.0.1:1' }, /Redis server at 127\.0\.0\.1:1 \(REDIS_URL\) cannot be reached/],
    [{ REDIS_URL: 'http://127.0.0.1' }, /REDIS_URL: must be a URL that starts with redis:/],
  ];
  await Promise.all(
    cases.map(async ([environment, message]) => {
      await using dir = await temporaryFolder();
      await using failing = startProcess('apps/standalone/main.ts', { DATA_DIR: dir.path, PORT: '0', LOG_LEVEL: 'error', ...environment });
      expect(await failing.exited).toBe(1);
      expect(failing.output()).toMatch(message);
      expect(failing.output()).not.toMatch(/^\s+at /m);
      await expect(access(join(dir.path, 'postgres', 'postmaster.pid'))).rejects.toThrow();
    }),
  );
}, 300_000);
