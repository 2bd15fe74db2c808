/** A service with two vendors, as their simulators: who serves what when one of them is down, and whom clients may insist on. */
import { createTestDatabase } from '@claimcheck/engine/testing';
import { loadSimulator } from '@claimcheck/providers/simulators';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTcpProxy } from './chaos/tcp-proxy.ts';
import { clientOf, KEY, startApi, startWorker, temporaryFolder } from './testing/processes.ts';
import { environmentOf, startVendor, writeModels } from './testing/vendors.ts';

const POLL = { timeout: 30_000, interval: 100 };
/** A provider that keeps failing is left alone for five seconds at first, and ten after a trial. The rest is for a busy machine. */
const BACK = { timeout: 25_000, interval: 200 };

/** `picture` runs at fal, else at Replicate; `nowhere` at vendors that have no key. */
async function startService() {
  await using started = new AsyncDisposableStack();
  const database = started.use(await createTestDatabase());
  const folder = started.use(await temporaryFolder());
  const fal = started.use(await startVendor('fal', 0));
  const replicate = started.use(await startVendor('replicate', 0));
  // What takes fal away, and gives it back with all that it knows.
  const line = started.use(await startTcpProxy(Number(new URL(fal.simulated.url).port)));
  const models = [
    {
      name: 'picture',
      routes: [
        { provider: 'fal', model: 'fal-ai/hidream-i1-fast' },
        { provider: 'replicate', model: 'acme/hidream-i1-fast' },
      ],
      more: { retry: { attempts: 2, first_delay_ms: 100, factor: 1, delay_ms_max: 100 } },
    },
    {
      name: 'nowhere',
      routes: [
        { provider: 'segmind', model: 'hidream-l1-fast' },
        { provider: 'wavespeed', model: 'wavespeed-ai/hidream-i1-full' },
      ],
    },
  ];
  const environment = {
    DATABASE_URL: database.url,
    DATA_DIR: folder.path,
    MODELS_DIR: await writeModels(folder.path, models),
    // It would serve what nobody else can.
    SANDBOX: 'off',
    ...environmentOf([fal, replicate]),
    ...(await loadSimulator('fal'))?.environment(`http://127.0.0.1:${line.port}`),
  };
  const api = started.use(await startApi(environment));
  started.use(await startWorker(environment));
  const client = clientOf(api.url, KEY);
  const stack = started.move();
  return {
    client,
    line,
    fal: fal.simulated,
    replicate: replicate.simulated,
    /** Hands a job in and waits for its end. Returns its result body. */
    async run(model = 'picture', headers: Readonly<Record<string, string>> = {}): Promise<Record<string, unknown>> {
      const { status, body } = await client.post(`/v2/${model}`, { prompt: 'a fox' }, headers);
      expect([status, body]).toEqual([200, expect.objectContaining({ status: 'QUEUED' })]);
      const id = String(body.request_id);
      await client.ended(id);
      return (await client.get(`/v2/requests/${id}`)).body;
    },
    /** Of a model's routes: provider, and whether it would serve, or why not. */
    async routes(model: string): Promise<readonly (readonly [unknown, unknown])[]> {
      const { body } = await client.get('/v1/models');
      const found = listOf(body.data).find(({ id }) => id === model);
      return listOf(found?.routes).map(({ provider, available, reason }) => [provider, reason ?? available] as const);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function listOf(value: unknown): readonly Record<string, unknown>[] {
  return Array.isArray(value) ? value : [];
}

/** What a result says of itself: its status, who served it, and what became of each attempt. */
function told({ status, metrics }: Record<string, unknown>): readonly unknown[] {
  const { provider, attempts } = metrics as Record<string, unknown>;
  return [status, provider, ...listOf(attempts).map((attempt) => [attempt.provider, attempt.outcome, attempt.error].join(' ').trim())];
}

const BY_FAL = ['COMPLETED', 'fal', 'fal succeeded'];
const BY_REPLICATE = ['COMPLETED', 'replicate', 'replicate succeeded'];
const UNREACHABLE = 'fal failed The provider could not be reached.';

test('while fal is down Replicate serves, and the result tells; once it is back it is used again', async () => {
  await using service = await startService();
  const { fal, line, replicate, run } = service;
  expect(await service.routes('picture')).toEqual([
    ['fal', true],
    ['replicate', true],
  ]);
  expect(told(await run())).toEqual(BY_FAL);

  // One failure is made up for within the same request.
  fal.inject('500');
  expect(told(await run())).toEqual(['COMPLETED', 'replicate', 'fal failed internal error', 'replicate succeeded']);
  expect(told(await run())).toEqual(BY_FAL);
  expect([fal.submitted, replicate.submitted]).toEqual([2, 1]);

  await line.set('refuse');
  expect(told(await run())).toEqual(['COMPLETED', 'replicate', UNREACHABLE, 'replicate succeeded']);
  // After some more of that it is not even asked.
  await expect.poll(async () => told(await run()), POLL).toEqual(BY_REPLICATE);
  expect(await service.routes('picture')).toEqual([
    ['fal', expect.stringMatching(/^it (keeps failing; it is tried again in \d+ s|kept failing and is being tried again)$/)],
    ['replicate', true],
  ]);

  await line.set('forward');
  await expect.poll(async () => told(await run()), BACK).toEqual(BY_FAL);
  await expect.poll(async () => (await service.routes('picture'))[0], POLL).toEqual(['fal', true]);
  expect(told(await run())).toEqual(BY_FAL);
}, 300_000);

describe('with one service', () => {
  let service: Awaited<ReturnType<typeof startService>>;
  beforeAll(async () => {
    service = await startService();
  }, 300_000);
  afterAll(() => service[Symbol.asyncDispose]());

  test('a provider that is insisted on serves alone, and its own failure is the answer', async () => {
    const { fal, line, replicate, run } = service;
    for (const [model, headers] of [
      ['replicate/picture', {}],
      ['picture', { 'x-provider': 'replicate' }],
    ] as const) {
      expect(told(await run(model, headers))).toEqual(BY_REPLICATE);
    }
    expect([fal.submitted, replicate.submitted]).toEqual([0, 2]);

    await line.set('refuse');
    for (const [model, headers] of [
      ['fal/picture', {}],
      ['picture', { 'x-provider': 'fal' }],
    ] as const) {
      const body = await run(model, headers);
      expect([body.error, ...told(body)]).toEqual(['The provider could not be reached.', 'FAILED', 'fal', UNREACHABLE, UNREACHABLE]);
    }
    // The same request without a word about the provider is served.
    expect(told(await run())).toEqual(['COMPLETED', 'replicate', UNREACHABLE, 'replicate succeeded']);
    expect(replicate.submitted).toBe(3);
  }, 300_000);

  test('a model whose providers are all off is refused with the variables to set, and listed with them', async () => {
    const { status, body } = await service.client.post('/v2/nowhere', { prompt: 'a fox' });
    expect([status, body.code]).toEqual([503, 'unavailable']);
    expect(body.error).toContain('SEGMIND_API_KEY');
    expect(body.error).toContain('WAVESPEED_API_KEY');

    const insisted = await service.client.post('/v2/wavespeed/nowhere', { prompt: 'a fox' });
    expect([insisted.status, insisted.body.error]).toEqual([503, expect.stringContaining('WAVESPEED_API_KEY is not set')]);
    expect(insisted.body.error).not.toContain('SEGMIND_API_KEY');

    expect(await service.routes('nowhere')).toEqual([
      ['segmind', 'SEGMIND_API_KEY is not set'],
      ['wavespeed', 'WAVESPEED_API_KEY is not set'],
    ]);
  }, 300_000);
});
