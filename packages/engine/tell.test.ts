/** What clients hear of a run while it goes on, in whichever process they ask. */

import { type JobEvent, type JsonObject, newId, RetryableError, type Step, systemClock, TerminalError } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { appendEvents, readTold } from './storage/events.ts';
import { endJobs, recordProgress } from './storage/transitions.ts';
import { aCaller, aCatalog, aJob, aModel, anUpstream, aSubmission, OUTPUT, PROVIDER, running } from './testing/fixtures.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';
import type { Heard } from './untold.ts';

/** Far longer than a test may take. */
const LONG_MS = 60_000;
const WAIT = { until: 'end', timeoutMs: 60_000 } as const;

const numbered = (count: number) => Array.from({ length: count }, (_, index) => `line ${index + 1}`);
const aStep = (heard: Heard, checkAfterMs = 5): Step => ({ ...running('a run', checkAfterMs), ...heard });
const textsOf = (events: readonly JobEvent[]) => events.flatMap(({ data }) => (typeof data?.text === 'string' ? [data.text] : []));
const linesOf = (events: readonly JobEvent[]) => events.flatMap(({ data }) => (Array.isArray(data?.lines) ? data.lines.map(String) : []));
const typesOf = (events: readonly JobEvent[]) => events.map(({ type, state }) => (type === 'status' ? state : type));

let owned: TestEngine;
const referenceTo = (id: string) => ({ id, callerId: owned.callerId });
const submit = async () => (await owned.engine.submit(aSubmission(owned.callerId))).id;

async function eventsOf(id: string, { engine } = owned): Promise<JobEvent[]> {
  const events = [];
  for await (const event of engine.follow(referenceTo(id), 0, AbortSignal.timeout(LONG_MS))) events.push(event);
  return events;
}

describe.each(QUEUES)('on %s', (queue) => {
  beforeEach(async () => {
    owned = await createTestEngine({ queue });
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  test('who follows a job in another process hears its lines and its text while the run goes on', async () => {
    await using other = await owned.sibling();
    const heard = { lines: Promise.withResolvers<void>(), text: Promise.withResolvers<void>() };
    const upstream = anUpstream({
      start: () => Promise.resolve(aStep({ logs: ['loading'] })),
      async check(_run, handle) {
        if (upstream.calls.length === 2) {
          // It goes on only when the client has heard of it.
          await heard.lines.promise;
          return { ...aStep({ logs: ['loading', 'writing'], partialText: 'Once' }), handle };
        }
        await heard.text.promise;
        return { kind: 'finished', output: { media: [], text: 'Once upon a time' }, logs: ['loading', 'writing', 'done'] };
      },
    });
    owned.startWorker(upstream);
    const id = await submit();
    const events: JobEvent[] = [];
    for await (const event of other.engine.follow(referenceTo(id), 0, AbortSignal.timeout(LONG_MS))) {
      events.push(event);
      if (event.type === 'log') heard.lines.resolve();
      if (event.type === 'partial') heard.text.resolve();
    }
    expect(typesOf(events)).toEqual(['QUEUED', 'PROCESSING', 'log', 'log', 'partial', 'log', 'COMPLETED']);
    expect(events.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(linesOf(events)).toEqual(['loading', 'writing', 'done']);
    expect(events.filter(({ type }) => type === 'partial').map(({ data }) => data)).toEqual([{ text: 'Once' }]);
    expect(events.slice(2, 6).every(({ state }) => state === 'PROCESSING')).toBe(true);
    const logs = await other.engine.readLogs(referenceTo(id));
    expect(logs).toEqual(['loading', 'writing', 'done'].map((text) => ({ text, at: expect.any(Date) })));
    expect(await other.engine.readLogs({ id, callerId: await aCaller(owned.sql) })).toEqual([]);
  });

  test('what a run tells at every look is written twice a second at most, and nothing of it is lost', async () => {
    let looks = 0;
    owned.startWorker(
      anUpstream({
        start: () => Promise.resolve(aStep({})),
        async check() {
          looks += 1;
          if (looks > 100) return { kind: 'finished', output: OUTPUT };
          return aStep({ logs: numbered(looks), partialText: 'x'.repeat(looks) }, 10);
        },
      }),
    );
    const events = await eventsOf(await submit());
    expect(linesOf(events)).toEqual(numbered(100));
    expect(textsOf(events).join('')).toBe('x'.repeat(100));
    const told = events.filter(({ type }) => type === 'log');
    const [first, ...others] = told.map(({ at }) => at.getTime());
    expect(told.length).toBeGreaterThan(1);
    // The last ones are those that the end did not wait for.
    for (const [index, at] of others.slice(0, -1).entries()) expect(at - (told[index]?.at.getTime() ?? first ?? 0)).toBeGreaterThan(400);
  });
});

describe('one run', () => {
  beforeEach(async () => {
    owned = await createTestEngine();
    owned.startSweep();
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  test('that is looked at seldom is told without waiting for the next look', async () => {
    const upstream = anUpstream({
      start: () => Promise.resolve(aStep({ logs: ['a'] }, 1)),
      check: () => Promise.resolve(aStep({ logs: ['a', 'b'] }, LONG_MS)),
    });
    owned.startWorker(upstream);
    const id = await submit();
    await expect.poll(() => owned.engine.readLogs(referenceTo(id)), { timeout: 60_000 }).toHaveLength(2);
  });

  test('is told of during a call that is held until its end', async () => {
    const heard = Promise.withResolvers<void>();
    owned.startWorker(
      anUpstream({
        async start(run) {
          for (const partialText of ['Once', 'Once upon']) run.tell({ partialText });
          await heard.promise;
          run.tell({ logs: ['a'], partialText: 'Once upon a' });
          return { kind: 'finished', output: { media: [], text: 'Once upon a time' } };
        },
      }),
    );
    const id = await submit();
    const events: JobEvent[] = [];
    for await (const event of owned.engine.follow(referenceTo(id), 0, AbortSignal.timeout(LONG_MS))) {
      events.push(event);
      if (event.type === 'partial') heard.resolve();
    }
    expect([textsOf(events).join(''), linesOf(events)]).toEqual(['Once upon a', ['a']]);
    expect(typesOf(events).at(-1)).toBe('COMPLETED');
  });

  test('that fails has its last lines told before its end', async () => {
    const broken = new TerminalError('out of paint');
    broken.logs = ['a', 'b', 'the reason'];
    let looks = 0;
    const check = () => {
      looks += 1;
      return looks === 1 ? Promise.resolve(aStep({ logs: ['a', 'b'] })) : Promise.reject(broken);
    };
    owned.startWorker(anUpstream({ start: () => Promise.resolve(aStep({ logs: ['a'] })), check }));
    const events = await eventsOf(await submit());
    expect(linesOf(events)).toEqual(['a', 'b', 'the reason']);
    expect(typesOf(events).at(-1)).toBe('FAILED');
  });

  test('that prints without end is told up to its bound, and ends well', async () => {
    let looks = 0;
    owned.startWorker(
      anUpstream({
        start: () => Promise.resolve(aStep({})),
        async check() {
          looks += 1;
          return looks > 5 ? { kind: 'finished', output: OUTPUT } : aStep({ logs: numbered(looks * 20_000) });
        },
      }),
    );
    const id = await submit();
    const events = await eventsOf(id);
    expect(linesOf(events)).toEqual(numbered(1_000));
    expect(await owned.engine.readLogs(referenceTo(id))).toHaveLength(1_000);
  });

  test('that is carried on by another worker goes on being told where it was', async () => {
    await using other = await owned.sibling();
    const beginning = { logs: ['a', 'b'], partialText: 'Once' };
    const looked = Promise.withResolvers<void>();
    const first = owned.startWorker(
      anUpstream({
        start: () => Promise.resolve(aStep({ logs: ['a'] })),
        check: () => {
          looked.resolve();
          return Promise.resolve(aStep(beginning, LONG_MS));
        },
      }),
    );
    const id = await submit();
    await looked.promise;
    await first.stop();
    // Also what it had not written yet.
    expect(await owned.engine.readLogs(referenceTo(id))).toHaveLength(2);
    const heard = { logs: ['a', 'b', 'c'], partialText: 'Once upon' };
    const steps: Step[] = [aStep(beginning), aStep(heard), { kind: 'finished', output: OUTPUT }];
    other.startWorker(anUpstream({ check: () => Promise.resolve(steps.shift() ?? aStep({})) }));
    const events = await eventsOf(id);
    expect(linesOf(events)).toEqual(['a', 'b', 'c']);
    expect(textsOf(events)).toEqual(['Once', ' upon']);
    expect(events.some(({ data }) => data?.isReset)).toBe(false);
  });

  test('that is started anew tells its own lines from the first, and its text in place of what was there', async () => {
    const steps: Step[] = [
      aStep({ logs: ['loading'], partialText: 'Once' }),
      aStep({ logs: ['loading', 'writing'], partialText: 'Twice' }),
      { kind: 'finished', output: OUTPUT },
    ];
    owned.startWorker(
      anUpstream({
        start: ({ attempt }) =>
          Promise.resolve(attempt === 1 ? aStep({ logs: ['loading'], partialText: 'Once' }) : (steps.shift() ?? aStep({}))),
        check: ({ attempt }) => (attempt === 1 ? Promise.reject(new RetryableError('busy')) : Promise.resolve(steps.shift() ?? aStep({}))),
      }),
    );
    const events = await eventsOf(await submit());
    expect(linesOf(events)).toEqual(['loading', 'loading', 'writing']);
    expect(events.flatMap(({ type, data }) => (type === 'partial' ? [data] : []))).toEqual([
      { text: 'Once' },
      // The same words again are no news.
      { text: 'Twice', isReset: true },
    ]);
  });

  test('is told to the end although the database refuses for a while', async () => {
    await owned.sql`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$`;
    await owned.sql`
      create trigger refuse before insert on job_events for each row when (new.type in ('log', 'partial')) execute function refuse()`;
    let isDone = false;
    owned.startWorker(
      anUpstream({
        start: () => Promise.resolve(aStep({ logs: ['a'], partialText: 'Once' })),
        check: () =>
          Promise.resolve(isDone ? { kind: 'finished', output: OUTPUT } : aStep({ logs: ['a', 'b'], partialText: 'Once upon' }, 20)),
      }),
    );
    const id = await submit();
    const refused = () => owned.logged.filter(({ message }) => message === 'what a run told is not written yet').length;
    await expect.poll(refused, { timeout: 60_000 }).toBeGreaterThan(0);
    isDone = true;
    await expect.poll(() => owned.logged.map(({ message }) => message), { timeout: 60_000 }).toContain('write failed, trying again');
    await owned.sql`drop trigger refuse on job_events`;
    const events = await eventsOf(id);
    expect(linesOf(events)).toEqual(['a', 'b']);
    expect(events.flatMap(({ type, data }) => (type === 'partial' ? [data] : []))).toEqual([{ text: 'Once upon' }]);
    expect(typesOf(events).at(-1)).toBe('COMPLETED');
  });

  test('that its upstream calls back about has its last lines told, behind those that its worker has told', async () => {
    const upstream = anUpstream({
      start: () => Promise.resolve(aStep({ logs: ['a', 'b'] }, LONG_MS)),
      receive: (_run, { body }) =>
        Promise.resolve({ kind: 'finished', output: OUTPUT, logs: JSON.parse(Buffer.from(body).toString()) } satisfies Step),
    });
    const upstreams = new Map([[PROVIDER, upstream]]);
    const catalog = aCatalog(aModel);
    const worker = owned.engine.startWorker({ workerId: 'w', upstreams, catalog, publicUrl: 'https://queue.example' });
    // Before the engine that it runs on is closed.
    await using _stopping = { [Symbol.asyncDispose]: () => worker.stop() };
    const receive = owned.engine.openReceiver({ upstreams, catalog, sandbox: 'off' });
    const id = await submit();
    await expect.poll(() => owned.engine.readLogs(referenceTo(id)), { timeout: 60_000 }).toHaveLength(2);
    const token = upstream.calls[0]?.run.callbackUrl?.split('/').at(-1) ?? '';
    const readBody = () => Promise.resolve(Buffer.from(JSON.stringify(['a', 'b', 'c'])));
    await receive({ provider: PROVIDER, token, header: () => undefined, readBody }, new AbortController().signal);
    const events = await eventsOf(id);
    expect(linesOf(events)).toEqual(['a', 'b', 'c']);
    expect(typesOf(events).at(-1)).toBe('COMPLETED');
  });

  test('that its worker and its upstream tell of at the same time is told of once', async () => {
    const looks = Promise.withResolvers<void>();
    const isDone = Promise.withResolvers<void>();
    const upstream = anUpstream({
      start: () => Promise.resolve(aStep({ logs: ['a'], partialText: 'Once' })),
      async check() {
        await looks.promise;
        if (upstream.calls.length > 2) await isDone.promise;
        return upstream.calls.length > 2
          ? { kind: 'finished', output: OUTPUT }
          : aStep({ logs: ['a', 'b', 'c'], partialText: 'Once upon a' });
      },
      receive: (_run, { body }) => Promise.resolve(aStep(JSON.parse(Buffer.from(body).toString()))),
    });
    const upstreams = new Map([[PROVIDER, upstream]]);
    const catalog = aCatalog(aModel);
    const worker = owned.engine.startWorker({ workerId: 'w', upstreams, catalog, publicUrl: 'https://queue.example' });
    await using _stopping = { [Symbol.asyncDispose]: () => worker.stop() };
    const receive = owned.engine.openReceiver({ upstreams, catalog, sandbox: 'off' });
    const id = await submit();
    await expect.poll(() => upstream.calls.length, { timeout: 60_000 }).toBe(2);
    const token = upstream.calls[0]?.run.callbackUrl?.split('/').at(-1) ?? '';
    const call = (heard: Heard) => {
      const readBody = () => Promise.resolve(Buffer.from(JSON.stringify(heard)));
      return receive({ provider: PROVIDER, token, header: () => undefined, readBody }, new AbortController().signal);
    };
    const newest = { logs: ['a', 'b'], partialText: 'Once upon' };
    // Twice, and an older one behind it.
    const calls = [newest, newest, { logs: ['a'], partialText: 'On' }].map(call);
    looks.resolve();
    expect(await Promise.all(calls)).toEqual(['taken', 'taken', 'taken']);
    isDone.resolve();
    const events = await eventsOf(id);
    expect(linesOf(events)).toEqual(['a', 'b', 'c']);
    expect(textsOf(events).join('')).toBe('Once upon a');
    expect(events.some(({ data }) => data?.isReset)).toBe(false);
    expect(typesOf(events).at(-1)).toBe('COMPLETED');
  });

  test('that tells nothing has no statements made for it', async () => {
    await owned.sql`create table told ()`;
    await owned.sql`create function note() returns trigger language plpgsql as $$ begin insert into told default values; return new; end $$`;
    await owned.sql`create trigger note after update on jobs for each row execute function note()`;
    owned.startWorker(anUpstream({ start: () => Promise.resolve(aStep({})) }));
    const id = await submit();
    expect((await owned.engine.wait(referenceTo(id), WAIT))?.state).toBe('COMPLETED');
    // Claimed and ended.
    expect(await owned.sql`select from told`).toHaveLength(2);
  });
});

describe('events that are appended', () => {
  beforeEach(async () => {
    owned = await createTestEngine();
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  const log = (...lines: string[]) => ({ type: 'log', data: { lines } }) as const;
  const partial = (data: JsonObject) => ({ type: 'partial', data }) as const;
  const aRunningJob = (fields = {}) => aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING', ...fields });

  test('are numbered behind those of the job, for many jobs in one statement', async () => {
    const jobs = await Promise.all([aRunningJob(), aRunningJob(), aRunningJob({ attempt: 3 })]);
    const told = await appendEvents(
      owned.sql,
      jobs.map((jobId, index) => ({
        jobId,
        attempt: index === 2 ? 3 : 1,
        events: [log('a'), log('b'), partial({ text: 'x' })].slice(index),
        behind: 0,
      })),
    );
    expect(told).toEqual([5, 4, 5].map((sequence) => ({ kind: 'told', sequence })));
    const rows = await owned.sql<{ job_id: string; sequence: number; type: string }[]>`
      select job_id, sequence, type from job_events where type in ('log', 'partial') order by sequence`;
    expect(jobs.map((id) => rows.filter(({ job_id: of }) => of === id).map(({ sequence, type }) => `${sequence} ${type}`))).toEqual([
      ['3 log', '4 log', '5 partial'],
      ['3 log', '4 partial'],
      ['5 partial'],
    ]);
    for (const id of jobs) await endJobs(owned.sql, [{ jobId: id, state: 'COMPLETED', output: OUTPUT }], 3600);
    for (const id of jobs) {
      const sequences = (await eventsOf(id)).map(({ sequence }) => sequence);
      expect(sequences).toEqual(Array.from(sequences, (_, index) => index + 1));
    }
  });

  test.each([
    ['an attempt that is over', { attempt: 2 }],
    ['a job that has ended', { state: 'COMPLETED' }],
    ['a job that waits', { state: 'QUEUED', attempt: 1 }],
  ])('of %s are dropped', async (_what, fields) => {
    const jobId = await aRunningJob(fields);
    const before = await owned.sql`select event_count, updated_at from jobs where id = ${jobId}`;
    expect(await appendEvents(owned.sql, [{ jobId, attempt: 1, events: [log('a')], behind: 0 }])).toEqual([{ kind: 'over' }]);
    expect(await owned.sql`select from job_events where type = 'log'`).toEqual([]);
    expect(await owned.sql`select event_count, updated_at from jobs where id = ${jobId}`).toEqual(before);
  });

  test('of a job that is gone are dropped, and its neighbours are written', async () => {
    const jobId = await aRunningJob();
    const gone = newId(systemClock);
    const events = [log('a')];
    expect(
      await appendEvents(
        owned.sql,
        [gone, jobId].map((id) => ({ jobId: id, attempt: 1, events, behind: 0 })),
      ),
    ).toEqual([{ kind: 'over' }, { kind: 'told', sequence: 3 }]);
  });

  test('are refused to whoever does not know all that was told before, of many at once as well', async () => {
    const jobId = await aRunningJob();
    const append = (behind: number, line: string) => appendEvents(owned.sql, [{ jobId, attempt: 1, events: [log(line)], behind }]);
    const race = (await Promise.all(['a', 'b', 'c', 'd'].map((line) => append(0, line)))).flat();
    expect(race.map(({ kind }) => kind).sort()).toEqual(['outrun', 'outrun', 'outrun', 'told']);
    expect(await append(0, 'e')).toEqual([{ kind: 'outrun' }]);
    // What else happens to the job does not count.
    await recordProgress(owned.sql, [{ jobId, attempt: 1, progress: 0.5 }]);
    expect(await append(3, 'f')).toEqual([{ kind: 'told', sequence: 5 }]);
    expect(await owned.sql`select from job_events where type = 'log'`).toHaveLength(2);
  });

  test('are put together again: the newest lines, and the text since it was last told as a whole', async () => {
    const jobId = await aRunningJob();
    expect(await readTold(owned.sql, jobId, 0)).toEqual({ lines: [], lineCount: 0, text: '', textCharacters: 0, sequence: 0 });
    const texts: JsonObject[] = [{ text: 'Once' }, { text: ' upon' }, { text: 'Tw', isReset: true }, { text: 'ice' }];
    const events = [...texts.map(partial), ...numbered(60).map((line) => log(line, `${line}.`))];
    await appendEvents(owned.sql, [{ jobId, attempt: 1, events, behind: 0 }]);
    const { lines, ...told } = await readTold(owned.sql, jobId, 0);
    expect(told).toEqual({ lineCount: 120, text: 'Twice', textCharacters: 14, sequence: 66 });
    expect(lines.slice(-3)).toEqual(['line 59.', 'line 60', 'line 60.']);
    expect(lines.length).toBeGreaterThanOrEqual(20);
    expect(lines.length).toBeLessThan(120);
  });

  test('of an earlier run count for a later one only by their text, which it takes the place of', async () => {
    const jobId = await aRunningJob();
    await appendEvents(owned.sql, [{ jobId, attempt: 1, events: [log('a', 'b'), partial({ text: 'Once' })], behind: 0 }]);
    const told = await readTold(owned.sql, jobId, undefined);
    expect(told).toEqual({ lines: [], lineCount: 0, text: 'Once', textCharacters: 0, sequence: 4 });
    await appendEvents(owned.sql, [{ jobId, attempt: 1, events: [log('a')], behind: told.sequence }]);
    expect(await readTold(owned.sql, jobId, told.sequence)).toEqual({ ...told, lines: ['a'], lineCount: 1, sequence: 5 });
  });
});
