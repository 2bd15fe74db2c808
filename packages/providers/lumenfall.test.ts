import type { JsonObject, JsonValue, Run } from '@claimcheck/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { takesCallback } from './_lumenfall-callback.ts';
import { openProviders } from './index.ts';
import lumenfall from './lumenfall.ts';
import simulator from './simulators/lumenfall.ts';
import { answerInTurn, providerErrorOf } from './testing/answers.ts';
import { asCallback, receiveCallbacks } from './testing/callbacks.ts';
import { aRun, finish } from './testing/run.ts';

const HANDLE = { id: 'video_1', startedAt: 0 };

async function simulate(runMs = 10) {
  const vendor = await simulator.start({ port: 0, runMs });
  onTestFinished(() => vendor[Symbol.asyncDispose]());
  const environment = simulator.environment(vendor.url);
  return { vendor, environment, key: environment.LUMENFALL_API_KEY ?? '', upstream: open(environment) };
}

function open(environment: Readonly<Record<string, string>>) {
  const { upstreams } = openProviders([lumenfall], environment);
  return upstreams.get('lumenfall') ?? expect.unreachable('the provider is off');
}

/** The adapter before a vendor that answers with these in turn. */
async function answering(...answers: Parameters<typeof answerInTurn>) {
  return open({ LUMENFALL_API_KEY: 'lmnfl_a.b', LUMENFALL_BASE_URL: await answerInTurn(...answers) });
}

const picture = (parameters: JsonObject = { prompt: 'a fox' }, given: Partial<Run> = {}) =>
  aRun(parameters, { model: 'fal/hidream-i1-fast', ...given });
const video = (given: Partial<Run> = {}) => aRun({ prompt: 'a fox', seconds: '4' }, { model: 'video:kling-3', ...given }).run;

test('without its key it is off', () => {
  expect(openProviders([lumenfall], {}).off.get('lumenfall')).toBe('LUMENFALL_API_KEY is not set');
});

describe('pictures', () => {
  test('are asked for as the vendor documents it, and come with the answer', async () => {
    const { vendor, upstream, key } = await simulate();
    const { run } = picture({ prompt: 'a fox', size: '1024x1024', speed_mode: 'Juiced 🔥 (more speed)' });
    const step = await upstream.start(run);
    expect(step).toMatchObject({
      kind: 'finished',
      output: {
        media: [{ location: { url: expect.stringMatching(`^${vendor.url}/files/`) }, contentType: 'image/png', width: 1024, height: 1024 }],
        usage: { usd: 0.01 },
      },
    });
    expect(vendor.requests).toHaveLength(1);
    expect(vendor.requests[0]).toMatchObject({
      method: 'POST',
      path: '/openai/v1/images/generations',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', accept: 'application/json' },
    });
    expect(vendor.requests[0]?.body).toEqual({
      model: 'fal/hidream-i1-fast',
      prompt: 'a fox',
      size: '1024x1024',
      speed_mode: 'Juiced 🔥 (more speed)',
    });
  });

  test('that were charged in another currency have no price in dollars', async () => {
    const metadata = { cost: 0.01, cost_currency: 'EUR' };
    const upstream = await answering({ body: { data: [{ url: 'https://cdn.example/a.png' }], metadata } });
    expect(await finish(upstream, picture().run)).not.toHaveProperty('usage');
  });

  test('that a client wants in base64 are stored and go no further', async () => {
    const { upstream } = await simulate();
    const { run, files } = picture({ prompt: 'a fox', response_format: 'b64_json', n: 2 });
    const output = await finish(upstream, run);
    expect(files).toHaveLength(2);
    expect(JSON.stringify(output)).not.toContain('iVBOR');
  });

  test('ask for no callback, because the vendor has none for them', async () => {
    const { upstream, vendor } = await simulate();
    await finish(upstream, picture({ prompt: 'a fox' }, { callbackUrl: 'https://here.example/cb' }).run);
    expect(vendor.requests[0]?.body).toEqual({ model: 'fal/hidream-i1-fast', prompt: 'a fox' });
  });

  test('that are refused for their content end the run', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('refuse');
    expect(await providerErrorOf(upstream.start(picture().run))).toMatchObject({
      name: 'TerminalError',
      code: 'content_refused',
      message: 'The prompt violates the content policy of the provider.',
    });
  });

  test('that another process asks for again are paid for again, so the adapter does not call itself idempotent', async () => {
    const { upstream, vendor, environment } = await simulate();
    await finish(upstream, picture().run);
    await finish(open(environment), picture().run);
    expect(vendor.submitted).toBe(2);
    expect(upstream.isIdempotent).toBeFalsy();
  });
});

test('words come with the answer, with their tokens and what was charged', async () => {
  const { upstream, vendor } = await simulate();
  const { run } = aRun({ messages: [{ role: 'user', content: 'hello fox' }] }, { model: 'chat:google/gemini-3' });
  expect(await upstream.start(run)).toEqual({
    kind: 'finished',
    output: { media: [], text: 'You said: hello fox', usage: { inputTokens: 2, outputTokens: 4, usd: 0.0002 } },
  });
  expect(vendor.requests[0]).toMatchObject({ path: '/openai/v1/chat/completions', body: { model: 'google/gemini-3' } });
  vendor.inject('refuse');
  expect(await providerErrorOf(upstream.start(run))).toMatchObject({ name: 'TerminalError', code: 'content_refused' });
});

describe('videos', () => {
  test('are submitted with the key of the job, and without the mark of their route', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const run = video();
    expect(await upstream.start(run)).toMatchObject({ kind: 'running', checkAfterMs: 3000 });
    expect(vendor.requests[0]).toMatchObject({ method: 'POST', path: '/openai/v1/videos' });
    expect(vendor.requests[0]?.body).toEqual({ model: 'kling-3', prompt: 'a fox', seconds: '4', idempotency_key: run.idempotencyKey });
  });

  test('are followed to the link of their file', async () => {
    const { upstream, vendor } = await simulate();
    const { media, usage } = await finish(upstream, video());
    expect(usage).toEqual({ seconds: 4, usd: 0.5 });
    expect(media).toEqual([
      {
        location: { url: expect.stringMatching(`^${vendor.url}/files/video_`) },
        contentType: 'video/mp4',
        fileName: expect.stringMatching(/^video_\w+\.mp4$/),
        bytes: 70,
      },
    ]);
  });

  test('tell progress where the vendor does', async () => {
    const upstream = await answering({ body: { status: 'in_progress', progress: 42 } }, { body: { status: 'in_progress' } });
    expect(await upstream.check(video(), HANDLE)).toMatchObject({ kind: 'running', progress: 0.42 });
    expect(await upstream.check(video(), HANDLE)).not.toHaveProperty('progress');
  });

  test('that are submitted again are the same ones', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const [first, second] = [await upstream.start(video()), await upstream.start(video({ attempt: 2 }))];
    if (first.kind !== 'running' || second.kind !== 'running') throw new Error('They have ended.');
    expect(second.handle).toMatchObject({ id: (first.handle as { id: string }).id });
    expect(vendor.submitted).toBe(1);
  });

  test('are resumed by their handle from another process, with one submission', async () => {
    const { upstream, vendor, environment } = await simulate();
    const started = await upstream.start(video());
    if (started.kind !== 'running') throw new Error('It has ended.');
    const other = open(environment);
    let step = await other.check(video(), JSON.parse(JSON.stringify(started.handle)));
    while (step.kind === 'running') step = await other.check(video(), step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(vendor.requests.filter(({ method }) => method === 'POST')).toHaveLength(1);
  });

  test('are cancelled at the vendor, and again without harm', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const step = await upstream.start(video());
    if (step.kind !== 'running') throw new Error('It has ended.');
    await upstream.cancel?.(video(), step.handle);
    expect(vendor.requests.at(-1)).toMatchObject({ method: 'DELETE', path: expect.stringMatching(/^\/openai\/v1\/videos\/video_\w+$/) });
    await upstream.cancel?.(video(), step.handle);
    expect(await providerErrorOf(upstream.check(video(), step.handle))).toMatchObject({ name: 'TerminalError' });
  });

  test.each([
    ['refuse', 'content_refused', 'The prompt violates the content policy of the provider.'],
    ['fail', 'provider_error', 'The video could not be made.'],
  ] as const)('end with the words of the vendor: %s', async (fault, code, message) => {
    const { upstream, vendor } = await simulate();
    vendor.inject(fault);
    expect(await providerErrorOf(finish(upstream, video()))).toMatchObject({ name: 'TerminalError', code, message });
  });

  test.each([
    ['a status that is not documented', { status: 'daydreaming' }],
    ['an end without a link', { status: 'completed', output: null }],
    ['a link that is none', { status: 'completed', output: { url: 'file:///etc/passwd' } }],
  ])('with %s are looked at again', async (_case, body) => {
    const upstream = await answering({ body });
    expect(await upstream.check(video(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });

  test('that the vendor cancelled end the run', async () => {
    const upstream = await answering({ body: { status: 'cancelled' } });
    expect(await providerErrorOf(upstream.check(video(), HANDLE))).toMatchObject({ name: 'TerminalError' });
  });

  test('have no handle that leads elsewhere', async () => {
    const { upstream, vendor } = await simulate();
    const handles: readonly JsonValue[] = [{ id: '../models', startedAt: 0 }, { id: 'a' }, 'a', null];
    for (const handle of handles) {
      expect(await providerErrorOf(upstream.check(video(), handle))).toMatchObject({ name: 'TerminalError', code: 'internal' });
    }
    expect(vendor.requests).toEqual([]);
  });
});

describe('errors', () => {
  const error = (message: string, code: string) => ({ error: { message, code } });

  test.each([
    [400, error('size is odd', 'INVALID_REQUEST'), 'TerminalError', 'invalid_input', 'size is odd'],
    [400, error('not this', 'CONTENT_POLICY_VIOLATION'), 'TerminalError', 'content_refused', 'not this'],
    [
      401,
      error('who', 'AUTHENTICATION_FAILED'),
      'TerminalError',
      'provider_error',
      'The provider refused the key that this service has for it.',
    ],
    [402, error('no credit', 'INSUFFICIENT_BALANCE'), 'TerminalError', 'provider_error', 'The account at the provider has no credit left.'],
    [404, error('no such model', 'MODEL_NOT_FOUND'), 'TerminalError', 'provider_error', 'no such model'],
    [404, error('switched off', 'MODEL_DISABLED'), 'TerminalError', 'provider_error', 'switched off'],
    [429, error('slow down', 'RATE_LIMITED'), 'RetryableError', 'provider_error', 'The provider has too much to do.'],
    [500, error('oops', 'INTERNAL_ERROR'), 'RetryableError', 'provider_error', 'The provider failed with status 500.'],
    [502, error('all of them', 'ALL_PROVIDERS_EXHAUSTED'), 'RetryableError', 'provider_error', 'The provider failed with status 502.'],
    [200, error('in a good answer', 'UPSTREAM_ERROR'), 'TerminalError', 'provider_error', 'in a good answer'],
  ])('%i with %j is a %s', async (status, body, name, code, message) => {
    const upstream = await answering({ status, body });
    const thrown = await providerErrorOf(upstream.start(picture().run));
    expect(thrown).toMatchObject({ name, code, message });
    if (name === 'TerminalError') expect(thrown).toHaveProperty('isProvidersOnly', [401, 402, 404].includes(status));
  });

  test('502 in the words of the vendor started nothing; 502 of anything else may have', async () => {
    const own = await answering({ status: 502, body: error('all of them', 'ALL_PROVIDERS_EXHAUSTED') });
    expect(await providerErrorOf(own.start(picture().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
    const proxy = await answering({ status: 502, body: 'Bad gateway' });
    expect(await providerErrorOf(proxy.start(picture().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('an error that is null beside a good result is none', async () => {
    const upstream = await answering({ body: { error: null, data: [{ url: 'https://cdn.example/a.png' }] } });
    expect((await finish(upstream, picture().run)).media).toHaveLength(1);
  });

  test.each([
    ['unknown-1', 'provider_error'],
    ['broke-1', 'provider_error'],
  ])('the model %s ends the run before anything is paid for', async (model, code) => {
    const { upstream, vendor } = await simulate();
    expect(await providerErrorOf(upstream.start(picture({ prompt: 'a' }, { model }).run))).toMatchObject({ name: 'TerminalError', code });
    expect(vendor.submitted).toBe(0);
  });

  test('the key is in none of them, even where the vendor repeats it', async () => {
    const upstream = await answering({ status: 400, body: error('Your key lmnfl_a.b is odd', 'INVALID_REQUEST') });
    const thrown = await providerErrorOf(upstream.start(picture().run));
    expect(`${thrown.message} ${thrown.stack}`).not.toContain('lmnfl_a.b');
  });
});

describe('faults of the vendor', () => {
  test.each([
    ['429', false],
    ['500', false],
    ['html', true],
    ['truncated', true],
  ] as const)('%s at a submission is tried again', async (fault, mayHaveStarted) => {
    const { upstream, vendor } = await simulate();
    for (const run of [video(), picture().run]) {
      vendor.inject(fault);
      expect(await providerErrorOf(upstream.start(run))).toMatchObject({ name: 'RetryableError', mayHaveStarted });
    }
  });

  test('a video whose submission was not answered is found by the next one', async () => {
    const { upstream, vendor } = await simulate(0);
    vendor.inject('truncated');
    await providerErrorOf(upstream.start(video()));
    expect((await finish(upstream, video({ attempt: 2 }))).media).toHaveLength(1);
    expect(vendor.submitted).toBe(1);
  });

  test.each(['429', '500', 'html', 'truncated'] as const)('%s at a look leaves the run as it is', async (fault) => {
    const { upstream, vendor } = await simulate(0);
    const step = await upstream.start(video());
    if (step.kind !== 'running') throw new Error('It has ended.');
    vendor.inject(fault);
    const checkAfterMs = fault === '429' ? 1000 : 5000;
    expect(await upstream.check(video(), step.handle)).toEqual({ kind: 'running', handle: step.handle, checkAfterMs });
    expect((await upstream.check(video(), step.handle)).kind).toBe('finished');
  });

  test('a slow vendor is waited for no longer than the run is wanted', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('slow');
    const control = new AbortController();
    const started = upstream.start(video({ signal: control.signal }));
    control.abort(new Error('lease lost'));
    await expect(started).rejects.toThrow('lease lost');
  });

  test('a status that was there before is no end', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('backwards', 2);
    expect((await finish(upstream, video())).media).toHaveLength(1);
  });

  test('links that have expired are not found', async () => {
    const { upstream, vendor } = await simulate();
    const [media] = (await finish(upstream, picture().run)).media;
    if (!media || !('url' in media.location)) throw new Error('No link.');
    vendor.inject('expired');
    expect((await fetch(media.location.url)).status).toBe(404);
    expect((await fetch(media.location.url)).headers.get('content-type')).toBe('image/png');
  });
});

describe('a callback', () => {
  async function calledBack(runMs = 0) {
    const { upstream, vendor, environment } = await simulate(runMs);
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    const run = video({ callbackUrl: receiver.url });
    return { upstream, vendor, environment, receiver, run };
  }

  async function arrived() {
    const all = await calledBack();
    const step = await all.upstream.start(all.run);
    if (step.kind !== 'running') throw new Error('It has ended.');
    return { ...all, handle: step.handle, callback: await all.receiver.arrival(1) };
  }

  test('is asked for, and looking slows down', async () => {
    const { upstream, vendor, receiver, run } = await calledBack(60_000);
    const step = await upstream.start(run);
    expect(step).toMatchObject({ checkAfterMs: 30_000 });
    expect(vendor.requests[0]?.body).toMatchObject({ webhook_url: receiver.url });
    expect(await upstream.check(run, step.kind === 'running' ? step.handle : null)).toMatchObject({ checkAfterMs: 30_000 });
  });

  test('that is genuine finishes the run, and its double does so again', async () => {
    const { upstream, vendor, receiver, run } = await calledBack();
    vendor.inject('double-callback');
    const step = await upstream.start(run);
    if (step.kind !== 'running') throw new Error('It has ended.');
    const first = await upstream.receive?.(run, asCallback(await receiver.arrival(1), step.handle));
    expect(first).toMatchObject({ kind: 'finished', output: { media: [{ contentType: 'video/mp4' }] } });
    expect(await upstream.receive?.(run, asCallback(await receiver.arrival(2), step.handle))).toEqual(first);
    expect(vendor.requests.filter(({ path }) => path === '/v1/webhooks/secret')).toHaveLength(1);
  });

  test('with one byte changed proves nothing', async () => {
    const { upstream, run, handle, callback } = await arrived();
    const body = Buffer.from(callback.body);
    body[body.length - 3] = (body[body.length - 3] ?? 0) ^ 1;
    expect(await upstream.receive?.(run, asCallback({ ...callback, body }, handle))).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(callback, handle))).toMatchObject({ kind: 'finished' });
  });

  test.each([
    ['another id', { 'webhook-id': 'msg_other' }],
    ['another signature', { 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')}` }],
    ['no signature', { 'webhook-signature': undefined }],
    ['no id', { 'webhook-id': undefined }],
    ['no time', { 'webhook-timestamp': undefined }],
    ['a time that is none', { 'webhook-timestamp': 'now' }],
  ])('with %s proves nothing', async (_case, changed) => {
    const { upstream, run, handle, callback } = await arrived();
    expect(await upstream.receive?.(run, asCallback(callback, handle, changed))).toBeUndefined();
  });

  test('whose signature is one of several is genuine', async () => {
    const { upstream, run, handle, callback } = await arrived();
    const changed = { 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')} ${callback.headers['webhook-signature']}` };
    expect(await upstream.receive?.(run, asCallback(callback, handle, changed))).toMatchObject({ kind: 'finished' });
  });

  test.each([
    [301, undefined],
    [-301, undefined],
    [299, 'finished'],
  ])('that is read %i seconds after it was sent is %s', async (seconds, kind) => {
    const { upstream, run, handle, callback } = await arrived();
    const sentAt = Number(callback.headers['webhook-timestamp']) * 1000;
    const later = { ...run, clock: { ...run.clock, now: () => sentAt + seconds * 1000 } };
    expect((await upstream.receive?.(later, asCallback(callback, handle)))?.kind).toBe(kind);
  });

  test('that is stale, or of a run without a handle, costs no call', async () => {
    const { upstream, vendor, run, handle, callback } = await arrived();
    const before = vendor.requests.length;
    await upstream.receive?.(run, asCallback(callback, handle, { 'webhook-timestamp': '1700000000' }));
    await upstream.receive?.(run, asCallback(callback, undefined));
    expect(vendor.requests).toHaveLength(before);
  });

  test('proves nothing while the secret cannot be had, and does not end the run', async () => {
    const { upstream, vendor, run, handle, callback } = await arrived();
    vendor.inject('500');
    expect(await upstream.receive?.(run, asCallback(callback, handle))).toBeUndefined();
  });

  test('of a run that failed throws like a look', async () => {
    const { upstream, vendor, receiver, run } = await calledBack();
    vendor.inject('refuse');
    const step = await upstream.start(run);
    if (step.kind !== 'running') throw new Error('It has ended.');
    const callback = asCallback(await receiver.arrival(1), step.handle);
    expect(await providerErrorOf(upstream.receive?.(run, callback))).toMatchObject({ code: 'content_refused' });
  });

  test('that is genuine but comes before the vendor itself tells of the end changes nothing', async () => {
    const { upstream, vendor, run, handle, callback } = await arrived();
    expect(await upstream.receive?.(run, asCallback(callback, handle))).toMatchObject({ kind: 'finished' });
    vendor.inject('backwards');
    expect(await upstream.receive?.(run, asCallback(callback, handle))).toBeUndefined();
  });

  test.each(['lost-callback', 'late-callback'] as const)('%s: looking finds the result', async (fault) => {
    const { upstream, vendor, receiver, run } = await calledBack();
    vendor.inject(fault);
    expect((await finish(upstream, run)).media).toHaveLength(1);
    expect(receiver.received).toEqual([]);
  });

  test('to an address that the vendor refuses is not asked for, and looking is at its pace', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const step = await upstream.start(video({ callbackUrl: 'http://here.example/cb' }));
    expect(step).toMatchObject({ checkAfterMs: 3000 });
    expect(vendor.requests[0]?.body).not.toHaveProperty('webhook_url');
  });

  test('is not sent where a client wants it', async () => {
    const { upstream, vendor } = await simulate(60_000);
    await upstream.start(aRun({ prompt: 'a', webhook_url: 'https://client.example/' }, { model: 'video:kling-3' }).run);
    expect(vendor.requests[0]?.body).not.toHaveProperty('webhook_url');
  });

  test.each([
    ['https://here.example/cb', true],
    ['https://here.example:8443/cb', true],
    ['http://here.example/cb', false],
    ['https://here.example:9000/cb', false],
    ['https://203.0.113.9/cb', false],
    ['https://[2001:db8::1]/cb', false],
    ['https://localhost/cb', false],
    ['https://internal/cb', false],
    ['http://127.0.0.1:9/cb', false],
    ['no address', false],
  ])('to %s is taken by the vendor itself: %s', (callbackUrl, isTaken) => {
    expect(takesCallback('https://api.lumenfall.ai/openai/v1', callbackUrl)).toBe(isTaken);
  });
});

describe('the simulator', () => {
  test('speaks under both prefixes, and quotes a price without running anything', async () => {
    const { vendor, key } = await simulate();
    const post = (path: string) =>
      fetch(`${vendor.url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'fal/m', prompt: 'a' }),
      }).then((answer) => answer.json());
    expect(await post('/v1/images/generations?dryRun=true')).toMatchObject({ estimated: true, provider: 'fal', total_cost_micros: 10_000 });
    expect(vendor.submitted).toBe(0);
    expect(await post('/v1/images/generations')).toMatchObject({ metadata: { executed_model: 'fal/m' } });
  });

  test('calls no other machine', async () => {
    const { upstream } = await simulate();
    const run = video({ callbackUrl: 'https://here.example/cb' });
    expect(await providerErrorOf(upstream.start(run))).toMatchObject({ code: 'invalid_input' });
  });
});
