import postgres from 'postgres';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

const submit = (query: string, headers: Readonly<Record<string, string>> = {}, body: object = { prompt: 'a lighthouse' }) =>
  service.request(`/v2/${MODEL}${query}`, jsonBody(body, headers));

test('the same request under the same Idempotency-Key gets the first answer again, and is told so', async () => {
  const first = await submit('', { 'idempotency-key': 'order 66' });
  const second = await submit('', { 'idempotency-key': 'order 66' });
  expect([first.headers.get('idempotent-replayed'), second.headers.get('idempotent-replayed')]).toEqual([null, 'true']);
  expect(await second.text()).toBe(await first.text());
});

test('another body, query or model under the same key is told from the first', async () => {
  await submit('', { 'idempotency-key': 'one' });
  for (const response of [
    await submit('', { 'idempotency-key': 'one' }, { prompt: 'another' }),
    await submit('?priority=high', { 'idempotency-key': 'one' }),
  ]) {
    expect(response.status).toBe(422);
    expect(await jsonOf(response)).toMatchObject({ code: 'idempotency_mismatch', error: expect.stringContaining('Idempotency-Key') });
  }
  // The key is scoped to method and path.
  expect((await service.request(`/v2/sandbox/${MODEL}`, jsonBody({ prompt: 'x' }, { 'idempotency-key': 'one' }))).status).toBe(200);
});

test('a key that is empty or endless is refused', async () => {
  for (const key of ['', 'x'.repeat(256)]) {
    const response = await submit('', { 'idempotency-key': key });
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ code: 'invalid_request' });
  }
});

test('priority, delay, start and timeout reach the job', async () => {
  const ids = await Promise.all(
    ['?priority=high&timeout_seconds=60', '?delay_seconds=90', `?run_at=${encodeURIComponent('2099-01-01T00:00:00+01:00')}`].map(
      async (query) => String((await jsonOf(await submit(query))).request_id),
    ),
  );
  const { request_id: header } = await jsonOf(await submit('', { 'x-priority': 'LOW' }));
  const sql = postgres(service.database.url, { max: 1, onnotice: () => {} });
  const rows = await sql`
    select priority, extract(epoch from deadline_at - available_at)::int as timeout,
      case when available_at < created_at + interval '1 day' then extract(epoch from available_at - created_at)::int end as wait,
      case when available_at > created_at + interval '1 day' then to_char(available_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end as at
    from unnest(${[...ids, String(header)]}::uuid[]) with ordinality as wanted (id, ordinal) join jobs using (id) order by ordinal`;
  await sql.end();
  expect(rows.map((row) => ({ ...row }))).toEqual([
    { priority: 0, wait: 0, timeout: 60, at: null },
    { priority: 1, wait: 90, timeout: 900, at: null },
    { priority: 1, wait: null, timeout: 900, at: '2098-12-31T23:00:00Z' },
    { priority: 2, wait: 0, timeout: 900, at: null },
  ]);
});

test.each([
  ['?priority=urgent', '/priority'],
  ['?delay_seconds=-1', '/delay_seconds'],
  ['?delay_seconds=9999999999', '/delay_seconds'],
  ['?timeout_seconds=0', '/timeout_seconds'],
  ['?timeout_seconds=soon', '/timeout_seconds'],
  ['?run_at=tomorrow', '/run_at'],
  ['?run_at=2099-01-01T00:00:00', '/run_at'],
  ['?run_at=2099-13-01T00:00:00Z', '/run_at'],
  ['?run_at=2099-01-01T00:00:00Z&delay_seconds=1', '/run_at'],
])('%s is refused by its name', async (query, pointer) => {
  const response = await submit(query);
  expect(response.status).toBe(400);
  expect(await jsonOf(response)).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer, message: expect.any(String) }] });
});

test('a wrong x-priority is refused, and every wrong option at once', async () => {
  expect(await jsonOf(await submit('', { 'x-priority': 'now' }))).toMatchObject({ errors: [{ pointer: '/x-priority' }] });
  const { errors } = await jsonOf(await submit('?priority=1&timeout_seconds=x&run_at=y'));
  expect(errors).toHaveLength(3);
});
