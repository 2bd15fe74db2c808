/** Answers as sections 3 to 9 of the protocol sheet replicate.md show them. */
import {
  AppError,
  type DialectRoute,
  type Followed,
  type Job,
  type JobEvent,
  PlainText,
  type ServerSentEvent,
  STATES,
  toJsonText,
  type Upload,
} from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import replicate from './replicate.ts';
import {
  aJob,
  anImage,
  aRequest,
  BASE_URL,
  bodyOf,
  CREATED_AT,
  FINISHED_AT,
  JOB_ID,
  type RequestFields,
  routeOf,
} from './testing/fixtures.ts';

const BASE = '/replicate/v1';
const CREATE = routeOf(replicate, `POST ${BASE}/predictions`);
const CREATE_BY_MODEL = routeOf(replicate, `POST ${BASE}/models/:model{.+}/predictions`);
const READ = routeOf(replicate, `GET ${BASE}/predictions/:id`);
const LIST = routeOf(replicate, `GET ${BASE}/predictions`);
const FILE_URL = `${BASE_URL}/files/tok1/a%20b.webp`;
const input = { prompt: 'a fox' };

function thrown(run: () => unknown): AppError {
  try {
    run();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('Nothing was thrown.');
}

function submitted(body: object, fields: RequestFields = {}, route: DialectRoute = CREATE) {
  const operation = route.decode(aRequest({ params: { model: 'a/b' }, ...fields, body: JSON.stringify(body) }));
  if (operation.kind !== 'submit') throw new Error(`The operation is ${operation.kind}.`);
  return operation;
}

function read(job: Job) {
  return bodyOf(READ.encode(job, aRequest()));
}

describe('a submission', () => {
  test.each([
    ['hidream-i1-fast', 'hidream-i1-fast'],
    ['owner/name', 'owner/name'],
    ['owner/name:another', 'another'],
    ['_/hidream-i1-fast:_/hidream-i1-fast', 'hidream-i1-fast'],
    ['owner/name:owner/name', 'owner/name'],
  ])('by the version %s is for the model %s', (version, model) => {
    expect(submitted({ version, input })).toMatchObject({ model, modelPointer: '/version' });
  });

  test.each([
    ['_/hidream-i1-fast', 'hidream-i1-fast'],
    ['owner/name', 'owner/name'],
    ['sandbox/owner/name', 'sandbox/owner/name'],
  ])('at the path of %s is for the model %s', (path, model) => {
    for (const kind of ['models', 'deployments']) {
      const route = routeOf(replicate, `POST ${BASE}/${kind}/:model{.+}/predictions`);
      expect(submitted({ input }, { params: { model: path } }, route)).toMatchObject({ model });
    }
  });

  test('hands on the exact text of the input, and nothing of what is beside it', () => {
    const body = '{"version":"m","stream":true,"useFileOutput":false,"input":{"seed":12345678901234567890,"webhook":"x"}}';
    const operation = CREATE.decode(aRequest({ body, headers: { 'idempotency-key': 'k' } }));
    expect(operation).toEqual({
      kind: 'submit',
      model: 'm',
      modelPointer: '/version',
      parameters: { text: '{"seed":12345678901234567890,"webhook":"x"}', value: expect.anything() },
      idempotencyKey: 'k',
    });
  });

  test.each([
    [undefined, undefined],
    ['wait', 60],
    ['wait=5', 5],
    ['wait="5"; x', 5],
    ['respond-async, wait=10', 10],
    ['wait=0', 1],
    ['wait=600', 60],
    ['wait=soon', undefined],
    ['waiting', undefined],
    ['respond-async', undefined],
  ])('with Prefer: %s is held for %s seconds', (prefer, seconds) => {
    const operation = submitted({ version: 'm', input }, { headers: prefer === undefined ? {} : { prefer } });
    expect(operation.wait).toEqual(seconds === undefined ? undefined : { until: 'end', seconds });
    expect(operation.withLogs).toBe(seconds === undefined ? undefined : true);
  });

  test.each([
    ['5s', 5],
    ['90s', 90],
    ['1m', 60],
    ['1h30m', 5_400],
    ['24h', 86_400],
  ])('with Cancel-After: %s has %d seconds', (text, timeoutSeconds) => {
    expect(submitted({ version: 'm', input }, { headers: { 'cancel-after': text } })).toMatchObject({ timeoutSeconds });
  });

  test.each(['', '4s', '24h1s', '90', '1d', '-5s', '1.5h', '30m1h'])('with Cancel-After: %j is refused', (text) => {
    const error = thrown(() => submitted({ version: 'm', input }, { headers: { 'cancel-after': text } }));
    expect(error.problems).toMatchObject([{ pointer: '/Cancel-After', message: expect.stringContaining('5s to 24h') }]);
  });

  test.each([
    [['completed'], []],
    [['start', 'completed'], ['started']],
    [
      ['start', 'output', 'logs', 'completed'],
      ['started', 'progress'],
    ],
    [[], []],
    ['completed', []],
    [['completed', 'output', 'completed'], ['progress']],
  ])('whose webhook is to hear of %j asks for %j', (filter, events) => {
    const operation = submitted({ version: 'm', input, webhook: 'https://h/x', webhook_events_filter: filter });
    expect(operation).toMatchObject({ webhookUrl: 'https://h/x', webhookOptions: { events } });
  });

  test('without a filter leaves what the webhook hears to the choice that was made for the key', () => {
    expect(submitted({ version: 'm', input, webhook: 'https://h/x' })).not.toHaveProperty('webhookOptions');
    for (const webhook of [null, '']) {
      const operation = submitted({ version: 'm', input, webhook, webhook_events_filter: null });
      expect(operation).not.toHaveProperty('webhookUrl');
      expect(operation).not.toHaveProperty('webhookOptions');
    }
  });

  test.each([
    ['[]', ''],
    ['{"input":{}}', '/version'],
    ['{"version":7,"input":{}}', '/version'],
    ['{"version":"","input":{}}', '/version'],
    ['{"version":"m"}', '/input'],
    ['{"version":"m","input":null}', '/input'],
    ['{"version":"m","input":[]}', '/input'],
    ['{"version":"m","input":{},"webhook":7}', '/webhook'],
    ['{"version":"m","input":{},"webhook_events_filter":["start"]}', '/webhook_events_filter'],
    ['{"version":"m","input":{},"webhook_events_filter":["completed","never"]}', '/webhook_events_filter'],
    ['{"version":"m","input":{},"webhook_events_filter":"start"}', '/webhook_events_filter'],
    ['{"version":"m","input":{},"webhook_events_filter":{}}', '/webhook_events_filter'],
  ])('%s is refused for %j', (body, pointer) => {
    expect(thrown(() => CREATE.decode(aRequest({ body }))).problems).toMatchObject([{ pointer }]);
  });
});

describe('a prediction', () => {
  test('is told in full', () => {
    expect(read(aJob('COMPLETED', { webhookUrl: 'https://h/x', webhookOptions: { events: ['started'] } }))).toEqual({
      id: JOB_ID,
      model: '_/hidream-i1-fast',
      version: 'hidream-i1-fast',
      input: { prompt: 'a panda', seed: 7 },
      output: FILE_URL,
      logs: '',
      error: null,
      status: 'succeeded',
      source: 'api',
      data_removed: false,
      created_at: '2026-01-01T10:00:00.000Z',
      started_at: '2026-01-01T10:00:00.400Z',
      completed_at: '2026-01-01T10:00:03.600Z',
      metrics: { predict_time: 3.2, total_time: 3.6, image_count: 1 },
      webhook: 'https://h/x',
      webhook_events_filter: ['start', 'completed'],
      urls: {
        get: `${BASE_URL}${BASE}/predictions/${JOB_ID}`,
        cancel: `${BASE_URL}${BASE}/predictions/${JOB_ID}/cancel`,
        web: `${BASE_URL}${BASE}/predictions/${JOB_ID}`,
      },
    });
  });

  test.each([
    ['QUEUED', { status: 'starting', output: null, error: null }],
    ['PROCESSING', { status: 'processing', output: null, error: null, started_at: expect.any(String) }],
    ['FAILED', { status: 'failed', output: null, error: 'The upstream gave up.', completed_at: FINISHED_AT.toISOString() }],
    ['CANCELLED', { status: 'canceled', output: null, error: null }],
  ] as const)('that is %s is told so', (state, body) => {
    expect(read(aJob(state))).toMatchObject(body);
  });

  test('that was held and goes on is said to be starting, and to be what it is when it is read', () => {
    const job = aJob('PROCESSING');
    const held = CREATE_BY_MODEL.encode(job, aRequest({ headers: { prefer: 'wait=5' } }));
    expect(held).toMatchObject({ status: 201, headers: { 'preference-applied': 'wait=5' } });
    expect(bodyOf(held)).toMatchObject({ status: 'starting' });
    expect(bodyOf(held)).not.toHaveProperty('started_at');
    expect(bodyOf(CREATE_BY_MODEL.encode(job, aRequest()))).toMatchObject({ status: 'processing' });
    expect(bodyOf(CREATE_BY_MODEL.encode(aJob('COMPLETED'), aRequest({ headers: { prefer: 'wait' } })))).toMatchObject({
      status: 'succeeded',
    });
  });

  test('is canceled by a time limit that the client set, and failed by any other', () => {
    const failure = { code: 'timeout', message: 'It took too long.' } as const;
    expect(read(aJob('FAILED', { failure }))).toMatchObject({ status: 'failed', error: 'It took too long.' });
    const limited = read(aJob('FAILED', { failure, deadline: FINISHED_AT }));
    expect(limited).toMatchObject({ status: 'canceled', error: 'It took too long.', deadline: FINISHED_AT.toISOString() });
    expect(read(aJob('FAILED', { deadline: FINISHED_AT }))).toMatchObject({ status: 'failed' });
  });

  test('that was refused for its content says so as the models of the vendor do', () => {
    const failure = { code: 'content_refused', message: 'It was refused.' } as const;
    expect(read(aJob('FAILED', { failure }))).toMatchObject({ error: 'It was refused. (E005)' });
  });

  const second = { ...anImage, location: { url: 'https://cdn.example/2.png' } };
  test.each([
    ['one file', { media: [anImage] }, {}, FILE_URL],
    ['several files', { media: [anImage, second] }, {}, [FILE_URL, 'https://cdn.example/2.png']],
    ['one of as many as were asked for', { media: [anImage] }, { num_outputs: 1 }, [FILE_URL]],
    ['text', { media: [], text: 'once upon' }, {}, ['once upon']],
    ['no words', { media: [], text: '' }, {}, ['']],
    ['JSON', { media: [], json: { a: 1 } }, {}, { a: 1 }],
    ['nothing', { media: [] }, {}, null],
  ])('that made %s has it as its output', (_what, output, parameters, expected) => {
    expect(read(aJob('COMPLETED', { output, input: toJsonText(parameters) })).output).toEqual(expected);
  });

  test('counts tokens, and the seconds of a video', () => {
    const video = { ...anImage, contentType: 'video/mp4' };
    const output = { media: [video], usage: { inputTokens: 3, outputTokens: 5, seconds: 4 } };
    expect(read(aJob('COMPLETED', { output })).metrics).toEqual({
      predict_time: 3.2,
      total_time: 3.6,
      input_token_count: 3,
      output_token_count: 5,
      video_output_duration_seconds: 4,
    });
  });

  test('has what was printed, line by line', () => {
    const logs = [
      { text: 'one', at: CREATED_AT },
      { text: 'two', at: CREATED_AT },
    ];
    expect(read(aJob('PROCESSING', { logs })).logs).toBe('one\ntwo\n');
    expect(READ.decode(aRequest({ params: { id: JOB_ID } }))).toEqual({ kind: 'read', id: JOB_ID, withLogs: true });
  });

  test('has a stream where there is a token for it', () => {
    const request = { ...aRequest(), followToken: ({ id }: Pick<Job, 'id'>) => `token-of-${id}` };
    expect(bodyOf(READ.encode(aJob('QUEUED'), request)).urls).toMatchObject({ stream: `${BASE_URL}${BASE}/streams/token-of-${JOB_ID}` });
    expect(bodyOf(READ.encode(aJob('QUEUED'), { ...request, followToken: () => undefined })).urls).not.toHaveProperty('stream');
  });

  test('is what webhooks are told', () => {
    const { contentType, body } = replicate.encodeWebhook(aJob('PROCESSING'), { statusNumbering: 'current' });
    expect(contentType).toBe('application/json');
    expect(JSON.parse(body)).toEqual(read(aJob('PROCESSING')));
  });
});

describe('a list', () => {
  test('is asked for by pages of a hundred, and by time', () => {
    const query = `cursor=${JOB_ID}&created_after=2026-01-01T10:00:00Z&created_before=2026-01-02`;
    expect(LIST.decode(aRequest({ query }))).toEqual({
      kind: 'list',
      limit: 100,
      cursor: JOB_ID,
      createdAfter: CREATED_AT,
      createdBefore: new Date('2026-01-02T00:00:00Z'),
    });
    expect(LIST.decode(aRequest({ query: 'cursor=' }))).toEqual({ kind: 'list', limit: 100 });
  });

  test.each(['created_after=yesterday', 'created_before=2026-01-01T10:00:00', 'created_before=2026-13-01'])('by %s is refused', (query) => {
    expect(thrown(() => LIST.decode(aRequest({ query }))).problems).toMatchObject([{ pointer: `/${query.split('=')[0]}` }]);
  });

  test('names the next page with what was asked for', () => {
    const request = { ...aRequest({ query: 'created_after=2026-01-01' }), path: `${BASE}/predictions` };
    expect(bodyOf(LIST.encode({ jobs: [aJob('QUEUED')], nextCursor: 'c' }, request))).toMatchObject({
      previous: null,
      next: `${BASE_URL}${BASE}/predictions?created_after=2026-01-01&cursor=c`,
      results: [{ id: JOB_ID, status: 'starting' }],
    });
    expect(bodyOf(LIST.encode({ jobs: [] }, request))).toEqual({ previous: null, next: null, results: [] });
  });

  test('tells jobs in any state as they are read', () => {
    const jobs = STATES.map((state) => aJob(state));
    expect(bodyOf(LIST.encode({ jobs }, aRequest())).results).toEqual(jobs.map(read));
  });
});

describe('a stream', () => {
  const STREAM = routeOf(replicate, `GET ${BASE}/streams/:token`);
  const AT = new Date(1_690_212_292_000);

  function event(fields: Partial<JobEvent>): JobEvent {
    return { jobId: JOB_ID, sequence: 1, type: 'status', state: 'PROCESSING', progress: 0, at: AT, ...fields };
  }
  const partial = (text: string, isReset = false) => event({ type: 'partial', data: { text, ...(isReset && { isReset }) } });

  /** Name and data of what is sent, text as it is and JSON as such. */
  async function sent(end: Job | undefined, events: readonly JobEvent[]) {
    const job = end ?? aJob('QUEUED');
    const all = [...events, event({ state: end?.state ?? 'CANCELLED' })];
    async function* happening() {
      yield* all;
    }
    const followed: Followed = { job, events: happening(), read: async () => end };
    const { body } = STREAM.encode(followed, aRequest());
    if (body.kind !== 'events') throw new Error(`The answer is of kind ${body.kind}.`);
    const told: ServerSentEvent[] = [];
    for await (const one of body.events) told.push(one);
    expect(told.map(({ id }) => id)).toEqual(told.map((_one, index) => `1690212292000:${index}`));
    return told.map(({ event: name, data }) => [name, data instanceof PlainText ? data.text : data]);
  }
  const written = (text: string) => aJob('COMPLETED', { output: { media: [], text } });

  test('tells output and logs as they come, and the rest at the end', async () => {
    const events = [event({ type: 'progress' }), event({ type: 'log', data: { lines: ['a', 'b'] } }), partial('once '), partial('upon ')];
    expect(await sent(written('once upon a time'), events)).toEqual([
      ['logs', 'a\nb'],
      ['output', 'once '],
      ['output', 'upon '],
      ['output', 'a time'],
      ['done', {}],
    ]);
  });

  test('tells files by their addresses, and JSON as text', async () => {
    expect(await sent(aJob('COMPLETED'), [])).toEqual([
      ['output', FILE_URL],
      ['done', {}],
    ]);
    expect(await sent(aJob('COMPLETED', { output: { media: [], json: { a: 1 } } }), [])).toEqual([
      ['output', '{"a":1}'],
      ['done', {}],
    ]);
  });

  test('that was begun anew tells the rest where the text goes on from what was told, and an error where it does not', async () => {
    const events = [partial('once '), partial('once upon ', true), partial('a ')];
    expect(await sent(written('once upon a time'), events)).toEqual([
      ['output', 'once '],
      ['output', 'upon a time'],
      ['done', {}],
    ]);
    expect(await sent(written('twice upon a time'), events)).toEqual([
      ['output', 'once '],
      ['error', { detail: expect.stringContaining('begun anew') }],
      ['done', { reason: 'error' }],
    ]);
  });

  test.each([
    [
      'FAILED',
      aJob('FAILED'),
      [
        ['error', { detail: 'The upstream gave up.' }],
        ['done', { reason: 'error' }],
      ],
    ],
    ['CANCELLED', aJob('CANCELLED'), [['done', { reason: 'canceled' }]]],
    [
      'gone',
      undefined,
      [
        ['error', { detail: expect.stringContaining('removed') }],
        ['done', { reason: 'error' }],
      ],
    ],
  ])('of a job that is %s says so', async (_what, job, events) => {
    expect(await sent(job, [])).toEqual(events);
  });
});

describe('files', () => {
  const UPLOAD = routeOf(replicate, `POST ${BASE}/files`);
  const upload: Upload = {
    id: JOB_ID,
    token: 'tok',
    fileName: 'a b.png',
    contentType: 'image/png',
    bytes: 3,
    sha256: 'abc',
    createdAt: CREATED_AT,
    expiresAt: FINISHED_AT,
  };
  const form = (body: string, uploads = [upload]) => ({ ...aRequest({ body }), isForm: true, uploads: new Map([['content', uploads]]) });

  test.each(['{}', '{"metadata":""}', '{"metadata":"{}"}', '{"metadata":"null"}', '{"filename":"x"}'])(
    'of the form %s are taken',
    (body) => {
      expect(UPLOAD.decode(form(body))).toEqual({ kind: 'readUpload', id: JOB_ID });
    },
  );

  test.each([
    ['with metadata', form('{"metadata":"{\\"a\\":1}"}'), '/metadata'],
    ['without a file', form('{}', []), '/content'],
    ['as JSON', aRequest({ body: '{"content":"x"}' }), '/content'],
  ])('%s are refused', (_what, request, pointer) => {
    expect(thrown(() => UPLOAD.decode(request)).problems).toMatchObject([{ pointer }]);
  });

  test('are told with the address that an input may name', () => {
    const answer = UPLOAD.encode(upload, aRequest());
    expect(answer.status).toBe(201);
    expect(bodyOf(answer)).toEqual({
      id: JOB_ID,
      name: 'a b.png',
      content_type: 'image/png',
      size: 3,
      etag: 'abc',
      checksums: { sha256: 'abc' },
      metadata: {},
      created_at: CREATED_AT.toISOString(),
      expires_at: FINISHED_AT.toISOString(),
      urls: { get: `${BASE_URL}/files/tok/a%20b.png` },
    });
  });

  test('are listed, also those whose bytes have not come', () => {
    const { bytes: _bytes, sha256: _sha256, ...announced } = upload;
    const list = routeOf(replicate, `GET ${BASE}/files`);
    const { results, next } = bodyOf(list.encode({ uploads: [upload, announced], nextCursor: 'c' }, aRequest()));
    const read = routeOf(replicate, `GET ${BASE}/files/:id`);
    expect(results).toEqual([upload, announced].map((each) => bodyOf(read.encode(each, aRequest()))));
    expect(next).toBe(`${BASE_URL}/?cursor=c`);
  });

  test('are deleted without a word', () => {
    expect(routeOf(replicate, `DELETE ${BASE}/files/:id`).encode(upload, aRequest())).toEqual({ status: 204, body: { kind: 'empty' } });
  });

  test('are downloaded once their bytes are there', () => {
    const download = routeOf(replicate, `GET ${BASE}/files/:id/download`);
    expect(download.encode(upload, aRequest()).body).toEqual({ kind: 'asset', token: 'tok' });
    const { bytes: _bytes, ...announced } = upload;
    expect(thrown(() => download.encode(announced, aRequest())).code).toBe('not_found');
  });
});

describe('an error', () => {
  function told(error: AppError) {
    const answer = replicate.encodeError(error);
    const body = bodyOf(answer);
    expect(replicate.errorSchema?.parse(body)).toEqual(body);
    return { status: answer.status, headers: answer.headers, body };
  }

  test('is told as problem details', () => {
    expect(told(new AppError('not_found', 'Request x not found', { requestId: JOB_ID }))).toEqual({
      status: 404,
      headers: { 'content-type': 'application/problem+json', 'x-request-id': JOB_ID },
      body: { title: 'Not found', detail: 'Request x not found', status: 404 },
    });
  });

  test.each([
    ['/prompt', 'input.prompt'],
    ['/images/0/url', 'input.images.0.url'],
    ['/a~1b', 'input.a/b'],
    ['', 'input'],
    ['/input', 'input'],
    ['/input/image', 'input.image'],
    ['/stream', 'input.stream'],
    ['/webhook', 'webhook'],
    ['/version', 'version'],
    ['/Cancel-After', 'Cancel-After'],
    ['/created_after', 'created_after'],
    ['/content', 'content'],
  ])('with what is at %j names the field %s', (pointer, field) => {
    const { status, body } = told(new AppError('invalid_parameters', 'Wrong.', { problems: [{ pointer, message: 'is wrong' }] }));
    expect([status, body.invalid_fields]).toEqual([422, [{ type: 'invalid', field, description: 'is wrong' }]]);
  });

  test('about a version is a wrong input, about a model in the path is not found', () => {
    const named = new AppError('unknown_model', 'There is none.', { problems: [{ pointer: '/version', message: 'names no model' }] });
    expect(told(named)).toMatchObject({
      status: 422,
      body: { title: 'Invalid version or not permitted', invalid_fields: [{ field: 'version' }] },
    });
    expect(told(new AppError('unknown_model', 'There is none.'))).toMatchObject({ status: 404, body: { title: 'Model not found' } });
  });

  test('for too many requests says when to come again', () => {
    const { headers, body } = told(new AppError('rate_limited', 'Too many.', { retryAfterSeconds: 1.2 }));
    expect(headers).toMatchObject({ 'retry-after': '2', 'ratelimit-remaining': '0', 'ratelimit-reset': '2' });
    expect(body).toMatchObject({ status: 429, retry_after: 2 });
  });
});

test.each([
  'GET /account',
  'GET /hardware',
  'GET /collections',
  'GET /trainings',
  'POST /trainings/:id/cancel',
  'POST /models',
  'GET /deployments/:owner/:name',
])('%s is not implemented, and says so to whoever has a key', (line) => {
  const route = routeOf(replicate, line.replace(' ', ` ${BASE}`));
  expect(route.decode(aRequest())).toEqual({ kind: 'readCaller' });
  expect(thrown(() => route.encode({ callerId: 'c' }, aRequest())).code).toBe('not_implemented');
});
