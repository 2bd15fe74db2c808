/**
 * Which providers are well. A circuit breaker for each: one that keeps failing is left alone for a while, then tried by one attempt at a time,
 * and asked by everybody again once that was taken in. One that asks for a pause, as with `Retry-After`, gets it. What workers learn is kept
 * in the database for all processes, and in the memory of each, which hears of changes by a signal.
 */
import type { Log, RetryableError } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import {
  type Breaker,
  type HealthRecord,
  type HealthReport,
  type OutReason,
  type RouteTime,
  readHealth,
  readTimes,
  recordFailures,
  recordReturn,
  recordSuccess,
  recordTimes,
  returnProbe,
  takeProbe,
} from './storage/provider-health.ts';

/** Why a provider is not to be asked now. */
export interface Outage {
  readonly reason: OutReason;
  /** Milliseconds until it may be asked again; for one that is being tried, until the next look is worth it. */
  readonly forMs: number;
}

export interface ProviderHealth {
  /** From memory: undefined for one that may be asked. One that has failed and whose time is over is `probing`. */
  stateOf(provider: string): Outage | 'probing' | undefined;
  /** True for the one attempt that may try a provider that is `probing`. */
  takeProbe(provider: string): Promise<boolean>;
  /** For an attempt that took the right and then asked nothing, or learned nothing. */
  returnProbe(provider: string): void;
  /** It took a run in. */
  accepted(provider: string): void;
  /** It served a run, or refused one for the client's own fault: both show that it works. */
  succeeded(provider: string): void;
  failed(provider: string, error: RetryableError): void;
  /** Remembers how long a run took. */
  took(time: RouteTime): void;
  /** Seconds that runs of a model took lately, by provider. Some seconds old. */
  times(model: string): Promise<ReadonlyMap<string, number>>;
  close(): void;
}

export const BREAKER: Breaker = { failuresMax: 5, firstSeconds: 5, secondsMax: 60 };
/** How long the attempt that tries a provider is waited for before another may. */
const PROBE_SECONDS = 30;
/** While one attempt tries, others look again after this; the signal of its success is mostly faster. */
const PROBE_LOOK_MS = 1_000;
/** A pause that is longer than this is no pause: the provider is tried in between. */
const PAUSE_MS_MAX = 600_000;
const TIMES_FRESH_MS = 5_000;

interface Known {
  readonly failures: number;
  readonly reason: OutReason | undefined;
  /** On the clock of this process. */
  readonly outUntilMs: number;
}

export function makeProviderHealth({
  clock,
  database,
  log,
  signals,
}: Pick<EngineContext, 'clock' | 'database' | 'log' | 'signals'>): ProviderHealth {
  let known = new Map<string, Known>();
  let reading: Promise<void> | undefined;
  let isStale = false;
  /** What has not been written yet, added up: a thousand attempts that fail together are one statement. */
  let unwritten = new Map<string, HealthReport>();
  let isWriting = false;
  let timesReadMs = Number.NEGATIVE_INFINITY;
  let times: Promise<readonly RouteTime[]> = Promise.resolve([]);

  const writeTime = coalesce(async (taken: readonly RouteTime[]) => {
    await recordTimes(database.sql, taken);
    return taken.map(() => undefined);
  });

  const unsubscribe = signals.on('providers', () => void refresh());

  async function refresh(): Promise<void> {
    isStale = true;
    reading ??= (async () => {
      while (isStale) {
        isStale = false;
        known = new Map((await readHealth(database.sql)).map((record) => [record.provider, toKnown(record, clock.now())]));
      }
    })()
      .catch((error: unknown) => log.warn({ error }, 'health of providers not read'))
      .finally(() => {
        reading = undefined;
      });
    await reading;
  }

  async function writeAll(): Promise<void> {
    if (isWriting) return;
    isWriting = true;
    try {
      while (unwritten.size > 0) {
        const reports = [...unwritten.values()];
        unwritten = new Map();
        await database.sql.begin((sql) => recordFailures(sql, reports, BREAKER));
        // The signal of what was just written may be on its way for a while.
        await refresh();
      }
    } catch (error) {
      log.warn({ error }, 'health of providers not written');
    } finally {
      isWriting = false;
    }
  }

  return {
    stateOf(provider) {
      const { reason, outUntilMs } = known.get(provider) ?? {};
      if (reason === undefined || outUntilMs === undefined) return undefined;
      const forMs = outUntilMs - clock.now();
      if (forMs > 0) return { reason, forMs };
      return reason === 'failing' ? 'probing' : undefined;
    },
    async takeProbe(provider) {
      return takeProbe(database.sql, provider, PROBE_SECONDS);
    },
    returnProbe(provider) {
      inBackground(log, returnProbe(database.sql, provider));
    },
    accepted(provider) {
      if (known.get(provider)?.reason === 'failing') inBackground(log, recordReturn(database.sql, provider, BREAKER.failuresMax));
    },
    succeeded(provider) {
      const state = known.get(provider);
      if (state && (state.failures > 0 || state.reason !== undefined)) inBackground(log, recordSuccess(database.sql, provider));
    },
    failed(provider, { retryAfterMs }) {
      const before = unwritten.get(provider);
      const pauseMs = Math.min(retryAfterMs ?? 0, PAUSE_MS_MAX);
      // What it asks for itself is no sign of sickness.
      const failures = (before?.failures ?? 0) + (retryAfterMs === undefined ? 1 : 0);
      unwritten.set(provider, { provider, failures, pauseMs: Math.max(before?.pauseMs ?? 0, pauseMs) });
      const state = known.get(provider);
      const outUntilMs = clock.now() + pauseMs;
      // At once, so that nothing is sent there while it is being written.
      if (pauseMs > 0 && (state?.outUntilMs ?? 0) < outUntilMs) {
        known.set(provider, { failures: state?.failures ?? 0, reason: state?.reason ?? 'asked', outUntilMs });
      }
      void writeAll();
    },
    took(time) {
      inBackground(log, writeTime(time));
    },
    async times(model) {
      if (clock.now() - timesReadMs > TIMES_FRESH_MS) {
        timesReadMs = clock.now();
        times = readTimes(database.sql).catch((error: unknown) => {
          log.warn({ error }, 'times of routes not read');
          return [];
        });
      }
      return new Map((await times).filter((time) => time.model === model).map(({ provider, seconds }) => [provider, seconds]));
    },
    close: unsubscribe,
  };
}

/** How long a job should wait for a provider in this state, in milliseconds. */
export function waitOf(state: Outage | 'probing'): number {
  return state === 'probing' ? PROBE_LOOK_MS : state.forMs;
}

function toKnown({ failures, reason, outMs }: HealthRecord, nowMs: number): Known {
  return { failures, reason, outUntilMs: nowMs + outMs };
}

/** Nothing depends on its end, and the next report says the same. */
function inBackground(log: Log, writing: Promise<unknown>): void {
  writing.catch((error: unknown) => log.warn({ error }, 'health of providers not written'));
}
