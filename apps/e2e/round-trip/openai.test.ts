/** Our adapter of OpenAI against our own dialect of it. Nobody calls back: the vendor's webhooks are set up per account. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Downstream, type RoundTrip, startRoundTrip } from '../testing/round-trip.ts';

const [PICTURE, CHAT] = ['test/picture', 'test/chat'];
const POLL = { timeout: 30_000, interval: 50 };

let trip: RoundTrip;
let client: Downstream;
beforeAll(async () => {
  const provider = 'openai';
  const parameters = { type: 'object', required: ['messages'], properties: { messages: { type: 'array' } } };
  trip = await startRoundTrip({
    route: { provider, model: 'video:p-video' },
    more: { produces: 'video' },
    models: [
      { name: PICTURE, routes: [{ provider, model: 'hidream-i1-fast' }] },
      { name: CHAT, routes: [{ provider, model: 'chat:meta/meta-llama-3.1-405b-instruct' }], more: { produces: 'text', parameters } },
    ],
    variables: ({ url, key }) => ({ OPENAI_API_KEY: key, OPENAI_BASE_URL: `${url}/openai/v1` }),
  });
  client = trip.calledBack;
});
afterAll(() => trip?.[Symbol.asyncDispose]());

const FAILURES = [
  ['fails', '[[fail:Too dark.]]', { status: 'FAILED', code: 'provider_error', error: 'Too dark.' }],
  ['is refused', '[[nsfw]]', { status: 'FAILED', code: 'content_refused' }],
] as const;

describe('a video', () => {
  test('is looked at until it is done, and fetched with the key', async () => {
    const job = await client.ended(await client.submit({ prompt: 'a dog [[slow:300]]', seconds: '4' }));
    expect(job).toMatchObject({ status: 'COMPLETED', video: { content_type: 'video/webm' } });
    const file = await client.service.request(new URL(String(job.output)).pathname);
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'video/webm']);
    expect(client.callbacks).toEqual([]);
  });

  test.each(FAILURES)('that %s says why', async (_what, prompt, members) => {
    expect(await client.ended(await client.submit({ prompt }))).toMatchObject(members);
  });

  test('that is cancelled here is cancelled there', async () => {
    const id = await client.submit({ prompt: '[[hang]]' });
    await expect.poll(trip.upstreamStatus, POLL).toBe('PROCESSING');
    expect((await client.service.request(`/v2/requests/${id}/cancel`, { method: 'POST' })).status).toBe(200);
    await expect.poll(trip.upstreamStatus, POLL).toBe('CANCELLED');
    expect(await client.ended(id)).toMatchObject({ status: 'CANCELLED' });
  });
});

describe('a picture', () => {
  test.each(['url', 'b64_json'])('comes with the answer, as %s', async (format) => {
    const wanted = { prompt: 'a panda [[slow:0]]', n: 2, response_format: format, output_format: 'png' };
    const job = await client.ended(await client.submit(wanted, PICTURE));
    expect(job).toMatchObject({ status: 'COMPLETED', images: [{ content_type: 'image/png' }, { content_type: 'image/png' }] });
  });

  test.each(FAILURES)('that %s says why', async (_what, prompt, members) => {
    expect(await client.ended(await client.submit({ prompt }, PICTURE))).toMatchObject(members);
  });

  test('that cannot be made so says what is wrong with its parameters', async () => {
    const job = await client.ended(await client.submit({ prompt: 'x', n: 11 }, PICTURE));
    expect(job).toMatchObject({ status: 'FAILED', code: 'invalid_input', error: expect.stringMatching(/\bn\b/) });
  });
});

test('an answer in words comes back as words', async () => {
  const id = await client.submit({ messages: [{ role: 'user', content: 'Say panda. [[slow:0]]' }] }, CHAT);
  expect(await client.ended(id)).toMatchObject({ status: 'COMPLETED', output: expect.stringContaining('Say panda.') });
});
