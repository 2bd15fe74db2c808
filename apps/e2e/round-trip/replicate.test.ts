/** The adapter for Replicate against the dialect for its clients: what one service asks of the other, and what comes back. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Downstream, type RoundTrip, startRoundTrip } from '../testing/round-trip.ts';

const MODEL = 'prunaai/hidream-l1-fast';
const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
let client: Downstream;
beforeAll(async () => {
  trip = await startRoundTrip({
    route: { provider: 'replicate', model: MODEL },
    variables: ({ url, key }) => ({ REPLICATE_BASE_URL: `${url}/replicate/v1`, REPLICATE_API_TOKEN: key }),
  });
  client = trip.calledBack;
});
afterAll(() => trip?.[Symbol.asyncDispose]());

test('a job is run there, and a signed call brings its end, files, seed and all', async () => {
  const result = await client.ended(await client.submit({ prompt: 'a fox in the rain', seed: 7, output_format: 'png' }));
  expect(result).toMatchObject({
    status: 'COMPLETED',
    seed: 7,
    images: [{ content_type: 'image/png', width: 1024, height: 1024 }],
    timings: { predict_time: expect.any(Number), total_time: expect.any(Number) },
    metrics: { provider: 'replicate', attempts: [{ outcome: 'succeeded', model: MODEL }] },
  });
  await expect.poll(() => client.callbacks, POLL).toMatchObject([{ method: 'POST', status: 200 }]);
  expect(client.callbacks[0]?.path).toMatch(/^\/callbacks\/replicate\//);
  const file = await fetch(String(result.output));
  expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/png']);
});

test.each([
  ['[[fail:Out of paint.]]', 'Out of paint.', 'provider_error'],
  ['[[nsfw]]', expect.any(String), 'content_refused'],
])('a job that ends there by %s ends here so too, once', async (mark, error, code) => {
  const result = await client.ended(await client.submit({ prompt: mark }));
  expect(result).toMatchObject({ status: 'FAILED', error, code, metrics: { attempts: [{ provider: 'replicate', outcome: 'failed' }] } });
});

test('what the model there does not take is refused as the fault of the request', async () => {
  const result = await client.ended(await client.submit({ prompt: 'x', output_quality: 0 }));
  expect(result).toMatchObject({ status: 'FAILED', code: 'invalid_input', error: expect.stringContaining('output_quality') });
});

test('a job that is cancelled here is cancelled there', async () => {
  const id = await client.submit({ prompt: '[[hang]]' });
  await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
  const cancelled = await client.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
  expect(await cancelled.json()).toMatchObject({ status: 'CANCELLED' });
  await expect.poll(trip.upstreamStatus, POLL).toBe('CANCELLED');
});

test('a job that is cancelled there has failed here', async () => {
  const id = await client.submit({ prompt: '[[hang]]' });
  await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
  await trip.upstream.request(`/replicate/v1/predictions/${await trip.upstreamId()}/cancel`, { method: 'POST' });
  expect(await client.ended(id)).toMatchObject({ status: 'FAILED', error: 'The run was cancelled at the provider.' });
});

test('a service that nobody calls looks, and hears what a run prints there', async () => {
  const { service, submit, ended } = trip.looking;
  const { request_id: id } = await ended(await submit({ prompt: 'a fox in the sun' }));
  const prediction = await service.request(`/replicate/v1/predictions/${id}`);
  expect(await prediction.json()).toMatchObject({ status: 'succeeded', logs: expect.stringContaining('The sandbox runs') });
});
