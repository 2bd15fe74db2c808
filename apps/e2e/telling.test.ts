/** What a run prints and writes reaches clients of an API that has no worker in its process, while the run goes on. */
import { createTestDatabase, redisUrl } from '@claimcheck/engine/testing';
import { describe, expect, test } from 'vitest';
import { clientOf, KEY, startApi, startWorker, temporaryFolder } from './testing/processes.ts';

const MODEL = 'meta/meta-llama-3.1-405b-instruct';
const WORDS = Array.from({ length: 40 }, (_, index) => `word${index + 1}`).join(' ');
const LINES = ['25%', '50%', '75%', '100%'].map((percent) => expect.stringContaining(percent));

interface SeenEvent {
  readonly id: number;
  readonly event: string;
  readonly data: { readonly status: string; readonly lines?: readonly string[]; readonly text?: string; readonly isReset?: boolean };
}

/** Reads the events of a job behind one of them, as a browser that comes again would, until there are enough or the stream ends. */
async function follow(url: string, id: string, after: SeenEvent | undefined, isEnough: (events: readonly SeenEvent[]) => boolean) {
  const leaving = new AbortController();
  const response = await fetch(`${url}/v2/requests/${id}/events`, {
    headers: { 'x-api-key': KEY, ...(after && { 'last-event-id': String(after.id) }) },
    signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(30_000)]),
  });
  expect(response.status).toBe(200);
  const events: SeenEvent[] = [];
  let text = '';
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const [, number, event = '', data = ''] = /^id: (\d+)\nevent: (\w+)\ndata: (.*)$/.exec(block) ?? [];
      if (number !== undefined) events.push({ id: Number(number), event, data: JSON.parse(data) });
    }
    if (isEnough(events)) break;
  }
  leaving.abort();
  return events;
}

const linesIn = (events: readonly SeenEvent[]) => events.flatMap(({ data }) => data.lines ?? []);
const textIn = (events: readonly SeenEvent[]) => events.map(({ data }) => data.text ?? '').join('');

// At the same time, because most of it is waiting.
describe.concurrent.each(['redis', 'postgres'] as const)('with the queue on %s', (backend) => {
  test('any API tells of a run as it goes on, each thing once and in order, also when another worker carries it on', async () => {
    await using database = await createTestDatabase();
    await using folder = await temporaryFolder();
    const environment = {
      DATABASE_URL: database.url,
      DATA_DIR: folder.path,
      // So that both hand out the same addresses.
      PUBLIC_URL: 'https://queue.example',
      ...(backend === 'redis' && { REDIS_URL: redisUrl() }),
    };
    const apis = Promise.all([startApi(environment), startApi(environment)]);
    const [[first, second], workers] = await Promise.all([apis, Promise.all([startWorker(environment), startWorker(environment)])]);
    await using started = new AsyncDisposableStack();
    for (const part of [first, second, ...workers]) started.use(part);
    const client = clientOf(first.url, KEY);

    const submitted = await client.post(`/v2/${MODEL}`, { prompt: `${WORDS}[[slow:4000]]` });
    const id = String(submitted.body.request_id);
    const before = await follow(second.url, id, undefined, (events) => linesIn(events).length >= 2 && textIn(events) !== '');
    // The run goes on, and what has been heard of it is the same at the other API.
    expect((await client.get(`/v2/requests/${id}/status`)).body.status).toBe('PROCESSING');
    expect(before.at(-1)?.data.status).toBe('PROCESSING');
    const again = await follow(first.url, id, undefined, (events) => events.length >= before.length);
    expect(again.slice(0, before.length)).toEqual(before);

    await workers.find((worker) => worker.output().includes(id))?.end('SIGKILL');
    // Its lease is over, for all that the database knows.
    await database.setClockAhead(15);
    const after = await follow(second.url, id, before.at(-1), () => false);
    const events = [...before, ...after];
    expect(events.map(({ id: number }) => number)).toEqual(events.map((_, index) => index + 1));
    expect(events.filter(({ event }) => event === 'status').map(({ data }) => data.status)).toEqual([
      'QUEUED',
      'PROCESSING',
      'QUEUED',
      'PROCESSING',
      'COMPLETED',
    ]);
    expect(linesIn(events)).toEqual([expect.stringContaining('The sandbox runs'), ...LINES, 'Done']);
    expect(textIn(events)).not.toBe('');
    expect(textIn(after)).not.toBe('');
    expect(WORDS.startsWith(textIn(events))).toBe(true);
    expect(events.some(({ data }) => data.isReset)).toBe(false);

    // Who comes late is told the same, and so is who asks for the lines alone.
    expect(await follow(first.url, id, undefined, () => false)).toEqual(events);
    const { logs } = (await client.get(`/v2/requests/${id}/status?logs=true`)).body as { readonly logs: readonly { message: string }[] };
    expect(logs.map(({ message }) => message)).toEqual(linesIn(events));
  }, 300_000);
});
