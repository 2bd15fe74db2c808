/** The adapter for WaveSpeed against the dialect for its clients: what one service asks of the other, and what comes back. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Downstream, type RoundTrip, startRoundTrip } from '../testing/round-trip.ts';

const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
let client: Downstream;
beforeAll(async () => {
  trip = await startRoundTrip({
    route: { provider: 'wavespeed', model: 'wavespeed-ai/hidream-i1-full' },
    variables: ({ url, key }) => ({ WAVESPEED_BASE_URL: url, WAVESPEED_API_KEY: key }),
  });
  client = trip.calledBack;
});
afterAll(() => trip?.[Symbol.asyncDispose]());

test('a job is run there, and a signed call brings its end, files and all', async () => {
  const result = await client.ended(await client.submit({ prompt: 'a panda in the rain' }));
  expect(result).toMatchObject({
    status: 'COMPLETED',
    images: [{ content_type: 'image/jpeg', width: 1024, height: 1024 }],
    metrics: { provider: 'wavespeed', attempts: [{ outcome: 'succeeded', model: 'wavespeed-ai/hidream-i1-full' }] },
  });
  await expect.poll(() => client.callbacks, POLL).toMatchObject([{ method: 'POST', status: 200 }]);
  expect(client.callbacks[0]?.path).toMatch(/^\/callbacks\/wavespeed\//);

  const file = await fetch(String(result.output));
  expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/jpeg']);
});

test('a service that nobody can call looks', async () => {
  const { looking } = trip;
  expect(await looking.ended(await looking.submit({ prompt: 'a panda [[slow:0]]' }))).toMatchObject({ status: 'COMPLETED' });
});

test.each([
  ['[[fail:Out of paint.]]', 'Out of paint.', 'provider_error'],
  ['[[nsfw]]', expect.any(String), 'content_refused'],
])('a job that ends there by %s ends here so too, once', async (prompt, error, code) => {
  const result = await client.ended(await client.submit({ prompt }));
  expect(result).toMatchObject({ status: 'FAILED', error, code, metrics: { attempts: [{ provider: 'wavespeed', outcome: 'failed' }] } });
});

test('what the model there does not take is refused as the fault of the request', async () => {
  const result = await client.ended(await client.submit({ prompt: 'x', size: '1*1' }));
  expect(result).toMatchObject({ status: 'FAILED', code: 'invalid_input', error: expect.stringContaining('/size') });
});

test('a job that is cancelled here is cancelled there', async () => {
  const id = await client.submit({ prompt: '[[hang]]' });
  await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
  expect((await client.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' })).status).toBe(200);
  await expect.poll(trip.upstreamStatus, POLL).toBe('CANCELLED');
  expect(await client.ended(id)).toMatchObject({ status: 'CANCELLED' });
});

test('a job that is cancelled there has failed here', async () => {
  const id = await client.submit({ prompt: '[[hang]]' });
  await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
  const deleted = await trip.upstream.request(`/api/v3/predictions/${await trip.upstreamId()}`, { method: 'DELETE' });
  expect(deleted.status).toBe(200);
  expect(await client.ended(id)).toMatchObject({ status: 'FAILED', error: 'The request was cancelled by its caller.' });
});

test('files that are asked for as text arrive as files, without a call, because the two do not go together', async () => {
  const result = await client.ended(await client.submit({ prompt: 'a panda in the sun', enable_base64_output: true }));
  expect(result).toMatchObject({ status: 'COMPLETED', images: [{ content_type: 'image/jpeg' }] });
  const told = await trip.upstream.request(`/v2/requests/${await trip.upstreamId()}/deliveries`);
  expect(await told.json()).toMatchObject({ deliveries: [] });
});
