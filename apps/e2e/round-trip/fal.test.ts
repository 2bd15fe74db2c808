/** Our adapter of fal against our own dialect of it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Downstream, type RoundTrip, startRoundTrip } from '../testing/round-trip.ts';

const MODEL = 'fal-ai/hidream-i1-fast';
const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
beforeAll(async () => {
  trip = await startRoundTrip({
    route: { provider: 'fal', model: MODEL },
    variables: ({ url, key }) => ({
      FAL_KEY: key,
      FAL_BASE_URL: `${url}/fal/queue`,
      FAL_JWKS_URL: `${url}/fal/rest/.well-known/jwks.json`,
    }),
  });
});
afterAll(() => trip?.[Symbol.asyncDispose]());

describe.each(['looking', 'calledBack'] as const)('a service that is %s', (how) => {
  let client: Downstream;
  beforeAll(() => {
    client = trip[how];
  });

  test('has what the other one made', async () => {
    const id = await client.submit({ prompt: 'a panda [[slow:300]]' });
    const job = await client.ended(id);
    expect(job).toMatchObject({ status: 'COMPLETED', images: [{ content_type: 'image/jpeg', width: 1024, height: 1024 }] });
    // Its own copy.
    const file = await client.service.request(new URL(String(job.output)).pathname);
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/jpeg']);
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', { status: 'FAILED', code: 'provider_error', error: 'Too dark.' }],
    ['is refused', '[[nsfw]]', { status: 'FAILED', code: 'content_refused' }],
  ])('is told when a run %s, and why', async (_what, prompt, members) => {
    expect(await client.ended(await client.submit({ prompt }))).toMatchObject(members);
  });

  test('is told what is wrong with its parameters', async () => {
    const job = await client.ended(await client.submit({ prompt: 'x', num_images: 0 }));
    expect(job).toMatchObject({ status: 'FAILED', code: 'invalid_input', error: expect.stringContaining('num_images') });
  });

  test('cancels there what is cancelled here', async () => {
    const id = await client.submit({ prompt: '[[hang]]' });
    await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
    expect((await client.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' })).status).toBe(200);
    await expect.poll(trip.upstreamStatus, POLL).toBe('CANCELLED');
    expect(await client.ended(id)).toMatchObject({ status: 'CANCELLED' });
  });
});

test('calls that come back are believed', () => {
  expect(trip.callbacks.length).toBeGreaterThanOrEqual(3);
  for (const { path, status } of trip.callbacks) expect([path, status]).toEqual([expect.stringMatching(/^\/callbacks\/fal\//), 200]);
});
