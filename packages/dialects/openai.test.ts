import {
  AppError,
  type ErrorCode,
  FAILURE_CODES,
  type FailureCode,
  type Followed,
  type Job,
  type JobEvent,
  type ModelListing,
  PlainText,
  type ServerSentEvent,
  STATES,
  type State,
} from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import openai from './openai.ts';
import { aJob, anImage, aRequest, bodyOf, CREATED_AT, FINISHED_AT, JOB_ID, type RequestFields, routeOf } from './testing/fixtures.ts';

const GENERATE = 'POST /openai/v1/images/generations';
const EDIT = 'POST /openai/v1/images/edits';
const VIDEO = 'POST /openai/v1/videos';
const RESPOND = 'POST /openai/v1/responses';
const CHAT = 'POST /openai/v1/chat/completions';
const READ_VIDEO = 'GET /openai/v1/videos/:id';
const CONTENT = 'GET /openai/v1/videos/:id/content';
const READ_RESPONSE = 'GET /openai/v1/responses/:id';
const READ_REQUEST = 'GET /openai/v1/requests/:id';

const IMAGE_URL = 'https://queue.example/files/tok1/a%20b.webp';
const [CREATED, FINISHED] = [CREATED_AT, FINISHED_AT].map((instant) => Math.floor(instant.getTime() / 1000));
const aVideo = { location: { asset: 'tok2' }, contentType: 'video/mp4', fileName: 'v.mp4', bytes: 99 };

function decode(line: string, fields: RequestFields = {}) {
  return routeOf(openai, line).decode(aRequest({ params: { id: JOB_ID }, ...fields }));
}

function encode(line: string, outcome: unknown, fields: RequestFields = {}) {
  return routeOf(openai, line).encode(outcome as Job, aRequest({ body: '{"model":"m"}', ...fields }));
}

function encoded(line: string, outcome: unknown, fields: RequestFields = {}) {
  return bodyOf(encode(line, outcome, fields));
}

function refusal(call: () => unknown): AppError {
  try {
    call();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('Nothing was refused.');
}

const json = (value: object) => JSON.stringify(value);

test('the table has these lines and no others, below both of its beginnings', () => {
  const shared = [
    'POST /images/generations submit',
    'POST /images/edits submit',
    'POST /images/variations submit',
    'POST /videos submit',
    'GET /videos list',
    'POST /videos/edits readCaller',
    'POST /videos/extensions readCaller',
    'POST /videos/characters readCaller',
    'POST /videos/:id/remix readCaller',
    'GET /videos/:id/content read',
    'GET /videos/:id read',
    'DELETE /videos/:id discard',
    'POST /responses submit',
    'POST /responses/:id/cancel cancel',
    'GET /responses/:id read',
    'DELETE /responses/:id purge',
    'POST /chat/completions submit',
    'GET /balance readCaller',
    'GET /requests list',
    'DELETE /requests/:id/payloads purge',
    'GET /requests/:id read',
    'GET /webhooks/secret readWebhookSecret',
    'GET /webhook_endpoints readCaller',
    'POST /webhook_endpoints readCaller',
    'GET /webhook_endpoints/:id readCaller',
    'POST /webhook_endpoints/:id readCaller',
    'DELETE /webhook_endpoints/:id readCaller',
    'POST /webhook_endpoints/:id/rotate_secret readCaller',
    'POST /webhook_endpoints/:id/test readCaller',
  ];
  const below = (base: string) => shared.map((line) => line.replace(' /', ` ${base}/`));
  expect(openai.routes.map(({ method, path, operation }) => `${method} ${path} ${operation}`)).toEqual([
    ...below('/openai/v1'),
    // Bare ids below /v1/requests are the native format's, and so is the list of models there.
    ...below('/v1').map((line) => line.replace('/requests/:id read', '/requests/:id{req_[^/]+} read')),
    'GET /openai/v1/models listModels',
    'GET /openai/v1/models/:model{.+} readModel',
  ]);
});

describe('submissions', () => {
  test.each([
    [GENERATE, 'json', { wait: { until: 'end', seconds: 280 } }],
    [EDIT, 'json or form', { wait: { until: 'end', seconds: 280 } }],
    ['POST /openai/v1/images/variations', 'json or form', { wait: { until: 'end', seconds: 280 } }],
    [CHAT, 'json', { wait: { until: 'end', seconds: 280 } }],
    [RESPOND, 'json', { wait: { until: 'end', seconds: 280 } }],
    [VIDEO, 'json or form', { webhookMember: 'webhook_url' }],
  ])('%s takes %s and hands on all members but the model', (line, body, more) => {
    expect(routeOf(openai, line).body).toBe(body);
    const operation = decode(line, { body: '{"model":"acme/m","prompt":"x","seed":12345678901234567890}' });
    expect(operation).toEqual({
      kind: 'submit',
      model: 'acme/m',
      modelPointer: '/model',
      parameters: { text: '{"prompt":"x","seed":12345678901234567890}', value: expect.anything() },
      fit: expect.any(Function),
      ...more,
    });
  });

  test('of a response in the background do not wait', () => {
    expect(decode(RESPOND, { body: '{"model":"m","background":true}' })).not.toHaveProperty('wait');
  });

  test('as a form have text for numbers', () => {
    const request = { ...aRequest({ body: '{"model":"m","n":"2","stream":"true"}' }), isForm: true };
    expect(routeOf(openai, EDIT).decode(request)).toMatchObject({ kind: 'stream', submission: { isText: true } });
  });

  test('become streams and quotes where that is asked for', () => {
    const stream = decode(GENERATE, { body: '{"model":"m","stream":true}' });
    expect(stream).toMatchObject({ kind: 'stream', submission: { model: 'm' } });
    expect(stream).not.toHaveProperty('submission.wait');
    // A question about a stream is a question.
    const quote = decode(GENERATE, { body: '{"model":"m","stream":true}', query: 'dryRun=true' });
    expect(quote).toMatchObject({ kind: 'quote', submission: { model: 'm' } });
    expect(decode(GENERATE, { body: '{"model":"m"}', query: 'dryRun=false' })).toMatchObject({ kind: 'submit' });
  });

  test.each([
    ['true', 'stream'],
    ['"true"', 'stream'],
    ['false', 'submit'],
    ['"false"', 'submit'],
    ['null', 'submit'],
  ])('take %s for a flag', (flag, kind) => {
    expect(decode(CHAT, { body: `{"model":"m","stream":${flag}}` })).toHaveProperty('kind', kind);
    const isWaiting = 'wait' in decode(RESPOND, { body: `{"model":"m","background":${flag}}` });
    expect(isWaiting).toBe(kind === 'submit');
  });

  test('take a key that is null for none', () => {
    expect(decode(VIDEO, { body: '{"model":"m","idempotency_key":null}' })).not.toHaveProperty('idempotencyKey');
  });

  test.each([
    ['the header', { headers: { 'idempotency-key': 'k1' }, body: '{"model":"m","idempotency_key":"k2"}' }, 'k1'],
    ['the member', { body: '{"model":"m","idempotency_key":"k2"}' }, 'k2'],
  ])('take an idempotency key out of %s', (_where, fields, key) => {
    expect(decode(VIDEO, fields)).toHaveProperty('idempotencyKey', key);
  });

  test.each<[what: string, line: string, fields: RequestFields, pointer: string]>([
    ['a body that is no object', GENERATE, { body: '[]' }, ''],
    ['no model', GENERATE, { body: '{"prompt":"x"}' }, '/model'],
    ['an empty one', GENERATE, { body: '{"model":""}' }, '/model'],
    ['a model that is no name', GENERATE, { body: '{"model":7}' }, '/model'],
    ['a stream of videos', VIDEO, { body: '{"model":"m","stream":true}' }, '/stream'],
    ['a stream that is neither yes nor no', GENERATE, { body: '{"model":"m","stream":"yes"}' }, '/stream'],
    ['a background that is neither', RESPOND, { body: '{"model":"m","background":1}' }, '/background'],
    ['a question that is neither', GENERATE, { body: '{"model":"m"}', query: 'dryRun=yes' }, '/dryRun'],
    ['an empty idempotency key', VIDEO, { body: '{"model":"m","idempotency_key":""}' }, '/idempotency_key'],
    ['a long one', VIDEO, { body: json({ model: 'm', idempotency_key: 'k'.repeat(257) }) }, '/idempotency_key'],
  ])('with %s are refused', (_what, line, fields, pointer) => {
    expect(refusal(() => decode(line, fields))).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer }] });
  });

  test('that ask for a recorded answer are not run for money', () => {
    const asking = (mode: string) => () => decode(GENERATE, { body: '{"model":"m"}', headers: { 'x-lumenfall-replay': mode } });
    expect(refusal(asking('mock'))).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/X-Lumenfall-Replay' }] });
    expect(asking('off')()).toMatchObject({ kind: 'submit' });
  });
});

test.each([
  [READ_VIDEO, 'read'],
  [CONTENT, 'read'],
  [READ_RESPONSE, 'read'],
  [READ_REQUEST, 'read'],
  ['DELETE /openai/v1/videos/:id', 'discard'],
  ['DELETE /openai/v1/responses/:id', 'purge'],
  ['DELETE /openai/v1/requests/:id/payloads', 'purge'],
  ['POST /openai/v1/responses/:id/cancel', 'cancel'],
])('%s is about a job by any of its ids', (line, kind) => {
  for (const prefix of ['', 'video_', 'resp_', 'req_', 'chatcmpl-', 'msg_']) {
    expect(decode(line, { params: { id: `${prefix}${JOB_ID}` } })).toEqual({ kind, id: JOB_ID });
  }
});

test('a job of another format is told as this one tells of its own', () => {
  expect(encoded(READ_VIDEO, aJob('COMPLETED', { dialect: 'fal' }))).toEqual(encoded(READ_VIDEO, aJob('COMPLETED', { dialect: 'openai' })));
});

describe('lists', () => {
  const page = { jobs: [aJob('QUEUED'), aJob('COMPLETED')], nextCursor: JOB_ID };

  test.each([
    ['GET /openai/v1/videos', '', { limit: 20 }],
    ['GET /openai/v1/videos', `limit=100&after=video_${JOB_ID}&order=desc`, { limit: 100, cursor: JOB_ID }],
    ['GET /openai/v1/requests', `limit=1&starting_after=req_${JOB_ID}&summary=false`, { limit: 1, cursor: JOB_ID }],
    [
      'GET /openai/v1/requests',
      'created_after=2026-01-31&created_before=2026-01-31T12:00:00.5%2B02:00',
      { limit: 20, createdAfter: new Date('2026-01-31T00:00:00Z'), createdBefore: new Date('2026-01-31T10:00:00.5Z') },
    ],
    ['GET /openai/v1/requests', 'status=processing', { limit: 20, state: 'PROCESSING' }],
    ['GET /openai/v1/requests', 'status=rejected', { limit: 20, state: 'FAILED' }],
    ['GET /openai/v1/requests', 'status=upstream_failure', { limit: 20, state: 'FAILED' }],
  ])('%s?%s', (line, query, operation) => {
    expect(decode(line, { query })).toEqual({ kind: 'list', ...operation });
  });

  test.each([
    ['GET /openai/v1/videos', 'limit=0', ['/limit']],
    ['GET /openai/v1/videos', 'limit=101', ['/limit']],
    ['GET /openai/v1/videos', 'limit=x&order=asc&after=video_1', ['/limit', '/order', '/after']],
    ['GET /openai/v1/requests', 'ending_before=a&key_id=d', ['/ending_before', '/key_id']],
    ['GET /openai/v1/requests', 'created_after=yesterday', ['/created_after']],
    ['GET /openai/v1/requests', 'created_before=2026-13-01', ['/created_before']],
    ['GET /openai/v1/requests', 'summary=true', ['/summary']],
    ['GET /openai/v1/requests', 'status=open', ['/status']],
  ])('%s?%s is refused', (line, query, pointers) => {
    const { problems } = refusal(() => decode(line, { query }));
    expect(problems.map(({ pointer }) => pointer)).toEqual(expect.arrayContaining(pointers));
  });

  test('of videos page on by their last id', () => {
    const id = `video_${JOB_ID}`;
    const head = { object: 'list', first_id: id, last_id: id };
    expect(encoded('GET /openai/v1/videos', page)).toMatchObject({ ...head, has_more: true, data: [{ id }, { id }] });
    expect(encoded('GET /openai/v1/videos', { jobs: [] })).toEqual({
      object: 'list',
      data: [],
      first_id: null,
      last_id: null,
      has_more: false,
    });
  });

  test('of requests name the next page', () => {
    const next = encoded('GET /openai/v1/requests', page, { query: 'limit=2' });
    expect(next).toMatchObject({
      next_page_url: `https://queue.example/?limit=2&starting_after=req_${JOB_ID}`,
      previous_page_url: null,
      data: [{ status: 'pending' }, { status: 'completed' }],
    });
    expect(encoded('GET /openai/v1/requests', { jobs: [] })).toMatchObject({ next_page_url: null });
  });

  test('of requests tell the two kinds of failure apart', () => {
    const failed = (code: FailureCode) => aJob('FAILED', { failure: { code, message: 'No.' } });
    const jobs = [failed('content_refused'), failed('provider_error'), failed('invalid_input'), failed('timeout')];
    const statuses = (status: string) => Object(encoded('GET /openai/v1/requests', { jobs }, { query: `status=${status}` })).data;
    expect(statuses('rejected')).toMatchObject([{ error_code: 'CONTENT_POLICY_VIOLATION' }, { error_code: 'INVALID_REQUEST' }]);
    expect(statuses('upstream_failure')).toMatchObject([{ error_code: 'ALL_PROVIDERS_EXHAUSTED' }, { error_code: 'TIMEOUT' }]);
  });
});

describe('a request in the log', () => {
  test.each<[State, object]>([
    ['QUEUED', { status: 'pending', duration_ms: null, error_code: null, error_message: null, modality: null }],
    ['PROCESSING', { status: 'processing', duration_ms: null }],
    ['COMPLETED', { status: 'completed', duration_ms: 3600, modality: 'image', error_code: null }],
    ['FAILED', { status: 'upstream_failure', error_code: 'ALL_PROVIDERS_EXHAUSTED', error_message: 'The upstream gave up.' }],
    ['CANCELLED', { status: 'cancelled', error_code: 'CANCELLED' }],
  ])('that is %s', (state, members) => {
    expect(encoded(READ_REQUEST, aJob(state))).toMatchObject({
      id: `req_${JOB_ID}`,
      object: 'request',
      created_at: '2026-01-01T10:00:00.000Z',
      model: 'hidream-i1-fast',
      currency: 'usd',
      ...members,
    });
  });

  test('knows its session, and what it made as far as the result tells', () => {
    const modality = (output: NonNullable<Job['output']>) => encoded(READ_REQUEST, aJob('COMPLETED', { output })).modality;
    expect(modality({ media: [aVideo] })).toBe('video');
    expect(modality({ media: [], text: 'Hi.' })).toBe('text');
    expect(modality({ media: [], json: [1] })).toBeNull();
    expect(encoded(READ_REQUEST, aJob('QUEUED', { sessionId: 's1' }))).toMatchObject({ session_id: 's1' });
  });

  test('tells which attempts failed', () => {
    const attempt = { startedAt: CREATED_AT, finishedAt: FINISHED_AT };
    const failure = { code: 'provider_error' as const, message: 'Gone.' };
    const attempts = [
      { ...attempt, number: 1, provider: 'fal', model: 'a', outcome: 'failed' as const, failure },
      { ...attempt, number: 2, provider: 'sandbox', outcome: 'released' as const },
    ];
    expect(encoded(READ_REQUEST, aJob('COMPLETED', { attempts }))).toMatchObject({
      metadata: {
        attempts: [
          { provider: 'fal', model: 'a', outcome: 'failed', error: 'Gone.' },
          { provider: 'sandbox', outcome: 'released' },
        ],
      },
    });
  });

  test('has cost what its attempts have together', () => {
    const attempt = { number: 1, provider: 'fal', startedAt: CREATED_AT, finishedAt: FINISHED_AT, outcome: 'succeeded' as const };
    const attempts = [{ ...attempt, costUsd: 0.1 }, attempt, { ...attempt, costUsd: 0.2 }];
    expect(encoded(READ_REQUEST, aJob('COMPLETED', { attempts }))).toMatchObject({
      cost: 0.3,
      metadata: { cost: 0.3, cost_currency: 'USD' },
    });
    expect(encoded(READ_REQUEST, aJob('COMPLETED'))).toMatchObject({ cost: null });
  });
});

test('accounts have no money here, and a secret', () => {
  expect(encoded('GET /openai/v1/balance', { callerId: 'c' })).toEqual({
    object: 'balance',
    billing_type: 'postpaid',
    available: { amount: null, currency: 'usd' },
  });
  expect(encoded('GET /openai/v1/webhooks/secret', { secret: 'whsec_AA==' })).toEqual({ key: 'whsec_AA==' });
});

test.each(['POST /openai/v1/videos/:id/remix', 'GET /v1/webhook_endpoints', 'POST /v1/webhook_endpoints/:id/test'])(
  '%s says that it is not implemented',
  (line) => {
    expect(refusal(() => encode(line, { callerId: 'c' })).code).toBe('not_implemented');
  },
);

describe('quotes', () => {
  const model = { name: 'm' };
  const route = { provider: 'fal', model: 'fal-ai/m' };

  test('are in millionths of a dollar, with what is charged for', () => {
    const quote = { model, route: { ...route, price: { usd: 0.01, per: 'image' } }, usd: 0.02 };
    expect(encoded(GENERATE, quote, { query: 'dryRun=true' })).toEqual({
      estimated: true,
      model: 'm',
      provider: 'fal',
      total_cost_micros: 20_000,
      currency: 'USD',
      components: [{ type: 'output', metric: 'image', quantity: 2, billable_quantity: 2, unit_price: 0.01, total_cost: 20_000 }],
      metadata: { model: 'm', executed_model: 'fal/fal-ai/m', provider: 'fal', cost: 0.02 },
    });
  });

  test.each([GENERATE, EDIT, 'POST /openai/v1/images/variations', VIDEO, RESPOND, CHAT])('can be had at %s', (line) => {
    const quote = { model, route: { ...route, price: { usd: 0.01, per: 'run' } }, usd: 0.01 };
    expect(encode(line, quote, { query: 'dryRun=true' }).status).toBe(200);
    expect(encoded(line, quote, { query: 'dryRun=true' })).toMatchObject({ estimated: true, components: [{ metric: 'run' }] });
  });

  test('of tokens tell the price of one', () => {
    const quote = { model, route: { ...route, price: { usd: 2, per: 'token' } }, usd: 0.001 };
    expect(encoded(CHAT, quote, { query: 'dryRun=1' })).toMatchObject({
      components: [{ metric: 'token', quantity: 500, unit_price: 0.000002, total_cost: 1000 }],
    });
  });

  test('of nobody knows what estimate nothing', () => {
    expect(encoded(GENERATE, { model, route }, { query: 'dryRun=true' })).toMatchObject({
      estimated: false,
      total_cost_micros: null,
      components: [],
    });
  });
});

describe('models', () => {
  const routes = [
    { route: { provider: 'fal', model: 'a', price: { usd: 0.02, per: 'image' as const } }, isAvailable: true },
    { route: { provider: 'replicate', model: 'b', price: { usd: 0.01, per: 'image' as const } }, isAvailable: false, reason: 'No key.' },
  ];
  const listing = (properties = {}, name = 'acme/m') =>
    ({
      model: { name, title: 'M', produces: 'image', aliases: ['n'], parameters: { type: 'object', properties } },
      routes,
    }) as unknown as ModelListing;

  test('are listed with what Lumenfall’s clients read of them', () => {
    expect(encoded('GET /openai/v1/models', [listing(), listing({}, 'm')])).toMatchObject({
      object: 'list',
      data: [
        {
          id: 'acme/m',
          object: 'model',
          created: 0,
          owned_by: 'acme',
          name: 'M',
          modality: 'image',
          modalities: { input: ['text'], output: ['image'] },
          model_status: 'active',
          aliases: ['n'],
          starting_price: 0.01,
          providers: ['fal'],
        },
        { id: 'm', owned_by: 'claimcheck' },
      ],
    });
  });

  test('are read by any name, with their parameters where wanted', () => {
    const line = 'GET /openai/v1/models/:model{.+}';
    expect(decode(line, { params: { model: 'fal/acme/m' } })).toEqual({ kind: 'readModel', name: 'fal/acme/m' });
    const read = encoded(line, listing({ image_urls: {} }), { query: 'schema=true' });
    expect(read).toMatchObject({ parameters: { type: 'object' }, modalities: { input: ['text', 'image'] } });
    expect(encoded(line, listing())).not.toHaveProperty('parameters');
    expect(refusal(() => decode(line, { query: 'schema=full' })).problems).toMatchObject([{ pointer: '/schema' }]);
  });
});

describe('pictures', () => {
  test('are told by their addresses, with who made them', () => {
    const attempts = [
      {
        number: 1,
        provider: 'sandbox',
        model: 's',
        startedAt: CREATED_AT,
        finishedAt: FINISHED_AT,
        outcome: 'succeeded' as const,
        costUsd: 0,
      },
    ];
    const answer = encode(GENERATE, aJob('COMPLETED', { attempts }));
    expect(answer).toMatchObject({
      status: 200,
      headers: {
        'x-lumenfall-provider': 'sandbox',
        'x-lumenfall-model': 'sandbox/s',
        'x-lumenfall-request-id': `req_${JOB_ID}`,
      },
    });
    expect(bodyOf(answer)).toEqual({
      id: `req_${JOB_ID}`,
      created: FINISHED,
      size: '1024x768',
      output_format: 'webp',
      data: [{ url: IMAGE_URL }],
      metadata: {
        model: 'hidream-i1-fast',
        executed_model: 'sandbox/s',
        provider: 'sandbox',
        provider_name: 'sandbox',
        cost: 0,
        cost_currency: 'USD',
        attempts: [{ provider: 'sandbox', model: 's', outcome: 'succeeded' }],
      },
    });
  });

  test.each<[body: object, isInline: boolean]>([
    [{ model: 'm' }, false],
    [{ model: 'm', response_format: 'b64_json' }, true],
    [{ model: 'gpt-image-1' }, true],
    [{ model: 'openai/gpt-image-1-mini' }, true],
    [{ model: 'chatgpt-image-latest' }, true],
    [{ model: 'gpt-image-1', response_format: 'url' }, false],
    [{ model: 'gpt-image-1', response_format: null }, true],
    [{ model: 'not-gpt-image' }, false],
  ])('for %j stand in the answer: %s', (body, isInline) => {
    const { data } = encoded(GENERATE, aJob('COMPLETED'), { body: json(body) });
    expect(data).toEqual([isInline ? { b64_json: { token: 'tok1', form: 'base64' } } : { url: IMAGE_URL }]);
  });

  test('elsewhere are told by their address even then', () => {
    const media = [{ ...anImage, location: { url: 'https://cdn.example/1.webp' } }];
    const fields = { body: '{"model":"m","response_format":"b64_json"}' };
    expect(encoded(GENERATE, aJob('COMPLETED', { output: { media } }), fields).data).toEqual([{ url: 'https://cdn.example/1.webp' }]);
  });

  test('of a model that made something else lose nothing', () => {
    const output = { media: [], text: 'No picture.', json: { a: 1 }, usage: { inputTokens: 3, outputTokens: 4 } };
    expect(encoded(GENERATE, aJob('COMPLETED', { output }))).toMatchObject({
      data: [],
      text: 'No picture.',
      json: { a: 1 },
      usage: { input_tokens: 3, output_tokens: 4, total_tokens: 7 },
    });
  });

  test.each(['QUEUED', 'PROCESSING'] as const)('that are %s when the wait is over are asked for elsewhere', (state) => {
    expect(refusal(() => encode(GENERATE, aJob(state)))).toMatchObject({
      code: 'wait_timeout',
      requestId: JOB_ID,
      message: expect.stringContaining(`/v1/requests/req_${JOB_ID}`),
    });
  });
});

describe('a failure while the client waits', () => {
  const EXPECTED: Record<FailureCode, readonly [status: number, type: string, code: string, errorCode: string]> = {
    provider_error: [502, 'server_error', 'provider_error', 'ALL_PROVIDERS_EXHAUSTED'],
    content_refused: [400, 'invalid_request_error', 'content_policy_violation', 'CONTENT_POLICY_VIOLATION'],
    invalid_input: [400, 'invalid_request_error', 'invalid_value', 'INVALID_REQUEST'],
    timeout: [504, 'server_error', 'timeout', 'TIMEOUT'],
    worker_crashed: [500, 'server_error', 'server_error', 'INTERNAL_ERROR'],
    outcome_unknown: [502, 'server_error', 'provider_error', 'ALL_PROVIDERS_EXHAUSTED'],
    cancelled: [409, 'invalid_request_error', 'cancelled', 'CANCELLED'],
    internal: [500, 'server_error', 'server_error', 'INTERNAL_ERROR'],
  };

  describe.each(FAILURE_CODES)('of %s', (code) => {
    test.each([GENERATE, CHAT, RESPOND])('at %s is an error that is not tried again', (line) => {
      const [status, type, openaiCode, errorCode] = EXPECTED[code];
      const answer = encode(line, aJob('FAILED', { failure: { code, message: 'No.' } }));
      expect(answer).toMatchObject({ status, headers: { 'x-should-retry': 'false' } });
      expect(bodyOf(answer)).toEqual({ error: { message: 'No.', type, param: null, code: openaiCode, error_code: errorCode } });
    });
  });

  test('at a provider that the client insisted on is that provider’s', () => {
    expect(encoded(GENERATE, aJob('FAILED', { isPinned: true }))).toMatchObject({ error: { error_code: 'UPSTREAM_ERROR' } });
  });

  test('without a recorded reason is ours', () => {
    expect(encode(GENERATE, aJob('FAILED', { failure: undefined })).status).toBe(500);
  });
});

describe('a video', () => {
  const asked = { input: '{"prompt":"dog","size":"720x1280","duration":4}' as Job['input'] };

  test.each<[State, object]>([
    ['QUEUED', { status: 'queued', progress: 0, completed_at: null, output: null, error: null }],
    ['PROCESSING', { status: 'in_progress', progress: 25, output: null, error: null }],
    [
      'FAILED',
      {
        status: 'failed',
        progress: 50,
        completed_at: null,
        output: null,
        error: { code: 'provider_error', message: 'The upstream gave up.' },
      },
    ],
    // Clients go on polling at a word that they do not know.
    ['CANCELLED', { status: 'failed', output: null, error: { code: 'cancelled', message: 'The job was cancelled.' } }],
  ])('that is %s', (state, members) => {
    const body = encoded(READ_VIDEO, aJob(state, asked));
    expect(body).toMatchObject({
      id: `video_${JOB_ID}`,
      object: 'video',
      model: 'hidream-i1-fast',
      created_at: CREATED,
      prompt: 'dog',
      size: '720x1280',
      seconds: '4',
      ...members,
    });
  });

  test('that is COMPLETED tells where it is', () => {
    expect(encoded(READ_VIDEO, aJob('COMPLETED', { ...asked, output: { media: [aVideo] } }))).toEqual({
      id: `video_${JOB_ID}`,
      object: 'video',
      model: 'hidream-i1-fast',
      status: 'completed',
      progress: 100,
      created_at: CREATED,
      completed_at: FINISHED,
      expires_at: null,
      prompt: 'dog',
      size: '720x1280',
      seconds: '4',
      remixed_from_video_id: null,
      output: { url: 'https://queue.example/files/tok2/v.mp4', content_type: 'video/mp4', size_bytes: 99 },
      error: null,
      metadata: expect.objectContaining({ provider: 'sandbox' }),
    });
  });

  test('of several files names all of them', () => {
    const { output } = encoded(READ_VIDEO, aJob('COMPLETED', { output: { media: [aVideo, anImage], text: 'Done.' } }));
    expect(output).toMatchObject({ content_type: 'video/mp4', files: [{ content_type: 'video/mp4' }, { url: IMAGE_URL }], text: 'Done.' });
  });

  test('of a job that asked for none of it knows what was made', () => {
    const output = { media: [anImage], usage: { seconds: 5 } };
    expect(encoded(READ_VIDEO, aJob('COMPLETED', { input: '{}' as Job['input'], output }))).toMatchObject({
      prompt: null,
      size: '1024x768',
      seconds: '5',
    });
    expect(encoded(READ_VIDEO, aJob('QUEUED', { input: '{}' as Job['input'] }))).toMatchObject({ size: null, seconds: null });
  });

  test.each<[what: string, output: NonNullable<Job['output']>, told: object]>([
    ['nothing', { media: [] }, {}],
    ['text', { media: [], text: 'Hi.' }, { text: 'Hi.' }],
    ['data', { media: [], json: { a: [1, null] } }, { json: { a: [1, null] } }],
    [
      'a file of unknown size that is elsewhere',
      { media: [{ ...aVideo, location: { url: 'https://cdn.example/v.mp4' }, bytes: undefined }] },
      { url: 'https://cdn.example/v.mp4', content_type: 'video/mp4', size_bytes: null },
    ],
  ])('of a model that made %s tells it', (_what, output, told) => {
    expect(encoded(READ_VIDEO, aJob('COMPLETED', { output })).output).toEqual(told);
  });

  test('is accepted with 202, and deleted with a word', () => {
    expect(encode(VIDEO, aJob('QUEUED')).status).toBe(202);
    expect(encode(READ_VIDEO, aJob('QUEUED')).status).toBe(200);
    expect(encoded('DELETE /openai/v1/videos/:id', aJob('CANCELLED'))).toEqual({
      id: `video_${JOB_ID}`,
      object: 'video.deleted',
      deleted: true,
    });
  });

  test('is sent as its file, or where that is', () => {
    expect(encode(CONTENT, aJob('COMPLETED', { output: { media: [aVideo] } }), { query: 'variant=video' })).toEqual({
      status: 200,
      body: { kind: 'asset', token: 'tok2' },
    });
    const elsewhere = { ...aVideo, location: { url: 'https://cdn.example/v.mp4' } };
    expect(encode(CONTENT, aJob('COMPLETED', { output: { media: [elsewhere] } }))).toEqual({
      status: 302,
      headers: { location: 'https://cdn.example/v.mp4' },
      body: { kind: 'empty' },
    });
  });

  test.each<[State, ErrorCode]>([
    ['QUEUED', 'invalid_request'],
    ['PROCESSING', 'invalid_request'],
    ['FAILED', 'not_found'],
    ['CANCELLED', 'not_found'],
  ])('that is %s has no content', (state, code) => {
    expect(refusal(() => encode(CONTENT, aJob(state)))).toMatchObject({ code, requestId: JOB_ID });
  });

  test('of no file has none either, and thumbnails are not kept', () => {
    expect(refusal(() => encode(CONTENT, aJob('COMPLETED', { output: { media: [] } }))).code).toBe('not_found');
    expect(refusal(() => decode(CONTENT, { query: 'variant=thumbnail' })).problems).toMatchObject([{ pointer: '/variant' }]);
  });
});

describe('a response', () => {
  test.each<[State, object]>([
    ['QUEUED', { status: 'queued', output: [], error: null }],
    ['PROCESSING', { status: 'in_progress', output: [], error: null }],
    ['FAILED', { status: 'failed', output: [], error: { code: 'provider_error', message: 'The upstream gave up.' } }],
    ['CANCELLED', { status: 'cancelled', output: [], error: { code: 'cancelled', message: 'The job was cancelled.' } }],
  ])('that is %s', (state, members) => {
    const body = encoded(READ_RESPONSE, aJob(state));
    expect(body).toMatchObject({ id: `resp_${JOB_ID}`, object: 'response', background: true, created_at: CREATED, ...members });
    // Whoever does not wait is told the same, without an error.
    const begun = encode(RESPOND, aJob(state), { body: '{"model":"m","background":true}' });
    expect([begun.status, bodyOf(begun)]).toEqual([200, body]);
  });

  test('of pictures holds what the tool makes', () => {
    expect(encoded(READ_RESPONSE, aJob('COMPLETED'))).toMatchObject({
      status: 'completed',
      output: [
        {
          id: `ig_${JOB_ID}_0`,
          type: 'image_generation_call',
          status: 'completed',
          result: { token: 'tok1', form: 'base64' },
          output_format: 'webp',
          size: '1024x768',
          url: IMAGE_URL,
        },
      ],
      usage: null,
    });
  });

  test.each<[what: string, output: NonNullable<Job['output']>, text: string]>([
    ['text', { media: [], text: 'Hi.' }, 'Hi.'],
    ['data', { media: [], json: { a: 1 } }, '{"a":1}'],
    ['other files', { media: [aVideo] }, 'https://queue.example/files/tok2/v.mp4'],
    ['nothing', { media: [] }, ''],
  ])('of %s holds a message', (_what, output, text) => {
    const { output: items, usage } = encoded(READ_RESPONSE, aJob('COMPLETED', { output: { ...output, usage: { outputTokens: 2 } } }));
    expect(items).toEqual([
      {
        id: `msg_${JOB_ID}`,
        type: 'message',
        role: 'assistant',
        status: 'completed',
        content: [{ type: 'output_text', text, annotations: [] }],
      },
    ]);
    expect(usage).toMatchObject({ input_tokens: 0, output_tokens: 2, total_tokens: 2 });
  });

  test('of a picture that is elsewhere has its address alone', () => {
    const media = [{ ...anImage, location: { url: 'https://cdn.example/1.webp' }, width: undefined }];
    const [item] = Object(encoded(READ_RESPONSE, aJob('COMPLETED', { output: { media } })).output);
    expect(item).toMatchObject({ result: null, url: 'https://cdn.example/1.webp' });
    expect(item).not.toHaveProperty('size');
  });

  test.each(STATES)('that was %s when it was cancelled is told as it is', (state) => {
    const cancelled = encode('POST /openai/v1/responses/:id/cancel', aJob(state));
    expect([cancelled.status, bodyOf(cancelled)]).toEqual([200, encoded(READ_RESPONSE, aJob(state))]);
  });

  test('that was waited for does not run in the background', () => {
    expect(encoded(RESPOND, aJob('COMPLETED'))).toMatchObject({ status: 'completed', background: false });
    expect(refusal(() => encode(RESPOND, aJob('PROCESSING'))).code).toBe('wait_timeout');
  });

  test('is followed from its beginning, and told from where the client is', () => {
    expect(decode(READ_RESPONSE, { query: 'stream=true&starting_after=3' })).toEqual({ kind: 'follow', id: JOB_ID, after: 0 });
    expect(decode(READ_RESPONSE, { query: 'stream=false' })).toEqual({ kind: 'read', id: JOB_ID });
    expect(refusal(() => decode(READ_RESPONSE, { query: 'stream=true&starting_after=-1' })).problems).toMatchObject([
      { pointer: '/starting_after' },
    ]);
  });

  test('is deleted with a word, and so is its request', () => {
    expect(encoded('DELETE /v1/requests/:id/payloads', aJob('CANCELLED'))).toEqual({
      id: `req_${JOB_ID}`,
      object: 'request',
      deleted: true,
    });
    expect(encoded('DELETE /v1/responses/:id', aJob('CANCELLED'))).toEqual({ id: `resp_${JOB_ID}`, object: 'response', deleted: true });
  });
});

describe('a chat completion', () => {
  test('is the words, and what they took', () => {
    const output = { media: [], text: 'Hi.', usage: { inputTokens: 2, outputTokens: 3 } };
    expect(encoded(CHAT, aJob('COMPLETED', { output }))).toMatchObject({
      id: `chatcmpl-${JOB_ID}`,
      object: 'chat.completion',
      created: CREATED,
      model: 'hidream-i1-fast',
      choices: [{ index: 0, message: { role: 'assistant', content: 'Hi.', refusal: null }, finish_reason: 'stop', logprobs: null }],
      usage: { prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 },
    });
  });

  test('of a model that counts nothing has no usage', () => {
    expect(encoded(CHAT, aJob('COMPLETED', { output: { media: [], text: 'Hi.' } }))).toHaveProperty('usage', null);
  });

  test('of a model of pictures is their addresses', () => {
    const { choices } = encoded(CHAT, aJob('COMPLETED'));
    expect(choices).toMatchObject([{ message: { content: IMAGE_URL } }]);
  });
});

describe('streams', () => {
  const TEXT_OUTPUT = { media: [], text: 'Hello there.', usage: { inputTokens: 1, outputTokens: 2 } };
  const done = aJob('COMPLETED', { output: TEXT_OUTPUT });

  /** What is told of a job that ends as `last`; undefined for one that is gone then. */
  async function eventsOf(line: string, last: Job | undefined, happened: readonly Partial<JobEvent>[], fields: RequestFields = {}) {
    const followed: Followed = {
      job: aJob('QUEUED'),
      events: eventsFrom(happened),
      read: () => Promise.resolve(last),
    };
    const { body } = encode(line, followed, { body: '{"model":"m","stream":true}', ...fields });
    if (body.kind !== 'events') throw new Error(`The answer is of kind ${body.kind}.`);
    const events: ServerSentEvent[] = [];
    for await (const event of body.events) events.push(event);
    return events;
  }

  async function* eventsFrom(happened: readonly Partial<JobEvent>[]): AsyncGenerator<JobEvent> {
    for (const [index, event] of happened.entries()) {
      yield { jobId: JOB_ID, sequence: index + 1, type: 'status', state: 'PROCESSING', progress: 0, at: CREATED_AT, ...event };
    }
  }

  const STARTED: Partial<JobEvent>[] = [{ state: 'QUEUED' }, { state: 'PROCESSING' }];
  const ENDED: Partial<JobEvent>[] = [...STARTED, { state: 'COMPLETED' }];
  const SAID: Partial<JobEvent>[] = [
    ...STARTED,
    { type: 'partial', data: { text: 'Hel' } },
    { type: 'progress', progress: 0.5 },
    { type: 'partial', data: { text: 'lo ' } },
    { state: 'COMPLETED' },
  ];
  const typesOf = (events: readonly ServerSentEvent[]) => events.map(({ event }) => event);

  test('of pictures have one event for each', async () => {
    const events = await eventsOf(GENERATE, aJob('COMPLETED', { output: { media: [anImage, anImage] } }), ENDED);
    expect(typesOf(events)).toEqual(['image_generation.completed', 'image_generation.completed']);
    expect(JSON.parse(json(events[0]?.data as object))).toEqual({
      type: 'image_generation.completed',
      b64_json: { token: 'tok1', form: 'base64' },
      created_at: FINISHED,
      size: '1024x768',
      quality: 'auto',
      background: 'auto',
      output_format: 'webp',
    });
    expect(typesOf(await eventsOf(EDIT, aJob('COMPLETED'), ENDED))).toEqual(['image_edit.completed']);
  });

  test('of a picture that is elsewhere have its address, and what was asked for', async () => {
    const media = [{ ...anImage, location: { url: 'https://cdn.example/1.webp' }, width: undefined }];
    const output = { media, usage: { inputTokens: 1, outputTokens: 2 } };
    const fields = { body: '{"model":"m","stream":true,"quality":"low","background":null}' };
    const [event] = await eventsOf(GENERATE, aJob('COMPLETED', { output }), ENDED, fields);
    expect(event?.data).toMatchObject({
      b64_json: null,
      url: 'https://cdn.example/1.webp',
      size: 'auto',
      quality: 'low',
      background: null,
      usage: { total_tokens: 3 },
    });
  });

  test.each([
    [GENERATE, 'error'],
    [CHAT, undefined],
  ])('at %s end with the error of a job that failed', async (line, type) => {
    const events = await eventsOf(line, aJob('FAILED'), [...STARTED, { state: 'FAILED' }]);
    expect(events.at(-1)).toMatchObject({ data: { error: { message: 'The upstream gave up.', code: 'provider_error' } } });
    expect(events.at(-1)?.event).toBe(type);
  });

  test.each([GENERATE, CHAT, RESPOND])('at %s that break off, or whose job is gone, say so', async (line) => {
    const broken = { data: { error: { code: 'service_unavailable', message: expect.any(String) } } };
    expect((await eventsOf(line, done, STARTED)).at(-1)).toMatchObject(broken);
    expect((await eventsOf(line, undefined, ENDED)).at(-1)).toMatchObject(broken);
  });

  test('of a chat have the pieces, the rest, and an end', async () => {
    const events = await eventsOf(CHAT, done, SAID, { body: '{"model":"m","stream":true,"stream_options":{"include_usage":true}}' });
    const data = events.map((event) => Object(event.data));
    expect(data.map(({ choices }) => choices?.[0]?.delta)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'Hel' },
      { content: 'lo ' },
      { content: 'there.' },
      {},
      undefined,
      undefined,
    ]);
    expect(data[4]).toMatchObject({ object: 'chat.completion.chunk', choices: [{ finish_reason: 'stop' }] });
    expect(data[5]).toMatchObject({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 } });
    expect(events[6]?.data).toEqual(new PlainText('[DONE]'));
  });

  test('of a chat that began anew do not pretend', async () => {
    const events = await eventsOf(CHAT, aJob('COMPLETED', { output: { media: [], text: 'Something else.' } }), SAID);
    expect(events.at(-1)).toMatchObject({ data: { error: { message: expect.stringContaining('begun anew') } } });
  });

  test('of a response are numbered, and go on behind any number', async () => {
    const events = await eventsOf(RESPOND, done, SAID);
    expect(typesOf(events)).toEqual([
      'response.created',
      'response.queued',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ]);
    expect(events.map(({ data }) => Object(data).sequence_number)).toEqual(events.map((_, index) => index));
    // No matter how far the job has come.
    const again = await eventsOf(READ_RESPONSE, done, SAID, { query: 'stream=true&starting_after=4' });
    expect(again.map(({ data }) => Object(data).delta)).toEqual(['Hel', 'lo ', 'there.', undefined, undefined, undefined, undefined]);
  });

  test('of a response with pictures have the steps of the tool', async () => {
    const events = await eventsOf(RESPOND, aJob('COMPLETED'), ENDED);
    expect(typesOf(events).slice(3)).toEqual([
      'response.output_item.added',
      'response.image_generation_call.in_progress',
      'response.image_generation_call.generating',
      'response.image_generation_call.completed',
      'response.output_item.done',
      'response.completed',
    ]);
  });

  test.each([
    ['FAILED', 'response.failed'],
    ['CANCELLED', 'response.cancelled'],
  ] as const)('of a response that is %s end with %s', async (state, type) => {
    const events = await eventsOf(RESPOND, aJob(state), [...STARTED, { state }]);
    expect(events.at(-1)).toMatchObject({ event: type, data: { response: { error: { message: expect.any(String) } } } });
  });
});

describe('errors', () => {
  const EXPECTED: Record<ErrorCode, readonly [type: string, code: string, errorCode: string, shouldRetry?: 'false']> = {
    invalid_json: ['invalid_request_error', 'invalid_json', 'INVALID_REQUEST'],
    invalid_parameters: ['invalid_request_error', 'invalid_value', 'INVALID_REQUEST'],
    invalid_request: ['invalid_request_error', 'invalid_request', 'INVALID_REQUEST'],
    unauthorized: ['authentication_error', 'invalid_api_key', 'AUTHENTICATION_FAILED'],
    forbidden: ['permission_error', 'forbidden', 'FORBIDDEN'],
    unknown_model: ['invalid_request_error', 'model_not_found', 'MODEL_NOT_FOUND'],
    unknown_path: ['invalid_request_error', 'unknown_url', 'NOT_FOUND'],
    not_found: ['invalid_request_error', 'not_found', 'NOT_FOUND'],
    method_not_allowed: ['invalid_request_error', 'method_not_supported', 'INVALID_REQUEST'],
    conflict: ['invalid_request_error', 'conflict', 'CONFLICT'],
    idempotency_mismatch: ['idempotency_error', 'idempotency_mismatch', 'INVALID_REQUEST'],
    payload_too_large: ['invalid_request_error', 'payload_too_large', 'INVALID_REQUEST'],
    unsupported_media_type: ['invalid_request_error', 'unsupported_content_type', 'INVALID_REQUEST'],
    rate_limited: ['rate_limit_error', 'rate_limit_exceeded', 'RATE_LIMITED'],
    internal: ['server_error', 'server_error', 'INTERNAL_ERROR', 'false'],
    not_implemented: ['invalid_request_error', 'not_implemented', 'NOT_IMPLEMENTED', 'false'],
    unavailable: ['server_error', 'service_unavailable', 'INTERNAL_ERROR', 'false'],
    wait_timeout: ['server_error', 'timeout', 'TIMEOUT', 'false'],
  };

  test.each(Object.keys(EXPECTED) as ErrorCode[])('of %s', (code) => {
    const [type, openaiCode, errorCode, shouldRetry] = EXPECTED[code];
    const answer = openai.encodeError(new AppError(code, 'No.'));
    expect(answer.headers).toEqual(shouldRetry ? { 'x-should-retry': shouldRetry } : {});
    expect(bodyOf(answer)).toEqual({ error: { message: 'No.', type, param: null, code: openaiCode, error_code: errorCode } });
  });

  test.each([
    ['/prompt', 'prompt'],
    ['/tools/0/type', 'tools.0.type'],
    ['/a~1b~0c', 'a/b~c'],
    ['', null],
  ])('at %j name the parameter %j', (pointer, param) => {
    const problems = [
      { pointer, message: 'is wrong' },
      { pointer: '/other', message: 'is wrong' },
    ];
    expect(bodyOf(openai.encodeError(new AppError('invalid_parameters', 'No.', { problems })))).toMatchObject({ error: { param } });
  });

  test('of what is away for a moment may be tried again', () => {
    const error = new AppError('unavailable', 'Later.', { retryAfterSeconds: 2 });
    expect(openai.encodeError(error).headers).toEqual({ 'retry-after': '2' });
  });

  test('say when to come again, and which job they are about', () => {
    const error = new AppError('rate_limited', 'Later.', { retryAfterSeconds: 1.2, requestId: JOB_ID });
    expect(openai.encodeError(error).headers).toEqual({ 'retry-after': '2', 'x-request-id': JOB_ID });
  });
});

describe('a webhook', () => {
  test.each(STATES)('about a %s job names its event as both vendors do', (state) => {
    const { contentType, body } = openai.encodeWebhook(aJob(state, { output: undefined, sequence: 4 }), { statusNumbering: 'documented' });
    const EVENTS = { QUEUED: 'queued', PROCESSING: 'in_progress', COMPLETED: 'completed', FAILED: 'failed', CANCELLED: 'cancelled' };
    expect(contentType).toBe('application/json');
    expect(JSON.parse(body)).toMatchObject({
      id: `evt_${JOB_ID}_4`,
      object: 'event',
      type: `video.${EVENTS[state]}`,
      data: { object: 'video.generation', id: `video_${JOB_ID}`, model: 'hidream-i1-fast', status: EVENTS[state] },
    });
  });

  test('holds the result, or why there is none', () => {
    const dataOf = (job: Job) => JSON.parse(openai.encodeWebhook(job, { statusNumbering: 'documented' }).body).data;
    expect(dataOf(aJob('COMPLETED', { output: { media: [aVideo] } }))).toMatchObject({
      output: { url: 'https://queue.example/files/tok2/v.mp4', content_type: 'video/mp4' },
      error: null,
    });
    expect(dataOf(aJob('FAILED'))).toMatchObject({ output: null, error: { error_code: 'ALL_PROVIDERS_EXHAUSTED' } });
  });
});
