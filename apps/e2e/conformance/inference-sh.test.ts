/** inference.sh's own library against the dialect, and by plain fetch what only its older clients and browsers do. */
import { createHmac } from 'node:crypto';
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import { Inference, InferenceError, inference, isTerminalStatus, streamable } from '@inferencesh/sdk';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Folder, temporaryFolder } from '../testing/processes.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';
import { writeModels } from '../testing/vendors.ts';

const IMAGE = 'infsh/hidream-i1-fast';
const CHAT = 'meta/meta-llama-3.1-405b-instruct';
const EDIT = 'test/edit';
const HASTY = 'test/hasty';
const POLL = { timeout: 30_000, interval: 50 };
const PNG = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex');

/** As far as it is looked into here. The library's own types cannot be resolved, for the reason that its modules cannot. */
interface Task {
  readonly id: string;
  readonly status: number;
  readonly logs: readonly object[];
  readonly output: { readonly response: string } | null;
}

let service: TestService;
let url: string;
let receiver: Receiver;
let folder: Folder;
let client: Inference;
const started = new AsyncDisposableStack();

beforeAll(async () => {
  folder = started.use(await temporaryFolder());
  const image = { type: 'array', items: { type: 'string' } };
  const modelsDir = await writeModels(folder.path, [
    {
      name: EDIT,
      routes: [{ provider: 'fal', model: 'fal-ai/edit' }],
      more: { parameters: { type: 'object', properties: { prompt: { type: 'string' }, image } } },
    },
    { name: HASTY, routes: [{ provider: 'fal', model: 'fal-ai/hasty' }], more: { timeout_seconds: 1 } },
  ]);
  service = started.use(await startTestService({ modelsDir }));
  ({ url } = await service.listen());
  receiver = started.use(await startReceiver());
  client = inference({ apiKey: service.key, baseUrl: url });
});
afterAll(() => started.disposeAsync());

const run = (prompt: string, more = {}) => ({ app: IMAGE, input: { prompt }, ...more });

/** What the call throws, which it must. */
async function thrownBy(call: () => Promise<unknown>): Promise<Error> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error(`The call threw ${error}.`);
  return error;
}

const { data: _, ...UNION } = { success: true, status: 200, data: {}, messages: [] };

describe('a run', () => {
  test('ends with its output, whose files can be fetched', async () => {
    const task = await client.run(run('a panda [[slow:0]]', { infra: 'cloud' }));
    expect(task).toMatchObject({ status: 10, output: { images: [{ content_type: 'image/webp', width: 1024, height: 1024 }] } });
    const file = await fetch(task.output.images[0].uri);
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/webp']);
    expect(Buffer.from(await file.arrayBuffer())).toHaveLength(task.output.images[0].size);
  });

  test('takes an empty input', async () => {
    expect(await client.run({ app: IMAGE, input: {} })).toMatchObject({ status: 10, input: { width: 1024 } });
  });

  test('is followed: each change of state whole, what changes meanwhile in parts', async () => {
    const seen: Pick<Task, 'status' | 'logs'>[] = [];
    const parts: string[][] = [];
    const task = await client.run(run('a panda [[slow:900]]'), {
      onUpdate: ({ status, logs }: Task) => seen.push({ status, logs }),
      onPartialUpdate: (_task: Task, fields: string[]) => parts.push(fields),
    });
    const statuses = seen.map(({ status }) => status);
    expect(statuses).toEqual(statuses.toSorted((a, b) => a - b));
    expect(statuses.at(-1)).toBe(10);
    expect(statuses).toContain(7);
    expect(parts).toContainEqual(['progress']);
    expect(parts).toContainEqual(['logs']);
    expect(task.logs).toMatchObject([{ log_type: 1, content: expect.stringMatching(/^The sandbox runs [\s\S]+Done\n$/) }]);
    // The library's last words and what is read afterwards are the same.
    expect(await client.getTask(task.id)).toMatchObject({ data: { logs: task.logs, output: task.output } });
  });

  test('of text tells what is written as far as it has come', async () => {
    const written: string[] = [];
    const input = { prompt: 'Say all of these many words slowly. [[slow:900]]' };
    const task = await client.run({ app: CHAT, input }, { onPartialUpdate: ({ output }: Task) => output && written.push(output.response) });
    expect(written.length).toBeGreaterThan(0);
    for (const [index, text] of written.entries()) expect(task.output.response.startsWith(text), `part ${index}`).toBe(true);
    expect(task.output.response).toContain('many words');
  });

  test('is handed in, and polled for', async () => {
    const received = await client.run(run('a panda [[slow:200]]'), { wait: false });
    expect(received).toMatchObject({ status: 1, status_text: 'received', output: null });
    await expect.poll(async () => isTerminalStatus((await client.getTask(received.id)).data.status), POLL).toBe(true);
  });

  test('is polled by the library, also when it has ended before the first look', async () => {
    const polling = new Inference({ apiKey: service.key, baseUrl: url, stream: false, pollIntervalMs: 50 });
    expect(await polling.run(run('a panda [[slow:300]]'))).toMatchObject({ status: 10 });
    const received = await client.run(run('a panda [[slow:0]]'), { wait: false });
    await expect.poll(async () => (await client.getTask(received.id)).data.status, POLL).toBe(10);
    expect(await polling.tasks.watch(received).done).toMatchObject({ status: 10, output: { images: [{}] } });
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', 'Too dark.'],
    ['is refused', '[[nsfw]]', /./],
  ])('that %s throws why, however it is followed', async (_how, prompt, message) => {
    const polling = new Inference({ apiKey: service.key, baseUrl: url, stream: false, pollIntervalMs: 50 });
    for (const either of [client, polling]) expect((await thrownBy(() => either.run(run(prompt)))).message).toMatch(message);
  });

  test('that takes too long fails', async () => {
    const error = await thrownBy(() => client.run({ app: HASTY, input: { prompt: '[[hang]]' } }));
    expect(error.message).toContain('deadline');
  });

  test('is cancelled, which whoever follows it hears; a second time changes nothing', async () => {
    const { id } = await client.run(run('[[hang]]'), { wait: false });
    const watched = thrownBy(() => client.tasks.watch({ id }).done);
    expect(await client.cancel(id)).toMatchObject({ data: { id, status: 12, cancelled: true } });
    expect((await watched).message).toBe('task cancelled');
    expect(await client.cancel(id)).toMatchObject({ data: { id, status: 12, cancelled: true } });
    const { id: done } = await client.run(run('a panda [[slow:0]]'));
    expect(await client.cancel(done)).toMatchObject({ data: { id: done, status: 10, cancelled: false } });
  });

  test('is deleted while it is followed: the stream has an end all the same', async () => {
    const { id } = await client.run(run('[[hang]]'), { wait: false });
    const watched = thrownBy(() => client.tasks.watch({ id }).done);
    await client.tasks.delete(id);
    expect((await watched).message).toBe('task cancelled');
    expect(await thrownBy(() => client.getTask(id))).toMatchObject({ statusCode: 404 });
  });

  test('waits in the request itself where it is told to', async () => {
    const answered = await service.request('/run', jsonBody({ ...run('a panda [[slow:100]]'), wait: true }));
    expect(await jsonOf(answered)).toMatchObject({ ...UNION, data: { status: 10, output: { images: [{}] } } });
    const failed = await service.request('/v1/run', jsonBody({ ...run('[[fail:Too dark.]]'), wait: true }));
    expect(await jsonOf(failed)).toMatchObject({ ...UNION, data: { status: 11, error: 'Too dark.', output: null } });
    const early = await service.request('/run?wait=false', jsonBody(run('a panda [[slow:0]]')));
    expect(await jsonOf(early)).toMatchObject({ ...UNION, data: { status: 1 } });
  });

  test('is answered bare to the generation of clients that asks so', async () => {
    const answered = await service.request('/apps/run', jsonBody(run('a panda [[slow:0]]'), { 'x-api-version': '2' }));
    expect(await jsonOf(answered)).toMatchObject({ status: 1, status_text: 'received', error: '' });
  });

  test('goes below /v1 too, and a slash too many does no harm', async () => {
    const older = inference({ apiKey: service.key, baseUrl: `${url}/v1/` });
    expect(await older.run(run('a panda [[slow:0]]'))).toMatchObject({ status: 10 });
  });

  test('is read in other words, and those of others in these', async () => {
    const { id } = await client.run(run('a panda [[slow:0]]'));
    const other = await jsonOf(await service.request(`/v2/requests/${id}`));
    expect(other).toMatchObject({ status: 'COMPLETED', request_id: id });
    const native = await service.submit({ prompt: '[[fail:Too dark.]]' });
    await expect.poll(async () => (await client.getTask(native)).data.status, POLL).toBe(11);
    expect((await client.getTask(native)).data).toMatchObject({ error: 'Too dark.', status_text: 'failed', input: {} });
  });
});

describe('a stream', () => {
  async function collect(id: string): Promise<Record<string, unknown>[]> {
    const lines: Record<string, unknown>[] = [];
    const headers = { authorization: `Bearer ${service.key}` };
    for await (const line of streamable<Record<string, unknown>>(`${url}/tasks/${id}/stream`, { headers })) lines.push(line);
    return lines;
  }

  test('begins with the whole task for whoever comes later, and ends with it', async () => {
    const { id } = await client.run(run('a panda [[slow:900]]'), { wait: false });
    const leaving = new AbortController();
    const left = fetch(`${url}/tasks/${id}/stream`, {
      headers: { authorization: `Bearer ${service.key}`, accept: 'application/x-ndjson' },
      signal: leaving.signal,
    });
    await (await left).body?.getReader().read();
    leaving.abort();
    const lines = await collect(id);
    expect(lines[0]).toMatchObject({ id, app_id: IMAGE, created_at: expect.any(String) });
    expect(lines.at(-1)).toMatchObject({ id, status: 10, error: '', session_id: null, output: { images: [{}] } });
    expect((await collect(id)).map(({ status }) => status)).toEqual([10]);
  });

  test('is one of events for the library when it wants events, and for browsers', async () => {
    const { id } = await client.run(run('a panda [[slow:300]]'), { wait: false });
    const source = await client.streamTask(id);
    if (!source) throw new Error('There is no source.');
    const tasks: Task[] = [];
    source.onmessage = ({ data }) => tasks.push(JSON.parse(data));
    await expect.poll(() => tasks.at(-1)?.status, POLL).toBe(10);
    source.close();
    expect(tasks[0]).toMatchObject({ id, app_id: IMAGE });
  });

  test('need not be opened again by a browser that has seen the end', async () => {
    const { id } = await client.run(run('a panda [[slow:0]]'));
    const events = await service.request(`/tasks/${id}/stream`, { headers: { authorization: `Bearer ${service.key}` } });
    expect(events.headers.get('content-type')).toContain('text/event-stream');
    const [, last = ''] = /^id: (\d+)$/m.exec(await events.text()) ?? [];
    const again = await service.request(`/tasks/${id}/stream`, {
      headers: { authorization: `Bearer ${service.key}`, 'last-event-id': last },
    });
    expect([last, again.status]).toEqual([expect.stringMatching(/^\d+$/), 204]);
  });

  test('of a task that there is not is an error', async () => {
    const error = await thrownBy(() => client.tasks.watch({ id: 'none' }).done);
    expect(error.message).toMatch(/^HTTP 404: .*Request none not found/);
  });
});

describe('files', () => {
  test('are uploaded, listed, read and deleted', async () => {
    const file = await client.uploadFile(new Blob([PNG], { type: 'image/png' }), { filename: 'a.png' });
    expect(file).toMatchObject({ filename: 'a.png', content_type: 'image/png', uri: expect.stringContaining(`${url}/files/`) });
    expect(Buffer.from(await (await fetch(file.uri)).arrayBuffer())).toEqual(PNG);
    expect(await client.files.get(file.id)).toMatchObject({ data: { id: file.id, size: PNG.length, uri: file.uri, upload_url: '' } });
    const listed = await client.files.list({ limit: 1 });
    expect(listed.data).toMatchObject({ items: [{ id: file.id }], items_per_page: 1 });
    await client.files.delete(file.id);
    expect(await thrownBy(() => client.files.get(file.id))).toMatchObject({ statusCode: 404 });
    expect((await fetch(file.uri)).status).toBe(404);
  });

  test('in the input are uploaded by the library, and the app gets their addresses', async () => {
    const input = { prompt: 'with a hat [[slow:0]]', image: [new Blob([PNG]), `data:image/png;base64,${PNG.toString('base64')}`] };
    const task = await client.run({ app: EDIT, input });
    expect(task.input.image).toEqual([expect.stringContaining(`${url}/files/`), expect.stringContaining(`${url}/files/`)]);
    for (const uri of task.input.image) expect(Buffer.from(await (await fetch(uri)).arrayBuffer())).toEqual(PNG);
  });

  test('that a task has made are listed', async () => {
    const { id, output } = await client.run(run('a panda [[slow:0]]'));
    const files = await jsonOf(await service.request(`/tasks/${id}/files?role=output`));
    expect(files.data).toMatchObject([{ task_id: id, role: 'output', uri: output.images[0].uri }]);
  });
});

test('tasks are listed page by page, and by what became of them', async () => {
  const ids = [];
  for (const prompt of ['[[slow:0]]', '[[slow:0]]', '[[fail:no]]'])
    ids.push((await client.run({ app: HASTY, input: { prompt } }).catch(() => ({ id: '' }))).id);
  const filters = [{ field: 'app_id', operator: 'eq', value: HASTY }];
  const first = (await client.tasks.list({ limit: 2, filters })).data;
  expect(first).toMatchObject({ items: [{ status: 11 }, { id: ids[1], status: 10 }], has_next: true, has_previous: false });
  const second = (await client.tasks.list({ limit: 2, filters, cursor: first.next_cursor })).data;
  expect(second.items[0]).toMatchObject({ id: ids[0], app_id: HASTY });
  const failed = (await client.tasks.list({ filters: [...filters, { field: 'status', operator: 'in', value: [11, 'cancelled'] }] })).data;
  expect(new Set(failed.items.map(({ status }: Task) => status))).toEqual(new Set([11]));
  expect(failed.has_next).toBe(false);
  expect((await client.tasks.getLogs(ids[0] ?? '')).data).toMatchObject({ task_id: ids[0], status: 10, logs: [{ log_type: 1 }] });
  const timings = (await client.tasks.getTimings(ids[0] ?? '')).data;
  expect(timings).toMatchObject({ task_id: ids[0], groups: [{ label: 'queue' }, { label: 'run' }] });
  expect(timings.total_duration_ms).toBe(
    timings.groups.reduce((sum: number, group: { readonly duration_ms: number }) => sum + group.duration_ms, 0),
  );
});

test('apps are the models', async () => {
  expect((await client.apps.getByName(IMAGE)).data).toMatchObject({
    id: IMAGE,
    namespace: 'infsh',
    name: 'hidream-i1-fast',
    status: 'active',
  });
  const { items } = (await client.apps.list({ search: { term: 'HiDream-i1-fast', exact: false }, limit: 2 })).data;
  expect(items.map(({ id }: Task) => id)).toEqual(['fal-ai/hidream-i1-fast', 'hidream-i1-fast']);
  expect(await thrownBy(() => client.apps.getByName('no/app'))).toMatchObject({ statusCode: 404 });
});

test('a session is a name that tasks have in common', async () => {
  const first = await client.run(run('a panda [[slow:0]]', { session: 'new', session_timeout: 60 }));
  expect(first.session_id).toMatch(/^sess_/);
  const session = first.session_id ?? '';
  const second = await client.run(run('another [[slow:0]]', { session }));
  expect(second.session_id).toBe(session);
  expect((await client.sessions.get(session)).data).toMatchObject({ id: session, call_count: 2, task_id: second.id, status: 'active' });
  expect((await client.sessions.list()).data).toContainEqual(expect.objectContaining({ id: session }));
  expect((await client.sessions.keepalive(session)).data).toMatchObject({ id: session });
  await client.sessions.end(session);
  expect(await thrownBy(() => client.sessions.get('sess_none'))).toMatchObject({ statusCode: 404 });
});

test.each([
  ['completed', 'a panda [[slow:0]]', { status: 9, output: { images: [{}] }, error: '' }],
  ['failed', '[[fail:Too dark.]]', { status: 10, output: null, error: 'Too dark.' }],
])('a webhook tells that a task has %s in seven members, and can be verified', async (_event, prompt, members) => {
  const { id } = await client.run(run(prompt, { webhook: receiver.url }), { wait: false });
  const sent = () => receiver.received.find(({ body }) => body.id === id);
  await expect.poll(sent, POLL).toBeDefined();
  const { headers = {}, body = {} } = sent() ?? {};
  expect(Object.keys(body)).toEqual(['id', 'status', 'output', 'error', 'session_id', 'created_at', 'updated_at']);
  expect(body).toMatchObject({ ...members, session_id: null });
  const { data } = await client.getTask(id);
  expect([body.output, body.updated_at]).toEqual([data.output, data.updated_at]);
  // The vendor signs nothing; the service's own signature is there. Written by JSON.stringify, so this is the text that came.
  const { secret } = await jsonOf(await service.request('/v2/webhooks/secret'));
  const key = Buffer.from(String(secret).replace('whsec_', ''), 'base64');
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${JSON.stringify(body)}`;
  expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', key).update(signed).digest('base64')}`);
});

describe('errors', () => {
  test.each([
    ['an app that there is not', 404, 'infsh/none', () => client.run({ app: 'infsh/none', input: {} })],
    ['a parameter', 400, 'width', () => client.run({ app: IMAGE, input: { prompt: 'x', width: 'wide' } })],
    ['a missing input', 400, 'input must be an object', () => client.run({ app: IMAGE, input: undefined })],
    ['a version', 400, 'without a version', () => client.run({ app: `${IMAGE}@abc123`, input: {} })],
    ['workers of your own', 400, 'infra must be', () => client.run(run('x', { infra: 'private' }))],
    ['a set-up', 400, 'setup must be', () => client.run(run('x', { setup: { model: 'large' } }))],
    ['a webhook that cannot be', 400, 'webhook', () => client.run(run('x', { webhook: 'ftp://example.com' }))],
    ['a task that there is not', 404, 'not found', () => client.getTask('none')],
    ['a file that there is not', 404, 'not found', () => client.files.get('none')],
    ['an order that there is not', 400, 'sort must be', () => client.tasks.list({ sort: [{ field: 'status', dir: 'asc' }] })],
    ['a path that there is not', 404, 'There is nothing at', () => client.tasks.get('none/nothing/more')],
    ['what belongs to accounts', 501, 'not implemented', () => client.teams.list()],
    ['flows', 501, 'not implemented', () => client.flows.list()],
    ['agents', 501, 'not implemented', () => client._request('post', '/agents/run', { data: { input: {} } })],
    ['what belongs to galleries', 501, 'not implemented', () => client.tasks.listFeatured()],
  ] as const)('about %s have the status %i, and say so', async (_what, statusCode, words, call) => {
    const error = await thrownBy(call);
    expect(error).toBeInstanceOf(InferenceError);
    expect(error).toMatchObject({ name: 'InferenceError', statusCode, message: expect.stringContaining(words) });
    // What clients of the older generation read.
    const { responseBody } = error as InferenceError;
    expect(JSON.parse(responseBody)).toMatchObject({
      success: false,
      status: statusCode,
      error: { message: expect.stringContaining(words) },
    });
  });

  test('about input say where it is', async () => {
    const { responseBody } = (await thrownBy(() => client.run({ app: IMAGE, input: { width: 'wide' } }))) as InferenceError;
    expect(JSON.parse(responseBody).errors).toMatchObject([{ pointer: '/input/width' }]);
    const unknown = (await thrownBy(() => client.run({ app: 'infsh/none', input: {} }))) as InferenceError;
    expect(JSON.parse(unknown.responseBody).errors).toMatchObject([{ pointer: '/app' }]);
  });

  test('about the key are its own, and are problem details', async () => {
    const stranger = inference({ apiKey: 'inf_wrong', baseUrl: url });
    expect(await thrownBy(() => stranger.run(run('x')))).toMatchObject({ name: 'InferenceError', statusCode: 401 });
    const response = await service.request('/v1/tasks/none');
    expect([response.status, response.headers.get('content-type')]).toEqual([404, 'application/problem+json']);
  });
});
