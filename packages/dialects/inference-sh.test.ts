import {
  type Answer,
  AppError,
  type Followed,
  type Job,
  type JobEvent,
  type ModelListing,
  type Operation,
  STATES,
  type Upload,
} from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import inferenceSh from './inference-sh.ts';
import {
  aJob,
  anImage,
  aRequest,
  BASE_URL,
  bodyOf,
  FINISHED_AT,
  JOB_ID,
  type RequestFields,
  routeOf,
  STARTED_AT,
} from './testing/fixtures.ts';

const ACCEPTED = '2026-01-01T10:00:00.000Z';
const ENDED = '2026-01-01T10:00:03.600Z';

/** What a request in the dialect's words means. */
function decoded(line: string, fields: RequestFields = {}): Operation {
  return routeOf(inferenceSh, line).decode(aRequest(fields));
}

/** What decoding refuses with. */
function refusalOf(line: string, fields: RequestFields): AppError {
  try {
    decoded(line, fields);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('It was not refused.');
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** What a client finds in the envelope. */
function dataOf(line: string, outcome: never, fields: RequestFields = {}): unknown {
  return bodyOf(routeOf(inferenceSh, line).encode(outcome, aRequest(fields))).data;
}

const runBody = (members: object) => ({ body: JSON.stringify({ app: 'infsh/a', input: {}, ...members }) });

describe('a run', () => {
  const RUN = 'POST /apps/run';

  test('keeps the exact text of its input', () => {
    const input = '{"seed": 12345678901234567890, "scale":1.0}';
    expect(decoded(RUN, { body: `{"app":"infsh/a", "input": ${input}}` })).toEqual({
      kind: 'submit',
      model: 'infsh/a',
      modelPointer: '/app',
      parameters: { text: input, value: JSON.parse(input) },
      parametersPointer: '/input',
    });
  });

  test.each([
    [{ app: 'infsh/a:run' }, { model: 'infsh/a' }],
    [{ app: 'owner/a:v1.2' }, { model: 'owner/a:v1.2' }],
    [{ app: null, app_id: 'infsh/b' }, { model: 'infsh/b' }],
    [{ webhook: 'https://receiver.example' }, { webhookUrl: 'https://receiver.example' }],
    [{ webhook: '' }, { webhookUrl: undefined }],
    [{ session: 'sess_1' }, { sessionId: 'sess_1' }],
    [{ run_at: '2030-01-31T09:00:00Z' }, { runAt: new Date('2030-01-31T09:00:00Z') }],
    [{ wait: true }, { wait: { until: 'end', seconds: 60 } }],
    [{ wait: false }, { wait: undefined }],
    // What typed clients send when nothing was said.
    [{ infra: 'cloud', workers: [], setup: null, function: 'run', variant: '', metadata: {}, stream: false, version_id: '' }, {}],
    [{ infra: 'private_first', session_timeout: 0 }, {}],
  ])('with %j is understood', (members, operation) => {
    expect(decoded(RUN, runBody(members))).toEqual({
      kind: 'submit',
      model: 'infsh/a',
      modelPointer: '/app',
      parameters: { text: '{}', value: {} },
      parametersPointer: '/input',
      ...operation,
    });
  });

  test('opens a session of its own where it wants a new one', () => {
    const [first, second] = [1, 2].map(() => decoded(RUN, runBody({ session: 'new', session_timeout: 3_600 })));
    expect(first).toMatchObject({ sessionId: expect.stringMatching(/^sess_[\w-]{36}$/) });
    expect(first).not.toEqual(second);
  });

  test('can be handed in a second time without being made twice', () => {
    expect(decoded(RUN, { ...runBody({}), headers: { 'idempotency-key': 'k1' } })).toMatchObject({ idempotencyKey: 'k1' });
  });

  test.each([
    [{ app: undefined }, ['/app']],
    [{ app: 7 }, ['/app']],
    [{ app: 'infsh/a@abc' }, ['/app']],
    [{ app: 'infsh/a@abc:run' }, ['/app']],
    [{ input: undefined }, ['/input']],
    [{ input: [] }, ['/input']],
    [{ webhook: ['https://receiver.example'] }, ['/webhook']],
    [{ infra: 'private' }, ['/infra']],
    [{ workers: ['w1'] }, ['/workers']],
    [{ setup: { model: 'large' } }, ['/setup']],
    [{ function: 'describe' }, ['/function']],
    [{ variant: 'fp8' }, ['/variant']],
    [{ version_id: 'v1' }, ['/version_id']],
    [{ metadata: { action: 'x' } }, ['/metadata']],
    [{ stream: true }, ['/stream']],
    [{ session: 'a/b' }, ['/session']],
    [{ session: 'sess_1', session_timeout: 60 }, ['/session_timeout']],
    [{ session: 'new', session_timeout: 3_601 }, ['/session_timeout']],
    [{ run_at: '2030-01-31T09:00:00' }, ['/run_at']],
    [{ wait: 'yes' }, ['/wait']],
    [{ 'a/b': 1, function: 'x' }, ['/a~1b', '/function']],
    // Rules about several members, beside what is wrong with others.
    [{ app: '', wait: 1, session: 's', session_timeout: 9 }, ['/app', '/session_timeout', '/wait']],
  ])('with %j is refused by name', (members, pointers) => {
    const { code, problems } = refusalOf(RUN, runBody(members));
    expect(code).toBe('invalid_parameters');
    expect(problems.map(({ pointer }) => pointer).toSorted()).toEqual(pointers);
  });

  test('whose body is no object is refused', () => {
    expect(refusalOf(RUN, { body: '[]' }).problems).toEqual([{ pointer: '', message: 'must be an object whose members are the request' }]);
  });

  test.each(['POST /apps/run', 'POST /run', 'POST /v1/apps/run', 'POST /v1/run'])(
    'at %s is answered as received, whatever became of it',
    (line) => {
      expect(dataOf(line, aJob('COMPLETED') as never, runBody({}))).toEqual({
        id: JOB_ID,
        short_id: '0000a001',
        status: 1,
        status_text: 'received',
        output: null,
        error: '',
        session_id: null,
        created_at: ACCEPTED,
        updated_at: ENDED,
      });
    },
  );

  test('that was waited for is answered as it is then', () => {
    expect(dataOf(RUN, aJob('COMPLETED') as never, runBody({ wait: true }))).toMatchObject({ status: 10, output: { seed: 7 } });
    expect(dataOf(RUN, aJob('PROCESSING') as never, runBody({ wait: true }))).toMatchObject({ status: 7, output: null });
  });

  test('is answered in the envelope of all generations, or bare to the one that wants none', () => {
    const { encode } = routeOf(inferenceSh, RUN);
    expect(bodyOf(encode(aJob('QUEUED'), aRequest(runBody({}))))).toMatchObject({ success: true, status: 200, messages: [] });
    const bare = bodyOf(encode(aJob('QUEUED'), aRequest({ ...runBody({}), headers: { 'x-api-version': '2' } })));
    expect(bare).toMatchObject({ id: JOB_ID, status: 1 });
    expect(bare).not.toHaveProperty('data');
  });
});

describe('a task', () => {
  test.each([
    ['QUEUED', 2, 'queued', ''],
    ['PROCESSING', 7, 'running', ''],
    ['COMPLETED', 10, 'completed', ''],
    ['FAILED', 11, 'failed', 'The upstream gave up.'],
    ['CANCELLED', 12, 'cancelled', 'The job was cancelled.'],
  ] as const)('that is %s has the number %i', (state, status, status_text, error) => {
    const job = aJob(state, { dialect: 'fal', webhookUrl: 'https://receiver.example' });
    expect(dataOf('GET /tasks/:id', job as never)).toMatchObject({
      ...{ id: JOB_ID, status, status_text, error, session_id: null },
      ...{ app_id: 'hidream-i1-fast', function: 'run', infra: 'cloud', webhook: 'https://receiver.example' },
      input: { prompt: 'a panda', seed: 7 },
    });
    expect(dataOf('GET /tasks/:id/status', job as never)).toMatchObject({ id: JOB_ID, status });
    expect(dataOf('POST /tasks/:id/cancel', job as never)).toMatchObject({ id: JOB_ID, status, cancelled: state === 'CANCELLED' });
  });

  test.each([
    [
      { media: [anImage], seed: 7 },
      {
        images: [
          {
            uri: `${BASE_URL}/files/tok1/a%20b.webp`,
            content_type: 'image/webp',
            filename: 'a b.webp',
            size: 12345,
            width: 1024,
            height: 768,
          },
        ],
        seed: 7,
      },
    ],
    [
      {
        media: ['video/mp4', 'audio/mpeg', 'video/mp4'].map((contentType, index) => ({
          location: { url: `https://up.example/${index}` },
          contentType,
          fileName: 'f',
        })),
      },
      {
        video: { uri: 'https://up.example/0', content_type: 'video/mp4', filename: 'f' },
        audio: { uri: 'https://up.example/1', content_type: 'audio/mpeg', filename: 'f' },
        files: [{ uri: 'https://up.example/2', content_type: 'video/mp4', filename: 'f' }],
      },
    ],
    [
      { media: [], text: 'Hello.', usage: { inputTokens: 3, outputTokens: 5 } },
      { response: 'Hello.', output_meta: { inputs: [{ type: 'text', tokens: 3 }], outputs: [{ type: 'text', tokens: 5 }] } },
    ],
    [{ media: [], json: { label: 'cat' } }, { label: 'cat' }],
    [{ media: [], json: [1, 2] }, { result: [1, 2] }],
    [{ media: [], usage: { usd: 1 } }, {}],
  ])('whose run made %j tells it', (output, told) => {
    expect(dataOf('GET /tasks/:id', aJob('COMPLETED', { output }) as never)).toMatchObject({ output: told });
  });

  test('tells what was printed as one log of its run', () => {
    const logs = [
      { text: 'one', at: STARTED_AT },
      { text: 'two', at: FINISHED_AT },
    ];
    const log = { task_id: JOB_ID, log_type: 1, content: 'one\ntwo\n', updated_at: ENDED };
    expect(decoded('GET /tasks/:id', { params: { id: JOB_ID } })).toEqual({ kind: 'read', id: JOB_ID, withLogs: true });
    expect(dataOf('GET /tasks/:id', aJob('COMPLETED', { logs }) as never)).toMatchObject({ logs: [log] });
    expect(dataOf('GET /tasks/:id/logs', aJob('COMPLETED', { logs }) as never)).toMatchObject({
      status: 10,
      logs: [log],
      events: [{ status: 1 }, { status: 7 }, { status: 10 }],
    });
  });

  test('tells how long it took', () => {
    expect(dataOf('GET /tasks/:id/timings', aJob('COMPLETED') as never)).toMatchObject({
      total_duration: '3.6s',
      total_duration_ms: 3_600,
      groups: [
        { label: 'queue', duration_ms: 400 },
        { label: 'run', start_at: STARTED_AT.toISOString(), end_at: ENDED, duration: '3.2s', duration_ms: 3_200 },
      ],
      events: [{ status: 'received', next_status: 'running', duration_ms: 400 }, { status: 'running' }, { status: 'completed' }],
    });
    expect(dataOf('GET /tasks/:id/timings', aJob('QUEUED') as never)).toMatchObject({ total_duration_ms: 0, groups: [] });
  });

  test('lists the files that it has made', () => {
    expect(dataOf('GET /tasks/:id/files', aJob('COMPLETED') as never, { query: 'role=output' })).toMatchObject([
      { task_id: JOB_ID, filename: 'a b.webp' },
    ]);
    expect(dataOf('GET /tasks/:id/files', aJob('FAILED') as never)).toEqual([]);
    expect(decoded('GET /tasks/:id/files', { query: 'role=' })).toMatchObject({ kind: 'read' });
    expect(refusalOf('GET /tasks/:id/files', { query: 'role=input' }).message).toContain('`role` must be output');
  });

  test('is deleted with all it has made', () => {
    expect(decoded('DELETE /tasks/:id', { params: { id: JOB_ID }, query: 'files=true' })).toEqual({ kind: 'purge', id: JOB_ID });
  });
});

describe('a webhook', () => {
  test.each([
    ['documented', 'COMPLETED', 9],
    ['current', 'COMPLETED', 10],
    ['documented', 'FAILED', 10],
    ['current', 'CANCELLED', 12],
  ] as const)('counts as %s: %s is %i, in seven members', (statusNumbering, state, status) => {
    const job = aJob(state);
    const told = JSON.parse(inferenceSh.encodeWebhook(job, { statusNumbering }).body);
    const { output, error, created_at, updated_at } = Object(dataOf('GET /tasks/:id', job as never));
    expect(told).toEqual({ id: JOB_ID, status, output, error, session_id: null, created_at, updated_at });
  });
});

describe('a list of tasks', () => {
  const LIST = 'POST /tasks/list';

  test.each([
    [undefined, { limit: 20 }],
    ['{}', { limit: 20 }],
    // As typed clients send it when nothing was said.
    [
      '{"cursor":"","limit":0,"direction":"","search":{"term":"","exact":false},"filters":[],"preloads":["app"],"sort":[],"fields":[],"permissions":[],"include_others":false}',
      { limit: 20 },
    ],
    [`{"limit":100,"cursor":"${JOB_ID}","direction":"next"}`, { limit: 100, cursor: JOB_ID }],
    ['{"sort":[{"field":"created_at","dir":"desc"}]}', { limit: 20 }],
    ['{"filters":[{"field":"status","operator":"eq","value":10}]}', { limit: 20, state: ['COMPLETED'] }],
    [
      '{"filters":[{"field":"status","operator":"in","value":[1,"Running",12]}]}',
      { limit: 20, state: ['QUEUED', 'PROCESSING', 'CANCELLED'] },
    ],
    ['{"filters":[{"field":"app_id","operator":"eq","value":"infsh/a"}]}', { limit: 20, model: 'infsh/a' }],
    [
      '{"filters":[{"field":"app_id","value":"a"},{"field":"status","value":"FAILED"},{"field":"app_id","value":"b"}],"sort":{"field":"created_at"}}',
      { limit: 20, state: ['FAILED'], model: 'b' },
    ],
  ])('for %s is understood', (body, query) => {
    expect(decoded(LIST, body === undefined ? {} : { body })).toEqual({ kind: 'list', ...query });
  });

  test.each([
    ['[]', ['']],
    ['{"limit":101,"cursor":7,"direction":"prev"}', ['/limit', '/cursor', '/direction']],
    ['{"limit":1.5}', ['/limit']],
    ['{"search":{"term":"cat"}}', ['/search']],
    ['{"fields":["id"],"include_others":true,"permissions":["read"]}', ['/fields', '/include_others', '/permissions']],
    ['{"sort":[{"field":"status","dir":"asc"}]}', ['/sort']],
    ['{"filters":[{"field":"status","operator":"neq","value":10}]}', ['/filters/0/operator']],
    ['{"filters":[{"field":"status","operator":"in","value":[]}]}', ['/filters/0']],
    [
      '{"filters":[{"field":"status","operator":"eq","value":99},{"field":"user_id","value":"x"},1]}',
      ['/filters/0', '/filters/1', '/filters/2'],
    ],
  ])('for %s is refused at %j', (body, pointers) => {
    expect(refusalOf(LIST, { body }).problems.map(({ pointer }) => pointer)).toEqual(pointers);
  });

  test('says whether there is more', () => {
    const jobs = [aJob('COMPLETED')];
    expect(dataOf(LIST, { jobs } as never)).toMatchObject({
      items: [{ status: 10 }],
      next_cursor: '',
      has_next: false,
      has_previous: false,
      total_items: 1,
    });
    const page = dataOf(LIST, { jobs, nextCursor: JOB_ID } as never, { body: '{"limit":1,"cursor":"x"}' });
    expect(page).toMatchObject({ next_cursor: JOB_ID, has_next: true, has_previous: true, items_per_page: 1, total_items: null });
  });
});

describe('a stream', () => {
  const STREAM = 'GET /tasks/:id/stream';
  const NDJSON = { headers: { accept: 'application/x-ndjson' } };

  /** Events with the numbers 1 and up; the job is as it was at `seen`, and is `last` in the end. */
  function following(job: Job, told: readonly Partial<JobEvent>[], last: Job | undefined): Followed {
    async function* events(): AsyncGenerator<JobEvent> {
      for (const [index, event] of told.entries())
        yield { jobId: JOB_ID, sequence: index + 1, type: 'status', state: 'PROCESSING', progress: 0, at: STARTED_AT, ...event };
    }
    return { job, events: events(), read: async () => last };
  }

  async function linesOf(followed: Followed): Promise<Record<string, unknown>[]> {
    const { body }: Answer = routeOf(inferenceSh, STREAM).encode(followed as never, aRequest(NDJSON));
    if (body.kind !== 'lines') throw new Error(`The answer is of kind ${body.kind}.`);
    expect(body.heartbeat).toEqual({ type: 'heartbeat' });
    return (await collect(body.lines)).map((line) => JSON.parse(JSON.stringify(line)));
  }

  test('is followed from the first event, for what was printed before', () => {
    expect(decoded(STREAM, { params: { id: JOB_ID } })).toEqual({ kind: 'follow', id: JOB_ID, after: 0 });
  });

  test('tells the whole task, then what changes, and the whole task at its end', async () => {
    const told: Partial<JobEvent>[] = [
      { state: 'QUEUED' },
      {},
      { type: 'progress', progress: 0.256 },
      { type: 'log', data: { lines: ['one'] } },
      { type: 'log', data: { lines: ['two'] } },
      { type: 'partial', data: { text: 'Hel' } },
      { type: 'partial', data: { text: 'lo' } },
      { type: 'partial', data: { text: 'Anew', isReset: true } },
      { state: 'COMPLETED' },
    ];
    const lines = await linesOf(following(aJob('QUEUED'), told, aJob('COMPLETED')));
    expect(lines[0]).toMatchObject({ id: JOB_ID, status: 2, app_id: 'hidream-i1-fast' });
    expect(lines[1]).toMatchObject({ id: JOB_ID, status: 7, output: null });
    expect(lines.slice(2, -1)).toMatchObject([
      { fields: ['progress'], data: { id: JOB_ID, status: 7, progress: 25 } },
      { fields: ['logs'], data: { logs: [{ content: 'one\n' }] } },
      { fields: ['logs'], data: { logs: [{ content: 'one\ntwo\n' }] } },
      { fields: ['output'], data: { output: { response: 'Hel' } } },
      { fields: ['output'], data: { output: { response: 'Hello' } } },
      { fields: ['output'], data: { output: { response: 'Anew' } } },
    ]);
    expect(lines.at(-1)).toMatchObject({ status: 10, progress: 100, output: { seed: 7 }, logs: [{ content: 'one\ntwo\n' }] });
    expect(lines.at(-1)).not.toHaveProperty('fields');
  });

  test('tells who comes later what was printed and written before, and no state twice', async () => {
    const told: Partial<JobEvent>[] = [
      { state: 'QUEUED' },
      {},
      { type: 'log', data: { lines: ['one'] } },
      { type: 'partial', data: { text: 'Hel' } },
      { type: 'partial', data: { text: 'lo' } },
      { state: 'FAILED' },
    ];
    const lines = await linesOf(following(aJob('PROCESSING', { sequence: 4 }), told, aJob('FAILED')));
    expect(lines).toMatchObject([
      { status: 7, logs: [] },
      { fields: ['logs', 'output'], data: { logs: [{ content: 'one\n' }], output: { response: 'Hel' } } },
      { fields: ['output'], data: { output: { response: 'Hello' } } },
      { status: 11, error: 'The upstream gave up.' },
    ]);
  });

  test('of a task that has ended is one line', async () => {
    const ended = aJob('COMPLETED', { sequence: 3 });
    const told: Partial<JobEvent>[] = [{ state: 'QUEUED' }, { type: 'log', data: { lines: ['one'] } }, { state: 'COMPLETED' }];
    expect(await linesOf(following(ended, told, ended))).toMatchObject([{ status: 10, logs: [{ content: 'one\n' }] }]);
  });

  test('of a task that is gone ends it as cancelled, for clients that wait for an end', async () => {
    const lines = await linesOf(following(aJob('PROCESSING', { sequence: 2 }), [{ state: 'QUEUED' }, {}], undefined));
    expect(lines.at(-1)).toMatchObject({ id: JOB_ID, status: 12, error: 'The task was deleted.' });
  });

  test('that ends before the task does claims no end', async () => {
    const job = aJob('PROCESSING', { sequence: 2 });
    expect((await linesOf(following(job, [{ state: 'QUEUED' }, {}], job))).map(({ status }) => status)).toEqual([7]);
  });

  test('is one of unnamed events unless lines are asked for', async () => {
    const { encode } = routeOf(inferenceSh, STREAM);
    const job = aJob('PROCESSING', { sequence: 2 });
    const ended = aJob('COMPLETED', { sequence: 3 });
    const told: Partial<JobEvent>[] = [{ state: 'QUEUED' }, {}, { state: 'COMPLETED' }];
    const { body } = encode(following(job, told, ended) as never, aRequest({ headers: { accept: 'text/event-stream' } }));
    if (body.kind !== 'events') throw new Error(`The answer is of kind ${body.kind}.`);
    expect(await collect(body.events)).toMatchObject([
      { id: '2', data: { status: 7 } },
      { id: '3', data: { status: 10 } },
    ]);
    const again = (id: string) => encode(following(ended, told, ended) as never, aRequest({ headers: { 'last-event-id': id } }));
    expect([again('3').status, again('2').status]).toEqual([204, 200]);
  });
});

describe('files', () => {
  const anUpload: Upload = {
    ...{ id: JOB_ID, token: 't', fileName: 'a b.png', contentType: 'image/png' },
    ...{ createdAt: STARTED_AT, expiresAt: FINISHED_AT },
  };

  test('are announced by name, several at once', () => {
    const files = [
      { uri: '', filename: 'a.png', content_type: 'image/png', size: 4, path: null, public: null },
      { uri: '', content_type: '' },
    ];
    expect(decoded('POST /files', { body: JSON.stringify({ files, category: '' }) })).toEqual({
      kind: 'createUploads',
      files: [{ fileName: 'a.png', contentType: 'image/png', bytes: 4 }, { fileName: 'file' }],
    });
  });

  test.each([
    ['{}', ['/files']],
    ['{"files":[]}', ['/files']],
    ['{"files":{}}', ['/files']],
    [`{"files":[${Array(101).fill('{}')}]}`, ['/files']],
    [
      '{"files":[1,{"uri":"https://a.example","path":"x","filename":1,"content_type":1,"size":-1}],"category":"avatar"}',
      ['/category', '/files/0', '/files/1/uri', '/files/1/path', '/files/1/filename', '/files/1/content_type', '/files/1/size'],
    ],
  ])('as %s are refused', (body, pointers) => {
    expect(refusalOf('POST /files', { body }).problems.map(({ pointer }) => pointer)).toEqual(pointers);
  });

  test('are answered with where their bytes go and where they are then', () => {
    const uri = `${BASE_URL}/files/t/a%20b.png`;
    expect(dataOf('POST /files', [anUpload] as never)).toMatchObject([
      { id: JOB_ID, uri, upload_url: `${BASE_URL}/uploads/t`, filename: 'a b.png', size: 0 },
    ]);
    expect(dataOf('GET /files/:id', { ...anUpload, bytes: 4 } as never)).toMatchObject({
      uri,
      upload_url: '',
      size: 4,
      content_type: 'image/png',
    });
    expect(dataOf('POST /files/list', { uploads: [anUpload] } as never)).toMatchObject({ items: [{ id: JOB_ID }], has_next: false });
    expect(decoded('POST /files/list', { body: '{"limit":5}' })).toEqual({ kind: 'listUploads', limit: 5 });
    expect(refusalOf('POST /files/list', { body: '{"filters":[{"field":"size"}]}' }).problems).toMatchObject([{ pointer: '/filters' }]);
    expect(decoded('DELETE /files/:id', { params: { id: JOB_ID } })).toEqual({ kind: 'deleteUpload', id: JOB_ID });
  });
});

test('sessions are told by the tasks that have them', () => {
  const jobs = [aJob('PROCESSING', { sessionId: 's1' }), aJob('QUEUED'), aJob('COMPLETED', { sessionId: 's1' })];
  const one = dataOf('GET /sessions/:id', { jobs: jobs.filter(({ sessionId }) => sessionId) } as never, { params: { id: 's1' } });
  expect(one).toMatchObject({ id: 's1', call_count: 2, status: 'active', task_id: JOB_ID });
  expect(dataOf('GET /sessions', { jobs } as never)).toEqual([one]);
  expect(decoded('POST /sessions/:id/keepalive', { params: { id: 's1' } })).toEqual({ kind: 'list', limit: 100, sessionId: 's1' });
  expect(routeOf(inferenceSh, 'DELETE /sessions/:id').encode({ jobs }, aRequest({ params: { id: 's1' } })).status).toBe(204);
  expect(() => dataOf('DELETE /sessions/:id', { jobs: [] } as never, { params: { id: 's2' } })).toThrow('Session s2 not found');
});

describe('apps', () => {
  const aListing = (name: string, isAvailable = true) =>
    ({
      model: { name, title: `The ${name}`, aliases: [`alias-of-${name}`], produces: 'image', parameters: { type: 'object' } },
      routes: [{ isAvailable, ...(!isAvailable && { reason: 'FAL_KEY is not set' }) }],
    }) as unknown as ModelListing;

  test('are named as the vendor does, and say why they cannot run', () => {
    expect(decoded('GET /apps/:name{.+}', { params: { name: 'infsh/a' } })).toEqual({ kind: 'readModel', name: 'infsh/a' });
    const app = { id: 'infsh/a', namespace: 'infsh', name: 'a', category: 'image', version: { input_schema: { type: 'object' } } };
    expect(dataOf('GET /apps/:name{.+}', aListing('infsh/a') as never)).toMatchObject({ ...app, status: 'active' });
    expect(dataOf('GET /apps/:name{.+}', aListing('b', false) as never)).toMatchObject({
      namespace: '',
      status: 'maintenance',
      status_message: 'FAL_KEY is not set',
    });
  });

  test('are searched, and listed page by page in the order of names', () => {
    const listings = ['c', 'a', 'b'].map((name) => aListing(name));
    const page = (body: object) => dataOf('POST /apps/list', listings as never, { body: JSON.stringify(body) });
    expect(page({ limit: 2 })).toMatchObject({ items: [{ id: 'a' }, { id: 'b' }], has_next: true, next_cursor: 'b' });
    expect(page({ limit: 2, cursor: 'b' })).toMatchObject({ items: [{ id: 'c' }], has_next: false, has_previous: true });
    expect(page({ search: { term: 'ALIAS-of-b' } })).toMatchObject({ items: [{ id: 'b' }], total_items: 1 });
    expect(refusalOf('POST /apps/list', { body: '{"search":{"term":1},"filters":[1]}' }).problems.map(({ pointer }) => pointer)).toEqual([
      '/search/term',
      '/filters',
    ]);
  });
});

describe('the description', () => {
  test('says of every route what it answers, and of every body what it may hold', () => {
    const unsaid = inferenceSh.routes.filter(
      ({ answers = {}, body, ownMembers }) => Object.keys(answers).length === 0 || (body === 'none') !== (ownMembers === undefined),
    );
    expect(unsaid.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
  });

  const upload: Upload = { id: JOB_ID, token: 't', fileName: 'a', contentType: 'a/b', createdAt: STARTED_AT, expiresAt: FINISHED_AT };
  const listing = { model: { name: 'a', title: 'A', aliases: [], produces: 'json', parameters: {} }, routes: [] };
  const jobs = STATES.map((state) => aJob(state, { sessionId: 's1', logs: [{ text: 'one', at: STARTED_AT }] }));
  const OF_JOBS = [
    'GET /tasks/:id',
    ...['status', 'logs', 'timings', 'files'].map((of) => `GET /tasks/:id/${of}`),
    'POST /tasks/:id/cancel',
  ];

  // The routes under test refuse to answer with what they do not describe.
  test.each([
    ...[...OF_JOBS, 'DELETE /tasks/:id', 'POST /run'].flatMap((line) => jobs.map((job): [string, object] => [line, job])),
    ...['POST /tasks/list', 'GET /sessions', 'GET /sessions/:id', 'POST /sessions/:id/keepalive'].map((line): [string, object] => [
      line,
      { jobs, nextCursor: 'c' },
    ]),
    ['POST /files', [upload, { ...upload, bytes: 4 }]],
    ['POST /files/list', { uploads: [upload] }],
    ['GET /files/:id', upload],
    ['DELETE /files/:id', upload],
    ['POST /apps/list', [listing]],
    ['GET /apps/:name{.+}', listing],
  ])('of %s fits its answer, in the envelope and without', (line, outcome) => {
    for (const base of ['', '/v1']) {
      const { encode } = routeOf(inferenceSh, line.replace(' ', ` ${base}`));
      const body = line === 'POST /run' ? runBody({ wait: true }) : {};
      const inEnvelope = bodyOf(encode(outcome as never, aRequest(body)));
      const bare = encode(outcome as never, aRequest({ ...body, headers: { 'x-api-version': '2' } })).body;
      expect(bare).toMatchObject({ kind: 'json' });
      expect(inEnvelope.data).toEqual(JSON.parse(JSON.stringify(Object(bare).value)));
    }
  });

  test('of a task does not fit what is none, nor half an envelope', () => {
    const { schema } = routeOf(inferenceSh, 'GET /tasks/:id').answers?.[200] ?? {};
    const task = Object(dataOf('GET /tasks/:id', aJob('QUEUED') as never));
    const data = { ...task, status: 9 };
    const fits = [
      task,
      { success: true, status: 200, data: task, messages: [] },
      data,
      { data: task },
      { success: true, status: 200, data },
    ];
    expect(fits.map((value) => schema?.safeParse(value).success)).toEqual([true, true, false, false, false]);
  });
});

test('an error can be read by clients of every generation', () => {
  const problems = [{ pointer: '/app', message: 'must name an app' }];
  const answer = inferenceSh.encodeError(
    new AppError('invalid_parameters', 'No app.', { problems, requestId: JOB_ID, retryAfterSeconds: 0.2 }),
  );
  expect(answer.headers).toEqual({ 'content-type': 'application/problem+json', 'retry-after': '1' });
  expect(bodyOf(answer)).toEqual({
    ...{ type: 'about:blank', title: 'Invalid input', status: 400, detail: 'No app.' },
    ...{ success: false, error: { code: 'invalid_parameters', message: 'No app.' } },
    ...{ errors: problems, request_id: JOB_ID },
  });
  expect(inferenceSh.errorSchema?.parse(bodyOf(answer))).toEqual(bodyOf(answer));
});

test.each(['POST /apps', 'POST /apps/:name{.+}', 'GET /tasks/featured', 'DELETE /tasks/:id/files'])(
  '%s is said not to be there',
  (line) => {
    expect(() => dataOf(line, { callerId: 'c' } as never)).toThrow(expect.objectContaining({ code: 'not_implemented' }));
  },
);
