/** Our adapter of inference.sh against our own dialect of it: by streams where nobody calls back, and by webhooks that say when to look. */
import { jsonOf } from '@claimcheck/api/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Downstream, type RoundTrip, startRoundTrip } from '../testing/round-trip.ts';

const [CHAT, UNKNOWN] = ['test/chat', 'test/unknown'];
const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
beforeAll(async () => {
  const provider = 'inference-sh';
  trip = await startRoundTrip({
    route: { provider, model: 'infsh/hidream-i1-fast' },
    models: [
      { name: CHAT, routes: [{ provider, model: 'meta/meta-llama-3.1-405b-instruct' }], more: { produces: 'text' } },
      { name: UNKNOWN, routes: [{ provider, model: 'infsh/unknown' }] },
    ],
    variables: ({ url, key }) => ({ INFERENCE_API_KEY: key, INFERENCE_BASE_URL: url }),
  });
});
afterAll(() => trip?.[Symbol.asyncDispose]());

describe.each(['looking', 'calledBack'] as const)('a service that is %s', (how) => {
  let client: Downstream;
  beforeAll(() => {
    client = trip[how];
  });

  test('has what the other one made, once', async () => {
    const job = await client.ended(await client.submit({ prompt: 'a panda [[slow:300]]', seed: 7 }));
    expect(job).toMatchObject({ status: 'COMPLETED', seed: 7, images: [{ content_type: 'image/webp', width: 1024, height: 1024 }] });
    expect(job.images).toHaveLength(1);
    // Its own copy.
    const file = await client.service.request(new URL(String(job.output)).pathname);
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/webp']);
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', { status: 'FAILED', code: 'provider_error', error: 'Too dark.' }],
    ['is refused', '[[nsfw]]', { status: 'FAILED', code: 'provider_error' }],
  ])('is told when a task %s', async (_what, prompt, members) => {
    expect(await client.ended(await client.submit({ prompt }))).toMatchObject(members);
  });

  test('is refused what the other one does not take, as the fault of the request', async () => {
    const job = await client.ended(await client.submit({ prompt: 'x', width: 'wide' }));
    expect(job).toMatchObject({ status: 'FAILED', code: 'invalid_input', error: expect.stringContaining('width') });
  });

  test('cancels there what is cancelled here', async () => {
    const id = await client.submit({ prompt: '[[hang]]' });
    await expect.poll(() => trip.upstreamStatus(), POLL).toBe('PROCESSING');
    await client.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
    await expect.poll(() => trip.upstreamStatus(), POLL).toBe('CANCELLED');
  });

  test('is told when a task is cancelled there', async () => {
    const id = await client.submit({ prompt: '[[hang]]' });
    await expect.poll(() => trip.upstreamStatus(), POLL).toBe('PROCESSING');
    await trip.upstream.request(`/tasks/${await trip.upstreamId()}/cancel`, { method: 'POST' });
    expect(await client.ended(id)).toMatchObject({ status: 'FAILED', error: 'The provider cancelled the task.' });
  });
});

test('words come through the stream with what was printed, before they are complete', async () => {
  const { service, submit, ended } = trip.looking;
  const id = await submit({ prompt: 'Say all of these many words slowly. [[slow:4000]]' }, CHAT);
  const events = service.request(`/v2/requests/${id}/events`).then((response) => response.text());
  const job = await ended(id);
  expect(job).toMatchObject({ status: 'COMPLETED', output: expect.stringContaining('many words') });
  const told = await events;
  expect(told).toContain('event: partial');
  expect(told.match(/The sandbox runs/g)).toHaveLength(1);
});

test('an app that is not there is a fault between the two services', async () => {
  const job = await trip.looking.ended(await trip.looking.submit({ prompt: 'x' }, UNKNOWN));
  expect(job).toMatchObject({ status: 'FAILED', code: 'provider_error', error: expect.stringContaining('infsh/unknown') });
});

test('every end of a run that is called back about brings one call, with seven members that say when to look', async () => {
  const { service, submit, ended, callbacks } = trip.calledBack;
  const before = callbacks.length;
  const id = await submit({ prompt: 'a panda [[slow:100]]' });
  expect(await ended(id)).toMatchObject({
    status: 'COMPLETED',
    metrics: { attempts: [{ provider: 'inference-sh', outcome: 'succeeded' }] },
  });
  await expect.poll(() => callbacks.length, POLL).toBe(before + 1);
  expect(callbacks.at(-1)).toMatchObject({ method: 'POST', path: expect.stringMatching(/^\/callbacks\/inference-sh\//), status: 200 });
  expect(await jsonOf(await service.request(`/v2/requests/${id}`))).toMatchObject({ status: 'COMPLETED' });
});
