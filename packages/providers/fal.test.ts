import type { JsonObject, JsonValue } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import fal from './fal.ts';
import simulator from './simulators/fal.ts';
import { benchOf, callsOf, errorOf, FOREVER_MS, handleOf, type ScriptedAnswer } from './testing/bench.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';

const MODEL = 'fal-ai/hidream-i1-fast';
const FOX = { prompt: 'a fox', seed: 7 };
const HANDLE = { app: MODEL, id: 'r-1', startedAt: 0 };

const detail = (type: string, msg = 'It is wrong', place = 'prompt') => ({
  detail: [{ loc: ['body', place], msg, type, input: 'secret input' }],
});

const subject: Subject = {
  provider: fal,
  simulator,
  model: MODEL,
  parameters: FOX,
  needs: 'FAL_KEY',
  keyVariable: 'FAL_KEY',
  sent: (key) => ({ method: 'POST', path: `/${MODEL}`, headers: { authorization: `Key ${key}` }, body: FOX }),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(new RegExp(`^${url}/files/.*\\.png$`)) },
        contentType: 'image/png',
        fileName: expect.stringMatching(/\.png$/),
        width: 1,
        height: 1,
      },
    ],
    seed: 7,
    nsfw: [false],
    timings: { inference: expect.any(Number), inference_time: expect.any(Number) },
  }),
  words: {
    fail: 'The model generated no media for this input.',
    refuse: 'prompt: The content could not be processed: it was flagged.',
  },
  refused: (words) => ({ status: 422, body: detail('value_error', words) }),
  unknownModel: 'unknown/model',
  polled: {
    accepted: (id, elsewhere) => ({ ...(id !== undefined && { request_id: id }), status_url: elsewhere, response_url: `${elsewhere}/r` }),
    ended: (elsewhere) => [
      { body: { status: 'COMPLETED', response_url: elsewhere } },
      { body: { images: [{ url: 'https://v3.fal.media/a.png' }] } },
    ],
    told: (status) => ({ status, request_id: 'r-1' }),
    handle: HANDLE,
    // The vendor's client polls every half second.
    pace: { firstMs: 500, mostMs: 5000 },
    cancellation: /^PUT \/fal-ai\/hidream-i1-fast\/requests\/[\w-]+\/cancel$/,
  },
  callback: {
    isAskedFor: ({ path }, url) => path === `/${MODEL}?fal_webhook=${encodeURIComponent(url)}`,
    // The address of the submission has the callback's in it.
    calls: ['POST ID', 'GET /.well-known/jwks.json'],
    id: /^\/fal-ai.*/,
    signature: {
      signed: {
        'x-fal-webhook-request-id': '0b5c8d4e-0000-4000-8000-000000000000',
        'x-fal-webhook-user-id': 'somebody',
        'x-fal-webhook-signature': '0'.repeat(128),
      },
      timestamp: 'x-fal-webhook-timestamp',
      keys: {
        path: '/.well-known/jwks.json',
        ofSomebody: { keys: [{ kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }, { kty: 'EC' }, 7] },
      },
    },
  },
};

describeConformance(subject);

const bench = benchOf(subject);
const run = (parameters: JsonObject = FOX) => bench.run({ parameters });

/** Looks at a run that has ended with this result. */
async function checkEnded(status: number, body: JsonValue, headers: Readonly<Record<string, string>> = {}) {
  const { upstream } = await bench.against({ body: { status: 'COMPLETED' } }, { status, body, headers });
  return upstream.check(run(), HANDLE);
}

async function submit(answer: ScriptedAnswer) {
  return (await bench.against(answer)).upstream.start(run());
}

describe('a run', () => {
  test('is looked at and fetched by the app alone, without the sub path of its model', async () => {
    const { upstream, vendor } = await bench.simulate();
    await finish(upstream, bench.run({ model: 'fal-ai/flux/dev/image-to-image' }));
    expect([...new Set(callsOf(vendor, /[0-9a-f-]{36}/))]).toEqual([
      'POST /fal-ai/flux/dev/image-to-image',
      'GET /fal-ai/flux/requests/ID/status?logs=1',
      'GET /fal-ai/flux/requests/ID',
    ]);
  });

  test('of a name space keeps three parts, and an old id is read as its new form', async () => {
    const { upstream } = await bench.simulate({ runMs: FOREVER_MS });
    const appOf = async (model: string) => handleOf(await upstream.start(bench.run({ model })));
    expect(await appOf('workflows/acme/poster/large')).toMatchObject({ app: 'workflows/acme/poster' });
    expect(await appOf('110602490-lora')).toMatchObject({ app: '110602490/lora' });
  });

  test('tells what it has printed, and its progress as the last bar in that shows it', async () => {
    const logs = [{ message: ' 12%|#   | 3/25' }, { message: ' 48%|#   | 12/25' }];
    const { upstream } = await bench.against({ status: 202, body: { status: 'IN_PROGRESS', logs } });
    expect(await upstream.check(run(), HANDLE)).toMatchObject({
      kind: 'running',
      progress: 0.48,
      logs: [' 12%|#   | 3/25', ' 48%|#   | 12/25'],
    });
    const queued = await bench.against({ status: 202, body: { status: 'IN_QUEUE', logs: null } });
    expect(await queued.upstream.check(run(), HANDLE)).not.toHaveProperty('logs');
  });

  test('tells all that it has printed when it ends, well or not', async () => {
    const status = { body: { status: 'COMPLETED', logs: [{ message: 'loading' }, { message: 'done' }] } };
    const good = await bench.against(status, { body: { output: 'Once' } });
    expect(await good.upstream.check(run(), HANDLE)).toMatchObject({ kind: 'finished', logs: ['loading', 'done'] });
    const bad = await bench.against(status, { status: 500, body: { detail: 'It broke' } });
    expect(await errorOf(bad.upstream.check(run(), HANDLE))).toMatchObject({ logs: ['loading', 'done'] });
  });

  test('goes on when its result is not there yet, or a proxy answers in its place', async () => {
    expect(await checkEnded(400, { detail: 'Request is still in progress' })).toMatchObject({ kind: 'running', handle: HANDLE });
    expect(await checkEnded(502, '<html>nginx</html>')).toMatchObject({ kind: 'running', handle: HANDLE });
  });

  test('for want of a prompt fails at its result', async () => {
    const { upstream } = await bench.simulate();
    expect(await errorOf(finish(upstream, run({})))).toMatchObject({ code: 'invalid_input', message: 'prompt: Field required' });
  });
});

describe('outputs', () => {
  test('with data URIs have their pictures stored, and pass none of them on', async () => {
    const { upstream } = await bench.simulate();
    const { run: inline, files } = bench.testRun({ parameters: { ...FOX, sync_mode: true, num_images: 2 } });
    const output = await finish(upstream, inline);
    expect(output.media).toMatchObject([{ location: { asset: 'file-1' }, contentType: 'image/png' }, { location: { asset: 'file-2' } }]);
    expect(Buffer.from(files[0]?.bytes ?? []).toString('latin1', 1, 4)).toBe('PNG');
    expect(JSON.stringify(output)).not.toContain('data:');
  });
  test('of language models are text', async () => {
    expect(await checkEnded(200, { output: 'Once upon a time', partial: false })).toMatchObject({
      output: { media: [], text: 'Once upon a time' },
    });
  });
  test('with a video have its facts', async () => {
    const video = { url: 'https://v3.fal.media/a', content_type: 'video/mp4', file_name: 'out.mp4', file_size: 9 };
    expect(await checkEnded(200, { video })).toMatchObject({
      output: { media: [{ contentType: 'video/mp4', fileName: 'out.mp4', bytes: 9 }] },
    });
  });
  test('link to nothing but the web', async () => {
    const images = [{ url: 'https://v3.fal.media/a.png' }, { url: 'file:///etc/passwd' }];
    expect(await checkEnded(200, { images })).toMatchObject({ output: { media: [{ location: { url: 'https://v3.fal.media/a.png' } }] } });
  });
  test('with a flag per picture keep it, also when it is set', async () => {
    const images = [{ url: 'https://v3.fal.media/a.png' }];
    expect(await checkEnded(200, { images, has_nsfw_concepts: [true] })).toMatchObject({ output: { nsfw: [true] } });
    expect(await checkEnded(200, { images, has_nsfw_concepts: [true, false] })).not.toHaveProperty('output.nsfw');
  });
  test('that hold nothing are a failure', async () => {
    expect(await errorOf(checkEnded(200, {}))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });
});

describe('a run that failed', () => {
  test.each([
    ['refused content', 422, detail('content_policy_violation'), 'content_refused'],
    ['a missing parameter', 422, detail('missing'), 'invalid_input'],
    ['an image that is too large', 422, detail('image_too_large'), 'invalid_input'],
    ['a bad request', 400, { detail: 'Bad', error_type: 'bad_request' }, 'invalid_input'],
    ['a model that made nothing', 422, detail('no_media_generated'), 'provider_error'],
    ['a cancellation', 499, { detail: 'Gone', error_type: 'client_cancelled' }, 'provider_error'],
    ['a result that is gone', 404, { status: 'NOT_FOUND' }, 'provider_error'],
    ['an error of a type nobody knows', 500, { detail: 'Odd', error_type: 'solar_flare' }, 'provider_error'],
  ] as const)('by %s is not tried again, here or elsewhere', async (_name, status, body, code) => {
    expect(await errorOf(checkEnded(status, body))).toMatchObject({ name: 'TerminalError', code, isProvidersOnly: false });
  });

  test.each([
    ['a key that is wrong', 401, { detail: 'No' }],
    ['an account without credit', 402, { detail: 'No' }],
    ['an exhausted balance', 403, { detail: 'User is locked. Reason: Exhausted balance.' }],
    ['a model that is not there', 404, { detail: 'Application not found' }],
  ])('at its submission by %s may be served by another provider', async (_name, status, body) => {
    const error = await errorOf(submit({ status, body }));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
    expect(String(error)).not.toContain('Exhausted');
  });

  test.each([
    [408, 'request_timeout'],
    [409, 'conflict'],
    [500, 'internal_server_error'],
    [500, 'internal_error'],
    [500, 'runner_server_error'],
    [500, 'downstream_service_unavailable'],
    [500, 'downstream_service_error'],
    [400, 'downstream_service_error'],
    [502, 'runner_incomplete_response'],
    [503, 'runner_scheduling_failure'],
    [503, 'runner_connection_timeout'],
    [503, 'runner_connection_refused'],
    [503, 'runner_connection_error'],
    [503, 'runner_disconnected'],
    [504, 'request_timeout'],
    [504, 'startup_timeout'],
    [504, 'generation_timeout'],
  ] as const)('with %d %s is tried again', async (status, type) => {
    const error = await errorOf(checkEnded(status, { detail: 'It broke', error_type: type }));
    expect(error).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
  });

  test('because its start took longer than we allowed is not tried again', async () => {
    const late = checkEnded(504, { detail: 'Late', error_type: 'request_timeout' }, { 'x-fal-request-timeout-type': 'user' });
    expect(await errorOf(late)).toMatchObject({ name: 'TerminalError' });
  });

  test('is told in the words of the model, with the parameter and without its value', async () => {
    const error = await errorOf(checkEnded(422, detail('greater_than', 'Input should be greater than 0', 'num_images')));
    expect(error.message).toBe('num_images: Input should be greater than 0');
  });
});

test('a submission that fal refused for want of runners has started nothing, whatever its status', async () => {
  for (const status of [502, 503, 504]) {
    const error = await errorOf(submit({ status, body: { detail: 'x', error_type: 'runner_scheduling_failure' } }));
    expect(error, String(status)).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
  }
});

test('the simulator answers 202 until a run is over, and 400 to whoever wants its result before', async () => {
  const { vendor, environment } = await bench.simulate({ runMs: FOREVER_MS });
  const headers = { authorization: `Key ${environment.FAL_KEY}`, 'content-type': 'application/json' };
  const submitted = await fetch(`${vendor.url}/${MODEL}`, { method: 'POST', headers, body: JSON.stringify(FOX) });
  const { status_url: statusUrl, response_url: responseUrl } = Object(await submitted.json());
  expect((await fetch(statusUrl, { headers })).status).toBe(202);
  expect((await fetch(responseUrl, { headers })).status).toBe(400);
  expect((await fetch(statusUrl)).status).toBe(401);
});
