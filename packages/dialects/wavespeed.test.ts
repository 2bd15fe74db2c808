import { createHmac } from 'node:crypto';
import {
  AppError,
  type ErrorCode,
  type FailureCode,
  InlineFile,
  type Model,
  type ModelListing,
  parseExactJson,
  SKIP_MAX,
  STATES,
  type Upload,
  type WireRequest,
} from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { aJob, anImage, aRequest, BASE_URL, bodyOf, JOB_ID, type RequestFields, routeOf } from './testing/fixtures.ts';
import wavespeed from './wavespeed.ts';

const RESULT_URL = `${BASE_URL}/api/v3/predictions/${JOB_ID}/result`;
const IMAGE_URL = `${BASE_URL}/files/tok1/a%20b.webp`;

const submitLine = routeOf(wavespeed, 'POST /api/v3/:model{.+}');
const readLine = routeOf(wavespeed, 'GET /api/v3/predictions/:id/result');
const listLine = routeOf(wavespeed, 'POST /api/v3/predictions');

function aModel(properties: object = { prompt: { type: 'string' } }): Model {
  return {
    name: 'acme/one',
    aliases: [],
    title: 'Acme One',
    produces: 'image',
    parameters: JSON.parse(JSON.stringify({ type: 'object', required: ['prompt'], properties })),
    routes: [],
    routing: 'order',
    retry: { attempts: 1, firstDelayMs: 1, factor: 1, delayMsMax: 1 },
    timeoutSeconds: 60,
    onUnknown: 'resubmit',
  };
}

function submissionOf(body: object, fields: RequestFields = {}) {
  const operation = submitLine.decode(aRequest({ params: { model: 'acme/one' }, body: JSON.stringify(body), ...fields }));
  if (operation.kind !== 'submit') throw new Error('not a submission');
  return operation;
}

/** What the model gets. */
function fitted(body: object, model = aModel(), fields: RequestFields = {}): unknown {
  const { fit, parameters } = submissionOf(body, fields);
  return JSON.parse(fit?.(parameters, model).text ?? '');
}

/** What is refused, by pointer. */
function refusalOf(action: () => unknown): readonly string[] {
  try {
    action();
  } catch (error) {
    if (error instanceof AppError) return error.problems.map(({ pointer }) => pointer);
    throw error;
  }
  throw new Error('It was not refused.');
}

/** Without the envelope, which must be right. */
function dataOf(answer: Parameters<typeof bodyOf>[0]): Record<string, unknown> {
  expect(answer.status).toBe(200);
  const { code, message, data } = bodyOf(answer);
  expect({ code, message }).toEqual({ code: 200, message: 'success' });
  return data as Record<string, unknown>;
}

test('everything below v3 is below v2 as well', () => {
  const below = (base: string) =>
    wavespeed.routes.filter(({ path }) => path.startsWith(base)).map(({ method, path }) => `${method} ${path.slice(base.length)}`);
  expect(below('/api/v2')).toEqual(below('/api/v3'));
  expect(below('/api/v2').length * 2).toBe(wavespeed.routes.length);
});

describe('a submission', () => {
  test('is the body, for the model in the path', () => {
    expect(submissionOf({ prompt: 'x', seed: -1 })).toMatchObject({
      kind: 'submit',
      model: 'acme/one',
      parameters: { text: '{"prompt":"x","seed":-1}' },
      webhookMember: 'webhook_url',
    });
    expect(submissionOf({}, { headers: { 'idempotency-key': 'k1' } }).idempotencyKey).toBe('k1');
  });

  test.each([
    ['webhook=https%3A%2F%2Fh%2Fx%3Fa%3D1%26b%3D2', 'https://h/x?a=1&b=2'],
    ['webhook=https://h/x?a=1&b=2', 'https://h/x?a=1&b=2'],
    ['webhook=https://h/x?a=1&b=2%203&c=', 'https://h/x?a=1&b=2%203&c='],
    ['webhook=https%3A%2F%2Fh%2Fx&other=1', 'https://h/x'],
    ['other=1&webhook=https%3A%2F%2Fh%2Fx', 'https://h/x'],
    ['webhook=', undefined],
    ['', undefined],
  ])('with %j is told to %j', (query, url) => {
    expect(submissionOf({}, { query }).webhookUrl).toBe(url);
  });

  test.each([
    ['true', { until: 'end', seconds: 120 }],
    ['false', undefined],
    ['null', undefined],
  ])('with enable_sync_mode %s waits for %j, and the model does not hear of it', (value, wait) => {
    const body = { prompt: 'x', enable_sync_mode: JSON.parse(value) };
    expect(submissionOf(body).wait).toEqual(wait);
    expect(fitted(body)).toEqual({ prompt: 'x' });
    expect(fitted(body, aModel({ prompt: {}, enable_sync_mode: { type: 'boolean' } }))).toEqual({ prompt: 'x' });
  });

  test.each(['"true"', '1', '[]'])('with enable_sync_mode %s is refused', (value) => {
    expect(refusalOf(() => submissionOf({ enable_sync_mode: JSON.parse(value) }))).toEqual(['/enable_sync_mode']);
  });

  const base64 = aModel({ prompt: {}, enable_base64_output: { type: 'boolean', default: true } });
  const webhook = { query: 'webhook=https://h/x' };
  test.each([
    // The word is the model's where it has it; what asks for nothing is dropped where it has not.
    ['says nothing', {}, aModel(), {}, {}],
    ['says no', { enable_base64_output: false }, aModel(), {}, {}],
    ['says yes', { enable_base64_output: true }, aModel(), {}, { enable_base64_output: true }],
    ['says no to a model that asks', { enable_base64_output: false }, base64, {}, { enable_base64_output: false }],
    ['says nothing to a model that asks', {}, base64, {}, {}],
    ['has a webhook and says nothing', {}, base64, webhook, { enable_base64_output: false }],
    ['has a webhook in the body', { webhook_url: 'https://h/x' }, base64, {}, { webhook_url: 'https://h/x', enable_base64_output: false }],
    ['has a webhook and a model without the word', {}, aModel(), webhook, {}],
  ])('that %s hands on what it should of enable_base64_output', (_name, body, model, fields, wanted) => {
    expect(fitted(body, model, fields)).toEqual(wanted);
  });

  test('for base64 and a webhook is refused', () => {
    const body = { enable_base64_output: true };
    expect(refusalOf(() => fitted(body, base64, webhook))).toEqual(['/enable_base64_output']);
    expect(refusalOf(() => fitted({ ...body, webhook_url: 'https://h/x' }, base64))).toEqual(['/enable_base64_output']);
    // There it is a parameter like any other.
    const declared = aModel({ webhook_url: {} });
    expect(fitted({ ...body, webhook_url: 'https://h/x' }, declared)).toEqual({ ...body, webhook_url: 'https://h/x' });
  });

  test('keeps numbers to the last digit', () => {
    const { fit, parameters } = submissionOf({});
    const exact = parseExactJson('{"seed":12345678901234567890,"scale":1.0}');
    expect(parameters.text).toBe('{}');
    expect(fit?.(exact, aModel()).text).toBe('{"seed":12345678901234567890,"scale":1.0}');
  });

  test.each(['[]', '"x"', 'null'])('of %s is refused', (body) => {
    expect(refusalOf(() => submitLine.decode(aRequest({ params: { model: 'm' }, body })))).toEqual(['']);
  });

  test.each([
    'predictions/x',
    'models/x',
    'model/x',
    'balance/x',
    'account/x',
    'webhook/x',
    'media/x',
    'upload/x',
    'billings/x',
    'user/x',
    'predictions',
  ])('to %s is one to nowhere', (model) => {
    expect(() => submitLine.decode(aRequest({ params: { model }, body: '{}' }))).toThrow(expect.objectContaining({ code: 'unknown_path' }));
  });

  test('to a model whose name begins with such a word is one', () => {
    expect(submissionOf({}, { params: { model: 'modelscope/x' } }).model).toBe('modelscope/x');
  });
});

describe('the answer to a submission', () => {
  const request = (body: object): WireRequest => aRequest({ body: JSON.stringify(body) });

  test('is the prediction, created', () => {
    expect(dataOf(submitLine.encode(aJob('QUEUED'), request({})))).toEqual({
      id: JOB_ID,
      model: 'hidream-i1-fast',
      input: { prompt: 'a panda', seed: 7 },
      outputs: [],
      urls: { get: RESULT_URL },
      has_nsfw_contents: [],
      status: 'created',
      created_at: '2026-01-01T10:00:00.000Z',
      error: '',
      code: 0,
      executionTime: 0,
      timings: { inference: 0 },
    });
  });

  test('after waiting is how the job ended', () => {
    const sync = request({ enable_sync_mode: true });
    expect(dataOf(submitLine.encode(aJob('COMPLETED'), sync))).toMatchObject({ status: 'completed', outputs: [IMAGE_URL], code: 0 });
    expect(dataOf(submitLine.encode(aJob('FAILED'), sync))).toMatchObject({
      status: 'failed',
      error: 'The upstream gave up.',
      outputs: [],
    });
  });

  test.each(['QUEUED', 'PROCESSING'] as const)('after waiting in vain for a %s job is what clients tell that from', (state) => {
    expect(dataOf(submitLine.encode(aJob(state), request({ enable_sync_mode: true })))).toMatchObject({
      id: JOB_ID,
      status: 'processing',
      code: 5004,
      error: expect.stringMatching(new RegExp(`^Sync mode timed out .*${RESULT_URL}$`)),
    });
    expect(dataOf(submitLine.encode(aJob(state), request({})))).toMatchObject({ code: 0, error: '' });
  });
});

describe('a prediction', () => {
  const read = (...job: Parameters<typeof aJob>) => dataOf(readLine.encode(aJob(...job), aRequest()));

  test.each(['/result', ''])('is read at its id%s', (end) => {
    const line = routeOf(wavespeed, `GET /api/v2/predictions/:id${end}`);
    expect(line.decode(aRequest({ params: { id: JOB_ID } }))).toEqual({ kind: 'read', id: JOB_ID });
  });

  test.each([
    ['QUEUED', 'created', ''],
    ['PROCESSING', 'processing', ''],
    ['COMPLETED', 'completed', ''],
    ['FAILED', 'failed', 'The upstream gave up.'],
    ['CANCELLED', 'failed', 'The job was cancelled.'],
  ] as const)('of a %s job is %s, with the error %j', (state, status, error) => {
    expect(read(state)).toMatchObject({ id: JOB_ID, status, error, urls: { get: RESULT_URL } });
  });

  test('that is completed has its files, flags and times', () => {
    expect(read('COMPLETED')).toMatchObject({
      outputs: [IMAGE_URL],
      has_nsfw_contents: [false],
      executionTime: 3200,
      timings: { inference: 3200 },
    });
    const output = { media: [anImage, { ...anImage, location: { url: 'https://cdn.example/2.webp' } }], nsfw: [false, true] };
    expect(read('COMPLETED', { output: { ...output, timings: { inference: 1.2345 } } })).toMatchObject({
      outputs: [IMAGE_URL, 'https://cdn.example/2.webp'],
      has_nsfw_contents: [false, true],
      executionTime: 3200,
      timings: { inference: 1235 },
    });
  });

  test.each([
    [{ media: [], text: 'Hello.' }, ['Hello.']],
    [{ media: [], json: { score: 1 } }, [{ score: 1 }]],
    [{ media: [], json: [1, 2] }, [1, 2]],
    [{ media: [anImage], text: 'A panda.', json: null }, [IMAGE_URL, 'A panda.', null]],
  ])('with %j has the outputs %j', (output, outputs) => {
    expect(read('COMPLETED', { output })).toMatchObject({ outputs, has_nsfw_contents: outputs.map(() => false) });
  });

  test.each([
    ['provider_error', 1403],
    ['content_refused', 1200],
    ['invalid_input', 1401],
    ['timeout', 1405],
    ['worker_crashed', 5000],
    ['outcome_unknown', 1405],
    ['cancelled', 1405],
    ['internal', 5000],
  ] as const satisfies readonly (readonly [FailureCode, number])[])('that failed with %s has the code %i', (code, number) => {
    expect(read('FAILED', { failure: { code, message: 'Why.' } })).toMatchObject({ code: number, error: 'Why.', outputs: [] });
  });

  const wantsBase64 = { input: parseExactJson('{"enable_base64_output":true}').text };
  const rawBodyOf = (answer: ReturnType<typeof readLine.encode>) => (answer.body.kind === 'json' ? answer.body.value : undefined);

  test('that was asked for as base64 holds its files', () => {
    const value = rawBodyOf(readLine.encode(aJob('COMPLETED', wantsBase64), aRequest()));
    expect(value).toMatchObject({ data: { outputs: [new InlineFile('tok1', 'base64')] } });
  });

  test.each([
    ['a file elsewhere', { ...anImage, location: { url: 'https://cdn.example/2.webp' } }, 'https://cdn.example/2.webp'],
    ['a file that is too large', { ...anImage, bytes: 20 * 1024 * 1024 + 1 }, IMAGE_URL],
  ])('that was asked for as base64 names the address of %s', (_name, file, url) => {
    const job = aJob('COMPLETED', { ...wantsBase64, output: { media: [file] } });
    expect(rawBodyOf(readLine.encode(job, aRequest()))).toMatchObject({ data: { outputs: [url] } });
  });

  test('is never base64 in a list or a webhook', () => {
    const job = aJob('COMPLETED', wantsBase64);
    expect(dataOf(listLine.encode({ jobs: [job] }, aRequest({ body: '{}' })))).toMatchObject({ items: [{ outputs: [IMAGE_URL] }] });
    expect(JSON.parse(wavespeed.encodeWebhook(job, { statusNumbering: 'documented' }).body).outputs).toEqual([IMAGE_URL]);
  });

  test('is deleted or cancelled by the same word', () => {
    const line = routeOf(wavespeed, 'DELETE /api/v3/predictions/:id');
    expect(line.decode(aRequest({ params: { id: JOB_ID } }))).toEqual({ kind: 'discard', id: JOB_ID });
    expect(dataOf(line.encode(aJob('CANCELLED'), aRequest()))).toEqual({ id: JOB_ID, status: 'deleted' });
  });

  test('is deleted with many', () => {
    const line = routeOf(wavespeed, 'POST /api/v3/predictions/delete');
    expect(line.decode(aRequest({ body: '{"ids":["a","b"]}' }))).toEqual({ kind: 'discardMany', ids: ['a', 'b'] });
    expect(dataOf(line.encode({ discarded: 2 }, aRequest()))).toEqual({ deleted_count: 2 });
  });

  const tooMany = JSON.stringify({ ids: Array.from({ length: 101 }, () => 'x') });
  test.each(['{}', '{"ids":"a"}', '{"ids":[1]}', tooMany])('is not deleted by %s', (body) => {
    const line = routeOf(wavespeed, 'POST /api/v3/predictions/delete');
    expect(refusalOf(() => line.decode(aRequest({ body })))).toEqual(['/ids']);
  });
});

describe('a list', () => {
  const FIRST = { kind: 'list', limit: 20, skip: 0 };

  test.each([
    [undefined, FIRST],
    ['{}', FIRST],
    ['{"page":3,"page_size":50}', { ...FIRST, limit: 50, skip: 100 }],
    ['{"status":"created"}', { ...FIRST, state: ['QUEUED'] }],
    ['{"status":"processing"}', { ...FIRST, state: ['PROCESSING'] }],
    ['{"status":"completed"}', { ...FIRST, state: ['COMPLETED'] }],
    ['{"status":"failed"}', { ...FIRST, state: ['FAILED', 'CANCELLED'] }],
    // No job is told to be that.
    ['{"status":"cancelled"}', { ...FIRST, state: [] }],
    ['{"status":null,"model":null,"created_after":null,"page":null}', FIRST],
    ['{"model":"acme/one"}', { ...FIRST, model: 'acme/one' }],
    [
      '{"created_after":"2026-01-01T12:00:00+02:00","created_before":"2026-01-02T00:00:00Z"}',
      { ...FIRST, createdAfter: new Date('2026-01-01T10:00:00Z'), createdBefore: new Date('2026-01-02T00:00:00Z') },
    ],
  ])('is asked for with %s', (body, operation) => {
    expect(listLine.decode(aRequest(body === undefined ? {} : { body }))).toEqual(operation);
  });

  test('is asked for in the address line as well', () => {
    const line = routeOf(wavespeed, 'GET /api/v3/predictions');
    const request = aRequest({ query: 'page=2&page_size=5&status=completed' });
    expect(line.decode(request)).toEqual({ ...FIRST, limit: 5, skip: 5, state: ['COMPLETED'] });
    expect(dataOf(line.encode({ jobs: [] }, request))).toEqual({ page: 2, items: [] });
  });

  test.each([
    ['{"page":0}', ['/page']],
    ['{"page":1.5}', ['/page']],
    ['{"page":"first"}', ['/page']],
    ['{"page_size":101}', ['/page_size']],
    [JSON.stringify({ page: SKIP_MAX / 100 + 2, page_size: 100 }), ['/page']],
    ['{"page":9999999}', ['/page']],
    ['{"status":"done"}', ['/status']],
    ['{"status":7}', ['/status']],
    ['{"model":7}', ['/model']],
    ['{"created_after":"2026-01-01T10:00:00"}', ['/created_after']],
    ['{"created_before":"yesterday","page":-1,"status":"x"}', ['/page', '/status', '/created_before']],
    ['[]', ['']],
  ])('for %s is refused', (body, pointers) => {
    expect(refusalOf(() => listLine.decode(aRequest({ body })))).toEqual(pointers);
  });

  test('has the predictions and the number of the page', () => {
    const { page, items } = dataOf(listLine.encode({ jobs: [aJob('COMPLETED'), aJob('QUEUED')] }, aRequest({ body: '{"page":4}' })));
    expect(page).toBe(4);
    expect(items).toMatchObject([
      { id: JOB_ID, status: 'completed', input: { prompt: 'a panda', seed: 7 }, outputs: [IMAGE_URL] },
      { status: 'created', outputs: [] },
    ]);
  });
});

describe('an upload', () => {
  const upload: Upload = {
    id: JOB_ID,
    token: 'tok2',
    fileName: 'a.png',
    contentType: 'image/png',
    createdAt: new Date(0),
    expiresAt: new Date(1),
  };
  const ticketLine = routeOf(wavespeed, 'POST /api/v3/media/uploads');
  const DOWNLOAD_URL = `${BASE_URL}/files/tok2/a.png`;

  test('is announced, and told where its bytes go', () => {
    const request = aRequest({ body: '{"filename":"a.png","size":10,"content_type":"image/png"}' });
    expect(ticketLine.decode(request)).toEqual({ kind: 'createUpload', fileName: 'a.png', bytes: 10, contentType: 'image/png' });
    expect(dataOf(ticketLine.encode(upload, request))).toEqual({
      type: 'image',
      download_url: DOWNLOAD_URL,
      filename: 'a.png',
      size: 10,
      upload: { method: 'PUT', url: `${BASE_URL}/uploads/tok2`, headers: { 'Content-Type': 'image/png' } },
    });
    expect(ticketLine.decode(aRequest({ body: '{"filename":"a"}' }))).toEqual({ kind: 'createUpload', fileName: 'a' });
  });

  test.each([
    ['{}', ['/filename']],
    ['{"filename":"","size":0,"content_type":7}', ['/filename', '/size', '/content_type']],
    ['{"filename":"a","size":1.5}', ['/size']],
  ])('is not announced by %s', (body, pointers) => {
    expect(refusalOf(() => ticketLine.decode(aRequest({ body })))).toEqual(pointers);
  });

  const form = (...files: readonly Upload[]): WireRequest => ({
    ...aRequest({ body: '{}' }),
    isForm: true,
    uploads: new Map(files.map((file, index) => [`file${index}`, [file]])),
  });

  test.each([
    ['video/mp4', 'video'],
    ['audio/mpeg', 'audio'],
    ['application/zip', 'file'],
  ])('of %s in one step is told at once', (contentType, type) => {
    const line = routeOf(wavespeed, 'POST /api/v2/media/upload/binary');
    expect(line.decode(form(upload))).toEqual({ kind: 'readUpload', id: JOB_ID });
    const known = { ...upload, contentType, bytes: 5 };
    expect(dataOf(line.encode(known, form(upload)))).toEqual({ type, download_url: DOWNLOAD_URL, filename: 'a.png', size: 5 });
  });

  test('at the older address is told in its older word', () => {
    const line = routeOf(wavespeed, 'POST /api/v3/upload');
    expect(line.decode(form(upload))).toEqual({ kind: 'readUpload', id: JOB_ID });
    expect(dataOf(line.encode(upload, form(upload)))).toEqual({ url: DOWNLOAD_URL });
  });

  test('is one file of a form, not two or none, and no JSON', () => {
    const { decode } = routeOf(wavespeed, 'POST /api/v3/media/upload/binary');
    expect(refusalOf(() => decode(form()))).toEqual(['/file']);
    expect(refusalOf(() => decode(form(upload, upload)))).toEqual(['/file']);
    expect(() => decode(aRequest({ body: '{}' }))).toThrow(expect.objectContaining({ code: 'unsupported_media_type' }));
  });
});

describe('models', () => {
  const route = { provider: 'wavespeed', model: 'acme/one', price: { usd: 0.02, per: 'image' } } as const;
  const listing = (model: Model, isAvailable = true): ModelListing => ({ model, routes: [{ route, isAvailable }] });
  const line = routeOf(wavespeed, 'GET /api/v3/models');

  test('are a list with the schema of each', () => {
    const properties = { size: { type: 'string' }, prompt: { type: 'string' } };
    expect(dataOf(line.encode([listing(aModel(properties))], aRequest()))).toEqual([
      {
        model_id: 'acme/one',
        name: 'Acme One',
        description: 'Acme One',
        type: 'text-to-image',
        base_price: 0.02,
        api_schema: {
          api_schemas: [
            {
              type: 'model_run',
              method: 'POST',
              server: BASE_URL,
              api_path: '/api/v3/acme/one',
              request_schema: { type: 'object', properties, required: ['prompt'], 'x-order-properties': ['size', 'prompt'] },
            },
          ],
        },
      },
    ]);
  });

  test('have no price where none would be charged now', () => {
    const [body] = Object.values(dataOf(line.encode([listing(aModel(), false)], aRequest())));
    expect(body).not.toHaveProperty('base_price');
  });

  test.each([
    [{ image: {} }, 'image-to-image'],
    [{ image_url: {}, prompt: {} }, 'image-to-image'],
    [{ video: {}, image: {} }, 'video-to-image'],
    [{ image_size: {} }, 'text-to-image'],
  ])('with %j are of type %s', (properties, type) => {
    expect(Object.values(dataOf(line.encode([listing(aModel(properties))], aRequest())))).toMatchObject([{ type }]);
  });

  test('have a price for a request', () => {
    const price = routeOf(wavespeed, 'POST /api/v3/model/price');
    const operation = price.decode(aRequest({ body: '{"model_id":"acme/one","inputs":{"prompt":"x","enable_sync_mode":true}}' }));
    if (operation.kind !== 'quote') throw new Error('not a quote');
    const { submission } = operation;
    expect(submission).toMatchObject({ model: 'acme/one', parameters: { text: '{"prompt":"x","enable_sync_mode":true}' } });
    expect(submission.fit?.(submission.parameters, aModel()).text).toBe('{"prompt":"x"}');
    expect(dataOf(price.encode({ model: aModel(), route, usd: 0.04 }, aRequest()))).toEqual({
      model_id: 'acme/one',
      price: 0.04,
      discounted_price: 0.04,
      discount_rate: 1,
      currency: 'USD',
    });
    const pricing = routeOf(wavespeed, 'POST /api/v3/model/pricing');
    expect(dataOf(pricing.encode({ model: aModel(), route, usd: 0.04 }, aRequest()))).toEqual({
      model_id: 'acme/one',
      unit_price: 0.04,
      currency: 'USD',
    });
  });

  test('are free in the sandbox, and elsewhere have the price that is known or none', () => {
    const { encode } = routeOf(wavespeed, 'POST /api/v3/model/pricing');
    const free = { model: aModel(), route: { provider: 'sandbox', model: 'acme/one' } };
    expect(dataOf(encode(free, aRequest()))).toMatchObject({ unit_price: 0 });
    const unknown = { model: aModel(), route: { provider: 'http', model: 'acme/one' } };
    expect(() => encode(unknown, aRequest())).toThrow(expect.objectContaining({ code: 'not_found' }));
  });

  test.each([
    ['{}', ['/model_id']],
    ['{"model_id":"","inputs":[]}', ['/model_id', '/inputs']],
  ])('have no price for %s', (body, pointers) => {
    expect(refusalOf(() => routeOf(wavespeed, 'POST /api/v3/model/price').decode(aRequest({ body })))).toEqual(pointers);
  });
});

describe('a webhook', () => {
  test('is the prediction alone', () => {
    const { contentType, body } = wavespeed.encodeWebhook(aJob('FAILED'), { statusNumbering: 'documented' });
    expect(contentType).toBe('application/json');
    expect(JSON.parse(body)).toMatchObject({ id: JOB_ID, status: 'failed', error: 'The upstream gave up.', code: 1403, outputs: [] });
  });

  const keys = { callerId: 'c', signEd25519: (bytes: Uint8Array) => bytes };
  const secret = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';

  test('is signed as the vector of section 9 is', () => {
    const message = { id: 'wh_1', jobId: JOB_ID, timestamp: 1_700_000_000, body: '{"id":"p1","status":"completed"}' };
    expect(wavespeed.signWebhook?.(message, { ...keys, secrets: [secret, 'whsec_b2xk'] })).toEqual({
      'webhook-signature': 'v3,44a84b5ab5cd5800ff49f1b4f72f84570a56ada2469948565fdca9ddb435cccd',
    });
  });

  test('is signed over its bytes, whatever they are', () => {
    const message = { id: 'wh_1', jobId: JOB_ID, timestamp: 1, body: '{"error":"дворец"}' };
    const digest = createHmac('sha256', Buffer.from(secret.slice(6)))
      .update(Buffer.from(`wh_1.1.${message.body}`))
      .digest('hex');
    expect(wavespeed.signWebhook?.(message, { ...keys, secrets: [secret] })).toEqual({ 'webhook-signature': `v3,${digest}` });
  });

  test('has a secret that is told', () => {
    const line = routeOf(wavespeed, 'GET /api/v3/webhook/secret');
    expect(line.decode(aRequest())).toEqual({ kind: 'readWebhookSecret' });
    expect(dataOf(line.encode({ callerId: 'c', secret, createdAt: new Date(0), previous: [] }, aRequest()))).toEqual({ secret });
  });
});

test.each(['GET /api/v3/balance', 'GET /api/v2/account/balance', 'POST /api/v3/billings/search', 'POST /api/v3/user/usage_stats'])(
  '%s is of the vendor and not implemented',
  (line) => {
    const { decode, encode } = routeOf(wavespeed, line);
    expect(decode(aRequest())).toEqual({ kind: 'readCaller' });
    expect(() => encode({ callerId: 'c' }, aRequest())).toThrow(expect.objectContaining({ code: 'not_implemented' }));
  },
);

describe('the description of', () => {
  const route = { provider: 'wavespeed', model: 'acme/one', price: { usd: 0.02, per: 'image' } } as const;
  const file = {
    id: JOB_ID,
    token: 't',
    fileName: 'a.png',
    contentType: 'image/png',
    bytes: 5,
    createdAt: new Date(0),
    expiresAt: new Date(1),
  };
  const secret = { callerId: 'c', secret: 'whsec_AA==', createdAt: new Date(0), previous: [] };
  test.each([
    ...STATES.map((state) => ['GET /api/v3/predictions/:id/result', aJob(state), {}] as const),
    ['POST /api/v3/:model{.+}', aJob('QUEUED'), { enable_sync_mode: true }],
    ['DELETE /api/v3/predictions/:id', aJob('CANCELLED'), {}],
    ['POST /api/v3/predictions/delete', { discarded: 1 }, { ids: [] }],
    ['POST /api/v3/predictions', { jobs: [aJob('COMPLETED')] }, {}],
    ['GET /api/v3/predictions', { jobs: [] }, {}],
    ['POST /api/v3/media/uploads', file, { filename: 'a.png', size: 5 }],
    ['POST /api/v3/media/upload/binary', file, {}],
    ['POST /api/v3/upload', file, {}],
    ['GET /api/v3/models', [{ model: aModel(), routes: [{ route, isAvailable: true }] }], {}],
    ['POST /api/v3/model/price', { model: aModel(), route, usd: 0.02 }, {}],
    ['POST /api/v3/model/pricing', { model: aModel(), route, usd: 0.02 }, {}],
    ['GET /api/v3/webhook/secret', secret, {}],
  ] as const)('%s is that of its answers, to the last member', (line, outcome, body) => {
    const { encode, answers } = routeOf(wavespeed, line);
    // The table gives each line what it is made for, which its type does not say.
    const answer = bodyOf(encode(outcome as Parameters<typeof encode>[0], aRequest({ body: JSON.stringify(body) })));
    expect(answers?.[200]?.schema?.parse(answer)).toEqual(answer);
  });

  test('errors is that of errors', () => {
    const error = new AppError('invalid_parameters', 'No.', { problems: [{ pointer: '/size', message: 'must be smaller' }] });
    const answer = bodyOf(wavespeed.encodeError(error));
    expect(wavespeed.errorSchema?.parse(answer)).toEqual(answer);
  });
});

describe('an error', () => {
  test.each([
    ['invalid_parameters', 400],
    ['unauthorized', 401],
    ['unknown_model', 404],
    ['rate_limited', 429],
    ['not_implemented', 501],
    ['unavailable', 503],
  ] as const satisfies readonly (readonly [ErrorCode, number])[])('%s is told by %i in the envelope, twice in words', (code, status) => {
    const answer = wavespeed.encodeError(new AppError(code, 'No.', { retryAfterSeconds: 1.2, requestId: JOB_ID }));
    expect(answer).toMatchObject({ status, headers: { 'retry-after': '2', 'x-request-id': JOB_ID } });
    expect(bodyOf(answer)).toEqual({ code: status, message: 'No.', error: 'No.', error_code: code });
  });

  test('lists what is wrong', () => {
    const problems = [{ pointer: '/size', message: 'must be smaller' }];
    expect(bodyOf(wavespeed.encodeError(new AppError('invalid_parameters', 'No.', { problems })))).toMatchObject({ errors: problems });
  });
});
