import { RetryableError, type Step, TerminalError } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openProviders } from './index.ts';
import segmind from './segmind.ts';
import simulator from './simulators/segmind.ts';
import { openFaults, type Simulated, serve } from './simulators/simulator.ts';
import { aRun, finish } from './testing/run.ts';

const KEY = 'SG_0123456789abcdef';
const RUN_MS = 20;
/** A run that is still under way whenever a test looks. */
const FOREVER_MS = 3_600_000;
const parameters = { prompt: 'a fox ×🍋', seed: -1 };
const model = 'hidream-l1-fast';

let simulated: Simulated;
beforeEach(async () => {
  simulated = await simulator.start({ port: 0, runMs: RUN_MS });
});
afterEach(async () => {
  await simulated[Symbol.asyncDispose]();
});

function open(baseUrl = simulated.baseUrl, key = KEY) {
  const { upstreams } = openProviders([segmind], { SEGMIND_API_KEY: key, SEGMIND_BASE_URL: baseUrl });
  return upstreams.get('segmind') ?? expect.unreachable('it has a key');
}

async function simulate(runMs: number) {
  const another = await simulator.start({ port: 0, runMs });
  onTestFinished(() => another[Symbol.asyncDispose]());
  return another;
}

interface Answer {
  readonly status?: number;
  readonly body: string | Buffer | object;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An upstream whose answers are listed, one per call; the last one stays. */
async function openAgainst(...answers: readonly Answer[]) {
  const left = [...answers];
  const server = await serve(0, openFaults(), (_request, response) => {
    const { status = 200, body, headers = {} } = (left.length > 1 ? left.shift() : left[0]) ?? expect.unreachable('there is a last one');
    const isRaw = typeof body === 'string' || Buffer.isBuffer(body);
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(isRaw ? body : JSON.stringify(body));
  });
  onTestFinished(() => server.close());
  return { upstream: open(server.url), requests: server.requests, url: server.url };
}

const accepted: Answer = { body: { request_id: 'abc', status: 'QUEUED', status_url: 'http://h/s', response_url: 'http://h/r' } };
const completed: Answer = { body: { request_id: 'abc', status: 'COMPLETED', metrics: {} } };
const handle = { id: 'abc', startedAt: 0 };

/** What a run ends with, given the members of its result. */
async function outputOf(result: object) {
  const { upstream } = await openAgainst(accepted, completed, { body: { status: 'COMPLETED', request_id: 'abc', ...result } });
  const { run, files } = aRun(parameters, { model });
  return { output: await finish(upstream, run), files };
}

/** The error that a promise rejects with. */
async function errorOf(promise: Promise<unknown>) {
  return promise.then(
    () => expect.unreachable('it must fail'),
    (error: unknown) => error,
  );
}

function handleOf(step: Step) {
  return step.kind === 'running' ? step.handle : expect.unreachable('v2 answers before the end');
}

describe('settings', () => {
  test('without its key the provider is off and says why', () => {
    expect(openProviders([segmind], {}).off.get('segmind')).toBe('SEGMIND_API_KEY is not set');
  });

  test('a key that cannot travel in a header is refused without being shown', () => {
    const openWrong = () => openProviders([segmind], { SEGMIND_API_KEY: 'SG_secret\nline' });
    expect(openWrong).toThrow('SEGMIND_API_KEY');
    expect(openWrong).not.toThrow('SG_secret');
  });

  test('slashes at the end of the base address are dropped', async () => {
    await finish(open(`${simulated.baseUrl}//`), aRun(parameters, { model }).run);
    expect(simulated.requests[0]?.path).toBe('/v2/hidream-l1-fast');
  });
});

describe('v2', () => {
  test('a run is submitted with its parameters flat and the key in x-api-key', async () => {
    await finish(open(), aRun(parameters, { model }).run);
    expect(simulated.requests[0]).toMatchObject({
      method: 'POST',
      path: '/v2/hidream-l1-fast',
      headers: { 'x-api-key': KEY, 'content-type': 'application/json' },
      body: parameters,
    });
    expect(simulated.requests[0]?.headers.authorization).toBeUndefined();
  });

  test('a run is polled at its status and read once at its result', async () => {
    await finish(open(), aRun(parameters, { model }).run);
    const asked = simulated.requests.slice(1).map(({ method, path }) => `${method} ${path.replace(/[0-9a-f]{32}/, 'ID')}`);
    expect(new Set(asked.slice(0, -1))).toEqual(new Set(['GET /v2/requests/ID/status']));
    expect(asked.at(-1)).toBe('GET /v2/requests/ID');
    expect(simulated.requests.every(({ headers }) => headers['x-api-key'] === KEY)).toBe(true);
  });

  test('a finished picture is a link with what the vendor tells of it, and nothing is stored', async () => {
    const { run, files } = aRun({ ...parameters, seed: 41 }, { model });
    const output = await finish(open(), run);
    expect(output).toEqual({
      media: [{ location: { url: expect.stringContaining('/image.png') }, contentType: 'image/png', fileName: 'image.png', bytes: 70 }],
      seed: 41,
      timings: { inference_time: 0.01, queue_time: 0.01, total_time: 0.02 },
      usage: { usd: 0.004 },
    });
    expect(files).toEqual([]);
  });

  test('the seed that the vendor chose is told', async () => {
    expect((await finish(open(), aRun(parameters, { model }).run)).seed).toBe(7);
  });

  test('a run is looked at every second at first, and every five seconds when it takes long', async () => {
    const upstream = open((await simulate(FOREVER_MS)).baseUrl);
    let now = 1_000_000;
    const clock = { now: () => now, sleep: () => new Promise<void>(() => {}) };
    const { run } = aRun(parameters, { model, clock });
    const step = await upstream.start(run);
    if (step.kind !== 'running') return expect.unreachable('it takes long');
    expect(step.checkAfterMs).toBe(1000);
    now += 600_000;
    expect(await upstream.check(run, step.handle)).toMatchObject({ kind: 'running', checkAfterMs: 5000 });
  });

  test('another process carries on by the handle, and there is one submission', async () => {
    const first = await open().start(aRun(parameters, { model }).run);
    if (first.kind !== 'running') return expect.unreachable('v2 answers before the end');
    const saved = JSON.parse(JSON.stringify(first.handle));
    const [upstream, { run }] = [open(), aRun(parameters, { model, attempt: 2 })];
    let step = await upstream.check(run, saved);
    while (step.kind === 'running') step = await upstream.check(run, step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(simulated.submitted).toBe(1);
  });

  test('a state that was there before only means more waiting', async () => {
    const quick = await simulate(0);
    const upstream = open(quick.baseUrl);
    const { run } = aRun(parameters, { model });
    const step = await upstream.start(run);
    if (step.kind !== 'running') return expect.unreachable('v2 answers before the end');
    quick.inject('backwards');
    expect(await upstream.check(run, step.handle)).toMatchObject({ kind: 'running', handle: step.handle });
    expect(await upstream.check(run, step.handle)).toMatchObject({ kind: 'finished' });
  });

  test('a result that is read too early means more waiting', async () => {
    const { upstream } = await openAgainst(completed, { body: { status: 'PROCESSING', request_id: 'abc' } });
    expect(await upstream.check(aRun(parameters).run, handle)).toMatchObject({ kind: 'running', handle });
  });

  test('addresses in answers are not called', async () => {
    const elsewhere = await openAgainst({ body: {} });
    const urls = { status_url: `${elsewhere.url}/s`, response_url: `${elsewhere.url}/r`, poll_url: `${elsewhere.url}/p` };
    const { upstream, requests } = await openAgainst(
      { body: { request_id: 'abc', status: 'QUEUED', ...urls } },
      { body: { status: 'COMPLETED', ...urls } },
      { body: { status: 'COMPLETED', output: 'words' } },
    );
    expect((await finish(upstream, aRun(parameters, { model }).run)).text).toBe('words');
    expect(requests.map(({ path }) => path)).toEqual(['/v2/hidream-l1-fast', '/v2/requests/abc/status', '/v2/requests/abc']);
    expect(elsewhere.requests).toEqual([]);
  });

  test('an id that would change the address is no id', async () => {
    const { upstream, requests } = await openAgainst({ body: { ...Object(accepted.body), request_id: '../x' } });
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
    expect(requests).toHaveLength(1);
  });

  test('a handle of something else is an internal error', async () => {
    expect(await errorOf(open().check(aRun(parameters).run, { other: 1 }))).toMatchObject({ name: 'TerminalError', code: 'internal' });
  });
});

describe('results', () => {
  test('a video is a medium', async () => {
    const { output } = await outputOf({
      output: 'https://x.test/v.mp4',
      video: { url: 'https://x.test/v.mp4', last_frame_url: 'https://x.test/l.png' },
    });
    expect(output.media).toEqual([{ location: { url: 'https://x.test/v.mp4' }, contentType: 'video/mp4', fileName: 'v.mp4' }]);
  });

  test('a link alone is a medium whose type is that of its extension', async () => {
    const { output } = await outputOf({ output: 'https://x.test/a/b.webp?token=1' });
    expect(output.media).toEqual([{ location: { url: 'https://x.test/a/b.webp?token=1' }, contentType: 'image/webp', fileName: 'b.webp' }]);
  });

  test('several links are several media', async () => {
    const { output } = await outputOf({ output: ['https://x.test/1.png', 'https://x.test/2.png'] });
    expect(output.media.map(({ fileName }) => fileName)).toEqual(['1.png', '2.png']);
  });

  test('words are text, also when they begin with a link', async () => {
    expect((await outputOf({ output: 'https://x.test is a site' })).output).toEqual({ media: [], text: 'https://x.test is a site' });
  });

  test.each([
    ['OpenAI', { choices: [{ message: { role: 'assistant', content: 'hello' } }], usage: { prompt_tokens: 3, completion_tokens: 5 } }],
    ['Anthropic', { content: [{ type: 'text', text: 'hello' }], usage: { input_tokens: 3, output_tokens: 5 } }],
    [
      'Gemini',
      { candidates: [{ content: { parts: [{ text: 'hello' }] } }], usageMetadata: { promptTokenCount: 3, candidatesTokenCount: 5 } },
    ],
  ])('the words and tokens of a language model are found in the JSON text of the shape of %s', async (_shape, answer) => {
    const { output } = await outputOf({ output: JSON.stringify(answer), metrics: { cost: 0.001 } });
    expect(output).toEqual({ media: [], text: 'hello', usage: { inputTokens: 3, outputTokens: 5, usd: 0.001 } });
  });

  test('any other JSON text is kept as it is', async () => {
    expect((await outputOf({ output: '{"score":0.5}' })).output).toEqual({ media: [], json: { score: 0.5 } });
  });

  test('how many credits are left is told to nobody', async () => {
    const { output } = await outputOf({ output: 'words', metrics: { cost: 0.1, remaining_credits: 12.5, retry_count: 0 } });
    expect(output).toEqual({ media: [], text: 'words', usage: { usd: 0.1 } });
  });

  test('a file inside of the answer goes into the store and no further', async () => {
    const { output, files } = await outputOf({ output: `data:image/webp;base64,${Buffer.from('picture').toString('base64')}` });
    expect(output.media).toEqual([{ location: { asset: 'file-1' }, contentType: 'image/webp', fileName: 'image.webp', bytes: 7 }]);
    expect(Buffer.from(files[0]?.bytes ?? []).toString()).toBe('picture');
  });

  test('an address that is not of the web is no medium', async () => {
    expect((await outputOf({ images: [{ url: 'file:///etc/passwd' }], output: 'words' })).output).toEqual({ media: [], text: 'words' });
  });

  test('a run that finished without a result fails for good', async () => {
    await expect(outputOf({ output: '' })).rejects.toThrow(TerminalError);
  });
});

describe('v1', () => {
  test('a model that v2 does not know is run by v1, and the bytes of its answer are stored', async () => {
    const { run, files } = aRun(parameters, { model: 'sync-only-model' });
    const step = await open().start(run);
    expect(step).toEqual({
      kind: 'finished',
      output: {
        media: [{ location: { asset: 'file-1' }, contentType: 'image/png', fileName: 'image.png', bytes: 70 }],
        seed: 7,
        timings: { generation_time: 0.02 },
        usage: { usd: 0.004 },
      },
    });
    expect(
      Buffer.from(files[0]?.bytes ?? [])
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    expect(simulated.requests.map(({ path }) => path)).toEqual(['/v2/sync-only-model', '/v1/sync-only-model']);
    expect(simulated.requests[1]).toMatchObject({ method: 'POST', headers: { 'x-api-key': KEY }, body: parameters });
    expect(simulated.submitted).toBe(1);
  });

  test('a page that says the method is wrong leads to v1 as well', async () => {
    const page = { status: 405, body: '<h1>405</h1>', headers: { 'content-type': 'text/html' } };
    const { upstream, requests } = await openAgainst(page, { body: { choices: [{ message: { content: 'hi' } }] } });
    expect(await finish(upstream, aRun(parameters, { model }).run)).toMatchObject({ media: [], text: 'hi' });
    expect(requests.map(({ path }) => path)).toEqual(['/v2/hidream-l1-fast', '/v1/hidream-l1-fast']);
  });

  test('no other refusal of v2 leads to v1', async () => {
    const { upstream, requests } = await openAgainst({ status: 400, body: { error: 'no' } });
    await errorOf(upstream.start(aRun(parameters, { model }).run));
    expect(requests).toHaveLength(1);
  });

  test('a model that nobody knows fails for good', async () => {
    const error = await errorOf(open().start(aRun(parameters, { model: 'unknown-model' }).run));
    expect(error).toMatchObject({ name: 'TerminalError', isProvidersOnly: true, message: 'Model unknown-model not found' });
    expect(simulated.submitted).toBe(0);
  });

  test('a page instead of a file may be tried again, and leaves open what was started', async () => {
    const page = { body: '<html>wait</html>', headers: { 'content-type': 'text/html' } };
    const { upstream } = await openAgainst({ status: 404, body: {} }, page);
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('half of a file may be tried again, and is not stored', async () => {
    simulated.inject('truncated');
    const { run, files } = aRun(parameters, { model: 'sync-only-model' });
    expect(await errorOf(open().start(run))).toBeInstanceOf(RetryableError);
    expect(files).toEqual([]);
  });
});

describe('failures of a run', () => {
  test('a failed run fails for good, with the words of the vendor', async () => {
    simulated.inject('fail');
    const error = await errorOf(finish(open(), aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', message: 'The model ran out of memory.' });
  });

  test('refused content is told from other failures', async () => {
    simulated.inject('refuse');
    const error = await errorOf(finish(open(), aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'content_refused' });
  });

  test('the key and the paths of links never reach an error', async () => {
    const { upstream } = await openAgainst({
      status: 422,
      body: { status: 'FAILED', error: `bad ${KEY} at https://x.test/a?token=abc ${'long '.repeat(200)}` },
    });
    const error = await errorOf(upstream.check(aRun(parameters).run, handle));
    if (!(error instanceof TerminalError)) return expect.unreachable('FAILED is final');
    expect(error.message).toMatch(/^bad … at /);
    expect(`${error.stack} ${error.cause}`).not.toMatch(/SG_0|token=abc/);
    expect(error.message.length).toBeLessThanOrEqual(300);
  });

  test('a state that nobody has heard of means another look', async () => {
    const { upstream } = await openAgainst({ body: { status: 'PONDERING' } }, completed, {
      body: { status: 'COMPLETED', output: 'words' },
    });
    const { run } = aRun(parameters);
    expect(await upstream.check(run, handle)).toEqual({ kind: 'running', handle, checkAfterMs: 5000 });
    expect(await upstream.check(run, handle)).toMatchObject({ kind: 'finished' });
  });

  test('a run that the vendor does not know, or no longer, fails for good', async () => {
    expect(await errorOf(open().check(aRun(parameters).run, handle))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });

  test('a result that is not there yet means another look', async () => {
    const { upstream } = await openAgainst(completed, { status: 404, body: { error: 'Request abc not found' } });
    expect(await upstream.check(aRun(parameters).run, handle)).toEqual({ kind: 'running', handle, checkAfterMs: 5000 });
  });
});

describe('statuses', () => {
  test.each([
    [400, 'invalid_input', false],
    [401, 'provider_error', true],
    [402, 'provider_error', true],
    [403, 'provider_error', true],
    [406, 'provider_error', true],
    [410, 'provider_error', true],
    [413, 'invalid_input', false],
    [418, 'provider_error', false],
    [422, 'invalid_input', false],
  ])('%i at the submission fails for good as %s; that another provider may serve it: %s', async (status, code, isProvidersOnly) => {
    const { upstream, requests } = await openAgainst({ status, body: { error: 'told so' } });
    const error = await errorOf(upstream.start(aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'TerminalError', code, isProvidersOnly });
    expect(requests).toHaveLength(1);
  });

  test.each([
    [500, false],
    [502, true],
    [503, false],
    [504, true],
  ])('%i at the submission may be tried again; that it was started all the same: %s', async (status, mayHaveStarted) => {
    const { upstream } = await openAgainst({ status, body: 'bad', headers: { 'content-type': 'text/html' } });
    const error = await errorOf(upstream.start(aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'RetryableError', mayHaveStarted });
  });

  test('the words of the vendor say why parameters were refused', async () => {
    expect(await errorOf(open().start(aRun({ seed: 1 }, { model }).run))).toMatchObject({
      code: 'invalid_input',
      message: 'prompt is required',
    });
  });

  test('a key that the vendor does not know fails for good, and is not shown', async () => {
    const error = await errorOf(open(simulated.baseUrl, 'SG_wrong').start(aRun(parameters, { model }).run));
    expect(error).toBeInstanceOf(TerminalError);
    expect(`${error instanceof Error && error.stack}`).not.toContain('SG_wrong');
  });
});

describe('trouble on the way', () => {
  test('too many requests wait until the limit starts anew, by the clock of the vendor', async () => {
    const headers = { date: 'Sat, 21 Nov 2026 10:00:00 GMT', 'x-rate-limit-reset-at-utc': '2026-11-21 10:00:25' };
    const { upstream } = await openAgainst({ status: 429, body: { error: 'slow down' }, headers });
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ name: 'RetryableError', retryAfterMs: 25_000 });
  });

  test.each(['2026-11-22T10:00:00Z', '1990-01-01T00:00:00Z'])(
    'an instant of %s makes no wait of more than a minute or less than a second',
    async (reset) => {
      const headers = { date: 'Sat, 21 Nov 2026 10:00:00 GMT', 'x-rate-limit-reset-at-utc': reset };
      const { upstream } = await openAgainst({ status: 429, body: {}, headers });
      const error = await errorOf(upstream.start(aRun(parameters, { model }).run));
      expect(error).toMatchObject({ retryAfterMs: reset.startsWith('1990') ? 1000 : 60_000 });
    },
  );

  test('too many requests without a readable instant leave the wait to the model', async () => {
    const { upstream } = await openAgainst({ status: 429, body: {}, headers: { 'x-rate-limit-reset-at-utc': 'soon' } });
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({
      name: 'RetryableError',
      retryAfterMs: undefined,
    });
  });

  test.each(['429', '500', 'html', 'truncated'] as const)('%s at the submission may be tried again, with success', async (fault) => {
    const upstream = open();
    simulated.inject(fault);
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toBeInstanceOf(RetryableError);
    expect((await finish(upstream, aRun(parameters, { model, attempt: 2 }).run)).media).toHaveLength(1);
  });

  test.each([
    ['429', expect.any(Number)],
    ['500', 5000],
    ['html', 5000],
    ['truncated', 5000],
  ] as const)('%s at a look means another look after a while, and no other run', async (fault, checkAfterMs) => {
    const quick = await simulate(0);
    const [upstream, { run }] = [open(quick.baseUrl), aRun(parameters, { model })];
    const saved = handleOf(await upstream.start(run));
    quick.inject(fault);
    expect(await upstream.check(run, saved)).toEqual({ kind: 'running', handle: saved, checkAfterMs });
    expect(await upstream.check(run, saved)).toMatchObject({ kind: 'finished' });
    expect(quick.submitted).toBe(1);
  });

  test('an answer that is cut off leaves open whether the run was started', async () => {
    simulated.inject('truncated');
    expect(await errorOf(open().start(aRun(parameters, { model }).run))).toMatchObject({ mayHaveStarted: true });
    expect(simulated.submitted).toBe(1);
  });

  test('a slow vendor is waited for only as long as the run is wanted', async () => {
    simulated.inject('slow');
    const control = new AbortController();
    const started = errorOf(open().start(aRun(parameters, { model, signal: control.signal }).run));
    await vi.waitFor(() => expect(simulated.requests).toHaveLength(1), { interval: 5 });
    const reason = new Error('cancelled');
    control.abort(reason);
    expect(await started).toBe(reason);
  });

  test('links to results expire, while the run stays readable', async () => {
    const { media } = await finish(open(), aRun(parameters, { model }).run);
    const location = media[0]?.location;
    if (!location || !('url' in location)) return expect.unreachable('it is a link');
    simulated.inject('expired');
    expect([(await fetch(location.url)).status, (await fetch(location.url)).status]).toEqual([404, 200]);
  });

  test('a vendor out of reach may be tried again, as nothing was started', async () => {
    const { baseUrl } = simulated;
    await simulated[Symbol.asyncDispose]();
    const error = await errorOf(open(baseUrl).start(aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
    simulated = await simulator.start({ port: 0, runMs: RUN_MS });
  });

  test('runs cannot be cancelled or told of, as the vendor has no way for it', () => {
    expect(open().cancel).toBeUndefined();
    expect(open().receive).toBeUndefined();
    expect(open().isIdempotent).toBeFalsy();
  });
});
