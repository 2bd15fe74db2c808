/** Our adapter of Lumenfall against our own dialect of it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RoundTrip, startRoundTrip, MODEL as VIDEO } from '../testing/round-trip.ts';

const [PICTURE, CHAT] = ['test/picture', 'test/chat'];
const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
beforeAll(async () => {
  const provider = 'lumenfall';
  const parameters = { type: 'object', required: ['messages'], properties: { messages: { type: 'array' } } };
  trip = await startRoundTrip({
    route: { provider, model: 'video:p-video' },
    more: { produces: 'video' },
    models: [
      { name: PICTURE, routes: [{ provider, model: 'hidream-i1-fast' }] },
      { name: CHAT, routes: [{ provider, model: 'chat:meta/meta-llama-3.1-405b-instruct' }], more: { produces: 'text', parameters } },
    ],
    variables: ({ url, key }) => ({ LUMENFALL_API_KEY: key, LUMENFALL_BASE_URL: `${url}/openai/v1` }),
  });
});
afterAll(() => trip?.[Symbol.asyncDispose]());

/** Jobs that were made there. */
async function countUpstream(): Promise<number> {
  const { jobs } = await trip.upstream.engine.list({ callerId: await upstreamCaller(), limit: 100 });
  return jobs.length;
}

async function upstreamCaller(): Promise<string> {
  const response = await trip.upstream.request('/v2/webhooks/secret');
  return (
    String(Object(await response.json()).jwks_url)
      .split('/')
      .at(-1) ?? ''
  );
}

describe('a video', () => {
  test('is told of by a call, of whose sender there is proof', async () => {
    const { calledBack } = trip;
    const job = await calledBack.ended(await calledBack.submit({ prompt: 'a dog [[slow:500]]' }, VIDEO));
    expect(job).toMatchObject({ status: 'COMPLETED', video: { content_type: 'video/webm' } });
    // Its own copy.
    const file = await calledBack.service.request(new URL(String(job.output)).pathname);
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'video/webm']);
    await expect
      .poll(() => calledBack.callbacks, POLL)
      .toMatchObject([{ path: expect.stringMatching('^/callbacks/lumenfall/'), status: 200 }]);
  });

  test('is looked at where nobody can call', async () => {
    const { looking } = trip;
    const job = await looking.ended(await looking.submit({ prompt: 'a dog [[slow:300]]' }));
    expect(job).toMatchObject({ status: 'COMPLETED', video: { content_type: 'video/webm' } });
    expect(looking.callbacks).toEqual([]);
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', { status: 'FAILED', code: 'provider_error', error: 'Too dark.' }],
    ['is refused', '[[nsfw]]', { status: 'FAILED', code: 'content_refused' }],
  ])('that %s says why', async (_what, prompt, members) => {
    const { calledBack } = trip;
    expect(await calledBack.ended(await calledBack.submit({ prompt }))).toMatchObject(members);
  });

  test('that is cancelled here is cancelled there', async () => {
    const { calledBack } = trip;
    const id = await calledBack.submit({ prompt: '[[hang]]' });
    await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
    expect((await calledBack.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' })).status).toBe(200);
    await expect.poll(trip.upstreamStatus, POLL).toBe('CANCELLED');
    expect(await calledBack.ended(id)).toMatchObject({ status: 'CANCELLED' });
  });
});

describe('a picture', () => {
  const make = async (parameters: { readonly prompt: string; readonly [name: string]: string | number }) =>
    trip.looking.ended(await trip.looking.submit(parameters, PICTURE));

  test('comes with the answer', async () => {
    expect(await make({ prompt: 'a panda [[slow:0]]', size: '512x512' })).toMatchObject({
      status: 'COMPLETED',
      images: [{ content_type: 'image/webp', width: 512, height: 512 }],
    });
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', { status: 'FAILED', code: 'provider_error', error: 'Too dark.' }],
    ['is refused', '[[nsfw]]', { status: 'FAILED', code: 'content_refused' }],
  ])('that %s says why, and is not asked for again', async (_what, prompt, members) => {
    const before = await countUpstream();
    expect(await make({ prompt })).toMatchObject(members);
    expect(await countUpstream()).toBe(before + 1);
  });

  test('that cannot be made so says what is wrong with its parameters', async () => {
    expect(await make({ prompt: 'x', n: 11 })).toMatchObject({
      status: 'FAILED',
      code: 'invalid_input',
      error: expect.stringMatching(/\bn\b/),
    });
  });
});

test('an answer in words comes back as words', async () => {
  const { looking } = trip;
  const id = await looking.submit({ messages: [{ role: 'user', content: 'Say panda. [[slow:0]]' }] }, CHAT);
  expect(await looking.ended(id)).toMatchObject({ status: 'COMPLETED', output: expect.stringContaining('Say panda.') });
});
