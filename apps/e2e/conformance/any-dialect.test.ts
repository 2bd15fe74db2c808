/** Every job in every dialect: made through one, it is read and cancelled through each of them, in that one's words. */
import { startTestService, type TestService } from '@claimcheck/api/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const MODEL = 'fal-ai/hidream-i1-fast';

interface Words {
  readonly running: unknown;
  readonly completed: unknown;
  readonly cancelled: unknown;
}

interface Spoken {
  /** Where a job of this prompt is handed in, and its id found in the answer. */
  submit(prompt: string): readonly [path: string, body: object];
  idOf(answer: Answer): string;
  read(id: string): string;
  /** What of an answer to `read` says how the job is. */
  stateOf(answer: Answer): unknown;
  cancel(id: string): readonly [method: string, path: string];
  readonly words: Words;
}

// biome-ignore lint/suspicious/noExplicitAny: what six vendors answer; the tests say what must stand where.
type Answer = { readonly [name: string]: any };

/** Queue status has one word for every end, so of fal the error tells a cancelled job from a completed one. */
const DIALECTS: Readonly<Record<string, Spoken>> = {
  native: {
    submit: (prompt) => [`/v2/${MODEL}`, { prompt }],
    idOf: ({ request_id }) => request_id,
    read: (id) => `/v2/requests/${id}/status`,
    stateOf: ({ status }) => status,
    cancel: (id) => ['POST', `/v2/requests/${id}/cancel`],
    words: { running: 'PROCESSING', completed: 'COMPLETED', cancelled: 'CANCELLED' },
  },
  fal: {
    submit: (prompt) => [`/fal/queue/${MODEL}`, { prompt }],
    idOf: ({ request_id }) => request_id,
    read: (id) => `/fal/queue/${MODEL}/requests/${id}/status`,
    stateOf: ({ status, error_type }) => [status, error_type],
    cancel: (id) => ['PUT', `/fal/queue/${MODEL}/requests/${id}/cancel`],
    words: { running: ['IN_PROGRESS', undefined], completed: ['COMPLETED', undefined], cancelled: ['COMPLETED', expect.any(String)] },
  },
  replicate: {
    submit: (prompt) => [`/replicate/v1/models/${MODEL}/predictions`, { input: { prompt } }],
    idOf: ({ id }) => id,
    read: (id) => `/replicate/v1/predictions/${id}`,
    stateOf: ({ status }) => status,
    cancel: (id) => ['POST', `/replicate/v1/predictions/${id}/cancel`],
    words: { running: 'processing', completed: 'succeeded', cancelled: 'canceled' },
  },
  wavespeed: {
    submit: (prompt) => [`/api/v3/${MODEL}`, { prompt }],
    idOf: ({ data }) => data.id,
    read: (id) => `/api/v3/predictions/${id}`,
    // Its clients know no word for a cancelled job: the error tells.
    stateOf: ({ data }) => [data.status, data.error],
    cancel: (id) => ['DELETE', `/api/v3/predictions/${id}`],
    words: { running: ['processing', ''], completed: ['completed', ''], cancelled: ['failed', expect.stringContaining('cancelled')] },
  },
  'inference-sh': {
    submit: (prompt) => ['/apps/run', { app: MODEL, input: { prompt } }],
    idOf: ({ data }) => data.id,
    read: (id) => `/tasks/${id}`,
    stateOf: ({ data }) => data.status,
    cancel: (id) => ['POST', `/tasks/${id}/cancel`],
    words: { running: 7, completed: 10, cancelled: 12 },
  },
  openai: {
    submit: (prompt) => ['/openai/v1/responses', { model: 'meta/meta-llama-3.1-405b-instruct', input: prompt, background: true }],
    idOf: ({ id }) => id.replace('resp_', ''),
    read: (id) => `/openai/v1/responses/resp_${id}`,
    stateOf: ({ status }) => status,
    cancel: (id) => ['POST', `/openai/v1/responses/resp_${id}/cancel`],
    words: { running: 'in_progress', completed: 'completed', cancelled: 'cancelled' },
  },
};

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service[Symbol.asyncDispose]());

async function ask(path: string, method = 'GET', body?: object): Promise<Answer> {
  const response = await service.request(path, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  return response.json();
}

async function make({ submit, idOf }: Spoken, prompt: string): Promise<string> {
  const [path, body] = submit(prompt);
  const id = idOf(await ask(path, 'POST', body));
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  return id;
}

/** Every dialect tells of the job in its own words. */
async function expectEverywhere(id: string, state: keyof Words): Promise<void> {
  for (const [name, { read, stateOf, words }] of Object.entries(DIALECTS)) {
    await expect.poll(async () => stateOf(await ask(read(id))), { timeout: 10_000, message: name }).toEqual(words[state]);
  }
}

describe.each(Object.entries(DIALECTS))('a job made through %s', (_name, maker) => {
  test('that runs and completes is so in the words of each', async () => {
    const id = await make(maker, 'something [[slow:0]]');
    await expectEverywhere(id, 'completed');
  });

  test.each(Object.entries(DIALECTS))('is cancelled through %s, which all can tell', async (_other, { cancel }) => {
    const id = await make(maker, 'something [[slow:60000]]');
    await expectEverywhere(id, 'running');
    const [method, path] = cancel(id);
    await ask(path, method);
    await expectEverywhere(id, 'cancelled');
  });
});
