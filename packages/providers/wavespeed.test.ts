import type { JsonObject, JsonValue } from '@claimcheck/core';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { isSignedWith } from './_wavespeed-signature.ts';
import simulator, { WEBHOOK_SECRET } from './simulators/wavespeed.ts';
import { benchOf, callsOf, errorOf, FOREVER_MS, handleOf } from './testing/bench.ts';
import { asCallback, receiveCallbacks } from './testing/callbacks.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';
import wavespeed from './wavespeed.ts';

const MODEL = 'wavespeed-ai/hidream-i1-full';
const PARAMETERS = { prompt: 'a fox ×🍋', size: '1024*1024', seed: 41 };
const HANDLE = { id: 'abc', startedAt: 0 };

const envelope = (data: JsonValue) => ({ code: 200, message: 'success', data });

const subject: Subject = {
  provider: wavespeed,
  simulator,
  model: MODEL,
  parameters: PARAMETERS,
  needs: 'WAVESPEED_API_KEY',
  keyVariable: 'WAVESPEED_API_KEY',
  sent: (key) => ({ method: 'POST', path: `/api/v3/${MODEL}`, headers: { authorization: `Bearer ${key}` }, body: PARAMETERS }),
  made: (url) => ({
    media: [
      { location: { url: expect.stringMatching(new RegExp(`^${url}/files/.*/1\\.png$`)) }, contentType: 'image/png', fileName: '1.png' },
    ],
    seed: 41,
    nsfw: [false],
    timings: { executionTime: expect.any(Number), inference: expect.any(Number) },
  }),
  words: { fail: 'The model ran out of memory.', refuse: 'The content was flagged as potentially sensitive.' },
  refused: (words) => ({ status: 400, body: { code: 400, message: words } }),
  unknownModel: 'unknown/model',
  polled: {
    accepted: (id, elsewhere) => envelope({ ...(id !== undefined && { id }), status: 'created', urls: { get: `${elsewhere}/result` } }),
    ended: (elsewhere) => [{ body: envelope({ id: 'abc', status: 'completed', outputs: ['words'], urls: { get: elsewhere } }) }],
    told: (status) => envelope({ id: 'abc', status }),
    handle: HANDLE,
    // The vendor's advice.
    pace: { firstMs: 2000, mostMs: 5000 },
    cancellation: /^DELETE \/api\/v3\/predictions\/[0-9a-f]{32}$/,
  },
  callback: {
    isAskedFor: ({ path, body }, url) =>
      path === `/api/v3/${MODEL}?webhook=${encodeURIComponent(url)}` && JSON.stringify(body) === JSON.stringify(PARAMETERS),
    calls: ['POST /api/v3/ID', 'GET /api/v3/webhook/secret'],
    id: /wavespeed-ai.*/,
    signature: {
      signed: { 'webhook-id': 'other', 'webhook-signature': `v3,${'a'.repeat(64)}` },
      timestamp: 'webhook-timestamp',
      keys: { path: '/api/v3/webhook/secret', ofSomebody: envelope({ secret: 'whsec_before' }) },
    },
  },
};

describeConformance(subject);

const bench = benchOf(subject);

/** What a look at a run comes to, given the members of its prediction. */
async function checked(prediction: JsonObject, parameters: JsonObject = PARAMETERS) {
  const { upstream } = await bench.against({ body: envelope({ id: 'abc', status: 'completed', error: '', ...prediction }) });
  const { run, files } = bench.testRun({ parameters });
  const step = await upstream.check(run, HANDLE);
  return { output: step.kind === 'finished' ? step.output : expect.unreachable('it has ended'), files };
}

describe('a run', () => {
  test('is polled at its result', async () => {
    const { vendor, upstream } = await bench.simulate();
    await finish(upstream, bench.run());
    expect(new Set(callsOf(vendor, /[0-9a-f]{32}/).slice(1))).toEqual(new Set(['GET /api/v3/predictions/ID/result']));
  });

  test('has no seed when a random one was asked for and none is told', async () => {
    const { upstream } = await bench.simulate();
    expect(await finish(upstream, bench.run({ parameters: { ...PARAMETERS, seed: -1 } }))).not.toHaveProperty('seed');
  });

  test('does not hold the submission until its end, even if that was asked for', async () => {
    const { vendor, upstream } = await bench.simulate({ runMs: FOREVER_MS });
    const step = await upstream.start(bench.run({ parameters: { ...PARAMETERS, enable_sync_mode: true } }));
    expect(step.kind).toBe('running');
    expect(vendor.requests[0]?.body).toEqual(PARAMETERS);
  });
});

describe('outputs', () => {
  test('files as text go into the store and no further', async () => {
    const { upstream } = await bench.simulate();
    const { run, files } = bench.testRun({ parameters: { ...PARAMETERS, enable_base64_output: true } });
    const output = await finish(upstream, run);
    expect(output.media).toEqual([{ location: { asset: 'file-1' }, contentType: 'image/png', fileName: 'image.png', bytes: 70 }]);
    expect(Buffer.from(files[0]?.bytes ?? []).toString('latin1', 1, 4)).toBe('PNG');
    expect(output).not.toHaveProperty('text');
  });

  test('files as text of an unknown kind are stored when they were asked for', async () => {
    const outputs = [Buffer.alloc(200, 7).toString('base64')];
    const { output } = await checked({ outputs }, { ...PARAMETERS, enable_base64_output: true });
    expect(output).toMatchObject({ media: [{ contentType: 'application/octet-stream', bytes: 200 }] });
    expect((await checked({ outputs })).output.text).toBe(outputs[0]);
  });

  test('links, words and objects are told apart, and flags stay with their media', async () => {
    const { output } = await checked(
      {
        outputs: ['hello', 'https://x.test/a.mp4', { score: 1 }, 'https://x.test/b.webp'],
        has_nsfw_contents: [false, false, false, true],
      },
      { prompt: 'x' },
    );
    expect(output).toEqual({
      media: [
        { location: { url: 'https://x.test/a.mp4' }, contentType: 'video/mp4', fileName: 'a.mp4' },
        { location: { url: 'https://x.test/b.webp' }, contentType: 'image/webp', fileName: 'b.webp' },
      ],
      text: 'hello',
      json: { score: 1 },
      nsfw: [false, true],
    });
  });

  test('no flags are made up where the vendor tells none', async () => {
    expect((await checked({ outputs: ['https://x.test/a.png'], has_nsfw_contents: null })).output).not.toHaveProperty('nsfw');
  });

  test('the seed that the vendor tells counts before the one that was asked for', async () => {
    expect((await checked({ outputs: ['https://x.test/a.png'], input: { seed: 9 } })).output.seed).toBe(9);
  });

  test('an address that is not of the web is no medium', async () => {
    expect((await checked({ outputs: ['file:///etc/passwd'] })).output).toMatchObject({ media: [], text: 'file:///etc/passwd' });
  });

  test('nothing at all is a failure, and a refusal where the content was flagged', async () => {
    expect(await errorOf(checked({ outputs: [] }))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    expect(await errorOf(checked({ outputs: [], has_nsfw_contents: [true] }))).toMatchObject({ code: 'content_refused' });
  });
});

describe('failures of a run', () => {
  test.each([
    [1200, 'TerminalError', 'content_refused'],
    [1400, 'TerminalError', 'invalid_input'],
    [1401, 'TerminalError', 'invalid_input'],
    [1402, 'TerminalError', 'invalid_input'],
    [1403, 'TerminalError', 'provider_error'],
    [1405, 'TerminalError', 'provider_error'],
    [5000, 'RetryableError', 'provider_error'],
    [5003, 'RetryableError', 'provider_error'],
    [5004, 'RetryableError', 'provider_error'],
    [0, 'TerminalError', 'provider_error'],
  ])('the code %i of a failed run is a %s, %s', async (taskCode, name, code) => {
    const error = await errorOf(checked({ status: 'failed', code: taskCode, error: 'told so' }));
    expect(error).toMatchObject({ name, code, message: 'told so' });
    if (name === 'TerminalError') expect(error).toHaveProperty('isProvidersOnly', false);
  });

  test('a run that failed because the account could not pay may be served by another provider', async () => {
    const error = await errorOf(checked({ status: 'failed', code: 1407, error: 'told so' }));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
  });

  test.each(['cancelled', 'timeout', 'deleted'])('a run that is %s at the vendor fails for good', async (status) => {
    expect(await errorOf(checked({ status }))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });

  test('a run that fails at its submission fails at once', async () => {
    const { upstream } = await bench.against({ body: envelope({ id: 'abc', status: 'failed', code: 1200, error: 'no' }) });
    expect(await errorOf(upstream.start(bench.run()))).toMatchObject({ code: 'content_refused' });
  });

  test('a wait that the vendor gave up is no failure: the run goes on', async () => {
    const { upstream } = await bench.against({
      body: envelope({ id: 'abc', status: 'processing', code: 5004, error: 'Sync mode timed out' }),
    });
    expect(await upstream.start(bench.run())).toMatchObject({ kind: 'running', handle: { id: 'abc' } });
  });

  test('the key and the paths of links never reach an error', async () => {
    const key = simulator.environment('').WAVESPEED_API_KEY;
    const error = await errorOf(checked({ status: 'failed', error: `bad ${key} at https://x.test/a?token=abc ${'long '.repeat(200)}` }));
    expect(error.message).toMatch(/^bad … at /);
    expect(`${error.stack} ${error.cause}`).not.toMatch(/simulated-wavespeed-key|token=abc/);
    expect(error.message.length).toBeLessThanOrEqual(300);
  });
});

describe('statuses', () => {
  test.each([
    [400, 'invalid_input', false],
    [401, 'provider_error', true],
    [402, 'provider_error', true],
    [403, 'provider_error', true],
    [404, 'provider_error', true],
    [413, 'invalid_input', false],
    [418, 'provider_error', false],
  ])('%i at the submission fails for good as %s; that another provider may serve it: %s', async (status, code, isProvidersOnly) => {
    const { upstream } = await bench.against({ status, body: { code: status, message: 'told so' } });
    expect(await errorOf(upstream.start(bench.run()))).toMatchObject({ name: 'TerminalError', code, isProvidersOnly });
  });

  test.each<[JsonObject, string, string]>([
    [{ code: 400, message: 'told so' }, 'TerminalError', 'invalid_input'],
    [{ code: 1200, message: 'told so' }, 'TerminalError', 'content_refused'],
    [{ code: 429, message: 'told so' }, 'RetryableError', 'provider_error'],
    [{ code: 503, message: 'told so' }, 'RetryableError', 'provider_error'],
    [{ code: 200, message: 'success', data: null }, 'RetryableError', 'provider_error'],
  ])('a success whose envelope says otherwise is none: %j', async (body, name, code) => {
    const { upstream } = await bench.against({ body });
    expect(await errorOf(upstream.start(bench.run()))).toMatchObject({ name, code });
  });

  test('a refusal for the content of the parameters is told from others', async () => {
    const { upstream } = await bench.against({ status: 400, body: { code: 1200, message: 'told so' } });
    expect(await errorOf(upstream.start(bench.run()))).toMatchObject({ code: 'content_refused', message: 'told so' });
  });

  test('the words of the vendor say why parameters were refused, with or without an envelope', async () => {
    const bare = await bench.against({ status: 400, body: { error: 'no webhook with base64' } });
    expect((await errorOf(bare.upstream.start(bench.run()))).message).toBe('no webhook with base64');
    const { upstream } = await bench.simulate();
    expect((await errorOf(upstream.start(bench.run({ parameters: {} })))).message).toBe('property "prompt" is missing');
  });

  test('a model that nobody knows fails with the words of the vendor', async () => {
    const { upstream } = await bench.simulate();
    expect((await errorOf(upstream.start(bench.run({ model: 'unknown/model' })))).message).toBe('model unknown/model not found');
  });
});

describe('webhooks', () => {
  test('the signature of the computed example in the protocol sheet is right', () => {
    const headers = {
      'webhook-id': 'wh_1',
      'webhook-timestamp': '1700000000',
      'webhook-signature': 'v3,44a84b5ab5cd5800ff49f1b4f72f84570a56ada2469948565fdca9ddb435cccd',
    };
    const example = (body: string) => asCallback({ headers, body: Buffer.from(body) }, undefined);
    expect(isSignedWith(example('{"id":"p1","status":"completed"}'), WEBHOOK_SECRET)).toBe(true);
    expect(isSignedWith(example('{"id":"p1","status":"completed" }'), WEBHOOK_SECRET)).toBe(false);
    expect(isSignedWith(example('{"id":"p1","status":"completed"}'), 'whsec_')).toBe(false);
  });

  test('a genuine one says the same as a look', async () => {
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    const { upstream } = await bench.simulate();
    const run = bench.run({ callbackUrl: receiver.url });
    const handle = handleOf(await upstream.start(run));
    const callback = asCallback(await receiver.arrival(1), handle);
    expect(await upstream.receive?.(run, callback)).toEqual(await upstream.check(run, handle));
    // Of another version of signatures.
    const changed = { 'webhook-signature': `v1,${'a'.repeat(64)}` };
    expect(await upstream.receive?.(run, asCallback(await receiver.arrival(1), handle, changed))).toBeUndefined();
  });

  test('files as text rule a webhook out, so the run is polled as if there were none', async () => {
    const { vendor, upstream } = await bench.simulate();
    const parameters = { ...PARAMETERS, enable_base64_output: true };
    expect(await upstream.start(bench.run({ parameters, callbackUrl: 'http://127.0.0.1:1/x' }))).toMatchObject({ checkAfterMs: 2000 });
    expect(vendor.requests[0]?.path).toBe(`/api/v3/${MODEL}`);
  });

  test('the vendor itself is asked for webhooks over HTTPS only', async () => {
    // An HTTPS server that this process trusts cannot be had on loopback, so what would be sent is looked at where it leaves.
    const sent = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => Response.json(envelope({ id: 'abc', status: 'created' })));
    onTestFinished(() => sent.mockRestore());
    const upstream = bench.open({ WAVESPEED_API_KEY: 'any' });
    const startWith = (callbackUrl: string) => upstream.start(bench.run({ callbackUrl }));
    expect(await startWith('http://queue.example/hook')).toMatchObject({ checkAfterMs: 2000 });
    expect(await startWith('https://queue.example/hook')).toMatchObject({ checkAfterMs: 30_000 });
    expect(sent.mock.calls.map(([url]) => url)).toEqual([
      `https://api.wavespeed.ai/api/v3/${MODEL}`,
      `https://api.wavespeed.ai/api/v3/${MODEL}?webhook=https%3A%2F%2Fqueue.example%2Fhook`,
    ]);
  });

  test('a secret without the envelope is understood', async () => {
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    const { upstream } = await bench.simulate();
    const run = bench.run({ callbackUrl: receiver.url });
    const handle = handleOf(await upstream.start(run));
    const bare = await bench.against({ body: { secret: WEBHOOK_SECRET } });
    expect(await bare.upstream.receive?.(run, asCallback(await receiver.arrival(1), handle))).toMatchObject({ kind: 'finished' });
  });
});
