/** Reads jobs: one, a page, one that is awaited, or the stream of its events. */
import { isTerminal, type Job, type JobEvent, type JobFilter, type JobPage, type LogLine } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { readEvents, readLogs } from './storage/events.ts';
import { countWaiting, type JobReference, listJobs, readJobs } from './storage/jobs.ts';

export interface WaitOptions {
  /** `change`: until the state is another than at the first look; `end`: until a terminal state. */
  readonly until: 'change' | 'end';
  readonly timeoutMs: number;
  /** Ends the wait early, as when the client has gone; the answer is the job as last seen. */
  readonly signal?: AbortSignal;
}

export interface ListOptions extends JobFilter {
  readonly callerId: string;
  readonly limit: number;
  readonly cursor?: string;
}

export interface Reading {
  /** The caller's own job; undefined for an unknown, expired or foreign one, without a difference. */
  read(reference: JobReference): Promise<Job | undefined>;
  /** What the job's runs have printed, oldest first; nothing of a job that the caller does not have. */
  readLogs(reference: JobReference): Promise<readonly LogLine[]>;
  /** As `read`, after waiting. */
  wait(reference: JobReference, options: WaitOptions): Promise<Job | undefined>;
  list(options: ListOptions): Promise<JobPage>;
  /** How many jobs wait for a provider, those of all callers, counted up to `limit`. */
  countWaiting(provider: string, limit: number): Promise<number>;
  /** Events after number `after` as they happen; ends behind the terminal one, or when the job is gone. */
  follow(reference: JobReference, after: number, signal: AbortSignal): AsyncGenerator<JobEvent>;
}

/** Signals may be lost, so every wait looks again after this time. */
const LOOK_AGAIN_MS = 5_000;
/** An event may hold kilobytes, and a process may have many readers. */
const EVENTS_PER_READ = 50;

export function makeReading(context: EngineContext): Reading {
  const { database, clock } = context;
  const changes = watchChanges(context);
  const readOne = coalesce((references: readonly JobReference[]) => readJobs(database.sql, references));

  const reading: Reading = {
    read: readOne,
    readLogs: (reference) => readLogs(database.sql, reference),
    async wait(reference, { until, timeoutMs, signal }) {
      const deadline = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
      // Registered before the first look: a change in between must not be missed.
      using change = changes.of(reference.id);
      const first = await readOne(reference);
      let job = first;
      while (job && !isTerminal(job.state) && !deadline.aborted && (until === 'end' || job.state === first?.state)) {
        await change.next(LOOK_AGAIN_MS, deadline);
        job = await readOne(reference);
      }
      return job;
    },
    async list({ limit, cursor, ...filter }) {
      // One more than asked for tells whether there is another page.
      const jobs = await listJobs(database.sql, {
        ...filter,
        limit: limit + 1,
        ...(cursor !== undefined && { before: cursor }),
      });
      const page = jobs.slice(0, limit);
      const last = page.at(-1);
      return { jobs: page, ...(jobs.length > limit && last && { nextCursor: last.id }) };
    },
    countWaiting: (provider, limit) => countWaiting(database.sql, provider, limit),
    async *follow(reference, after, signal) {
      using change = changes.of(reference.id);
      let seen = after;
      while (!signal.aborted) {
        const events = await readEvents(database.sql, reference, { after: seen, limit: EVENTS_PER_READ });
        for (const event of events) {
          yield event;
          seen = event.sequence;
          if (isTerminal(event.state)) return;
        }
        if (events.length === EVENTS_PER_READ) continue;
        const job = await readOne(reference);
        if (!job) return;
        // Ended and nothing new: the client has seen the end. Otherwise the end came after our look, so look again.
        if (isTerminal(job.state)) {
          const rest = await readEvents(database.sql, reference, { after: seen, limit: 1 });
          if (rest.length === 0) return;
          continue;
        }
        await change.next(LOOK_AGAIN_MS, signal);
      }
    },
  };
  return reading;

  /** Wakes whoever waits for a job when a signal names it. */
  function watchChanges({ signals }: EngineContext) {
    const waiting = new Map<string, Set<() => void>>();
    signals.on('jobs', (changed) => {
      const woken = changed === 'all' ? waiting.keys() : changed;
      for (const id of woken) for (const wake of waiting.get(id) ?? []) wake();
    });
    return {
      of(id: string): JobChanges {
        let changed = Promise.withResolvers<void>();
        const wake = () => changed.resolve();
        const wakes = waiting.get(id) ?? new Set();
        waiting.set(id, wakes.add(wake));
        return {
          async next(timeoutMs, signal) {
            const over = new AbortController();
            const timer = clock.sleep(timeoutMs, AbortSignal.any([signal, over.signal])).catch(() => {});
            await Promise.race([changed.promise, timer]);
            over.abort();
            changed = Promise.withResolvers<void>();
          },
          [Symbol.dispose]() {
            wakes.delete(wake);
            if (wakes.size === 0) waiting.delete(id);
          },
        };
      },
    };
  }
}

interface JobChanges extends Disposable {
  /** Resolves on the next change since the last call, after `timeoutMs`, or when the signal aborts. */
  next(timeoutMs: number, signal: AbortSignal): Promise<void>;
}
