import { loadDialects } from '@claimcheck/dialects';
import { loadProviders, openProviders } from '@claimcheck/providers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp } from './app.ts';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

/** An id that this service could have made and did not. */
const UNKNOWN_ID = '019b7602-7c00-7000-8000-00000000a001';

describe('with a worker', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service[Symbol.asyncDispose]());

  const get = (path: string) => service.request(path);
  const submitAndWait = (prompt: string, seconds = 20) =>
    service.request(`/v2/${MODEL}`, jsonBody({ prompt }, { prefer: `wait=${seconds}` }));
  /** The status once the job has left QUEUED. */
  const onceProcessing = (id: string) => get(`/v2/requests/${id}/status?wait=10`);

  test('a failed job is served as 422 with its error, by status and by result', async () => {
    const { request_id: id } = await jsonOf(await submitAndWait('[[fail:The lens cap was on.]]'));
    for (const path of [`/v2/requests/${id}/status?wait=10`, `/v2/requests/${id}`, `/v1/requests/${id}`]) {
      const response = await get(path);
      expect(response.status).toBe(422);
      expect(await jsonOf(response)).toMatchObject({ status: 'FAILED', request_id: id, error: 'The lens cap was on.' });
    }
  });

  test('a job whose attempts fail twice completes with the third', async () => {
    const response = await submitAndWait('[[flaky:2]][[slow:0]]');
    expect(response.status).toBe(200);
    const id = String((await jsonOf(response)).request_id);
    expect(await service.engine.read(await referenceTo(id))).toMatchObject({ state: 'COMPLETED', attempt: 3 });
  });

  test('a client that prefers to wait gets the result instead of the claim check', async () => {
    const response = await submitAndWait('[[slow:0]]');
    expect(response.status).toBe(200);
    expect(response.headers.get('preference-applied')).toBe('wait=20');
    expect(await jsonOf(response)).toMatchObject({ status: 'COMPLETED', output: expect.stringContaining('/files/') });
  });

  test('a client that prefers to wait hears of the failure', async () => {
    const response = await submitAndWait('[[fail:No.]]');
    expect(response.status).toBe(422);
    expect(await jsonOf(response)).toMatchObject({ status: 'FAILED', error: 'No.' });
  });

  test('a client whose wait is too short gets the claim check after it', async () => {
    const startedMs = performance.now();
    const response = await submitAndWait('[[hang]]', 1);
    expect(performance.now() - startedMs).toBeGreaterThan(950);
    expect(response.status).toBe(200);
    const claim = await jsonOf(response);
    expect(claim).toMatchObject({ status: 'PROCESSING', queue_position: null, status_url: expect.any(String) });
    await get(`/v2/requests/${claim.request_id}/cancel`);
  });

  test('a status that is waited for answers on the next change, not at the end of the wait', async () => {
    const id = await service.submit({ prompt: '[[slow:3000]]' });
    expect(await jsonOf(await onceProcessing(id))).toMatchObject({ status: 'PROCESSING' });
    const startedMs = performance.now();
    expect(await jsonOf(await get(`/v2/requests/${id}/status?wait=60`))).toMatchObject({ status: 'COMPLETED', progress: 1 });
    expect(performance.now() - startedMs).toBeLessThan(50_000);
  });

  test('a status that does not change is answered when the wait is over', async () => {
    const id = await service.submit({ prompt: '[[hang]]' });
    await onceProcessing(id);
    const startedMs = performance.now();
    const response = await get(`/v2/requests/${id}/status?wait=1`);
    expect(performance.now() - startedMs).toBeGreaterThan(950);
    expect(response.status).toBe(200);
    expect(await jsonOf(response)).toMatchObject({ status: 'PROCESSING' });
  });

  test('a result that is asked for early is the status', async () => {
    const id = await service.submit({ prompt: '[[hang]]' });
    const response = await get(`/v2/requests/${id}`);
    expect(response.status).toBe(200);
    expect(await jsonOf(response)).toMatchObject({ request_id: id, status: expect.stringMatching(/^(QUEUED|PROCESSING)$/), metrics: {} });
  });

  test('a running job that is cancelled ends, and whoever waits for it hears at once', async () => {
    const id = await service.submit({ prompt: '[[hang]]' });
    await onceProcessing(id);
    const waiting = get(`/v2/requests/${id}/status?wait=60`);
    const cancelled = await service.request(`/v2/requests/${id}/cancel`, { method: 'PUT' });
    expect(cancelled.status).toBe(200);
    expect(await jsonOf(cancelled)).toMatchObject({ status: 'CANCELLED', error: expect.any(String) });
    expect((await waiting).status).toBe(422);
    expect(await jsonOf(await get(`/v2/requests/${id}`))).toMatchObject({ status: 'CANCELLED' });
  });

  test('a finished job stays finished when it is cancelled', async () => {
    const { request_id: id } = await jsonOf(await submitAndWait('[[slow:0]]'));
    const cancelled = await service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
    expect(cancelled.status).toBe(200);
    expect(await jsonOf(cancelled)).toMatchObject({ status: 'COMPLETED' });
    expect((await get(`/v2/requests/${id}`)).status).toBe(200);
  });

  test('a purged job is gone with its file', async () => {
    const { request_id: id, output } = await jsonOf(await submitAndWait('[[slow:0]]'));
    expect((await service.app.request(String(output))).status).toBe(200);
    const purged = await service.request(`/v2/requests/${id}`, { method: 'DELETE' });
    expect(purged.status).toBe(200);
    expect(await jsonOf(purged)).toEqual({ request_id: id, status: 'COMPLETED', deleted: true });
    for (const path of [`/v2/requests/${id}`, `/v2/requests/${id}/status`, `/v2/requests/${id}/events`]) {
      expect((await get(path)).status).toBe(404);
    }
    expect((await service.request(`/v2/requests/${id}`, { method: 'DELETE' })).status).toBe(404);
    expect((await service.app.request(String(output))).status).toBe(404);
  });

  test('a running job that is purged is cancelled first', async () => {
    const id = await service.submit({ prompt: '[[hang]]' });
    await onceProcessing(id);
    const purged = await service.request(`/v2/requests/${id}`, { method: 'DELETE' });
    expect(await jsonOf(purged)).toEqual({ request_id: id, status: 'CANCELLED', deleted: true });
    expect((await get(`/v2/requests/${id}`)).status).toBe(404);
  });

  async function referenceTo(id: string) {
    const callerId = await service.engine.keys.verify(service.key);
    return { id, callerId: callerId ?? '' };
  }
});

test('everything of a job is gone when its time is over', async () => {
  await using service = await startTestService();
  const { request_id: id, output } = await jsonOf(
    await service.request(`/v2/${MODEL}`, jsonBody({ prompt: '[[slow:0]]' }, { prefer: 'wait=20' })),
  );
  await service.database.setClockAhead(3_590);
  expect((await service.request(`/v2/requests/${id}`)).status).toBe(200);
  expect((await service.app.request(String(output))).status).toBe(200);
  await service.database.setClockAhead(3_605);
  for (const path of [`/v2/requests/${id}`, `/v2/requests/${id}/status`, `/v2/requests/${id}/events`]) {
    const response = await service.request(path);
    expect(response.status).toBe(404);
    expect(await jsonOf(response)).toEqual({ error: `Request ${id} not found`, code: 'not_found' });
  }
  expect((await service.app.request(String(output))).status).toBe(404);
  expect(await jsonOf(await service.request('/v2/requests'))).toEqual({ requests: [], next_cursor: null });
});

describe('without a worker', () => {
  let service: TestService;
  let strangersKey: string;
  beforeAll(async () => {
    service = await startTestService({ worker: false });
    strangersKey = await service.newKey('second caller');
  });
  afterAll(() => service[Symbol.asyncDispose]());

  test('jobs queue up behind each other', async () => {
    const first = await service.submit({ prompt: 'x' });
    const second = await service.submit({ prompt: 'x' });
    const position = async (id: string) => Number((await jsonOf(await service.request(`/v2/requests/${id}/status`))).queue_position);
    expect((await position(second)) - (await position(first))).toBe(1);
  });

  test('a waiting job is cancelled once, however often it is asked for', async () => {
    const id = await service.submit({ prompt: 'x' });
    const first = await service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
    const second = await service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
    expect([first.status, second.status]).toEqual([200, 200]);
    const body = await jsonOf(first);
    expect(body).toMatchObject({ status: 'CANCELLED', request_id: id });
    expect(await jsonOf(second)).toEqual(body);
  });

  test('cancelling twice at the same moment has one outcome', async () => {
    const id = await service.submit({ prompt: 'x' });
    const cancel = async () => jsonOf(await service.request(`/v2/requests/${id}/cancel`, { method: 'POST' }));
    const [first, second] = await Promise.all([cancel(), cancel()]);
    expect(first).toMatchObject({ status: 'CANCELLED' });
    expect(second).toEqual(first);
  });

  test('a list leads through all own jobs, newest first, page by page', async () => {
    await using alone = await startTestService({ worker: false });
    const ids: string[] = [];
    for (let count = 0; count < 5; count++) ids.push(await alone.submit({ prompt: 'x' }));
    const pages: unknown[][] = [];
    let cursor: unknown = '';
    while (cursor !== null) {
      const page = await jsonOf(await alone.request(`/v2/requests?limit=2&cursor=${cursor}`));
      pages.push(Array.isArray(page.requests) ? page.requests.map(({ request_id: id }) => id) : []);
      cursor = page.next_cursor;
    }
    expect(pages.map(({ length }) => length)).toEqual([2, 2, 1]);
    expect(new Set(pages.flat())).toEqual(new Set(ids));
    expect(pages.flat()).toEqual([...ids].sort().reverse());
  });

  test('a list can be narrowed to a state', async () => {
    await using alone = await startTestService({ worker: false });
    const cancelled = await alone.submit({ prompt: 'x' });
    await alone.submit({ prompt: 'x' });
    await alone.request(`/v2/requests/${cancelled}/cancel`, { method: 'POST' });
    const { requests } = await jsonOf(await alone.request('/v2/requests?status=CANCELLED'));
    expect(requests).toMatchObject([{ request_id: cancelled, status: 'CANCELLED' }]);
  });

  test.each(['?cursor=x', '?cursor=%00', `?cursor=${'a'.repeat(5_000)}`, '?limit=0', '?limit=101', '?limit=x', '?status=DONE'])(
    'a list is not made with %s',
    async (query) => {
      const response = await service.request(`/v2/requests${query}`);
      expect(response.status).toBe(400);
      expect(await jsonOf(response)).toMatchObject({ errors: [{ pointer: `/${query.slice(1).split('=')[0]}` }] });
    },
  );

  const ROUTES = [
    ['GET', '/v2/requests/{id}/status'],
    ['GET', '/v2/requests/{id}/status?wait=5'],
    ['GET', '/v2/requests/{id}'],
    ['GET', '/v1/requests/{id}'],
    ['GET', '/v2/requests/{id}/events'],
    ['POST', '/v2/requests/{id}/cancel'],
    ['PUT', '/v2/requests/{id}/cancel'],
    ['DELETE', '/v2/requests/{id}'],
    ['GET', '/v2/requests/{id}/deliveries'],
  ] as const;

  test.each(ROUTES)("%s %s answers another caller's id exactly as an unknown one, and changes nothing", async (method, path) => {
    const id = await service.submit({ prompt: 'x' });
    const ask = async (asked: string) => {
      const response = await service.request(path.replace('{id}', asked), { method, headers: { 'x-api-key': strangersKey } });
      return { status: response.status, headers: [...response.headers], body: (await response.text()).replaceAll(asked, '{id}') };
    };
    const foreign = await ask(id);
    expect(foreign).toEqual(await ask(UNKNOWN_ID));
    expect(foreign).toMatchObject({ status: 404, body: '{"error":"Request {id} not found","code":"not_found"}' });
    expect(await jsonOf(await service.request(`/v2/requests/${id}`))).toMatchObject({ status: 'QUEUED' });
  });

  test("another caller's jobs are not in a list", async () => {
    await service.submit({ prompt: 'x' });
    const response = await service.request('/v2/requests', { headers: { 'x-api-key': strangersKey } });
    expect(await jsonOf(response)).toEqual({ requests: [], next_cursor: null });
  });

  test.each(['x', '0', UNKNOWN_ID.toUpperCase(), `${UNKNOWN_ID}0`, "'; drop table jobs; --", '%E0%A4%A'])(
    'an id like %s is unknown',
    async (id) => {
      const response = await service.request(`/v2/requests/${id.startsWith('%') ? id : encodeURIComponent(id)}`);
      expect(response.status).toBe(404);
      expect(await jsonOf(response)).toEqual({ error: `Request ${id} not found`, code: 'not_found' });
    },
  );

  test('an unknown model is answered with the names it may have meant', async () => {
    for (const path of ['/v2/hidream-11-fast', '/v1/hidream-l1-fas', '/v2/nobody/hidream-l1-fast']) {
      const response = await service.request(path, jsonBody({ prompt: 'x' }));
      expect(response.status).toBe(404);
      expect(await jsonOf(response)).toMatchObject({ code: 'unknown_model', error: expect.stringMatching(`Did you mean .*${MODEL}`) });
    }
  });

  test('a provider in front of the name is the only one that will do', async () => {
    const response = await service.request(`/v2/sandbox/${MODEL}`, jsonBody({ prompt: 'x' }));
    expect(response.status).toBe(200);
    const app = await appWithout('off');
    const refused = await app.request(`/v2/sandbox/${MODEL}`, withKey({ prompt: 'x' }));
    expect(refused.status).toBe(503);
    expect(await jsonOf(refused)).toMatchObject({ error: `The model "${MODEL}" cannot run at sandbox: SANDBOX is off.` });
  });

  test('a provider in a header is the only one that will do, too', async () => {
    const ask = (path: string, provider: string) => service.request(path, jsonBody({ prompt: 'x' }, { 'x-provider': provider }));
    expect((await ask(`/v2/${MODEL}`, 'sandbox')).status).toBe(200);
    const unknown = await ask(`/v2/${MODEL}`, 'nobody');
    expect([unknown.status, await jsonOf(unknown)]).toMatchObject([400, { error: expect.stringContaining('it can run at') }]);
    const twice = await ask(`/v2/sandbox/${MODEL}`, 'segmind');
    expect([twice.status, await jsonOf(twice)]).toMatchObject([400, { error: expect.stringContaining('names two providers') }]);
  });

  test('every wrong parameter is named, and nothing is queued', async () => {
    await using alone = await startTestService({ worker: false });
    const wrong = { prompt: 7, output_quality: 101, seed: 'x', output_format: 'gif', model_type: null };
    const response = await alone.request(`/v2/${MODEL}`, jsonBody(wrong));
    expect(response.status).toBe(400);
    const body = await jsonOf(response);
    expect(body).toMatchObject({ code: 'invalid_parameters', error: expect.any(String) });
    const pointers = Array.isArray(body.errors) ? body.errors.map(({ pointer }) => pointer) : [];
    expect(pointers.sort()).toEqual(['/model_type', '/output_format', '/output_quality', '/prompt', '/seed']);
    expect(await jsonOf(await alone.request('/v2/requests'))).toMatchObject({ requests: [] });
  });

  test('what is wrong with a parameter, or cannot be expressed at the provider, is told of where the client has put it', async () => {
    await using alone = await startTestService({ worker: false, variables: { REPLICATE_API_TOKEN: 'r8_none' } });
    const refusals = { '': `/v2/replicate/hidream-i1-fast`, '/input': '/run' };
    for (const [place, path] of Object.entries(refusals)) {
      for (const [wrong, name] of [
        [{ n: 2 }, 'n'],
        [{ seed: 'x' }, 'seed'],
      ] as const) {
        const parameters = { prompt: 'x', ...wrong };
        const body = place === '' ? parameters : { app: 'replicate/hidream-i1-fast', input: parameters };
        const response = await alone.request(path, jsonBody(body));
        expect([response.status, await jsonOf(response)]).toMatchObject([400, { errors: [{ pointer: `${place}/${name}` }] }]);
      }
    }
  });

  test('a model whose providers are all off is unavailable, not unknown, and the answer says what to set', async () => {
    const app = await appWithout('off');
    const response = await app.request(`/v2/${MODEL}`, withKey({ prompt: 'x' }));
    expect(response.status).toBe(503);
    expect(await jsonOf(response)).toMatchObject({
      code: 'unavailable',
      error: expect.stringContaining('segmind: SEGMIND_API_KEY is not set'),
    });
    expect((await app.request(`/v2/${MODEL}`, withKey({ prompt: 7 }))).status).toBe(400);
  });

  /** The application without any key, with the sandbox as said. */
  async function appWithout(sandbox: 'auto' | 'off') {
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const { engine, catalog } = service;
    const { upstreams, off } = openProviders(await loadProviders(), {});
    const router = engine.openRouter({ catalog, available: new Set(upstreams.keys()), off, sandbox });
    const receive = engine.openReceiver({ catalog, upstreams, sandbox });
    return createApp({ engine, catalog, dialects: await loadDialects(), router, receive, log, closing: new AbortController().signal });
  }

  function withKey(parameters: object): RequestInit {
    return jsonBody(parameters, { 'x-api-key': service.key });
  }
});
