import type { JsonObject, JsonValue } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import segmind from './segmind.ts';
import simulator from './simulators/segmind.ts';
import { benchOf, callsOf, errorOf, type ScriptedAnswer } from './testing/bench.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';

const MODEL = 'hidream-l1-fast';
const PARAMETERS = { prompt: 'a fox ×🍋', seed: -1 };
const HANDLE = { id: 'abc', startedAt: 0 };

const subject: Subject = {
  provider: segmind,
  simulator,
  model: MODEL,
  parameters: PARAMETERS,
  needs: 'SEGMIND_API_KEY',
  keyVariable: 'SEGMIND_API_KEY',
  sent: (key) => ({ method: 'POST', path: `/v2/${MODEL}`, headers: { 'x-api-key': key }, body: PARAMETERS }),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(new RegExp(`^${url}/files/.*/image\\.png$`)) },
        contentType: 'image/png',
        fileName: 'image.png',
        bytes: 70,
      },
    ],
    // The one that the vendor chose.
    seed: 7,
    timings: { inference_time: expect.any(Number), queue_time: expect.any(Number), total_time: expect.any(Number) },
    usage: { usd: 0.004 },
  }),
  words: { fail: 'The model ran out of memory.', refuse: 'Content blocked: the prompt was flagged by our content policy (RAI).' },
  refused: (words) => ({ status: 400, body: { error: words } }),
  // The instant when the limit starts anew, in whole seconds of the answer's own clock.
  rateWaitMs: expect.any(Number),
  unknownModel: 'unknown-model',
  polled: {
    accepted: (id, elsewhere) => ({
      ...(id !== undefined && { request_id: id }),
      status: 'QUEUED',
      poll_url: `${elsewhere}/p`,
      status_url: `${elsewhere}/s`,
      response_url: `${elsewhere}/r`,
    }),
    ended: (elsewhere) => [
      { body: { status: 'COMPLETED', status_url: elsewhere, response_url: elsewhere } },
      { body: { status: 'COMPLETED', output: 'words' } },
    ],
    told: (status) => ({ request_id: 'abc', status }),
    handle: HANDLE,
    // The vendor's client polls every second.
    pace: { firstMs: 1000, mostMs: 5000 },
  },
};

const NO_CANCELLATION = 'the vendor cannot be asked to stop a run (sheet, section 2)';
describeConformance(subject, {
  'is cancelled at the vendor, which can be done again': NO_CANCELLATION,
  'that has ended, or is not known, can be cancelled without harm': NO_CANCELLATION,
});

const bench = benchOf(subject);

const accepted: ScriptedAnswer = { body: { request_id: 'abc', status: 'QUEUED' } };
const completed: ScriptedAnswer = { body: { request_id: 'abc', status: 'COMPLETED', metrics: {} } };

/** What a run ends with, given the members of its result. */
async function outputOf(result: JsonObject) {
  const { upstream } = await bench.against(accepted, completed, { body: { status: 'COMPLETED', request_id: 'abc', ...result } });
  const { run, files } = bench.testRun();
  return { output: await finish(upstream, run), files };
}

const submit = async (answer: ScriptedAnswer) => (await bench.against(answer)).upstream.start(bench.run());

describe('v2', () => {
  test('a run is polled at its status and read once at its result, with the key in no other header', async () => {
    const { vendor, upstream, environment } = await bench.simulate();
    await finish(upstream, bench.run());
    const asked = callsOf(vendor, /[0-9a-f]{32}/).slice(1);
    expect(new Set(asked.slice(0, -1))).toEqual(new Set(['GET /v2/requests/ID/status']));
    expect(asked.at(-1)).toBe('GET /v2/requests/ID');
    for (const { headers } of vendor.requests) {
      expect([headers['x-api-key'], headers.authorization]).toEqual([environment.SEGMIND_API_KEY, undefined]);
    }
  });

  test('the seed that was asked for is told', async () => {
    const { upstream } = await bench.simulate();
    expect((await finish(upstream, bench.run({ parameters: { ...PARAMETERS, seed: 41 } }))).seed).toBe(41);
  });

  test('a result that is read too early means more waiting', async () => {
    const { upstream } = await bench.against(completed, { body: { status: 'PROCESSING', request_id: 'abc' } });
    expect(await upstream.check(bench.run(), HANDLE)).toMatchObject({ kind: 'running', handle: HANDLE });
  });

  test('a result that is not there yet means another look', async () => {
    const { upstream } = await bench.against(completed, { status: 404, body: { error: 'Request abc not found' } });
    expect(await upstream.check(bench.run(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });

  test('a failed run is served with 422, and its words lose keys and the paths of links', async () => {
    const error = `bad ${simulator.environment('').SEGMIND_API_KEY} at https://x.test/a?token=abc ${'long '.repeat(200)}`;
    const { upstream } = await bench.against({ status: 422, body: { status: 'FAILED', error } });
    const thrown = await errorOf(upstream.check(bench.run(), HANDLE));
    expect(thrown).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    expect(thrown.message).toMatch(/^bad … at /);
    expect(`${thrown.stack} ${thrown.cause}`).not.toMatch(/SG_0|token=abc/);
    expect(thrown.message.length).toBeLessThanOrEqual(300);
  });

  test('runs cannot be cancelled or told of, as the vendor has no way for it', async () => {
    const { upstream } = await bench.simulate();
    expect([upstream.cancel, upstream.receive]).toEqual([undefined, undefined]);
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

  test.each<[string, JsonValue]>([
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
    expect(await errorOf(outputOf({ output: '' }))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });
});

describe('v1', () => {
  test('a model that v2 does not know is run by v1, and the bytes of its answer are stored', async () => {
    const { vendor, upstream, environment } = await bench.simulate();
    const { run, files } = bench.testRun({ model: 'sync-only-model' });
    expect(await upstream.start(run)).toEqual({
      kind: 'finished',
      output: {
        media: [{ location: { asset: 'file-1' }, contentType: 'image/png', fileName: 'image.png', bytes: 70 }],
        seed: 7,
        timings: { generation_time: 0.02 },
        usage: { usd: 0.004 },
      },
    });
    expect(Buffer.from(files[0]?.bytes ?? []).toString('latin1', 1, 4)).toBe('PNG');
    expect(vendor.requests.map(({ path }) => path)).toEqual(['/v2/sync-only-model', '/v1/sync-only-model']);
    expect(vendor.requests[1]).toMatchObject({
      method: 'POST',
      headers: { 'x-api-key': environment.SEGMIND_API_KEY },
      body: PARAMETERS,
    });
    expect(vendor.submitted).toBe(1);
  });

  test.each([
    ['fail', 'invalid_input', 'The model ran out of memory.'],
    ['refuse', 'content_refused', 'Content blocked: the prompt was flagged by our content policy (RAI).'],
  ] as const)('a run that ends with "%s" ends for good as %s, with the words of the vendor', async (fault, code, message) => {
    const { vendor, upstream } = await bench.simulate();
    vendor.inject(fault);
    expect(await errorOf(upstream.start(bench.run({ model: 'sync-only-model' })))).toMatchObject({ name: 'TerminalError', code, message });
  });

  test.each([
    ['The prompt was refused because it is marked as unsafe content.', 'content_refused'],
    ['Prohibited content in the prompt.', 'content_refused'],
    ['The safety of this content type is unknown.', 'provider_error'],
  ])('a run that failed with "%s" counts as %s', async (error, code) => {
    const { upstream } = await bench.against({ body: { status: 'FAILED', error }, status: 422 });
    expect(await errorOf(upstream.check(bench.run(), HANDLE))).toMatchObject({ name: 'TerminalError', code, message: error });
  });

  test('a page that says the method is wrong leads to v1 as well', async () => {
    const page = { status: 405, body: '<h1>405</h1>', headers: { 'content-type': 'text/html' } };
    const { upstream, requests } = await bench.against(page, { body: { choices: [{ message: { content: 'hi' } }] } });
    expect(await finish(upstream, bench.run())).toMatchObject({ media: [], text: 'hi' });
    expect(requests.map(({ path }) => path)).toEqual([`/v2/${MODEL}`, `/v1/${MODEL}`]);
  });

  test('a model that nobody knows fails with the words of the vendor', async () => {
    const { upstream } = await bench.simulate();
    expect((await errorOf(upstream.start(bench.run({ model: 'unknown-model' })))).message).toBe('Model unknown-model not found');
  });

  test('a page instead of a file may be tried again, and leaves open what was started', async () => {
    const page = { body: '<html>wait</html>', headers: { 'content-type': 'text/html' } };
    const { upstream } = await bench.against({ status: 404, body: {} }, page);
    expect(await errorOf(upstream.start(bench.run()))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('half of a file may be tried again, and is not stored', async () => {
    const { vendor, upstream } = await bench.simulate();
    vendor.inject('truncated');
    const { run, files } = bench.testRun({ model: 'sync-only-model' });
    expect(await errorOf(upstream.start(run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
    expect(files).toEqual([]);
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
  ])(
    '%i at the submission fails for good as %s, without another call; that another provider may serve it: %s',
    async (status, code, isProvidersOnly) => {
      const { upstream, requests } = await bench.against({ status, body: { error: 'told so' } });
      expect(await errorOf(upstream.start(bench.run()))).toMatchObject({ name: 'TerminalError', code, isProvidersOnly });
      expect(requests).toHaveLength(1);
    },
  );

  test('too many requests wait until the limit starts anew, by the clock of the vendor', async () => {
    const headers = { date: 'Sat, 21 Nov 2026 10:00:00 GMT', 'x-rate-limit-reset-at-utc': '2026-11-21 10:00:25' };
    const error = await errorOf(submit({ status: 429, body: { error: 'slow down' }, headers }));
    expect(error).toMatchObject({ name: 'RetryableError', retryAfterMs: 25_000 });
  });

  test.each(['2026-11-22T10:00:00Z', '1990-01-01T00:00:00Z'])(
    'an instant of %s makes no wait of more than a minute or less than a second',
    async (reset) => {
      const headers = { date: 'Sat, 21 Nov 2026 10:00:00 GMT', 'x-rate-limit-reset-at-utc': reset };
      const error = await errorOf(submit({ status: 429, body: {}, headers }));
      expect(error).toMatchObject({ retryAfterMs: reset.startsWith('1990') ? 1000 : 60_000 });
    },
  );

  test('too many requests without a readable instant leave the wait to the model', async () => {
    const error = await errorOf(submit({ status: 429, body: {}, headers: { 'x-rate-limit-reset-at-utc': 'soon' } }));
    expect(error).toMatchObject({ name: 'RetryableError', retryAfterMs: undefined });
  });
});
