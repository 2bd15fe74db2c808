import { createHash, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import {
  AppError,
  ERROR_STATUS,
  type ErrorCode,
  type Followed,
  InlineFile,
  type Job,
  type JobEvent,
  type Media,
  type ServerSentEvent,
  toJsonText,
  type Upload,
} from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { outputSchema } from './_fal-answer-schemas.ts';
import fal from './fal.ts';
import { aJob, anImage, aRequest, BASE_URL, bodyOf, JOB_ID, type RequestFields, routeOf, STARTED_AT } from './testing/fixtures.ts';

const SUBMIT = 'POST /fal/queue/:model{.+}';
const SUBMIT_BY_GET = 'GET /fal/queue/:model{.+}';
const RUN = 'POST /fal/run/:model{.+}';
const STREAM = 'POST /fal/run/:model{.+}/stream';
const RESULT = 'GET /fal/queue/:model{.+}/requests/:id';
const STATUS = `${RESULT}/status`;
const STATUS_STREAM = `${STATUS}/stream`;
const CANCEL = `${RESULT.replace('GET', 'PUT')}/cancel`;

const MODEL = 'fal-ai/hidream-i1-fast';
const REQUEST_URL = `${BASE_URL}/fal/queue/${MODEL}/requests/${JOB_ID}`;
const LINKS = { response_url: REQUEST_URL, status_url: `${REQUEST_URL}/status`, cancel_url: `${REQUEST_URL}/cancel` };
const ABOUT_JOB = { 'x-fal-request-id': JOB_ID };

function aFalJob(state: Job['state'], fields: Partial<Job> = {}): Job {
  return aJob(state, { dialect: 'fal', model: MODEL, ...fields });
}

function decode(line: string, fields: RequestFields = {}) {
  const [method = ''] = line.split(' ');
  return routeOf(fal, line).decode({ ...aRequest({ ...fields, params: { model: MODEL, ...fields.params } }), method });
}

/** The submission that a request is, by POST to the queue. */
function submitted(fields: RequestFields = {}) {
  const operation = decode(SUBMIT, { body: '{"prompt":"a panda"}', ...fields });
  if (operation.kind !== 'submit') throw new Error(`The operation is ${operation.kind}.`);
  return operation;
}

function encode(line: string, outcome: Job, fields: RequestFields = {}) {
  return routeOf(fal, line).encode(outcome, aRequest(fields));
}

function thrownBy(call: () => unknown): AppError {
  try {
    call();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('Nothing was thrown.');
}

test('the table has these lines and no others', () => {
  expect(fal.routes.map(({ method, path, operation }) => `${method} ${path} ${operation}`)).toEqual([
    'GET /fal/queue/:model{.+}/requests/:id/status/stream follow',
    'GET /fal/queue/:model{.+}/requests/:id/status read',
    'GET /fal/queue/:model{.+}/requests/:id read',
    'GET /fal/queue/:model{.+}/requests/:id/response read',
    'PUT /fal/queue/:model{.+}/requests/:id/cancel cancel',
    'GET /fal/run/:model{.+}/realtime readCaller',
    'POST /fal/queue/:model{.+} submit',
    'POST /fal/run/:model{.+}/stream stream',
    'POST /fal/run/:model{.+} submit',
    'GET /fal/queue/:model{.+} submit',
    'GET /fal/run/:model{.+}/stream stream',
    'GET /fal/run/:model{.+} submit',
    'GET /fal/rest/.well-known/jwks.json readAllWebhookKeys',
    'POST /fal/rest/storage/upload/initiate createUpload',
    'POST /fal/rest/storage/upload/initiate-multipart createUpload',
    'POST /fal/rest/storage/auth/token readCaller',
    'POST /fal/rest/files/upload createUpload',
    'POST /fal/rest/files/upload/multipart createUpload',
    'POST /fal/rest/tokens readCaller',
    'POST /fal/rest/tokens/realtime readCaller',
    'GET /fal/api/:path{.+} readCaller',
    'POST /fal/api/:path{.+} readCaller',
  ]);
});

describe('a submission', () => {
  test('takes the body for the parameters, to the letter', () => {
    const body = '{"seed":123456789012345678901, "prompt":"a panda"}';
    expect(submitted({ body })).toMatchObject({ model: MODEL, parameters: { text: body } });
  });

  test('without a body has no parameters', () => {
    expect(decode(SUBMIT)).toMatchObject({ parameters: { text: '{}' } });
  });

  test.each(['[]', '"a panda"', 'null'])('refuses %s for parameters', (body) => {
    expect(thrownBy(() => submitted({ body }))).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '' }] });
  });

  test.each([
    ['_/hidream-i1-fast', 'hidream-i1-fast'],
    ['sandbox/hidream-i1-fast', 'sandbox/hidream-i1-fast'],
    ['workflows/acme/poster/v2', 'workflows/acme/poster/v2'],
  ])('to %s is for the model %s', (model, name) => {
    expect(submitted({ params: { model } }).model).toBe(name);
  });

  test('says nothing of what nobody asked for', () => {
    const operation = Object.entries(submitted()).filter(([, value]) => value !== undefined);
    expect(operation.map(([name]) => name)).toEqual(['kind', 'model', 'parameters']);
  });

  test.each<[what: string, RequestFields, members: object]>([
    [
      'a webhook',
      { query: 'fal_webhook=https%3A%2F%2Fa.example%2Fhook%3Fx%3D1' },
      { webhookUrl: 'https://a.example/hook?x=1', webhookPointer: '/fal_webhook' },
    ],
    ['a line that is short enough', { query: 'fal_max_queue_length=10000' }, { queueLengthMax: 10_000 }],
    ['nobody in line', { query: 'fal_max_queue_length=0' }, { queueLengthMax: 0 }],
    ['low priority', { headers: { 'x-fal-queue-priority': 'low' } }, { priority: 'low' }],
    ['normal priority', { headers: { 'x-fal-queue-priority': 'Normal' } }, { priority: 'normal' }],
    ['a start in time, as its client for JavaScript', { headers: { 'x-fal-request-timeout': '30' } }, { startTimeoutSeconds: 30 }],
    ['a start in time, as its client for Python', { headers: { 'x-fal-request-timeout': '29.5' } }, { startTimeoutSeconds: 30 }],
    [
      'a start in time by the newer name',
      { headers: { 'x-fal-request-timeout': '1', 'x-fal-request-start-timeout': '2' } },
      { startTimeoutSeconds: 2 },
    ],
    ['a start within more than a day', { headers: { 'x-fal-request-timeout': '9000000' } }, { startTimeoutSeconds: 86_400 }],
    ['no second try', { headers: { 'x-fal-no-retry': 'yes' } }, { attemptsMax: 1 }],
    ['no other provider', { headers: { 'x-app-fal-disable-fallback': 'true' } }, { mayFallBack: false }],
    ['to be known again', { headers: { 'idempotency-key': 'k' } }, { idempotencyKey: 'k' }],
  ])('asks for %s', (_what, fields, members) => {
    expect(submitted(fields)).toMatchObject(members);
  });

  test.each<[place: string, name: string, RequestFields]>([
    ['header', 'X-Fal-Queue-Priority', { headers: { 'x-fal-queue-priority': 'high' } }],
    ['header', 'X-Fal-Request-Timeout', { headers: { 'x-fal-request-timeout': '0' } }],
    ['header', 'X-Fal-Request-Timeout', { headers: { 'x-fal-request-timeout': '1e3' } }],
    ['header', 'X-Fal-Request-Start-Timeout', { headers: { 'x-fal-request-start-timeout': 'soon' } }],
    ['query', 'fal_max_queue_length', { query: 'fal_max_queue_length=-1' }],
    ['query', 'fal_max_queue_length', { query: 'fal_max_queue_length=10001' }],
  ])('is told that the %s has no %s like this: %j', (place, name, fields) => {
    const answer = fal.encodeError(thrownBy(() => submitted(fields)));
    expect(answer.status).toBe(422);
    expect(bodyOf(answer)).toEqual({ detail: [{ loc: [place, name], msg: expect.stringContaining(name), type: 'value_error' }] });
  });

  test.each(['x-fal-object-lifecycle-preference', 'x-fal-object-lifecycle'])(
    'cannot by %s keep files from whoever has their address',
    (name) => {
      const headers = { [name]: '{"initial_acl":{"default":"forbid"}}' };
      const error = thrownBy(() => submitted({ headers }));
      expect(error).toMatchObject({ code: 'invalid_request', message: expect.stringContaining('initial_acl') });
    },
  );

  test.each<[header: string, value: string]>([
    ['x-fal-no-retry', '0'],
    ['x-fal-store-io', '0'],
    ['x-fal-runner-hint', 'h1'],
    ['x-fal-tags', 'a=b'],
    ['x-fal-retry-config', '{}'],
    ['x-fal-object-lifecycle-preference', '{"expiration_duration_seconds":3600}'],
  ])('is none the different for %s: %s', (header, value) => {
    expect(submitted({ headers: { [header]: value } })).toEqual(submitted());
  });

  test('by GET has its parameters in the address line, as text', () => {
    const operation = decode(SUBMIT_BY_GET, { query: 'prompt=a+panda&seed=7&fal_webhook=https://a.example&fal_max_queue_length=3' });
    expect(operation).toMatchObject({
      parameters: { value: { prompt: 'a panda', seed: '7' } },
      isText: true,
      webhookUrl: 'https://a.example',
      queueLengthMax: 3,
    });
  });

  test('by HEAD is none', () => {
    const request = { ...aRequest({ params: { model: MODEL } }), method: 'HEAD' };
    expect(thrownBy(() => routeOf(fal, SUBMIT_BY_GET).decode(request))).toMatchObject({ code: 'method_not_allowed' });
  });

  test('is answered with the claim check', () => {
    const answer = encode(SUBMIT, aFalJob('QUEUED'));
    expect(answer).toMatchObject({ status: 200, headers: ABOUT_JOB });
    expect(bodyOf(answer)).toEqual({ status: 'IN_QUEUE', request_id: JOB_ID, queue_position: 2, ...LINKS });
  });

  test('that finds its job under way is answered as it was at first', () => {
    expect(bodyOf(encode(SUBMIT, aFalJob('COMPLETED')))).toMatchObject({ status: 'IN_QUEUE', queue_position: 0 });
  });

  test.each([
    ['acme/poster/v2/large', 'acme/poster'],
    ['workflows/acme/poster/v2', 'workflows/acme/poster'],
    ['comfy/acme/poster', 'comfy/acme/poster'],
    ['hidream-i1-fast', 'hidream-i1-fast'],
  ])('to %s is found below %s', (model, app) => {
    const url = `${BASE_URL}/fal/queue/${app}/requests/${JOB_ID}`;
    expect(bodyOf(encode(SUBMIT, aFalJob('QUEUED', { model })))).toMatchObject({ response_url: url, status_url: `${url}/status` });
  });

  test('to the synchronous address waits for the end, and less long than its clients do', () => {
    expect(decode(RUN)).toMatchObject({ kind: 'submit', wait: { until: 'end', seconds: 290 } });
    expect(encode(RUN, aFalJob('COMPLETED'))).toEqual(encode(RESULT, aFalJob('COMPLETED')));
    expect(encode(RUN, aFalJob('FAILED'))).toEqual(encode(RESULT, aFalJob('FAILED')));
  });

  test('that takes longer than that goes on, and is not handed in again', () => {
    const error = thrownBy(() => encode(RUN, aFalJob('PROCESSING')));
    expect(error).toMatchObject({ code: 'wait_timeout', requestId: JOB_ID, message: expect.stringContaining(REQUEST_URL) });
    const answer = fal.encodeError(error);
    expect(answer).toMatchObject({ status: 504, headers: { ...ABOUT_JOB, 'x-fal-request-timeout-type': 'user' } });
  });
});

describe('the status', () => {
  const common = { request_id: JOB_ID, ...LINKS };

  test.each([
    ['QUEUED', 202, { status: 'IN_QUEUE', queue_position: 2 }],
    ['PROCESSING', 202, { status: 'IN_PROGRESS', logs: null }],
    ['COMPLETED', 200, { status: 'COMPLETED', logs: null, metrics: { inference_time: 3.2 } }],
    [
      'FAILED',
      200,
      {
        status: 'COMPLETED',
        logs: null,
        metrics: { inference_time: 3.2 },
        error: 'The upstream gave up.',
        error_type: 'downstream_service_error',
      },
    ],
    [
      'CANCELLED',
      200,
      {
        status: 'COMPLETED',
        logs: null,
        metrics: { inference_time: 3.2 },
        error: 'The job was cancelled.',
        error_type: 'client_cancelled',
      },
    ],
  ] as const)('of a %s job has these members', (state, status, members) => {
    const answer = encode(STATUS, aFalJob(state));
    expect(answer).toMatchObject({ status, headers: ABOUT_JOB });
    expect(bodyOf(answer)).toEqual({ ...common, ...members });
  });

  test('of a job that never started has taken no time', () => {
    const job = aFalJob('CANCELLED', { startedAt: undefined, attemptStartedAt: undefined });
    expect(bodyOf(encode(STATUS, job)).metrics).toEqual({ inference_time: 0 });
  });

  test.each([
    ['', false],
    ['logs=0', false],
    ['logs=false', false],
    ['logs=1', true],
    ['logs=true', true],
  ])('with "%s" reads what was printed: %s', (query, withLogs) => {
    expect(decode(STATUS, { query, params: { id: JOB_ID } })).toEqual({ kind: 'read', id: JOB_ID, withLogs });
  });

  test('tells what was printed as entries', () => {
    const job = aFalJob('PROCESSING', { logs: [{ text: 'loading', at: STARTED_AT }] });
    expect(bodyOf(encode(STATUS, job, { query: 'logs=1' })).logs).toEqual([
      { message: 'loading', timestamp: STARTED_AT.toISOString(), level: 'INFO', source: 'USER' },
    ]);
    expect(bodyOf(encode(STATUS, aFalJob('COMPLETED'), { query: 'logs=1' })).logs).toEqual([]);
  });
});

describe('the result', () => {
  const produced = (output: Job['output'], input = '{"prompt":"a panda"}') =>
    encode(RESULT, aFalJob('COMPLETED', { output, input: toJsonText(JSON.parse(input)) }));
  const image = {
    url: `${BASE_URL}/files/tok1/a%20b.webp`,
    content_type: 'image/webp',
    file_name: 'a b.webp',
    file_size: 12345,
    width: 1024,
    height: 768,
  };
  const elsewhere = (contentType: string, fileName: string): Media => ({
    location: { url: `https://cdn.example/${fileName}` },
    contentType,
    fileName,
  });
  const toldAs = (contentType: string, fileName: string) => ({
    url: `https://cdn.example/${fileName}`,
    content_type: contentType,
    file_name: fileName,
  });

  test('of an image model is what such models answer', () => {
    const answer = produced({ media: [anImage], seed: 7 });
    expect(answer).toMatchObject({ status: 200, headers: ABOUT_JOB });
    expect(bodyOf(answer)).toEqual({ images: [image], has_nsfw_concepts: [false], seed: 7, prompt: 'a panda', timings: {} });
  });

  test.each(['/response', ''])('is at the address of the request%s', (suffix) => {
    expect(decode(`${RESULT}${suffix}`, { params: { id: JOB_ID } })).toEqual({ kind: 'read', id: JOB_ID });
    expect(encode(`${RESULT}${suffix}`, aFalJob('COMPLETED'))).toEqual(encode(RESULT, aFalJob('COMPLETED')));
  });

  test('has a flag for each picture, also where there is something between them', () => {
    const media = [elsewhere('image/png', '1.png'), elsewhere('video/mp4', '2.mp4'), elsewhere('image/png', '3.png')];
    const body = bodyOf(produced({ media, nsfw: [false, false, true] }));
    expect(body).toMatchObject({ has_nsfw_concepts: [false, true], video: toldAs('video/mp4', '2.mp4') });
    expect(body.images).toHaveLength(2);
  });

  test('shows one video and one sound under their names, and all else as files', () => {
    const media = [
      elsewhere('audio/wav', '1.wav'),
      elsewhere('Video/MP4', '2.mp4'),
      elsewhere('video/mp4', '3.mp4'),
      elsewhere('model/gltf', '4'),
    ];
    expect(bodyOf(produced({ media }))).toEqual({
      audio: toldAs('audio/wav', '1.wav'),
      video: toldAs('Video/MP4', '2.mp4'),
      files: [toldAs('video/mp4', '3.mp4'), toldAs('model/gltf', '4')],
      prompt: 'a panda',
      timings: {},
    });
  });

  test('of a language model is its text, with what it used', () => {
    const output = { media: [], text: 'Once.', usage: { inputTokens: 3, outputTokens: 1 }, timings: { inference: 0.5 } };
    expect(bodyOf(produced(output))).toEqual({
      output: 'Once.',
      timings: { inference: 0.5 },
      usage: { prompt_tokens: 3, completion_tokens: 1 },
    });
  });

  test('that is an object stands as it is, and a list under a name', () => {
    expect(bodyOf(produced({ media: [], json: { a: [1] } }))).toEqual({ a: [1] });
    expect(bodyOf(produced({ media: [], json: [1, 2] }))).toEqual({ output: [1, 2] });
  });

  test('holds its own files where sync_mode wants them there, and others by their addresses', () => {
    const answer = produced({ media: [anImage, elsewhere('image/png', '1.png')] }, '{"prompt":"a panda","sync_mode":true}');
    // Of the second nobody knows how large it is.
    expect(bodyOf(answer).images).toEqual([image, toldAs('image/png', '1.png')]);
    const { body } = produced({ media: [anImage] }, '{"prompt":"a panda","sync_mode":true}');
    expect(body).toMatchObject({ value: { images: [{ url: new InlineFile('tok1', 'data URI') }] } });
  });

  test('of many megabytes is told by addresses in spite of sync_mode', () => {
    const body = bodyOf(produced({ media: [{ ...anImage, bytes: 21 * 1024 * 1024 }] }, '{"sync_mode":true}'));
    expect(body).toMatchObject({ images: [{ url: image.url }] });
  });

  test.each(['QUEUED', 'PROCESSING'] as const)('of a %s job is a 400 that its clients know by its words', (state) => {
    const answer = encode(RESULT, aFalJob(state));
    expect(answer).toMatchObject({ status: 400, headers: ABOUT_JOB });
    expect(bodyOf(answer).detail).toMatch(/in progress/);
  });

  const listed = (type: string, ...loc: string[]) => ({ detail: [{ loc: ['body', ...loc], msg: 'No.', type }] });
  const flat = (type: string) => ({ detail: 'No.', error_type: type });
  test.each([
    ['provider_error', 500, flat('downstream_service_error')],
    ['content_refused', 422, listed('content_policy_violation', 'prompt')],
    ['invalid_input', 422, listed('value_error')],
    ['timeout', 504, flat('generation_timeout')],
    ['worker_crashed', 500, flat('runner_server_error')],
    ['outcome_unknown', 500, flat('outcome_unknown')],
    ['internal', 500, flat('internal_server_error')],
  ] as const)('of a job that failed by %s is the error %i', (code, status, body) => {
    const answer = encode(RESULT, aFalJob('FAILED', { failure: { code, message: 'No.' } }));
    expect(answer.status).toBe(status);
    expect(routeOf(fal, RESULT).answers).toHaveProperty(String(status));
    expect(answer.headers).toEqual({ ...ABOUT_JOB, 'x-fal-error-type': 'error_type' in body ? body.error_type : body.detail[0]?.type });
    expect(bodyOf(answer)).toEqual(body);
  });

  test('of models that make files or text has no members but those that are described', () => {
    const described = (output: Job['output']) => {
      const body = bodyOf(produced(output));
      expect(outputSchema.parse(body)).toEqual(body);
    };
    described({
      media: [anImage, elsewhere('video/mp4', '2.mp4'), elsewhere('audio/wav', '3.wav'), elsewhere('model/gltf', '4')],
      seed: 7,
    });
    described({ media: [], text: 'Once.', usage: { outputTokens: 1 }, timings: { inference: 0.5 } });
    described({ media: [anImage], json: { a: 1 } });
    described({ media: [], json: [1] });
    expect(outputSchema.safeParse({ images: [], more: 1 }).success).toBe(false);
  });

  test('of a job that was cancelled is 499', () => {
    const answer = encode(RESULT, aFalJob('CANCELLED'));
    expect(answer.status).toBe(499);
    expect(bodyOf(answer)).toEqual({ detail: 'The job was cancelled.', error_type: 'client_cancelled' });
  });

  test('of a job that did not start in time says that the client itself had set the time', () => {
    const failure = { code: 'timeout', message: 'Too late.' } as const;
    const job = aFalJob('FAILED', { failure, startBy: STARTED_AT, startedAt: undefined, attemptStartedAt: undefined });
    expect(encode(RESULT, job)).toMatchObject({ status: 504, headers: { 'x-fal-request-timeout-type': 'user' } });
    expect(bodyOf(encode(STATUS, job))).toMatchObject({ error: 'Too late.', error_type: 'request_timeout' });
    // One that did start has another clock.
    const started = encode(RESULT, aFalJob('FAILED', { failure, startBy: STARTED_AT }));
    expect(started.headers).not.toHaveProperty('x-fal-request-timeout-type');
  });

  test('of a job that failed without a recorded reason is an error all the same', () => {
    expect(encode(RESULT, aFalJob('FAILED', { failure: undefined })).status).toBe(500);
  });
});

test.each([
  ['QUEUED', 202, 'CANCELLATION_REQUESTED'],
  ['PROCESSING', 202, 'CANCELLATION_REQUESTED'],
  ['CANCELLED', 202, 'CANCELLATION_REQUESTED'],
  ['COMPLETED', 400, 'ALREADY_COMPLETED'],
  ['FAILED', 400, 'ALREADY_COMPLETED'],
] as const)('cancelling leaves a %s job: %i %s', (state, status, said) => {
  expect(decode(CANCEL, { params: { id: JOB_ID } })).toEqual({ kind: 'cancel', id: JOB_ID });
  const answer = encode(CANCEL, aFalJob(state));
  expect(answer).toMatchObject({ status, headers: ABOUT_JOB });
  expect(bodyOf(answer)).toEqual({ status: said });
});

describe('a stream', () => {
  const anEvent = (sequence: number, type: JobEvent['type'], fields: Partial<JobEvent> = {}): JobEvent => ({
    jobId: JOB_ID,
    sequence,
    type,
    state: 'PROCESSING',
    progress: 0,
    at: STARTED_AT,
    ...fields,
  });

  /** What a client gets that joins at `job`; the job reads as `now`, or is gone. */
  async function told(line: string, job: Job, events: readonly JobEvent[], now: Job | undefined, query = ''): Promise<unknown[]> {
    async function* happening() {
      yield* events;
    }
    const followed: Followed = { job, events: happening(), read: async () => now };
    const { body, ...answer } = routeOf(fal, line).encode(followed, aRequest({ query }));
    expect(answer).toEqual({ status: 200, headers: ABOUT_JOB });
    if (body.kind !== 'events') throw new Error(`The answer is of kind ${body.kind}.`);
    const data: unknown[] = [];
    for await (const event of body.events) {
      expect(Object.keys(event) satisfies string[]).toEqual(['data'] satisfies (keyof ServerSentEvent)[]);
      data.push(JSON.parse(JSON.stringify(event.data)));
    }
    return data;
  }

  const queued = anEvent(1, 'status', { state: 'QUEUED' });
  const begun = anEvent(2, 'status');
  const ended = anEvent(6, 'status', { state: 'COMPLETED' });
  const printed = (sequence: number, ...lines: string[]) => anEvent(sequence, 'log', { data: { lines } });

  test('of the status goes from where the job is to its end', async () => {
    const job = aFalJob('PROCESSING', { sequence: 2 });
    const statuses = await told(STATUS_STREAM, job, [queued, begun, printed(3, 'a'), anEvent(4, 'progress'), ended], aFalJob('COMPLETED'));
    expect(statuses).toEqual([bodyOf(encode(STATUS, aFalJob('PROCESSING'))), bodyOf(encode(STATUS, aFalJob('COMPLETED')))]);
  });

  test('of the status tells each line once, those from before in the first', async () => {
    const job = aFalJob('PROCESSING', { sequence: 4 });
    const events = [queued, begun, printed(3, 'a', 'b'), anEvent(4, 'progress'), printed(5, 'c'), ended];
    const statuses = await told(STATUS_STREAM, job, events, aFalJob('COMPLETED'), 'logs=1');
    const messages = statuses.map((status) => [Object(status).logs].flat().map((entry: unknown) => Object(entry).message));
    expect(messages).toEqual([['a', 'b'], ['c'], []]);
  });

  test('of a job that has ended tells its end, and ends', async () => {
    const job = aFalJob('COMPLETED', { sequence: 6 });
    expect(await told(STATUS_STREAM, job, [queued, begun, ended], job)).toEqual([bodyOf(encode(STATUS, job))]);
  });

  test('of a job that is gone ends', async () => {
    expect(await told(STATUS_STREAM, aFalJob('QUEUED'), [queued, begun], undefined)).toEqual([]);
  });

  test('of the output hands in the job', () => {
    expect(decode(STREAM, { body: '{"prompt":"a panda"}' })).toEqual({ kind: 'stream', submission: submitted() });
  });

  test('of the output tells all that is written so far, whenever there is more, and the result', async () => {
    const written = (sequence: number, text: string) => anEvent(sequence, 'partial', { data: { text } });
    // The second attempt begins anew.
    const events = [queued, begun, written(3, 'On'), anEvent(4, 'status', { state: 'QUEUED' }), anEvent(5, 'status'), written(6, 'Once')];
    const output = { media: [], text: 'Once.' };
    const now = aFalJob('COMPLETED', { output });
    expect(await told(STREAM, aFalJob('QUEUED'), [...events, written(7, ' upon'), { ...ended, sequence: 8 }], now)).toEqual([
      { output: 'On', partial: true },
      { output: 'Once', partial: true },
      { output: 'Once upon', partial: true },
      { output: 'Once.' },
    ]);
  });

  test('of the output of a job that fails ends with the error', async () => {
    const events = [queued, begun, anEvent(3, 'status', { state: 'FAILED' })];
    const last = await told(STREAM, aFalJob('QUEUED'), events, aFalJob('FAILED'));
    expect(last).toEqual([{ detail: 'The upstream gave up.', error_type: 'downstream_service_error' }]);
  });
});

describe('an error', () => {
  test.each(Object.keys(ERROR_STATUS) as ErrorCode[])('%s is as it is described', (code) => {
    for (const problems of [[], [{ pointer: '/images/0', message: 'must be a text' }]]) {
      const body = bodyOf(fal.encodeError(new AppError(code, 'No.', { problems })));
      expect(fal.errorSchema?.parse(body)).toEqual(body);
    }
  });

  test('of input lists what is wrong by its place', () => {
    const problems = [
      { pointer: '/image_size/width', message: 'must be 1 or more' },
      { pointer: '/images/0/a~1b~0c', message: 'must be text' },
      { pointer: '/fal_webhook', message: 'must be a URL' },
      { pointer: '', message: 'must have prompt' },
    ];
    const answer = fal.encodeError(new AppError('invalid_parameters', 'The parameters are not right.', { problems }));
    expect(answer.status).toBe(422);
    expect(answer.headers).toEqual({ 'x-fal-error-type': 'value_error' });
    expect(bodyOf(answer)).toEqual({
      detail: [
        { loc: ['body', 'image_size', 'width'], msg: 'must be 1 or more', type: 'value_error' },
        { loc: ['body', 'images', 0, 'a/b~c'], msg: 'must be text', type: 'value_error' },
        { loc: ['query', 'fal_webhook'], msg: 'must be a URL', type: 'value_error' },
        { loc: ['body'], msg: 'must have prompt', type: 'value_error' },
      ],
    });
  });

  test.each([
    ['invalid_json', 'bad_request'],
    ['unauthorized', 'unauthorized'],
    ['unknown_model', 'not_found'],
    ['rate_limited', 'concurrent_requests_limit'],
    ['not_implemented', 'feature_not_supported'],
  ] as const)('%s has the type %s in its body and in a header', (code, type) => {
    const answer = fal.encodeError(new AppError(code, 'No.'));
    expect(answer.headers).toEqual({ 'x-fal-error-type': type });
    expect(bodyOf(answer)).toEqual({ detail: 'No.', error_type: type });
  });

  test('of a request that nobody knows says so in the word for it', () => {
    expect(bodyOf(fal.encodeError(new AppError('not_found', 'No such request.')))).toEqual({
      status: 'NOT_FOUND',
      detail: 'No such request.',
    });
  });

  test('that will pass says when to come again', () => {
    const answer = fal.encodeError(new AppError('unavailable', 'Later.', { retryAfterSeconds: 1.2 }));
    expect(answer.headers).toMatchObject({ 'retry-after': '2', 'x-fal-needs-retry': '1' });
  });
});

describe('a webhook', () => {
  const message = (job: Job) => JSON.parse(fal.encodeWebhook(job, { statusNumbering: 'documented' }).body);

  test('brings the result of a job that completed, files by their addresses', () => {
    const job = aFalJob('COMPLETED', { input: toJsonText({ prompt: 'a panda', sync_mode: true }) });
    const payload = bodyOf(encode(RESULT, aFalJob('COMPLETED')));
    expect(message(job)).toEqual({ request_id: JOB_ID, gateway_request_id: JOB_ID, status: 'OK', payload });
  });

  test.each([
    ['FAILED', { code: 'provider_error', message: 'No.' }, 500],
    ['FAILED', { code: 'content_refused', message: 'No.' }, 422],
    ['CANCELLED', { code: 'cancelled', message: 'No.' }, 499],
  ] as const)('tells of a %s job by %j the error that its result is', (state, failure, status) => {
    const job = aFalJob(state, { failure });
    expect(message(job)).toEqual({
      request_id: JOB_ID,
      gateway_request_id: JOB_ID,
      status: 'ERROR',
      error: `Invalid status code: ${status}`,
      payload: bodyOf(encode(RESULT, job)),
    });
  });

  test('that wants to hear of more does, in words of the queue', () => {
    expect(message(aFalJob('QUEUED'))).toMatchObject({ status: 'IN_QUEUE', payload: null });
    expect(message(aFalJob('PROCESSING'))).toMatchObject({ status: 'IN_PROGRESS', payload: null });
  });

  test('is signed over four lines', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const signed = { id: 'event', jobId: JOB_ID, timestamp: 1_700_000_000, body: '{"a":"ä"}' };
    const signEd25519 = (bytes: Uint8Array) => new Uint8Array(sign(null, bytes, privateKey));
    const headers = fal.signWebhook?.(signed, { callerId: 'caller', secrets: [], signEd25519 }) ?? {};
    expect(headers).toEqual({
      'x-fal-webhook-request-id': JOB_ID,
      'x-fal-webhook-user-id': 'caller',
      'x-fal-webhook-timestamp': '1700000000',
      'x-fal-webhook-signature': expect.stringMatching(/^[0-9a-f]{128}$/),
    });
    const hash = createHash('sha256').update('{"a":"ä"}').digest('hex');
    const text = Buffer.from(`${JOB_ID}\ncaller\n1700000000\n${hash}`);
    expect(verify(null, text, publicKey, Buffer.from(headers['x-fal-webhook-signature'] ?? '', 'hex'))).toBe(true);
  });

  test('is verified with keys that clients of the vendor can read', () => {
    const x = String(generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x);
    const line = routeOf(fal, 'GET /fal/rest/.well-known/jwks.json');
    const answer = line.encode({ keys: [{ id: 'k1', publicKey: x }] }, aRequest());
    expect(answer.headers).toEqual({ 'cache-control': 'public, max-age=60' });
    expect(bodyOf(answer)).toEqual({ keys: [{ kty: 'OKP', crv: 'Ed25519', x: `${x}=`, kid: 'k1', use: 'sig', alg: 'EdDSA' }] });
    expect(() => createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })).not.toThrow();
  });
});

describe('an upload', () => {
  const at = STARTED_AT;
  const upload: Upload = { id: JOB_ID, token: 'tok', fileName: 'a b.png', contentType: 'image/png', createdAt: at, expiresAt: at };
  const ANNOUNCE = 'POST /fal/rest/storage/upload/initiate';
  const announced = (body: object, headers = {}, line = ANNOUNCE) =>
    routeOf(fal, line).decode(aRequest({ body: JSON.stringify(body), headers }));

  test.each([ANNOUNCE, `${ANNOUNCE}-multipart`])(
    'is announced with %s, and answered with where to send it and where it will be',
    (line) => {
      expect(announced({ file_name: 'a b.png', content_type: 'image/png' }, {}, line)).toEqual({
        kind: 'createUpload',
        fileName: 'a b.png',
        contentType: 'image/png',
      });
      expect(bodyOf(routeOf(fal, line).encode(upload, aRequest()))).toEqual({
        upload_url: `${BASE_URL}/uploads/tok`,
        file_url: `${BASE_URL}/files/tok/a%20b.png`,
      });
    },
  );

  test.each([
    [
      { 'x-fal-file-name': 'a b.png', 'content-type': 'image/png' },
      { fileName: 'a b.png', contentType: 'image/png' },
    ],
    [{}, { fileName: '' }],
  ])('of the client for Python that comes in parts is announced by headers: %j', (headers, file) => {
    const line = routeOf(fal, 'POST /fal/rest/files/upload/multipart');
    expect([line.body, line.decode(aRequest({ headers }))]).toEqual(['none', { kind: 'createUpload', ...file }]);
    expect(bodyOf(line.encode(upload, aRequest()))).toEqual({ access_url: `${BASE_URL}/files/tok/a%20b.png`, uploadId: JOB_ID });
  });

  test('of the client for Python comes as a whole, named by a header', () => {
    const line = routeOf(fal, 'POST /fal/rest/files/upload');
    const request = aRequest({ headers: { 'x-fal-file-name': 'a b.png' } });
    expect([line.body, line.fileName?.(request)]).toEqual(['file', 'a b.png']);
    expect(line.decode({ ...request, uploads: new Map([['', [upload]]]) })).toEqual({ kind: 'readUpload', id: JOB_ID });
    expect(bodyOf(line.encode(upload, request))).toEqual({ access_url: `${BASE_URL}/files/tok/a%20b.png` });
  });

  test('may leave its type open', () => {
    expect(announced({ file_name: 'a' })).toEqual({ kind: 'createUpload', fileName: 'a' });
    expect(announced({ file_name: 'a', content_type: '' })).toEqual({ kind: 'createUpload', fileName: 'a' });
  });

  test.each([
    [{}, '/file_name'],
    [{ file_name: 7 }, '/file_name'],
    [{ file_name: 'a', content_type: 7 }, '/content_type'],
  ])('announced as %j is told what is wrong with it', (body, pointer) => {
    expect(thrownBy(() => announced(body))).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer }] });
  });

  test('cannot be kept from whoever has its address', () => {
    const headers = { 'x-fal-object-lifecycle': '{"initial_acl":{}}' };
    const refusal = { code: 'invalid_request', message: expect.stringContaining('initial_acl') };
    expect(thrownBy(() => announced({ file_name: 'a' }, headers))).toMatchObject(refusal);
    for (const path of ['upload', 'upload/multipart']) {
      const line = routeOf(fal, `POST /fal/rest/files/${path}`);
      const request = { ...aRequest({ headers }), uploads: new Map([['', [upload]]]) };
      expect(thrownBy(() => line.decode(request))).toMatchObject(refusal);
      expect(Object.keys(line.headers?.shape ?? {})).toContain('X-Fal-File-Name');
    }
  });

  test.each([
    [{ authorization: 'Key ck_1' }, 'ck_1'],
    [{ 'x-api-key': 'ck_2' }, 'ck_2'],
  ])('of the client for Python goes to where its token is good for: %j', (headers, token) => {
    const answer = routeOf(fal, 'POST /fal/rest/storage/auth/token').encode({ callerId: 'caller' }, aRequest({ headers }));
    expect(bodyOf(answer)).toEqual({
      token,
      token_type: 'Key',
      base_url: `${BASE_URL}/fal/rest`,
      expires_at: expect.stringMatching(/\+00:00$/),
    });
  });
});

test.each(['GET /fal/run/:model{.+}/realtime', 'POST /fal/rest/tokens', 'GET /fal/api/:path{.+}'])(
  '%s says that there is no such thing here',
  (line) => {
    expect(thrownBy(() => routeOf(fal, line).decode(aRequest()))).toMatchObject({ code: 'not_implemented' });
  },
);

describe('one address for everything', () => {
  const target = (url: string | undefined) => fal.proxy?.target({ header: (name) => (name === 'x-fal-target-url' ? url : undefined) });

  test.each([
    ['https://queue.fal.run/fal-ai/x?fal_webhook=https%3A%2F%2Fa', '/fal/queue/fal-ai/x?fal_webhook=https%3A%2F%2Fa'],
    ['https://queue.falrun.com/fal-ai/x/requests/1/status?logs=1', '/fal/queue/fal-ai/x/requests/1/status?logs=1'],
    ['https://fal.run/fal-ai/x/stream', '/fal/run/fal-ai/x/stream'],
    ['https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3', '/fal/rest/storage/upload/initiate?storage_type=fal-cdn-v3'],
    ['https://rest.alpha.fal.ai/tokens/', '/fal/rest/tokens/'],
    ['https://api.fal.ai/v1/models', '/fal/api/v1/models'],
    // Never out of its own paths.
    ['https://fal.run/../../v2/x', '/fal/run/v2/x'],
  ])('takes %s for %s', (url, path) => {
    expect(target(url)).toBe(path);
  });

  test.each([undefined, 'x', 'https://a.example/fal-ai/x', 'https://queue.fal.run.a.example/x', '/fal-ai/x'])('refuses %s', (url) => {
    expect(thrownBy(() => target(url))).toMatchObject({ code: 'invalid_request', message: expect.stringContaining('queue.fal.run') });
  });
});
