/** Our adapter of Segmind against our own native format, which is Segmind's. Nobody calls back, and nothing is cancelled: the vendor cannot. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Downstream, type RoundTrip, startRoundTrip } from '../testing/round-trip.ts';

const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
let client: Downstream;
beforeAll(async () => {
  trip = await startRoundTrip({
    route: { provider: 'segmind', model: 'hidream-l1-fast' },
    variables: ({ url, key }) => ({ SEGMIND_BASE_URL: url, SEGMIND_API_KEY: key }),
  });
  client = trip.calledBack;
});
afterAll(() => trip?.[Symbol.asyncDispose]());

test('a job is run there, and its file is kept here', async () => {
  const result = await client.ended(await client.submit({ prompt: 'a panda [[slow:300]]', output_format: 'png', seed: 7 }));
  expect(result).toMatchObject({
    status: 'COMPLETED',
    images: [{ content_type: 'image/png', width: 1024, height: 1024 }],
    seed: 7,
    metrics: { provider: 'segmind', inference_time: expect.any(Number), attempts: [{ outcome: 'succeeded', model: 'hidream-l1-fast' }] },
  });
  const file = await client.service.request(new URL(String(result.output)).pathname);
  expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/png']);
  expect(client.callbacks).toEqual([]);
});

test.each([
  ['fails', '[[fail:Out of paint.]]', { code: 'provider_error', error: 'Out of paint.' }],
  ['is refused', '[[nsfw]]', { code: 'content_refused' }],
])('a run that %s there ends here as that, once', async (_what, prompt, members) => {
  const result = await client.ended(await client.submit({ prompt }));
  expect(result).toMatchObject({ status: 'FAILED', ...members, metrics: { attempts: [{ provider: 'segmind', outcome: 'failed' }] } });
});

test('what the model there does not take is the fault of the request', async () => {
  const result = await client.ended(await client.submit({ prompt: 'x', output_quality: 0 }));
  expect(result).toMatchObject({ status: 'FAILED', code: 'invalid_input', error: expect.stringContaining('/output_quality') });
});

test('a job that is cancelled here ends here, and goes on there', async () => {
  const id = await client.submit({ prompt: '[[hang]]' });
  await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
  await client.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
  expect(await client.ended(id)).toMatchObject({ status: 'CANCELLED' });
  expect(await trip.upstreamStatus()).toBe('PROCESSING');
});
