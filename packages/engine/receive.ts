/**
 * Upstreams that call back: the address of a run holds the token of its attempt, the adapter says whether the call proves where it comes from,
 * and what it tells ends the attempt at once. Its worker, which goes on looking slowly, is told that nothing is left to do. Whoever ends the
 * attempt first wins; calls that come twice, late or out of order change nothing.
 */
import { type Callback, type Catalog, isTerminal, ProviderError, type Upstream } from '@claimcheck/core';
import { makeAttemptEnd, type OpenAttempt } from './attempt-end.ts';
import type { EngineContext } from './context.ts';
import { makeRouter, type RouterOptions } from './route.ts';
import type { Settle } from './settle.ts';
import { findCallback, tellConcluded } from './storage/callbacks.ts';
import { recordProgress } from './storage/transitions.ts';
import type { Ring } from './submit.ts';
import { makeTell } from './tell.ts';
import type { Heard } from './untold.ts';
import { makeUpstreamRun } from './upstream-run.ts';

/** What an upstream sent, to whom, and the last part of the address. */
export interface ReceivedCallback extends Pick<Callback, 'header'> {
  readonly provider: string;
  readonly token: string;
  /** Called once the token is known: a stranger cannot make the service read anything. */
  readBody(): Promise<Uint8Array>;
}

/**
 * `taken`: it was heard, whatever came of it. `ignored`: it proves nothing or says nothing new. `unknown`: there is no such address.
 * `later`: it may be worth something, but not now: between two attempts, or before the run's handle is saved.
 */
export type Received = 'taken' | 'ignored' | 'unknown' | 'later';

/** @throws when the database does not answer; the upstream should try again. */
export type Receive = (callback: ReceivedCallback, signal: AbortSignal) => Promise<Received>;

export interface ReceiverOptions {
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly catalog: Pick<Catalog, 'find' | 'express' | 'estimateUsd' | 'costUsd'>;
  readonly sandbox: RouterOptions['sandbox'];
}

const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/;

export function makeReceive(context: EngineContext, settle: Settle, ring: Ring, options: ReceiverOptions): Receive {
  const { database, log } = context;
  const { catalog, sandbox, upstreams } = options;
  const router = makeRouter(context, { catalog, available: new Set(upstreams.keys()), off: new Map(), sandbox });
  const end = makeAttemptEnd(context, { catalog, router, settle, ring });
  const tell = makeTell(context);
  // The upstream tries again when the database is away.
  const once = <Result>(statement: () => Promise<Result>) => statement();

  return async ({ provider, token, header, readBody }, signal) => {
    const upstream = upstreams.get(provider);
    if (!upstream?.receive || !TOKEN_PATTERN.test(token)) return 'unknown';
    const called = await findCallback(database.sql, provider, token);
    if (!called) return 'unknown';
    const { job, number, outcome } = called;
    const isCurrent = job.attempt === number && outcome === undefined;
    // The next attempt goes on with this run, and will be the one to be told.
    if (!isCurrent) return !isTerminal(job.state) && (outcome === 'released' || outcome === 'lost') ? 'later' : 'ignored';
    const handle = called.handle === undefined ? undefined : JSON.parse(called.handle);
    const attempt: OpenAttempt = { ...called, upstream, hasHandle: handle !== undefined };
    const fields = { jobId: job.id, attempt: number, provider };
    const body = await readBody();
    /** Its worker may have told the beginning. Words that are lost are no reason for anything else. */
    const hear = async (heard: Heard): Promise<void> => {
      if (!heard.logs && heard.partialText === undefined) return;
      const telling = tell({ jobId: job.id, attempt: number, before: 'this run', signal });
      telling.take(heard);
      await telling.flush().catch((error: unknown) => log.warn({ ...fields, error }, 'last words of a run not written'));
    };
    try {
      const run = await makeUpstreamRun(context, { catalog, job, signal });
      const step = await upstream.receive(run, { header, body, handle });
      if (step === undefined) return handle === undefined ? 'later' : 'ignored';
      await hear(step);
      if (step.kind === 'running') {
        if (step.progress !== undefined)
          await recordProgress(database.sql, [{ jobId: job.id, attempt: number, progress: Math.min(step.progress, 1) }]);
        return 'taken';
      }
      const ended = await end.succeed(attempt, await end.keep(attempt, step.output, signal), once);
      log.info({ ...fields, ended: ended !== undefined }, 'attempt succeeded, as the provider called to say');
    } catch (error) {
      // The client of this call is gone, or the process stops: nothing was learned.
      if (signal.aborted) throw error;
      if (error instanceof ProviderError && error.logs) await hear({ logs: error.logs });
      await end.fail(attempt, error, once);
    }
    await tellConcluded(database.sql, { jobId: job.id, attempt: number });
    return 'taken';
  };
}
