/** Every vendor, as its simulator: what becomes of paid runs when a worker is killed, and when clients cancel. */
import type { JsonObject } from '@claimcheck/core';
import { createTestDatabase } from '@claimcheck/engine/testing';
import { expect, test } from 'vitest';
import { observe } from './chaos/observer.ts';
import { clientOf, KEY, startApi, startWorker, temporaryFolder } from './testing/processes.ts';
import { environmentOf, startVendors, writeModels } from './testing/vendors.ts';

const POLL = { timeout: 30_000, interval: 50 };

interface Case {
  readonly provider: string;
  readonly model: string;
  /** Of the route. */
  readonly options?: JsonObject;
  /** By what method and path runs are submitted. */
  readonly submission: RegExp;
  /** By what method and path one is cancelled; absent where the vendor has no way to. */
  readonly cancellation?: RegExp;
}

const HTTP_KEY = { headers: { 'x-key': '{key}' } };

/** Runs that have a handle. */
const RESUMABLE: Readonly<Record<string, Case>> = {
  fal: {
    provider: 'fal',
    model: 'fal-ai/hidream-i1-fast',
    submission: /^POST \/fal-ai\/hidream-i1-fast$/,
    cancellation: /^PUT \/fal-ai\/hidream-i1-fast\/requests\/[\w-]+\/cancel$/,
  },
  replicate: {
    provider: 'replicate',
    model: 'acme/hidream-l1-fast',
    submission: /^POST \/v1\/models\/acme\/hidream-l1-fast\/predictions$/,
    cancellation: /^POST \/v1\/predictions\/\w+\/cancel$/,
  },
  segmind: { provider: 'segmind', model: 'hidream-l1-fast', submission: /^POST \/v2\/hidream-l1-fast$/ },
  wavespeed: {
    provider: 'wavespeed',
    model: 'wavespeed-ai/hidream-i1-full',
    submission: /^POST \/api\/v3\/wavespeed-ai\/hidream-i1-full$/,
    cancellation: /^DELETE \/api\/v3\/predictions\/\w+$/,
  },
  'inference-sh': {
    provider: 'inference-sh',
    model: 'infsh/hidream-i1-fast',
    submission: /^POST \/apps\/run$/,
    cancellation: /^POST \/tasks\/\w+\/cancel$/,
  },
  'lumenfall-video': {
    provider: 'lumenfall',
    model: 'video:hidream-v1',
    submission: /^POST \/openai\/v1\/videos$/,
    cancellation: /^DELETE \/openai\/v1\/videos\/\w+$/,
  },
  'openai-video': {
    provider: 'openai',
    model: 'video:sora-2',
    submission: /^POST \/v1\/videos$/,
    cancellation: /^DELETE \/v1\/videos\/\w+$/,
  },
  http: {
    provider: 'http',
    model: 'queue',
    options: {
      submit: { path: '/jobs', ...HTTP_KEY, body: '{"input": parameters}' },
      poll: { path: '/jobs/{handle}', ...HTTP_KEY },
      result: { path: '/jobs/{handle}/result', ...HTTP_KEY },
      cancel: { path: '/jobs/{handle}', ...HTTP_KEY },
      handle: 'body.id',
      state: 'body.state = "done" ? "succeeded" : "running"',
      outputs: 'body.pictures.{"url": link, "content_type": type}',
    },
    submission: /^POST \/jobs$/,
    cancellation: /^DELETE \/jobs\/job%20\d+$/,
  },
};

/** A container that cannot call back runs only while somebody holds the connection: closing it ends the run. */
const HELD: Readonly<Record<string, Case>> = {
  cog: {
    provider: 'cog',
    model: 'hidream',
    submission: /^PUT \/predictions\/[\w-]+$/,
    cancellation: /^POST \/predictions\/[\w-]+\/cancel$/,
  },
};

/** Runs that are over with the answer to their submission, and cannot be asked about: what is done then is said by `on_unknown`. */
const AT_ONCE: Readonly<Record<string, Case & { readonly onUnknown: 'resubmit' | 'fail' }>> = {
  'segmind-v1': { provider: 'segmind', model: 'sync-only-hidream', submission: /^POST \/v1\/sync-only-hidream$/, onUnknown: 'fail' },
  'openai-picture': { provider: 'openai', model: 'gpt-image-1', submission: /^POST \/v1\/images\/generations$/, onUnknown: 'fail' },
  'lumenfall-picture': {
    provider: 'lumenfall',
    model: 'hidream-i1-fast',
    submission: /^POST \/openai\/v1\/images\/generations$/,
    onUnknown: 'resubmit',
  },
  'http-file': {
    provider: 'http',
    model: 'file',
    options: { submit: { path: '/pictures', ...HTTP_KEY } },
    submission: /^POST \/pictures$/,
    onUnknown: 'resubmit',
  },
};

/** A service with an API and the simulators of all vendors, in which each case is a model of its own. */
async function startService(runMs: number) {
  await using started = new AsyncDisposableStack();
  const cases = { ...RESUMABLE, ...HELD, ...AT_ONCE };
  const database = started.use(await createTestDatabase());
  const folder = started.use(await temporaryFolder());
  const vendors = started.use(await startVendors(new Set(Object.values(cases).map(({ provider }) => provider)), runMs));
  const models = Object.entries(cases).map(([name, { provider, model, options }]) => ({
    name: `test/${name}`,
    routes: [{ provider, model, ...(options && { options }) }],
    more: { on_unknown: AT_ONCE[name]?.onUnknown ?? 'fail' } satisfies JsonObject,
  }));
  const environment = {
    DATABASE_URL: database.url,
    DATA_DIR: folder.path,
    MODELS_DIR: await writeModels(folder.path, models),
    ...environmentOf(vendors.values()),
  };
  const api = started.use(await startApi(environment));
  const observer = started.use(observe(database.url));
  const client = clientOf(api.url, KEY);
  const stack = started.move();
  return {
    client,
    startWorker: () => startWorker(environment),
    /** Hands in one job per case. Returns their ids by case. */
    async submit(names: readonly string[]): Promise<Readonly<Record<string, string>>> {
      const ids = await Promise.all(
        names.map(async (name) => {
          const { status, body } = await client.post(`/v2/test/${name}`, { prompt: name });
          expect([status, body]).toEqual([200, expect.objectContaining({ status: 'QUEUED' })]);
          return [name, String(body.request_id)] as const;
        }),
      );
      return Object.fromEntries(ids);
    },
    /** Paths that a vendor was asked for by requests like these. */
    requests(name: string, pattern: RegExp): readonly string[] {
      const { provider } = cases[name] ?? expect.unreachable();
      const { simulated } = vendors.get(provider) ?? expect.unreachable();
      return simulated.requests.map(({ method, path }) => `${method} ${path.split('?', 1)}`).filter((line) => pattern.test(line));
    },
    submitted: () => Object.fromEntries(Array.from(vendors, ([name, { simulated }]) => [name, simulated.submitted])),
    /** How many attempts each job has had, by case. */
    async attempts(ids: Readonly<Record<string, string>>) {
      const rows = await observer.rows<{ id: string; attempt: number }>('select id, attempt from jobs');
      return Object.fromEntries(Object.entries(ids).map(([name, id]) => [name, rows.find((row) => row.id === id)?.attempt]));
    },
    /** How many running attempts have saved their handle. */
    async handles() {
      const [row] = await observer.rows<{ count: number }>(
        'select count(*)::integer as count from attempts where handle is not null and finished_at is null',
      );
      return row?.count;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function each<Value>(cases: object, value: Value): Readonly<Record<string, Value>> {
  return Object.fromEntries(Object.keys(cases).map((name) => [name, value]));
}

test.concurrent('what a killed worker had under way is finished by another, and no run with a handle is paid twice', async ({ expect }) => {
  // Longer than it takes to hand all of them in, or nothing would be under way.
  await using service = await startService(8_000);
  await using doomed = await service.startWorker();
  const ids = await service.submit(Object.keys({ ...RESUMABLE, ...HELD, ...AT_ONCE }));
  const once = { fal: 1, replicate: 1, segmind: 2, wavespeed: 1, 'inference-sh': 1, lumenfall: 2, openai: 2, http: 2, cog: 1 };
  await expect.poll(service.submitted, POLL).toEqual(once);
  await expect.poll(service.handles, POLL).toBe(Object.keys({ ...RESUMABLE, ...HELD }).length);
  await doomed.end('SIGKILL');
  // It was killed in time.
  expect(await service.attempts(ids)).toEqual(each(ids, 1));
  expect(await service.handles()).toBe(Object.keys({ ...RESUMABLE, ...HELD }).length);

  await using _worker = await service.startWorker();
  const ended = await Promise.all(
    Object.entries(ids).map(async ([name, id]) => {
      const { status, error, metrics } = await service.client.ended(id);
      const { resubmits } = metrics as Record<string, unknown>;
      return [name, error ?? (resubmits === undefined ? status : `${status} after ${resubmits} resubmission`)] as const;
    }),
  );
  const unknown = 'A worker was lost while it handed the request to the provider; whether the provider ran it is unknown.';
  expect(Object.fromEntries(ended)).toEqual({
    ...each(ids, 'COMPLETED'),
    'segmind-v1': unknown,
    'openai-picture': unknown,
    'lumenfall-picture': 'COMPLETED after 1 resubmission',
    'http-file': 'COMPLETED after 1 resubmission',
  });
  expect(await service.attempts(ids)).toEqual(each(ids, 2));
  // Which of them came twice is looked at below.
  expect(service.submitted()).toEqual({ ...once, lumenfall: 3, http: 3, cog: 2 });
  const submissions = Object.entries({ ...RESUMABLE, ...HELD, ...AT_ONCE }).map(
    ([name, { submission }]) => [name, service.requests(name, submission).length] as const,
  );
  expect(Object.fromEntries(submissions)).toEqual({ ...each(ids, 1), 'lumenfall-picture': 2, 'http-file': 2, cog: 2 });
  // The first of its runs ended with the worker, and the second is the same one to the container.
  const [first, second] = service.requests('cog', /^PUT /);
  expect(second).toBe(first);
}, 300_000);

test.concurrent('cancelling a job stops its run at every vendor that can stop one', async ({ expect }) => {
  await using service = await startService(600_000);
  await using _worker = await service.startWorker();
  const cases = { ...RESUMABLE, ...HELD };
  const ids = await service.submit(Object.keys(cases));
  await expect.poll(service.handles, POLL).toBe(Object.keys(cases).length);
  await expect.poll(() => service.requests('cog', /^PUT /).length, POLL).toBe(1);
  for (const [name, { cancellation }] of Object.entries(cases)) if (cancellation) expect(service.requests(name, cancellation)).toEqual([]);

  await Promise.all(Object.values(ids).map((id) => service.client.post(`/v2/requests/${id}/cancel`)));
  for (const id of Object.values(ids)) expect(await service.client.ended(id)).toMatchObject({ status: 'CANCELLED' });
  const cancelled = () =>
    Object.fromEntries(
      Object.entries(cases).flatMap(([name, { cancellation }]) =>
        cancellation ? [[name, service.requests(name, cancellation).length] as const] : [],
      ),
    );
  const { segmind: _cannot, ...able } = cases;
  await expect.poll(cancelled, POLL).toEqual(each(able, 1));
}, 300_000);
