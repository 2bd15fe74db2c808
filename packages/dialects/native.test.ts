import { AppError, type Job, type JobEvent, type JobPage, type Media, type ServerSentEvent, STATES } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import native from './native.ts';
import { aJob, anImage, aRequest, bodyOf, FINISHED_AT, JOB_ID, type RequestFields, routeOf, STARTED_AT } from './testing/fixtures.ts';

const SUBMIT = 'POST /v2/:model{.+}';
const SYNC = 'POST /v1/:model{.+}';
const STATUS = 'GET /v2/requests/:id/status';
const RESULT = 'GET /v2/requests/:id';

const RESPONSE_URL = `https://queue.example/v2/requests/${JOB_ID}`;
const IMAGE_URL = 'https://queue.example/files/tok1/a%20b.webp';
const METRICS = { inference_time: 3.2, queue_time: 0.4, total_time: 3.6 };
const LINKS = { status_url: `${RESPONSE_URL}/status`, response_url: RESPONSE_URL };

function encode(line: string, outcome: Job | JobPage, fields: RequestFields = {}) {
  return routeOf(native, line).encode(outcome, aRequest(fields));
}

/** As the client sees it: the order of members counts. */
function textOf(line: string, outcome: Job | JobPage, fields: RequestFields = {}): string {
  return JSON.stringify(bodyOf(encode(line, outcome, fields)));
}

function elsewhere(contentType: string, fileName: string): Media {
  return { location: { url: `https://cdn.example/${fileName}` }, contentType, fileName };
}

test('the table has these lines and no others', () => {
  expect(native.routes.map(({ method, path, operation }) => `${method} ${path} ${operation}`)).toEqual([
    'GET /v2/requests list',
    'GET /v2/requests/:id/status read',
    'GET /v2/requests/:id/events follow',
    'GET /v2/requests/:id read',
    'GET /v1/requests/:id read',
    'POST /v2/requests/:id/cancel cancel',
    'PUT /v2/requests/:id/cancel cancel',
    'DELETE /v2/requests/:id purge',
    'GET /v2/requests/:id/deliveries listDeliveriesOfJob',
    'GET /v2/deliveries listDeliveries',
    'POST /v2/deliveries/replay startReplay',
    'GET /v2/deliveries/replay/:id readReplay',
    'DELETE /v2/deliveries/replay/:id stopReplay',
    'GET /v2/deliveries/:id readDelivery',
    'POST /v2/deliveries/:id/resend resendDelivery',
    'POST /v2/webhooks/test testWebhook',
    'GET /v2/webhooks/secret readWebhookSecret',
    'POST /v2/webhooks/secret/rotate rotateWebhookSecret',
    'GET /v2/webhooks/keys/:id readWebhookKeys',
    'GET /v2/webhooks/settings readWebhookPreferences',
    'PUT /v2/webhooks/settings changeWebhookPreferences',
    'GET /v1/models listModels',
    'GET /v1/models/:model{.+} readModel',
    'POST /v2/uploads createUpload',
    'GET /v2/uploads listUploads',
    'GET /v2/uploads/:id readUpload',
    'DELETE /v2/uploads/:id deleteUpload',
    'POST /v2/:model{.+} submit',
    'POST /v1/:model{.+} submit',
  ]);
});

describe('a submission', () => {
  const claimCheck = { request_id: JOB_ID, status: 'QUEUED', ...LINKS, cancel_url: `${RESPONSE_URL}/cancel` };
  const pollUrl = `https://queue.example/v1/requests/${JOB_ID}`;

  test('is answered with the claim check', () => {
    expect(encode(SUBMIT, aJob('QUEUED')).status).toBe(200);
    expect(encode(SUBMIT, aJob('QUEUED')).headers).toBeUndefined();
    expect(textOf(SUBMIT, aJob('QUEUED'))).toBe(JSON.stringify({ ...claimCheck, poll_url: pollUrl, queue_position: 2 }));
  });

  test.each(STATES)('that finds its job %s says so in the same members', (state) => {
    const answer = encode(SUBMIT, aJob(state));
    expect(answer.status).toBe(200);
    expect(bodyOf(answer)).toEqual({ ...claimCheck, status: state, poll_url: pollUrl, queue_position: state === 'QUEUED' ? 2 : null });
  });

  test.each([
    ['COMPLETED', 200],
    ['FAILED', 422],
    ['CANCELLED', 422],
  ] as const)('that prefers to wait is answered with the result of a %s job', (state, status) => {
    const answer = encode(SUBMIT, aJob(state), { headers: { prefer: 'wait=5' } });
    expect(answer).toMatchObject({ status, headers: { 'preference-applied': 'wait=5' } });
    expect(bodyOf(answer)).toEqual(bodyOf(encode(RESULT, aJob(state))));
  });

  test.each(['QUEUED', 'PROCESSING'] as const)('that waited in vain is answered with the claim check of a %s job', (state) => {
    const answer = encode(SUBMIT, aJob(state), { headers: { prefer: 'wait=90' } });
    expect(answer).toMatchObject({ status: 200, headers: { 'preference-applied': 'wait=60' } });
    expect(bodyOf(answer)).toMatchObject({ status: state, cancel_url: `${RESPONSE_URL}/cancel` });
  });
});

describe('a status', () => {
  test('of a waiting job tells its place in the queue', () => {
    expect(encode(STATUS, aJob('QUEUED')).status).toBe(200);
    expect(textOf(STATUS, aJob('QUEUED'))).toBe(
      JSON.stringify({ status: 'QUEUED', request_id: JOB_ID, metrics: {}, queue_position: 2, progress: 0, ...LINKS }),
    );
  });

  test('of a running job tells its progress and no place in the queue', () => {
    expect(encode(STATUS, aJob('PROCESSING')).status).toBe(200);
    expect(textOf(STATUS, aJob('PROCESSING', { queuePosition: 3 }))).toBe(
      JSON.stringify({ status: 'PROCESSING', request_id: JOB_ID, metrics: {}, progress: 0.25, ...LINKS }),
    );
  });

  test('of a completed job tells its times, full progress and no output', () => {
    expect(encode(STATUS, aJob('COMPLETED')).status).toBe(200);
    expect(textOf(STATUS, aJob('COMPLETED'))).toBe(
      JSON.stringify({ status: 'COMPLETED', request_id: JOB_ID, metrics: METRICS, progress: 1, ...LINKS }),
    );
  });

  test.each([
    ['FAILED', 'The upstream gave up.', 'provider_error'],
    ['CANCELLED', 'The job was cancelled.', 'cancelled'],
  ] as const)('of a %s job is a 422 with the reason', (state, error, code) => {
    expect(encode(STATUS, aJob(state)).status).toBe(422);
    expect(textOf(STATUS, aJob(state))).toBe(
      JSON.stringify({ status: state, request_id: JOB_ID, metrics: METRICS, progress: 0.5, ...LINKS, error, code }),
    );
  });

  test.each(['PROCESSING', 'COMPLETED', 'FAILED'] as const)(
    'of a %s job tells what its run has printed, where that was asked for',
    (state) => {
      const logs = [{ text: 'loading', at: STARTED_AT }];
      const told = bodyOf(encode(STATUS, aJob(state, { logs })));
      expect(told.logs).toEqual([{ timestamp: STARTED_AT.toISOString(), message: 'loading' }]);
      expect(bodyOf(encode(STATUS, aJob(state, { logs: [] }))).logs).toEqual([]);
      expect(bodyOf(encode(STATUS, aJob(state)))).not.toHaveProperty('logs');
    },
  );

  test('of a failed job without a recorded reason still has a string in error', () => {
    expect(bodyOf(encode(STATUS, aJob('FAILED', { failure: undefined })))).toMatchObject({ error: expect.any(String), code: 'internal' });
  });

  test('of a job that is queued again shows no times yet', () => {
    const again = aJob('QUEUED', { attempt: 1, startedAt: STARTED_AT, attemptStartedAt: STARTED_AT });
    expect(bodyOf(encode(STATUS, again)).metrics).toEqual({});
  });

  test('counts the newest attempt as inference and the time before the first as queueing', () => {
    const retried = aJob('COMPLETED', { attempt: 2, attemptStartedAt: new Date(FINISHED_AT.getTime() - 1_000) });
    expect(bodyOf(encode(STATUS, retried)).metrics).toEqual({ inference_time: 1, queue_time: 0.4, total_time: 3.6 });
  });

  test('counts all time of a job that was never started as queueing', () => {
    const job = aJob('CANCELLED', { attempt: 0, startedAt: undefined, attemptStartedAt: undefined });
    expect(bodyOf(encode(STATUS, job)).metrics).toEqual({ inference_time: 0, queue_time: 3.6, total_time: 3.6 });
  });

  test('never shows a negative time', () => {
    const job = aJob('COMPLETED', { attemptStartedAt: new Date(FINISHED_AT.getTime() + 1) });
    expect(bodyOf(encode(STATUS, job)).metrics).toMatchObject({ inference_time: 0 });
  });
});

describe.each([RESULT, 'GET /v1/requests/:id'])('the result at %s', (line) => {
  test('of an image model has these members in this order', () => {
    expect(encode(line, aJob('COMPLETED')).status).toBe(200);
    expect(textOf(line, aJob('COMPLETED'))).toBe(
      JSON.stringify({
        status: 'COMPLETED',
        request_id: JOB_ID,
        output: IMAGE_URL,
        images: [{ url: IMAGE_URL, content_type: 'image/webp', file_name: 'a b.webp', file_size: 12345, width: 1024, height: 768 }],
        seed: 7,
        prompt: 'a panda',
        timings: {},
        error: null,
        metrics: METRICS,
      }),
    );
  });

  test.each(STATES.filter((state) => state !== 'COMPLETED'))('is the status for a %s job', (state) => {
    expect(encode(line, aJob(state))).toEqual(encode(STATUS, aJob(state)));
  });
});

describe('the result', () => {
  const produced = (output: Job['output'], fields: Partial<Job> = {}) => bodyOf(encode(RESULT, aJob('COMPLETED', { output, ...fields })));

  test('lists every image, those elsewhere by their own address and without unknown facts', () => {
    const body = produced({ media: [elsewhere('image/png', '1.png'), anImage] });
    expect(body.output).toBe('https://cdn.example/1.png');
    expect(body.images).toEqual([
      { url: 'https://cdn.example/1.png', content_type: 'image/png', file_name: '1.png' },
      expect.objectContaining({ url: IMAGE_URL }),
    ]);
  });

  test.each([
    ['video', 'video/mp4'],
    ['audio', 'audio/mpeg'],
    ['video', 'Video/MP4'],
  ])('shows %s as one object', (member, contentType) => {
    const body = produced({ media: [elsewhere(contentType, 'f')] });
    expect(body).toMatchObject({ output: 'https://cdn.example/f', [member]: { url: 'https://cdn.example/f', content_type: contentType } });
    expect(body).not.toHaveProperty('images');
    expect(body).not.toHaveProperty('files');
  });

  test('keeps the files the vendor has no member for', () => {
    const body = produced({
      media: [elsewhere('video/mp4', '1.mp4'), elsewhere('video/mp4', '2.mp4'), elsewhere('model/gltf-binary', '3.glb')],
    });
    expect(body.video).toMatchObject({ file_name: '1.mp4' });
    expect(body.files).toMatchObject([{ file_name: '2.mp4' }, { file_name: '3.glb' }]);
  });

  test.each([
    ['text', { media: [], text: 'Hello' }, 'Hello'],
    ['JSON as a string', { media: [], json: { choices: [1] } }, '{"choices":[1]}'],
    ['JSON null as a string', { media: [], json: null }, 'null'],
    ['nothing as an empty string', { media: [] }, ''],
    ['an unrecorded output as an empty string', undefined, ''],
  ])('shows %s in output', (_case, output, wanted) => {
    expect(produced(output).output).toBe(wanted);
  });

  test('has no seed when none is known, but a seed of 0', () => {
    expect(produced({ media: [anImage] })).not.toHaveProperty('seed');
    expect(produced({ media: [anImage], seed: 0 }).seed).toBe(0);
  });

  test.each([
    ['the last of two prompts', '{"prompt":"old","seed":12345678901234567890,"prompt":"new \\ud83d\\udc3c"}', 'new 🐼'],
    ['no prompt that is not a string', '{"prompt":["a"]}', undefined],
    ['no prompt where there is none', '{}', undefined],
  ])('repeats %s', (_case, input, wanted) => {
    expect(produced({ media: [anImage] }, { input: input as Job['input'] }).prompt).toBe(wanted);
  });
});

test.each(STATES.flatMap((state) => [['POST', state] as const, ['PUT', state] as const]))(
  'a cancellation by %s that leaves the job %s is a 200 with the status',
  (method, state) => {
    const answer = encode(`${method} /v2/requests/:id/cancel`, aJob(state));
    expect(answer.status).toBe(200);
    expect(bodyOf(answer)).toEqual(bodyOf(encode(STATUS, aJob(state))));
  },
);

test('a purge is confirmed with the last state', () => {
  expect(encode('DELETE /v2/requests/:id', aJob('COMPLETED')).status).toBe(200);
  expect(textOf('DELETE /v2/requests/:id', aJob('COMPLETED'))).toBe(
    JSON.stringify({ request_id: JOB_ID, status: 'COMPLETED', deleted: true }),
  );
});

describe('the list', () => {
  test('shows each job as its status, model and date', () => {
    const answer = encode('GET /v2/requests', { jobs: [aJob('QUEUED'), aJob('FAILED')], nextCursor: 'abc' });
    expect(answer.status).toBe(200);
    const more = { model: 'hidream-i1-fast', created_at: '2026-01-01T10:00:00.000Z' };
    expect(JSON.stringify(bodyOf(answer))).toBe(
      JSON.stringify({
        requests: [
          { ...bodyOf(encode(STATUS, aJob('QUEUED'))), ...more },
          { ...bodyOf(encode(STATUS, aJob('FAILED'))), ...more },
        ],
        next_cursor: 'abc',
      }),
    );
  });

  test('ends with a null cursor', () => {
    expect(textOf('GET /v2/requests', { jobs: [] })).toBe('{"requests":[],"next_cursor":null}');
  });
});

describe('the events', () => {
  const at = STARTED_AT;
  const event = (fields: Partial<JobEvent>): JobEvent => ({
    jobId: JOB_ID,
    sequence: 1,
    type: 'status',
    state: 'PROCESSING',
    progress: 0,
    at,
    ...fields,
  });

  function stream(events: AsyncIterable<JobEvent>): AsyncIterable<ServerSentEvent> {
    const job = aJob('PROCESSING');
    const { status, body } = routeOf(native, 'GET /v2/requests/:id/events').encode(
      { job, events, read: () => Promise.resolve(job) },
      aRequest(),
    );
    expect(status).toBe(200);
    if (body.kind !== 'events') throw new Error(`The answer is of kind ${body.kind}, not events.`);
    return body.events;
  }

  async function* emit(...events: JobEvent[]) {
    yield* events;
  }

  async function sent(...events: JobEvent[]): Promise<ServerSentEvent[]> {
    const all: ServerSentEvent[] = [];
    for await (const next of stream(emit(...events))) all.push(next);
    return all;
  }

  test('carry their number, type, and where the job stands', async () => {
    const events = await sent(event({}), event({ sequence: 2, type: 'progress', progress: 0.5 }));
    expect(JSON.stringify(events)).toBe(
      JSON.stringify([
        { id: '1', event: 'status', data: { request_id: JOB_ID, status: 'PROCESSING', progress: 0 } },
        { id: '2', event: 'progress', data: { request_id: JOB_ID, status: 'PROCESSING', progress: 0.5 } },
      ]),
    );
  });

  test('carry their own data, which replaces none of our members', async () => {
    const data = { text: 'He', status: 'COMPLETED', request_id: 'other' };
    const [partial] = await sent(event({ type: 'partial', data }));
    expect(JSON.stringify(partial?.data)).toBe(JSON.stringify({ request_id: JOB_ID, status: 'PROCESSING', progress: 0, text: 'He' }));
  });

  test('end with where the result is', async () => {
    const [last] = await sent(event({ state: 'COMPLETED', progress: 0.9 }));
    expect(last?.data).toEqual({ request_id: JOB_ID, status: 'COMPLETED', progress: 1, response_url: RESPONSE_URL });
  });

  test('point to the result from no other event than the last', async () => {
    const [partial] = await sent(event({ type: 'partial', state: 'COMPLETED' }));
    expect(partial?.data).not.toHaveProperty('response_url');
  });

  test.each(['FAILED', 'CANCELLED'] as const)('end with the error of a %s job', async (state) => {
    const [last] = await sent(event({ state, data: { error: 'It broke.', code: 'provider_error' } }));
    expect(last?.data).toEqual({
      request_id: JOB_ID,
      status: state,
      progress: 0,
      error: 'It broke.',
      code: 'provider_error',
      response_url: RESPONSE_URL,
    });
  });

  test('stop being read when the client goes away', async () => {
    let released = false;
    async function* endless() {
      try {
        for (;;) yield event({});
      } finally {
        released = true;
      }
    }
    for await (const _first of stream(endless())) break;
    expect(released).toBe(true);
  });
});

describe('a synchronous call', () => {
  const headers = { 'x-request-id': JOB_ID, 'x-generation-time': '3.2', 'x-seed-value': '7' };

  test('is answered with the file itself', () => {
    expect(encode(SYNC, aJob('COMPLETED'))).toEqual({ status: 200, headers, body: { kind: 'asset', token: 'tok1' } });
  });

  test('is answered with the result when the file is elsewhere', () => {
    const job = aJob('COMPLETED', { output: { media: [elsewhere('image/png', '1.png'), anImage], json: {}, seed: 7 } });
    expect(encode(SYNC, job)).toEqual({ ...encode(RESULT, job), headers });
  });

  test('is answered with the result when the output is text', () => {
    const job = aJob('COMPLETED', { output: { media: [], text: 'Hello', seed: 0 } });
    expect(encode(SYNC, job)).toMatchObject({ status: 200, headers: { ...headers, 'x-seed-value': '0' } });
    expect(bodyOf(encode(SYNC, job))).toMatchObject({ status: 'COMPLETED', output: 'Hello' });
  });

  test('is answered with the JSON a model produced, as the vendor passes it through', () => {
    const job = aJob('COMPLETED', { output: { media: [], json: { choices: [] } } });
    expect(textOf(SYNC, job)).toBe('{"choices":[]}');
    expect(encode(SYNC, job).headers).toEqual({ 'x-request-id': JOB_ID, 'x-generation-time': '3.2' });
  });

  test.each([
    ['FAILED', 'The upstream gave up.', 'provider_error'],
    ['CANCELLED', 'The job was cancelled.', 'cancelled'],
  ] as const)('of a %s job is a 422 with the reason', (state, error, code) => {
    expect(encode(SYNC, aJob(state))).toMatchObject({ status: 422, headers: { 'x-request-id': JOB_ID } });
    expect(textOf(SYNC, aJob(state))).toBe(JSON.stringify({ error, code, request_id: JOB_ID, status: state }));
  });

  test.each([
    ['QUEUED', {}, 120],
    ['PROCESSING', { prefer: 'wait=3' }, 3],
  ] as const)('whose job is still %s throws a timeout that says where the result will be', (state, preference, seconds) => {
    const call = () => encode(SYNC, aJob(state), { headers: preference });
    expect(call).toThrow(AppError);
    expect(call).toThrow(
      expect.objectContaining({ code: 'wait_timeout', requestId: JOB_ID, message: expect.stringContaining(`${RESPONSE_URL}.`) }),
    );
    expect(call).toThrow(`within ${seconds} seconds`);
  });
});

describe('an error', () => {
  test('is an envelope of a sentence and a code', () => {
    const answer = native.encodeError(new AppError('unknown_model', 'There is no model "x".'));
    expect(answer).toMatchObject({ status: 404, headers: {} });
    expect(JSON.stringify(bodyOf(answer))).toBe('{"error":"There is no model \\"x\\".","code":"unknown_model"}');
  });

  test('lists every problem, names the job and says when to come back', () => {
    const problems = [{ pointer: '/seed', message: 'is too large' }];
    const answer = native.encodeError(new AppError('rate_limited', 'Slow down.', { problems, requestId: JOB_ID, retryAfterSeconds: 1.2 }));
    expect(answer).toMatchObject({ status: 429, headers: { 'retry-after': '2', 'x-request-id': JOB_ID } });
    expect(JSON.stringify(bodyOf(answer))).toBe(
      JSON.stringify({ error: 'Slow down.', code: 'rate_limited', errors: problems, request_id: JOB_ID }),
    );
  });
});

describe('a job that may have been paid for twice', () => {
  test('says how often a lost run was started anew', () => {
    expect(bodyOf(encode(STATUS, aJob('COMPLETED', { resubmits: 2 })))).toMatchObject({ metrics: { ...METRICS, resubmits: 2 } });
    expect(bodyOf(encode(STATUS, aJob('COMPLETED')))).toMatchObject({
      metrics: expect.not.objectContaining({ resubmits: expect.anything() }),
    });
  });
});
