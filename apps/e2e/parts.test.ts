/** The parts as separate processes over one database, with Redis and without: what compose starts. */
import { connect, createServer, type Server } from 'node:net';
import { createTestDatabase, redisUrl } from '@claimcheck/engine/testing';
import { describe, expect, test } from 'vitest';
import { clientOf, KEY, SECRET_KEY, startApi, startProcess, startWorker, temporaryFolder } from './testing/processes.ts';
import { startReceiver } from './testing/receiver.ts';

const POLL = { timeout: 60_000, interval: 50 };

describe.each(['redis', 'postgres'] as const)('with the queue on %s', (backend) => {
  test('any API tells of any job, another worker finishes what a killed one had, and each part ends cleanly', async () => {
    await using database = await createTestDatabase();
    await using folder = await temporaryFolder();
    await using receiver = await startReceiver();
    const environment = {
      DATABASE_URL: database.url,
      DATA_DIR: folder.path,
      WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
      ...(backend === 'redis' && { REDIS_URL: redisUrl() }),
    };
    await using first = await startApi(environment);
    await using second = await startApi(environment);
    await using doomed = await startWorker(environment);
    await using dispatcher = startProcess('apps/dispatcher/main.ts', { ...environment, SECRET_KEY });
    await dispatcher.printed(/dispatcher delivers/);

    const id = await clientOf(first.url, KEY).submit({ prompt: '[[slow:6000]]', webhook: receiver.url });
    const other = clientOf(second.url, KEY);
    await expect.poll(async () => (await other.get(`/v2/requests/${id}/status`)).body.status, POLL).toBe('PROCESSING');
    await doomed.end('SIGKILL');
    await using worker = await startWorker(environment);
    expect((await other.ended(id)).status).toBe('COMPLETED');
    await expect.poll(() => receiver.received.map(({ body }) => body.id), POLL).toEqual([id]);

    // Both APIs open what either has sealed.
    const { secret } = (await other.get('/v2/webhooks/secret')).body;
    expect((await clientOf(first.url, KEY).get('/v2/webhooks/secret')).body.secret).toBe(secret);

    const parts = [first, second, worker, dispatcher];
    // 1 of one that had to give up waiting.
    expect(await Promise.all(parts.map((part) => part.end('SIGTERM')))).toEqual([0, 0, 0, 0]);
    for (const part of parts) for (const text of [SECRET_KEY, String(secret)]) expect(part.output()).not.toContain(text);
  }, 300_000);
});

test('a part without a database, or before the migration, says what to do', async () => {
  await using bare = startProcess('apps/api/main.ts', { PORT: '0' });
  expect(await bare.exited).toBe(1);
  expect(bare.output()).toContain('DATABASE_URL is not set');

  await using database = await createTestDatabase();
  const empty = new URL(database.url);
  empty.pathname = '/postgres';
  await using early = startProcess('apps/worker/main.ts', { DATABASE_URL: empty.href });
  expect(await early.exited).toBe(1);
  expect(early.output()).toContain('run "npm run migrate"');

  await using stranger = startProcess('apps/api/main.ts', {
    DATABASE_URL: database.url.replace(/:[^:@]+@/, ':wrong@'),
    SECRET_KEY,
  });
  expect(await stranger.exited).toBe(1);
  expect(stranger.output()).toMatch(/\(DATABASE_URL\) cannot be reached: password authentication failed/);
}, 300_000);

test.each(['api', 'dispatcher'])(
  'without SECRET_KEY the %s says in one sentence how to make one, and with a wrong one what is wrong',
  async (part) => {
    // Nothing listens there: the key is looked at first.
    const environment = { PORT: '0', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' };
    await using bare = startProcess(`apps/${part}/main.ts`, environment);
    expect(await bare.exited).toBe(1);
    expect(bare.output()).toMatch(/^SECRET_KEY is not set.*"openssl rand -base64 32".*\n$/);

    const passphrase = 'correct horse battery staple';
    await using wrong = startProcess(`apps/${part}/main.ts`, { ...environment, SECRET_KEY: passphrase });
    expect(await wrong.exited).toBe(1);
    expect(wrong.output()).toContain('SECRET_KEY: must be the base64 of 32 bytes');
    expect(wrong.output()).not.toContain(passphrase);
  },
  300_000,
);

test('migrating twice applies nothing the second time', async () => {
  await using database = await createTestDatabase();
  await using migration = startProcess('apps/standalone/migrate.ts', { DATABASE_URL: database.url });
  expect(await migration.exited).toBe(0);
  expect(migration.output()).toContain('The database is up to date.');
}, 300_000);

test('a database that comes up late is waited for', async () => {
  await using database = await createTestDatabase();
  const real = new URL(database.url);
  // A port that nobody listens on yet: found, given back, and opened again once the process has tried it.
  const port = await freePort();
  await using migration = startProcess('apps/standalone/migrate.ts', {
    DATABASE_URL: Object.assign(new URL(real), { port: String(port) }).href,
  });
  await migration.printed(/Waiting for the database/);
  const server = createServer((client) => client.pipe(connect(Number(real.port), real.hostname)).pipe(client));
  await listenOn(server, port);
  expect(await migration.exited).toBe(0);
  server.close();
}, 300_000);

async function freePort(): Promise<number> {
  const server = createServer();
  await listenOn(server, 0);
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}

function listenOn(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
}
