/** Vendors that call back, as their simulators: a job ends with the call, long before anybody would have looked. */
import { createTestDatabase } from '@claimcheck/engine/testing';
import { expect, test } from 'vitest';
import { clientOf, KEY, startApi, startWorker, temporaryFolder } from './testing/processes.ts';
import { openPublicAddress } from './testing/public-address.ts';
import { environmentOf, startVendors, writeModels } from './testing/vendors.ts';

const RUN_MS = 1_000;
/** A run that is called back about is looked at after half a minute first. */
const SOON_MS = 25_000;
const POLL = { timeout: 20_000, interval: 50 };

/** The provider's model, and the provider where it is not the name. */
const MODELS: Readonly<Record<string, readonly [model: string, provider?: string]>> = {
  fal: ['fal-ai/hidream-i1-fast'],
  replicate: ['acme/hidream-l1-fast'],
  wavespeed: ['wavespeed-ai/hidream-i1-full'],
  'inference-sh': ['infsh/hidream-i1-fast'],
  'lumenfall-video': ['video:hidream-v1', 'lumenfall'],
  cog: ['hidream'],
};

async function startService() {
  await using started = new AsyncDisposableStack();
  const database = started.use(await createTestDatabase());
  const folder = started.use(await temporaryFolder());
  const vendors = started.use(await startVendors(new Set(Object.entries(MODELS).map(([name, [, provider = name]]) => provider)), RUN_MS));
  const publicAddress = started.use(await openPublicAddress());
  const models = Object.entries(MODELS).map(([name, [model, provider = name]]) => ({
    name: `test/${name}`,
    routes: [{ provider, model }],
  }));
  const environment = {
    DATABASE_URL: database.url,
    DATA_DIR: folder.path,
    MODELS_DIR: await writeModels(folder.path, models),
    PUBLIC_URL: publicAddress.url,
    ...environmentOf(vendors.values()),
  };
  const api = started.use(await startApi(environment));
  publicAddress.leadTo(api.url);
  started.use(await startWorker(environment));
  const client = clientOf(api.url, KEY);
  const stack = started.move();
  return {
    api,
    client,
    vendors,
    publicAddress,
    async submit(name: string): Promise<string> {
      const { status, body } = await client.post(`/v2/test/${name}`, { prompt: name });
      expect([status, body]).toEqual([200, expect.objectContaining({ status: 'QUEUED' })]);
      return String(body.request_id);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

test('every vendor that calls back ends its job by that, once, and strangers cannot', async () => {
  await using service = await startService();
  const { vendors, publicAddress, client, api } = service;
  for (const { simulated } of vendors.values()) simulated.inject('double-callback');
  const startedMs = performance.now();
  const names = Object.keys(MODELS);
  const ids = await Promise.all(names.map(service.submit));
  const ended = await Promise.all(ids.map((id) => client.ended(id)));
  expect(ended.map(({ status }, index) => [names[index], status])).toEqual(names.map((name) => [name, 'COMPLETED']));
  expect(performance.now() - startedMs).toBeLessThan(SOON_MS);
  const providers = names.map((name) => MODELS[name]?.[1] ?? name);
  // Each told twice; some tell of the start as well.
  for (const provider of providers) {
    const answered = () => publicAddress.calls.filter(({ path }) => path.startsWith(`/callbacks/${provider}/`)).map(({ status }) => status);
    await expect.poll(() => answered().length, POLL).toBeGreaterThanOrEqual(2);
    expect([provider, answered().filter((status) => status !== 200)]).toEqual([provider, []]);
  }

  const { path = '' } = publicAddress.calls.find((call) => call.path.startsWith('/callbacks/fal/')) ?? {};
  const post = (at: string, body = '{}') =>
    fetch(`${api.url}${at}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const outcomes = async (...answers: readonly Promise<Response>[]) => (await Promise.all(answers)).map(({ status }) => status);
  expect(await outcomes(post(path), post('/callbacks/fal/nobody'), post(path.replace('/fal/', '/replicate/')))).toEqual([200, 404, 404]);
  expect((await fetch(`${api.url}${path}`)).status).toBe(405);

  // Lost: found by looking. Nobody waits for that here; what is asked is only that the call alone does not decide.
  const fal = vendors.get('fal')?.simulated ?? expect.unreachable();
  fal.inject('lost-callback');
  const id = await service.submit('fal');
  await expect.poll(() => fal.submitted, POLL).toBe(2);
  const [, run] = fal.requests.filter(({ method, path: at }) => method === 'POST' && at.startsWith('/fal-ai/'));
  const forged = new URL(decodeURIComponent(new URL(run?.path ?? '', fal.url).searchParams.get('fal_webhook') ?? '')).pathname;
  const lie = JSON.stringify({ request_id: id, status: 'OK', payload: { images: [{ url: 'https://example.com/lie.png' }] } });
  await expect.poll(async () => (await post(forged, lie)).status, POLL).toBe(200);
  expect((await client.get(`/v2/requests/${id}/status`)).body).toMatchObject({ status: 'PROCESSING' });
}, 120_000);
