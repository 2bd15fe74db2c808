import { createServer } from 'node:http';
import type { JsonValue, Run } from '@claimcheck/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openProviders } from './index.ts';
import inferenceSh from './inference-sh.ts';
import simulator from './simulators/inference-sh.ts';
import { answerInTurn, providerErrorOf } from './testing/answers.ts';
import { asCallback, receiveCallbacks } from './testing/callbacks.ts';
import { aRun, finish } from './testing/run.ts';

const MODEL = 'infsh/hidream-i1-fast';
const HANDLE = { id: 't1', startedAt: 0 };

async function simulate(runMs = 20) {
  const vendor = await simulator.start({ port: 0, runMs });
  onTestFinished(() => vendor[Symbol.asyncDispose]());
  const environment = simulator.environment(vendor.baseUrl);
  return { vendor, key: environment.INFERENCE_API_KEY ?? '', environment, upstream: open(environment) };
}

function open(environment: Readonly<Record<string, string>>) {
  const { upstreams } = openProviders([inferenceSh], environment);
  return upstreams.get('inference-sh') ?? expect.unreachable('the provider is off');
}

const run = (given: Partial<Run> = {}, parameters = { prompt: 'a fox', seed: 7 }) => aRun(parameters, { model: MODEL, ...given }).run;

/** The adapter before a vendor that answers with these in turn. */
async function answering(...answers: Parameters<typeof answerInTurn>) {
  return open({ INFERENCE_API_KEY: 'inf_key', INFERENCE_BASE_URL: await answerInTurn(...answers) });
}

test('without its key it is off', () => {
  const { off } = openProviders([inferenceSh], { INFERENCE_BASE_URL: 'https://api.inference.sh' });
  expect(off.get('inference-sh')).toBe('INFERENCE_API_KEY is not set');
});

describe('a run', () => {
  test('is submitted as the vendor documents it', async () => {
    const { vendor, upstream, key } = await simulate();
    const step = await upstream.start(run());
    // Its stream can be opened at once.
    expect(step).toMatchObject({ kind: 'running', checkAfterMs: 0 });
    expect(vendor.requests).toHaveLength(1);
    expect(vendor.requests[0]).toMatchObject({
      method: 'POST',
      path: '/apps/run',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    });
    expect(vendor.requests[0]?.body).toEqual({ app: MODEL, input: { prompt: 'a fox', seed: 7 } });
  });

  test('ends with the file that the vendor links to, and the seed', async () => {
    const { vendor, upstream } = await simulate();
    const output = await finish(upstream, run());
    expect(output.seed).toBe(7);
    expect(output.media).toEqual([
      {
        location: { url: expect.stringMatching(`^${vendor.url}/files/.+/image.png$`) },
        contentType: 'image/png',
        fileName: 'image.png',
        bytes: 70,
      },
    ]);
    expect(vendor.submitted).toBe(1);
  });

  test('tells the percent of its worker as a fraction', async () => {
    const upstream = await answering(
      { body: { data: { id: 't1', status: 1 } } },
      { body: { data: { id: 't1', status: 7, progress: 42 } } },
    );
    const started = await upstream.start(run());
    if (started.kind !== 'running') throw new Error('It has ended.');
    expect(await upstream.check(run(), started.handle)).toMatchObject({ kind: 'running', progress: 0.42 });
  });

  test('is polled less often as it gets older, where its stream is out of order', async () => {
    let now = 1_000_000;
    const later = run({ clock: { now: () => now, sleep: () => new Promise(() => {}) } });
    const upstream = await answering({ body: { data: { id: 't1', status: 7 } } });
    const handle = { id: 't1', startedAt: now };
    for (const [ageMs, checkAfterMs] of [
      [0, 2000],
      [30_000, 3000],
      [630_000, 5000],
    ] as const) {
      now = handle.startedAt + ageMs;
      expect(await upstream.check(later, handle)).toEqual({ kind: 'running', handle, checkAfterMs });
    }
    const started = await upstream.start(later);
    expect(started).toMatchObject({ kind: 'running' });
  });

  test('is resumed by its handle from another process, with one submission', async () => {
    const { vendor, upstream, environment } = await simulate();
    const started = await upstream.start(run());
    if (started.kind !== 'running') throw new Error('It has ended.');
    const other = open(environment);
    let step = await other.check(run(), JSON.parse(JSON.stringify(started.handle)));
    while (step.kind === 'running') step = await other.check(run(), step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(vendor.submitted).toBe(1);
  });

  test('is cancelled at the vendor', async () => {
    const { vendor, upstream } = await simulate(60_000);
    const step = await upstream.start(run());
    if (step.kind !== 'running') throw new Error('It has ended.');
    await upstream.cancel?.(run(), step.handle);
    expect(vendor.requests.at(-1)).toMatchObject({ method: 'POST', path: expect.stringMatching(/^\/tasks\/\w{26}\/cancel$/), body: '' });
    expect(await providerErrorOf(upstream.check(run(), step.handle))).toMatchObject({
      name: 'TerminalError',
      message: 'The provider cancelled the task.',
    });
  });

  test('that has ended is cancelled without harm', async () => {
    const { upstream } = await simulate(0);
    const step = await upstream.start(run());
    if (step.kind !== 'running') throw new Error('It has ended.');
    await upstream.cancel?.(run(), step.handle);
    expect((await upstream.check(run(), step.handle)).kind).toBe('finished');
  });

  test('stops at once when its signal aborts', async () => {
    const { vendor, upstream } = await simulate();
    vendor.inject('slow');
    const control = new AbortController();
    const started = upstream.start(run({ signal: control.signal }));
    control.abort(new Error('lease lost'));
    await expect(started).rejects.toThrow('lease lost');
  });
});

describe('the stream of a task', () => {
  const WHOLE = { id: 't1', status: 10, status_text: 'completed', output: { text: 'a fox' } };
  const RUNNING = { id: 't1', status: 7, status_text: 'running', output: null };

  interface Streamed {
    readonly type?: string;
    readonly status?: number;
    /** Written one after the other; what is no text is a line. */
    readonly writes: readonly JsonValue[];
    /** How it goes on after them. */
    readonly after: 'end' | 'stay' | 'break';
  }

  /** A vendor whose streams are these, in turn, and who says when polled that the task has completed. */
  async function streaming(...streams: readonly Streamed[]) {
    const asked: string[] = [];
    let opened = 0;
    const server = createServer(async (request, response) => {
      asked.push(request.url ?? '');
      if (!request.url?.endsWith('/stream')) {
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(JSON.stringify({ data: { ...WHOLE, output: { text: 'polled' } } }));
        return;
      }
      const stream = streams[Math.min(opened++, streams.length - 1)];
      response.writeHead(stream?.status ?? 200, { 'content-type': stream?.type ?? 'application/x-ndjson' });
      for (const part of stream?.writes ?? []) {
        await new Promise((written) => response.write(typeof part === 'string' ? part : `${JSON.stringify(part)}\n`, written));
      }
      if (stream?.after === 'end') response.end();
      if (stream?.after === 'break') response.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close().closeAllConnections());
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    return { asked, upstream: open({ INFERENCE_API_KEY: 'inf_key', INFERENCE_BASE_URL: `http://127.0.0.1:${port}` }) };
  }

  const STREAM = '/tasks/t1/stream';
  const POLL = '/tasks/t1';

  test('is opened with the key, and tells of the end when it comes, without another question', async () => {
    const { upstream, vendor, key } = await simulate(100);
    expect((await finish(upstream, run())).media).toHaveLength(1);
    expect(vendor.requests.map(({ method, path }) => `${method} ${path.replace(/\w{26}/, 'ID')}`)).toEqual([
      'POST /apps/run',
      'GET /tasks/ID/stream',
    ]);
    expect(vendor.requests[1]?.headers).toMatchObject({ accept: 'application/x-ndjson', authorization: `Bearer ${key}` });
  });

  test('ends at the first line when the task has ended before', async () => {
    const { upstream, asked } = await streaming({ writes: [WHOLE], after: 'stay' });
    expect(await upstream.check(run(), HANDLE)).toEqual({ kind: 'finished', output: { media: [], text: 'a fox' } });
    expect(asked).toEqual([STREAM]);
  });

  test.each<[string, Streamed['writes']]>([
    ['heartbeats and blank lines', [RUNNING, { type: 'heartbeat' }, '\n\r\n', { type: 'heartbeat' }, WHOLE]],
    ['parts of the task', [RUNNING, { data: { status: 9, output: { text: 'a f' } }, fields: ['status', 'output'] }, WHOLE]],
    ['other events', [RUNNING, { event: 'delta', data: { delta: { text: 'a' }, seq: 1 } }, { event: 'log', data: 'words' }, 7, WHOLE]],
    ['a line that is no JSON', [RUNNING, '{"id":"t1","stat\n', WHOLE]],
    ['a last line without its end', [RUNNING, JSON.stringify(WHOLE)]],
    ['lines in pieces', [RUNNING, JSON.stringify(WHOLE).slice(0, 20), JSON.stringify(WHOLE).slice(20), '\n']],
    ['a task in an envelope', [{ data: RUNNING }, { data: WHOLE }]],
  ])('with %s is followed to its end', async (_what, writes) => {
    const { upstream, asked } = await streaming({ writes, after: 'end' });
    expect(await upstream.check(run(), HANDLE)).toEqual({ kind: 'finished', output: { media: [], text: 'a fox' } });
    expect(asked).toEqual([STREAM]);
  });

  test('that tells of the failure of the task throws like a poll', async () => {
    const { upstream, vendor } = await simulate(50);
    vendor.inject('fail');
    expect(await providerErrorOf(finish(upstream, run()))).toMatchObject({ name: 'TerminalError', message: 'CUDA out of memory' });
    expect(vendor.requests.at(-1)?.path).toMatch(/\/stream$/);
  });

  test.each<[string, Streamed]>([
    ['ends early', { writes: [RUNNING], after: 'end' }],
    ['breaks inside of a line', { writes: [RUNNING, '{"id":"t1","sta'], after: 'break' }],
    ['is no stream of lines', { type: 'text/event-stream', writes: [`data: ${JSON.stringify(WHOLE)}\n\n`], after: 'end' }],
    ['is a page', { type: 'text/html', writes: ['<html>'], after: 'end' }],
    ['is refused', { status: 404, writes: [{ detail: 'no stream' }], after: 'end' }],
    ['ends with a part of the task only', { writes: [RUNNING, { data: { status: 10 }, fields: ['status'] }], after: 'end' }],
    ['ends with another task', { writes: [{ ...WHOLE, id: 't2' }], after: 'end' }],
    ['ends before the output is there', { writes: [{ ...WHOLE, output: null }], after: 'end' }],
    ['has no end to its line', { writes: Array.from({ length: 11 }, () => 'x'.repeat(1_000_000)), after: 'stay' }],
  ])('that %s leads to a poll', async (_what, stream) => {
    const { upstream, asked } = await streaming(stream);
    expect(await upstream.check(run(), HANDLE)).toEqual({ kind: 'finished', output: { media: [], text: 'polled' } });
    expect(asked).toEqual([STREAM, POLL]);
  });

  test('that broke is not opened again for a minute', async () => {
    const { upstream, asked } = await streaming({ writes: [RUNNING], after: 'end' });
    let now = 0;
    const clocked = run({ clock: { now: () => now, sleep: () => new Promise(() => {}) } });
    for (now of [0, 59_999, 60_000]) await upstream.check(clocked, HANDLE);
    expect(asked).toEqual([STREAM, POLL, POLL, STREAM, POLL]);
  });

  test('that tells nothing new is left after half a minute, and opened again', async () => {
    const part = { data: { progress: 40 }, fields: ['progress'] };
    const { upstream, asked } = await streaming({ writes: [{ ...RUNNING, progress: 30 }, part], after: 'stay' });
    const held = Promise.withResolvers<void>();
    let reads = 0;
    const clock = {
      // Read twice when the stream is opened, and again at each line: at the one that tells of progress, the half minute is over.
      now() {
        reads += 1;
        if (reads === 4) held.resolve();
        return 0;
      },
      sleep: (ms: number) => (ms === 30_000 ? held.promise : new Promise<void>(() => {})),
    };
    expect(await upstream.check(run({ clock }), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, progress: 0.4, checkAfterMs: 0 });
    expect(asked).toEqual([STREAM]);
  });

  test('that tells nothing at all leads to a poll after ten seconds', async () => {
    const { upstream, asked } = await streaming({ writes: [], after: 'stay' });
    const clock = { now: () => 0, sleep: async (ms: number) => (ms === 10_000 ? undefined : new Promise<void>(() => {})) };
    expect(await upstream.check(run({ clock }), HANDLE)).toMatchObject({ kind: 'finished', output: { text: 'polled' } });
    expect(asked.at(-1)).toBe(POLL);
  });

  test('is left to tell of progress, though not more often than every two seconds', async () => {
    const part = (progress: number) => ({ data: { progress }, fields: ['progress'] });
    const { upstream, asked } = await streaming({
      writes: [{ ...RUNNING, progress: 10 }, part(20), part(30), part(30), part(40)],
      after: 'stay',
    });
    let reads = 0;
    // Read twice when the stream is opened, and at each line a second later.
    const clock = { now: () => 1000 * reads++, sleep: () => new Promise<void>(() => {}) };
    expect(await upstream.check(run({ clock }), HANDLE)).toMatchObject({ kind: 'running', progress: 0.2, checkAfterMs: 0 });
    expect(asked).toEqual([STREAM]);
  });

  test('is left as well to tell what was printed, and words as far as they have come', async () => {
    const logs = [
      { log_type: 3, content: 'installing\n' },
      { log_type: 1, content: 'loading\nready\n' },
      { log_type: 1, content: 'writing' },
    ];
    const later = { data: { logs, output: { response: 'Once upon' } }, fields: ['logs', 'output'] };
    const { upstream } = await streaming({ writes: [RUNNING, later], after: 'stay' });
    let reads = 0;
    const clock = { now: () => 2000 * reads++, sleep: () => new Promise<void>(() => {}) };
    expect(await upstream.check(run({ clock }), HANDLE)).toEqual({
      kind: 'running',
      handle: HANDLE,
      logs: ['loading', 'ready', 'writing'],
      partialText: 'Once upon',
      checkAfterMs: 0,
    });
  });

  test('ends with the reason of the signal, and the connection with it', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const step = await upstream.start(run());
    const control = new AbortController();
    const followed = upstream.check(run({ signal: control.signal }), step.kind === 'running' ? step.handle : null);
    await expect.poll(() => vendor.requests.length, { interval: 5 }).toBe(2);
    control.abort(new Error('lease lost'));
    await expect(followed).rejects.toThrow('lease lost');
  });

  test('is not opened where the vendor calls back, which tells of the end as well', async () => {
    const { upstream, asked } = await streaming({ writes: [RUNNING], after: 'stay' });
    await upstream.check(run({ callbackUrl: 'https://here.example/cb' }), HANDLE);
    expect(asked).toEqual([POLL]);
  });

  test('that was truncated by the vendor leads to a poll, and to the result of the one task', async () => {
    const { upstream, vendor } = await simulate();
    const step = await upstream.start(run());
    vendor.inject('truncated');
    let next = step;
    while (next.kind === 'running') next = await upstream.check(run(), next.handle);
    expect(next.output.media).toHaveLength(1);
    expect(vendor.submitted).toBe(1);
  });
});

describe('an output', () => {
  const outputOf = async (output: JsonValue) => {
    const upstream = await answering({ body: { data: { id: 't1', status: 1 } } }, { body: { data: { id: 't1', status: 10, output } } });
    const { run: one, files } = aRun({}, { model: MODEL });
    return { output: await finish(upstream, one), files };
  };
  const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

  test('that is a list of links becomes media in its order', async () => {
    const { output } = await outputOf({
      images: ['https://cdn.example/a.webp', { uri: 'https://cdn.example/b', content_type: 'image/png' }],
    });
    expect(output.media.map(({ location, contentType }) => [location, contentType])).toEqual([
      [{ url: 'https://cdn.example/a.webp' }, 'image/webp'],
      [{ url: 'https://cdn.example/b' }, 'image/png'],
    ]);
  });

  test('that came inline is stored and goes no further', async () => {
    const { output, files } = await outputOf({ image: `data:image/png;base64,${PNG}` });
    expect(files).toMatchObject([{ contentType: 'image/png', bytes: Buffer.from(PNG, 'base64') }]);
    expect(output.media).toMatchObject([{ location: { asset: 'file-1' } }]);
    expect(JSON.stringify(output)).not.toContain(PNG);
  });

  test('without files is text or JSON', async () => {
    expect((await outputOf('a fox in the snow')).output).toEqual({ media: [], text: 'a fox in the snow' });
    expect((await outputOf({ text: 'a fox' })).output).toEqual({ media: [], text: 'a fox' });
    expect((await outputOf({ score: 0.5 })).output).toEqual({ media: [], json: { score: 0.5 } });
  });

  test('of a language model is its words, with tokens and times', async () => {
    const usage = { prompt_tokens: 7, completion_tokens: 30, total_tokens: 37, time_to_first_token: 0.2, tokens_per_second: 90 };
    const { output } = await outputOf({ response: 'a fox', reasoning: 'what is red?', usage });
    expect(output).toEqual({
      media: [],
      text: 'a fox',
      timings: { time_to_first_token: 0.2 },
      usage: { inputTokens: 7, outputTokens: 30 },
    });
  });

  test('with what its app has for pricing has that as its usage', async () => {
    const meta = {
      inputs: [
        { type: 'text', tokens: 3 },
        { type: 'text', tokens: 4 },
        { type: 'image', tokens: 0 },
      ],
      outputs: [
        { type: 'video', seconds: 2.5 },
        { type: 'video', seconds: 2.5 },
      ],
    };
    const { output } = await outputOf({ video: 'https://cdn.example/a.mp4', output_meta: meta });
    expect(output).toMatchObject({ media: [{ contentType: 'video/mp4' }], usage: { inputTokens: 7, seconds: 5 } });
    expect(output).not.toHaveProperty('json');
    expect((await outputOf({ score: 1, output_meta: meta })).output.json).toEqual({ score: 1 });
  });

  test('that links to anything but http is no file', async () => {
    const { output } = await outputOf({
      image: 'file:///etc/passwd',
      link: { uri: 'ftp://a.example/b.png' },
      prompt: 'https://a.example/in.png',
    });
    expect(output.media).toEqual([]);
  });

  test('that is not there yet is asked for again', async () => {
    const upstream = await answering({ body: { data: { id: 't1', status: 10, output: null } } });
    expect(await upstream.check(run(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });
});

describe('statuses', () => {
  const checked = async (task: { readonly [key: string]: JsonValue }) => {
    const upstream = await answering({ body: { id: 't1', ...task } });
    return upstream.check(run(), HANDLE);
  };

  test.each([
    ['9 of the current numbers is not the end', { status: 9 }],
    ['8 of the current numbers is not the end', { status: 8 }],
    ['a name goes before its number', { status: 10, status_text: 'uploading' }],
    ['names come in any case', { status: 'RUNNING' }],
  ])('%s', async (_rule, task) => {
    expect((await checked(task)).kind).toBe('running');
  });

  test('a completed task of the older numbers is told by its name', async () => {
    expect((await checked({ status: 9, status_text: 'completed', output: {} })).kind).toBe('finished');
  });

  test.each([[0], [13], ['exploded'], [null]])('%s is not documented, and is asked again', async (status) => {
    expect(await checked({ status })).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });

  test('a failed task ends the run with the words of the vendor, and no links', async () => {
    expect(await providerErrorOf(checked({ status: 11, error: 'no such LoRA at https://hub.example/x?token=abc' }))).toMatchObject({
      name: 'TerminalError',
      code: 'provider_error',
      message: expect.stringMatching(/^no such LoRA at (?!.*token)/),
    });
  });
});

describe('errors', () => {
  test.each([
    ['400', 400, { title: 'Bad request', detail: 'width is odd' }, 'TerminalError', 'invalid_input', 'width is odd'],
    ['402', 402, { detail: 'no credits' }, 'TerminalError', 'provider_error', 'The account at the provider has no credit left.'],
    [
      '404',
      404,
      { success: false, error: { code: 'not_found', message: 'no such app' } },
      'TerminalError',
      'provider_error',
      'no such app',
    ],
    ['410', 410, { detail: 'gone' }, 'TerminalError', 'provider_error', 'gone'],
    [
      '401',
      401,
      { detail: 'who are you' },
      'TerminalError',
      'provider_error',
      'The provider refused the key that this service has for it.',
    ],
    ['503', 503, { detail: 'later' }, 'RetryableError', 'provider_error', 'The provider failed with status 503.'],
    [
      'a failure in a body of 200',
      200,
      { success: false, status: 400, error: { message: 'bad seed' } },
      'TerminalError',
      'invalid_input',
      'bad seed',
    ],
    ['a failure without a status', 200, { success: false, error: 'odd' }, 'RetryableError', 'provider_error', 'odd'],
    ['an answer without a task', 200, { data: null }, 'RetryableError', 'provider_error', 'The provider answered without a task.'],
  ])('%s', async (_case, status, body, name, code, message) => {
    const upstream = await answering({ status, body });
    expect(await providerErrorOf(upstream.start(run()))).toMatchObject({ name, code, message });
  });

  test.each([
    [400, false],
    [401, true],
    [402, true],
    [403, true],
    [404, true],
    [410, true],
    [412, true],
    [418, false],
  ])('%i at the submission, by its status or in its body, may be served by another provider: %s', async (status, isProvidersOnly) => {
    const plain = await answering({ status, body: { detail: 'no' } });
    const wrapped = await answering({ body: { success: false, status, error: { message: 'no' } } });
    for (const upstream of [plain, wrapped]) {
      expect(await providerErrorOf(upstream.start(run()))).toMatchObject({ name: 'TerminalError', isProvidersOnly });
    }
  });

  test('a task that is not there any more is not another provider’s business', async () => {
    const upstream = await answering({ status: 404, body: { detail: 'no such task' } });
    expect(await providerErrorOf(upstream.check(run(), HANDLE))).toMatchObject({ name: 'TerminalError', isProvidersOnly: false });
  });

  test('what the account lacks is told from the body that is in no envelope', async () => {
    const { upstream } = await simulate();
    expect(await providerErrorOf(upstream.start(run({ model: 'locked/app' })))).toMatchObject({
      name: 'TerminalError',
      message: 'secret HUB_TOKEN is missing',
    });
  });

  test('an unknown app and refused parameters end the run', async () => {
    const { upstream, vendor } = await simulate();
    expect(await providerErrorOf(upstream.start(run({ model: 'unknown/app' })))).toMatchObject({
      name: 'TerminalError',
      code: 'provider_error',
    });
    expect(await providerErrorOf(upstream.start(run({}, { prompt: 'x'.repeat(1001), seed: 1 })))).toMatchObject({ code: 'invalid_input' });
    expect(vendor.submitted).toBe(0);
  });

  test('the key is in no error, even where the vendor repeats it', async () => {
    const upstream = await answering({ status: 400, body: { detail: 'you sent Bearer inf_key, which is odd' } });
    const error = await providerErrorOf(upstream.start(run()));
    expect(`${error.message} ${error.stack}`).not.toContain('inf_key');
  });

  test('a handle of something else is never part of a path', async () => {
    const { upstream, vendor } = await simulate();
    const handles: readonly JsonValue[] = [{ id: '../apps', startedAt: 0 }, { id: 'a' }, 'a', null];
    for (const handle of handles) {
      expect(await providerErrorOf(upstream.check(run(), handle))).toMatchObject({ name: 'TerminalError', code: 'internal' });
    }
    expect(vendor.requests).toEqual([]);
  });
});

describe('faults of the vendor', () => {
  test.each(['500', 'html', 'truncated'] as const)('%s at the submission is tried again', async (fault) => {
    const { upstream, vendor } = await simulate();
    vendor.inject(fault);
    expect(await providerErrorOf(upstream.start(run()))).toMatchObject({ name: 'RetryableError', mayHaveStarted: fault !== '500' });
    expect((await finish(upstream, run())).media).toHaveLength(1);
  });

  test('429 is tried again when the vendor says', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('429');
    expect(await providerErrorOf(upstream.start(run()))).toMatchObject({ name: 'RetryableError', retryAfterMs: 1000 });
  });

  test.each(['429', '500', 'html', 'truncated'] as const)('%s at a look leaves the run as it is', async (fault) => {
    const { upstream, vendor } = await simulate(0);
    const step = await upstream.start(run());
    if (step.kind !== 'running') throw new Error('It has ended.');
    // Of the stream, and of the poll in its place.
    vendor.inject(fault, 2);
    const checkAfterMs = fault === '429' ? 1000 : 5000;
    expect(await upstream.check(run(), step.handle)).toEqual({ kind: 'running', handle: step.handle, checkAfterMs });
    expect((await upstream.check(run(), step.handle)).kind).toBe('finished');
    expect(vendor.submitted).toBe(1);
  });

  test('a status that was there before is no end', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('backwards');
    expect((await finish(upstream, run())).media).toHaveLength(1);
  });

  test.each([
    ['fail', 'CUDA out of memory'],
    ['refuse', 'the prompt was refused'],
  ] as const)('%s ends the run with the words of the vendor', async (fault, message) => {
    const { upstream, vendor } = await simulate();
    vendor.inject(fault);
    expect(await providerErrorOf(finish(upstream, run()))).toMatchObject({ name: 'TerminalError', message });
  });

  test('a vendor that cannot be reached is tried again, and has started nothing', async () => {
    const { vendor, environment } = await simulate();
    await vendor[Symbol.asyncDispose]();
    expect(await providerErrorOf(open(environment).start(run()))).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
  });
});

describe('a callback', () => {
  async function calledBack(runMs = 0) {
    const { upstream, vendor } = await simulate(runMs);
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    const one = run({ callbackUrl: receiver.url });
    return { upstream, vendor, receiver, one };
  }

  test('is asked for, and looking slows down', async () => {
    const { upstream, vendor, receiver, one } = await calledBack();
    expect(await upstream.start(one)).toMatchObject({ checkAfterMs: 30_000 });
    expect(vendor.requests[0]?.body).toMatchObject({ webhook: receiver.url });
  });

  test('makes the adapter ask the vendor, whose answer counts; a second one changes nothing', async () => {
    const { upstream, vendor, receiver, one } = await calledBack();
    vendor.inject('double-callback');
    const step = await upstream.start(one);
    if (step.kind !== 'running') throw new Error('It has ended.');
    const first = await upstream.receive?.(one, asCallback(await receiver.arrival(1), step.handle));
    expect(first).toMatchObject({ kind: 'finished', output: { media: [{ fileName: 'image.png' }] } });
    expect(await upstream.receive?.(one, asCallback(await receiver.arrival(2), step.handle))).toEqual(first);
  });

  test('that lies about the end of a run is not believed', async () => {
    const { upstream, one } = await calledBack(60_000);
    const step = await upstream.start(one);
    if (step.kind !== 'running') throw new Error('It has ended.');
    const { id: task } = step.handle as { id: string };
    const lie = { id: task, status: 10, output: { image: 'https://evil.example/x.png' }, error: '' };
    expect(await upstream.receive?.(one, asCallback({ headers: {}, body: Buffer.from(JSON.stringify(lie)) }, step.handle))).toBeUndefined();
  });

  test.each([
    ['of another task', '{"id":"other","status":10}'],
    ['that is no JSON', 'id=t1'],
    ['that is no object', '"t1"'],
  ])('%s is not worth a call', async (_case, body) => {
    const { upstream, vendor, one } = await calledBack();
    expect(await upstream.receive?.(one, asCallback({ headers: {}, body: Buffer.from(body) }, { id: 't1', startedAt: 0 }))).toBeUndefined();
    expect(await upstream.receive?.(one, asCallback({ headers: {}, body: Buffer.from('{"id":"t1"}') }, undefined))).toBeUndefined();
    expect(vendor.requests).toEqual([]);
  });

  test('of a failed run throws like a look', async () => {
    const { upstream, vendor, receiver, one } = await calledBack();
    vendor.inject('fail');
    const step = await upstream.start(one);
    if (step.kind !== 'running') throw new Error('It has ended.');
    const callback = asCallback(await receiver.arrival(1), step.handle);
    expect(await providerErrorOf(upstream.receive?.(one, callback))).toMatchObject({ message: 'CUDA out of memory' });
  });

  test.each(['lost-callback', 'late-callback'] as const)('%s: looking finds the result', async (fault) => {
    const { upstream, vendor, receiver, one } = await calledBack();
    vendor.inject(fault);
    expect((await finish(upstream, one)).media).toHaveLength(1);
    expect(receiver.received).toEqual([]);
  });
});

describe('the simulator', () => {
  test('refuses to call other machines', async () => {
    const { upstream } = await simulate();
    expect(await providerErrorOf(upstream.start(run({ callbackUrl: 'http://192.0.2.1/hook' })))).toMatchObject({ code: 'invalid_input' });
  });

  test('streams the task now, and again as a whole at its end', async () => {
    const { upstream, vendor, key } = await simulate(1_000);
    const step = await upstream.start(run());
    if (step.kind !== 'running') throw new Error('It has ended.');
    const { id: task } = step.handle as { id: string };
    const headers = { authorization: `Bearer ${key}`, accept: 'application/x-ndjson' };
    const text = await (await fetch(`${vendor.url}/tasks/${task}/stream`, { headers })).text();
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ id: task, status: 2, status_text: 'queued' });
    expect(lines.at(-1)).toMatchObject({ id: task, status: 10, output: { seed: 7 }, error: '', session_id: null });
  });

  test('its links may expire', async () => {
    const { upstream, vendor } = await simulate(0);
    const [media] = (await finish(upstream, run())).media;
    if (!media || !('url' in media.location)) throw new Error('No link.');
    vendor.inject('expired');
    expect((await fetch(media.location.url)).status).toBe(404);
    expect((await fetch(media.location.url)).headers.get('content-type')).toBe('image/png');
  });
});
