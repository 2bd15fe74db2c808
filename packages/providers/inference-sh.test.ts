import { createServer } from 'node:http';
import type { JsonObject, JsonValue, Run } from '@claimcheck/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import inferenceSh from './inference-sh.ts';
import simulator from './simulators/inference-sh.ts';
import { type Bench, benchOf, errorOf, FOREVER_MS, handleOf } from './testing/bench.ts';
import { asCallback } from './testing/callbacks.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';

const MODEL = 'infsh/hidream-i1-fast';
const FOX = { prompt: 'a fox', seed: 7 };
const HANDLE = { id: 't1', startedAt: 0 };

const subject: Subject = {
  provider: inferenceSh,
  simulator,
  model: MODEL,
  parameters: FOX,
  needs: 'INFERENCE_API_KEY',
  keyVariable: 'INFERENCE_API_KEY',
  sent: (key) => ({
    method: 'POST',
    path: '/apps/run',
    headers: { authorization: `Bearer ${key}` },
    body: { app: MODEL, input: FOX },
  }),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(`^${url}/files/.+/image.png$`) },
        contentType: 'image/png',
        fileName: 'image.png',
        bytes: 70,
      },
    ],
    seed: 7,
  }),
  words: { fail: 'CUDA out of memory', refuse: 'the prompt was refused' },
  // The vendor documents no mark of refused content.
  refusalCode: 'provider_error',
  refused: (words) => ({ status: 400, body: { title: 'Bad request', detail: words } }),
  unknownModel: 'unknown/app',
  polled: {
    accepted: (id, elsewhere) => ({ data: { ...(id !== undefined && { id }), status: 1, url: elsewhere } }),
    ended: (elsewhere) => [{ body: { data: { id: 'abc', status: 10, output: { text: 'words', callback: elsewhere } } } }],
    told: (status) => ({ data: { id: 't1', status } }),
    handle: HANDLE,
    pace: { firstMs: 2000, mostMs: 5000 },
    // The stream, and the poll in its place.
    callsPerLook: 2,
    cancellation: /^POST \/tasks\/\w{26}\/cancel$/,
  },
  callback: {
    isAskedFor: ({ body }, webhook) => JSON.stringify(body) === JSON.stringify({ app: MODEL, input: FOX, webhook }),
    // It is only the reason to ask.
    calls: ['POST /apps/run', 'GET /tasks/ID'],
    id: /\w{26}/,
  },
};

const UNSIGNED = 'callbacks are not signed (sheet, section 9): one is a hint to ask the vendor itself, and proves nothing in any case';
describeConformance(subject, {
  'is looked at as often as the vendor advises, later less often':
    'a run is followed by its stream, and polled where that breaks: see below',
  'with one changed byte proves nothing': UNSIGNED,
  'with another value, or none, of what is signed proves nothing': UNSIGNED,
  'that is more than five minutes old, or ahead, proves nothing, and costs no call': UNSIGNED,
  'proves nothing while it cannot be verified, and forgeries have that asked for once in half a minute': UNSIGNED,
  'that is signed with a new secret is believed once that was fetched': UNSIGNED,
});

const bench = benchOf(subject);
const run = (given: Partial<Run> = {}) => bench.run(given);
const answering = async (...answers: Parameters<Bench['against']>) => (await bench.against(...answers)).upstream;

describe('a run', () => {
  test('tells the percent of its worker as a fraction', async () => {
    const upstream = await answering(
      { body: { data: { id: 't1', status: 1 } } },
      { body: { data: { id: 't1', status: 7, progress: 42 } } },
    );
    const handle = handleOf(await upstream.start(run()));
    expect(await upstream.check(run(), handle)).toMatchObject({ kind: 'running', progress: 0.42 });
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
    return { asked, upstream: bench.openAt(`http://127.0.0.1:${port}`) };
  }

  const STREAM = '/tasks/t1/stream';
  const POLL = '/tasks/t1';

  test('is opened with the key, and tells of the end when it comes, without another question', async () => {
    const { upstream, vendor, environment } = await bench.simulate({ runMs: 100 });
    expect((await finish(upstream, run())).media).toHaveLength(1);
    expect(vendor.requests.map(({ method, path }) => `${method} ${path.replace(/\w{26}/, 'ID')}`)).toEqual([
      'POST /apps/run',
      'GET /tasks/ID/stream',
    ]);
    expect(vendor.requests[1]?.headers).toMatchObject({
      accept: 'application/x-ndjson',
      authorization: `Bearer ${environment.INFERENCE_API_KEY}`,
    });
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
    const { upstream, vendor } = await bench.simulate({ runMs: 50 });
    vendor.inject('fail');
    expect(await errorOf(finish(upstream, run()))).toMatchObject({ name: 'TerminalError', message: 'CUDA out of memory' });
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

  test('tells all that was printed when the task ends, well or not', async () => {
    const logs = [
      { log_type: 1, content: 'loading\n' },
      { log_type: 1, content: 'done' },
    ];
    const ending = async (end: JsonObject) => {
      const upstream = await answering({ body: { data: { id: 't1', logs, ...end } } });
      return upstream.check(run({ callbackUrl: 'https://here.example/cb' }), HANDLE);
    };
    expect(await ending({ status: 10, output: 'Once' })).toMatchObject({ kind: 'finished', logs: ['loading', 'done'] });
    const failures: readonly JsonObject[] = [{ status: 11, error: 'It broke' }, { status: 12 }];
    for (const end of failures) {
      expect(await errorOf(ending(end))).toMatchObject({ name: 'TerminalError', logs: ['loading', 'done'] });
    }
  });

  test('ends with the reason of the signal, and the connection with it', async () => {
    const { upstream, vendor } = await bench.simulate({ runMs: FOREVER_MS });
    const handle = handleOf(await upstream.start(run()));
    const control = new AbortController();
    const followed = upstream.check(run({ signal: control.signal }), handle);
    await expect.poll(() => vendor.requests.length, { interval: 5 }).toBe(2);
    control.abort(new Error('lease lost'));
    await expect(followed).rejects.toThrow('lease lost');
  });

  test('is not opened where the vendor calls back, which tells of the end as well', async () => {
    const { upstream, asked } = await streaming({ writes: [RUNNING], after: 'stay' });
    await upstream.check(run({ callbackUrl: 'https://here.example/cb' }), HANDLE);
    expect(asked).toEqual([POLL]);
  });
});

describe('an output', () => {
  const outputOf = async (output: JsonValue) => {
    const upstream = await answering({ body: { data: { id: 't1', status: 1 } } }, { body: { data: { id: 't1', status: 10, output } } });
    const { run: one, files } = bench.testRun({ parameters: {} });
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
    expect(await errorOf(checked({ status: 11, error: 'no such LoRA at https://hub.example/x?token=abc' }))).toMatchObject({
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
    expect(await errorOf(upstream.start(run()))).toMatchObject({ name, code, message });
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
      expect(await errorOf(upstream.start(run()))).toMatchObject({ name: 'TerminalError', isProvidersOnly });
    }
  });

  test('what the account lacks is told from the body that is in no envelope', async () => {
    const { upstream } = await bench.simulate();
    expect(await errorOf(upstream.start(run({ model: 'locked/app' })))).toMatchObject({
      name: 'TerminalError',
      message: 'secret HUB_TOKEN is missing',
    });
  });

  test('an unknown app and refused parameters end the run', async () => {
    const { upstream, vendor } = await bench.simulate();
    expect(await errorOf(upstream.start(run({ model: 'unknown/app' })))).toMatchObject({
      name: 'TerminalError',
      code: 'provider_error',
    });
    expect(await errorOf(upstream.start(run({ parameters: { prompt: 'x'.repeat(1001) } })))).toMatchObject({ code: 'invalid_input' });
    expect(vendor.submitted).toBe(0);
  });
});

describe('a callback', () => {
  test('that lies about the end of a run is not believed', async () => {
    const { upstream } = await bench.simulate({ runMs: FOREVER_MS });
    const called = run({ callbackUrl: 'http://127.0.0.1:1/hook' });
    const handle = handleOf(await upstream.start(called));
    const { id } = handle as { id: string };
    const lie = { id, status: 10, output: { image: 'https://evil.example/x.png' }, error: '' };
    const callback = asCallback({ headers: {}, body: Buffer.from(JSON.stringify(lie)) }, handle);
    expect(await upstream.receive?.(called, callback)).toBeUndefined();
  });

  test.each([
    ['of another task', '{"id":"other","status":10}'],
    ['that is no JSON', 'id=t1'],
    ['that is no object', '"t1"'],
  ])('%s is not worth a call', async (_case, body) => {
    const { upstream, vendor } = await bench.simulate();
    expect(await upstream.receive?.(run(), asCallback({ headers: {}, body: Buffer.from(body) }, HANDLE))).toBeUndefined();
    expect(await upstream.receive?.(run(), asCallback({ headers: {}, body: Buffer.from('{"id":"t1"}') }, undefined))).toBeUndefined();
    expect(vendor.requests).toEqual([]);
  });
});

describe('the simulator', () => {
  test('streams the task now, and again as a whole at its end', async () => {
    const { upstream, vendor, environment } = await bench.simulate({ runMs: 1_000 });
    const handle = handleOf(await upstream.start(run()));
    const { id: task } = handle as { id: string };
    const headers = { authorization: `Bearer ${environment.INFERENCE_API_KEY}`, accept: 'application/x-ndjson' };
    const text = await (await fetch(`${vendor.url}/tasks/${task}/stream`, { headers })).text();
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ id: task, status: 2, status_text: 'queued' });
    expect(lines.at(-1)).toMatchObject({ id: task, status: 10, output: { seed: 7 }, error: '', session_id: null });
  });
});
