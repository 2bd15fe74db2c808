/**
 * The sample of Segmind's page for hidream-l1-fast, against the native format, over a real connection. The vendor has a client for Python
 * only: what that does is done here by fetch, as the protocol sheet segmind.md tells it (sections 4, 6 and 8).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startTestService, type TestService } from '@claimcheck/api/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const SLUG = 'hidream-l1-fast';
/** As the page has it, with the sign of multiplication that its published copy garbles. */
const PAYLOAD = {
  seed: -1,
  prompt: 'a cute panda holding a sign that says "Keep Calm and Keep Building"',
  model_type: 'fast',
  resolution: '1024 × 1024 (Square)',
  speed_mode: 'Lightly Juiced 🍊 (more consistent)',
  output_format: 'webp',
  output_quality: 100,
};
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const UNKNOWN = '019b7602-7c00-7000-8000-00000000a001';
const WAIT = { timeoutMs: 18_000, intervalMs: 50 };

let service: TestService;
let url: string;
beforeAll(async () => {
  service = await startTestService();
  ({ url } = await service.listen());
});
afterAll(() => service?.[Symbol.asyncDispose]());

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

async function call(address: string, body?: object, key = service.key): Promise<Answer> {
  const headers = { 'x-api-key': key, accept: '*/*', ...(body && { 'content-type': 'application/json' }) };
  const response = await fetch(address, { headers, ...(body && { method: 'POST', body: JSON.stringify(body) }) });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

class SegmindError extends Error {}
class InferenceFailed extends Error {}
class InferenceTimeout extends Error {}

interface PendingJob {
  readonly requestId: string;
  /** What the status said, look by look. */
  readonly seen: readonly Answer[];
  wait(options: { readonly timeoutMs: number; readonly intervalMs: number }): Promise<Record<string, unknown>>;
}

/** `submit_async`: takes any 2xx or 3xx, and wants all three members. */
async function submitAsync(parameters: object, slug = SLUG): Promise<PendingJob> {
  const { status, body } = await call(`${url}/v2/${slug}`, parameters);
  if (status < 200 || status >= 400) throw new SegmindError(`${status}: ${body.error}`);
  const { request_id: requestId, status_url: statusUrl, response_url: responseUrl } = body;
  if (!requestId || !statusUrl || !responseUrl) throw new SegmindError('The claim check is not complete.');
  const seen: Answer[] = [];
  return {
    requestId: String(requestId),
    seen,
    async wait({ timeoutMs, intervalMs }) {
      const startedMs = performance.now();
      for (;;) {
        const answer = await call(String(statusUrl));
        seen.push(answer);
        // The body counts before the code.
        if (answer.body.status === 'FAILED') throw new InferenceFailed(String(answer.body.error));
        if (answer.body.status === 'COMPLETED') return (await call(String(responseUrl))).body;
        if (answer.status < 200 || answer.status >= 300) throw new SegmindError(`${answer.status}: ${answer.body.error}`);
        if (performance.now() - startedMs > timeoutMs) throw new InferenceTimeout(String(requestId));
        await sleep(intervalMs);
      }
    },
  };
}

describe('the sample', () => {
  test('is accepted as it is, polled, and completes with what the page prints', async () => {
    const job = await submitAsync(PAYLOAD);
    expect(job.requestId).toMatch(UUID);
    const result = await job.wait(WAIT);
    expect(new Set(job.seen.map(({ status }) => status))).toEqual(new Set([200]));
    const states = job.seen.map(({ body }) => String(body.status));
    expect(states.at(-1)).toBe('COMPLETED');
    // Never back again.
    const order = ['QUEUED', 'PROCESSING', 'COMPLETED'];
    expect(states).toEqual(states.toSorted((one, other) => order.indexOf(one) - order.indexOf(other)));
    expect(result).toMatchObject({
      status: 'COMPLETED',
      request_id: job.requestId,
      output: expect.stringContaining(`${url}/files/`),
      images: [{ content_type: 'image/webp', width: 1024, height: 1024, url: result.output }],
      prompt: PAYLOAD.prompt,
      seed: expect.any(Number),
      error: null,
    });
    const { inference_time: seconds } = result.metrics as Record<string, unknown>;
    expect(Number(seconds)).toBeGreaterThan(0);
    const file = await fetch(String(result.output));
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/webp']);
  });

  test('runs at the synchronous address, which answers the file', async () => {
    const body = JSON.stringify(PAYLOAD);
    const headers = { 'x-api-key': service.key, 'content-type': 'application/json' };
    const response = await fetch(`${url}/v1/${SLUG}`, { method: 'POST', headers, body });
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'image/webp']);
    expect(response.headers.get('x-request-id')).toMatch(UUID);
    expect(Number(response.headers.get('x-generation-time'))).toBeGreaterThan(0);
    expect(
      Buffer.from(await response.arrayBuffer())
        .subarray(8, 12)
        .toString(),
    ).toBe('WEBP');
  });

  test('answers every claim check with addresses that are whole, the older one too', async () => {
    const { body } = await call(`${url}/v2/${SLUG}`, PAYLOAD);
    const base = `${url}/v2/requests/${body.request_id}`;
    expect(body).toMatchObject({
      status: 'QUEUED',
      status_url: `${base}/status`,
      response_url: base,
      poll_url: `${url}/v1/requests/${body.request_id}`,
    });
    await expect.poll(async () => (await call(String(body.poll_url))).body.status, { timeout: 30_000, interval: 50 }).toBe('COMPLETED');
  });

  test('may come with what the client adds of its own', async () => {
    const job = await submitAsync({ ...PAYLOAD, prompt: 'a panda [[slow:0]]', timeout: 5, interval: 1 });
    expect(await job.wait(WAIT)).toMatchObject({ status: 'COMPLETED' });
  });
});

describe('what goes wrong', () => {
  test('in the run is 422 with its reason, at both addresses, and the client throws it', async () => {
    const job = await submitAsync({ ...PAYLOAD, prompt: '[[fail:Out of paint.]]' });
    await expect(job.wait(WAIT)).rejects.toThrow(new InferenceFailed('Out of paint.'));
    expect(job.seen.at(-1)).toMatchObject({ status: 422, body: { status: 'FAILED', metrics: { inference_time: expect.any(Number) } } });
    const result = await call(`${url}/v2/requests/${job.requestId}`);
    expect(result).toMatchObject({ status: 422, body: { status: 'FAILED', request_id: job.requestId, error: 'Out of paint.' } });
    expect(result.body.metrics).not.toHaveProperty('cost');
  });

  test('with the content is a failure like any other', async () => {
    const job = await submitAsync({ ...PAYLOAD, prompt: '[[nsfw]]' });
    await expect(job.wait(WAIT)).rejects.toThrow(InferenceFailed);
    expect(job.seen.at(-1)?.status).toBe(422);
  });

  test('with the patience of the client leaves the job running, and known by its id', async () => {
    const job = await submitAsync({ ...PAYLOAD, prompt: '[[hang]]' });
    await expect(job.wait({ timeoutMs: 300, intervalMs: 50 })).rejects.toThrow(new InferenceTimeout(job.requestId));
    expect(await call(`${url}/v2/requests/${job.requestId}/status`)).toMatchObject({ status: 200 });
    await call(`${url}/v2/requests/${job.requestId}/cancel`, {});
    await expect(job.wait(WAIT)).rejects.toThrow(SegmindError);
  });

  test.each([
    ['an unknown model', 'no-such-model', PAYLOAD, '404: '],
    ['a resolution that there is not', SLUG, { ...PAYLOAD, resolution: '1024 x 1024' }, '400: '],
    ['no prompt', SLUG, {}, '400: '],
  ])('with %s is told at once', async (_what, slug, parameters, start) => {
    const refused = submitAsync(parameters, slug);
    await expect(refused).rejects.toThrow(SegmindError);
    await expect(refused).rejects.toThrow(new RegExp(`^${start}(?!undefined)`));
  });

  test('with an id that nobody knows, or a key, is told in one member', async () => {
    for (const path of [`/v2/requests/${UNKNOWN}/status`, `/v2/requests/${UNKNOWN}`]) {
      expect(await call(`${url}${path}`)).toMatchObject({ status: 404, body: { error: `Request ${UNKNOWN} not found` } });
    }
    expect(await call(`${url}/v2/${SLUG}`, PAYLOAD, 'SG_0123456789abcdef')).toMatchObject({
      status: 401,
      body: { error: expect.any(String) },
    });
  });

  test('is never that somebody polls too often: one refusal would end the wait', async () => {
    const job = await submitAsync({ ...PAYLOAD, prompt: '[[hang]] while polled' });
    const polls = Array.from({ length: 200 }, () => call(`${url}/v2/requests/${job.requestId}/status`));
    expect(new Set((await Promise.all(polls)).map(({ status }) => status))).toEqual(new Set([200]));
    await call(`${url}/v2/requests/${job.requestId}/cancel`, {});
  });
});
