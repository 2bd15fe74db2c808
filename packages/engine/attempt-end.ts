/**
 * How an attempt ends: with a result, with the next try at the same or another provider, or with the failure of its job. Its worker ends it,
 * or the API when the upstream has called back; whoever comes second changes nothing.
 */
import {
  type Catalog,
  type Failure,
  type Job,
  type JsonObject,
  type Model,
  type Output,
  ProviderError,
  RetryableError,
  routeOf,
  TerminalError,
  type Upstream,
} from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { retryDelayMs } from './retry.ts';
import type { Choice, Router } from './route.ts';
import type { Settle } from './settle.ts';
import { type Requeue, requeueJobs } from './storage/transitions.ts';
import { doorbellOf, type Ring } from './submit.ts';

/** An attempt that is under way, as far as its end depends on it. */
export interface OpenAttempt {
  readonly job: Job;
  readonly upstream: Upstream;
  readonly failedAttempts: number;
  readonly failedProviders: readonly string[];
  /** True once the upstream has told of its run: then how the run ended is known. */
  readonly hasHandle: boolean;
}

/** Makes a statement count although the database may be away for a moment, or fails at once, as the caller can afford. */
export type Write = <Result>(statement: () => Promise<Result>) => Promise<Result>;

export interface AttemptEnd {
  /** Files of the result, in the form the client asked for, kept where results are. @throws ProviderError when they cannot be had. */
  keep(attempt: OpenAttempt, output: Output, signal: AbortSignal): Promise<Output>;
  /** The job as it ended; undefined when the attempt was no longer the job's. */
  succeed(attempt: OpenAttempt, output: Output, write: Write): Promise<Job | undefined>;
  /** Tries again where that can help and the model's attempts are not used up; else the job fails. */
  fail(attempt: OpenAttempt, error: unknown, write: Write): Promise<void>;
  /** Back into the queue, to be resumed; undefined when the attempt was no longer the job's. */
  release(job: Job): Promise<Job | undefined>;
}

export interface AttemptEndOptions {
  readonly catalog: Pick<Catalog, 'find' | 'costUsd'>;
  readonly router: Pick<Router, 'chooseAgain'>;
  readonly settle: Settle;
  readonly ring: Ring;
}

export function makeAttemptEnd(context: EngineContext, { catalog, router, settle, ring }: AttemptEndOptions): AttemptEnd {
  const { clock, database, health, log } = context;
  const requeue = coalesce((requeues: readonly Requeue[]) => requeueJobs(database.sql, requeues), { keyOf: ({ jobId }) => jobId });

  async function costOf(job: Job, output: Output): Promise<number | undefined> {
    const model = catalog.find(job.model);
    const route = model && routeOf(model, job.provider);
    if (!model || !route) return undefined;
    try {
      return await catalog.costUsd(model, route, JSON.parse(job.input), output);
    } catch (error) {
      // The result was paid for, whatever it cost.
      log.warn({ error, jobId: job.id, provider: job.provider }, 'cost not computed');
      return undefined;
    }
  }

  /** Where and when to try again; undefined when that cannot help. */
  async function nextTry(attempt: OpenAttempt, error: ProviderError): Promise<(Choice & { readonly delayMs: number }) | undefined> {
    const { job, failedAttempts, failedProviders } = attempt;
    const model = catalog.find(job.model);
    if (!model || failedAttempts + 1 >= Math.min(model.retry.attempts, job.attemptsMax ?? model.retry.attempts)) return undefined;
    const failed = [...failedProviders, job.provider];
    const request = { model, parameters: JSON.parse(job.input), ...(job.isPinned && { pinned: job.provider }) };
    const choice = await router.chooseAgain(request, failed);
    if (!choice) return undefined;
    const isNew = !failed.includes(choice.provider);
    if (isNew) return { ...choice, delayMs: choice.waitMs };
    // What is wrong between us and this provider is still wrong a moment later.
    if (!(error instanceof RetryableError)) return undefined;
    const retryAfterMs = choice.provider === job.provider ? error.retryAfterMs : undefined;
    const delayMs = retryDelayMs(model.retry, failedAttempts + 1, context.random, retryAfterMs);
    return { ...choice, delayMs: Math.max(delayMs, choice.waitMs) };
  }

  return {
    keep({ job }, output, signal) {
      return context.outputs.keep({ jobId: job.id, output, ...wantedFormat(catalog.find(job.model), job), signal });
    },
    async succeed({ job, upstream }, output, write) {
      const model = catalog.find(job.model);
      const routeModel = model && routeOf(model, job.provider)?.model;
      const costUsd = await costOf(job, output);
      if (!upstream.isSimulated) health.succeeded(job.provider);
      if (model?.routing === 'latency' && job.attemptStartedAt) {
        health.took({
          model: model.name,
          provider: job.provider,
          seconds: Math.max(0, clock.now() - job.attemptStartedAt.getTime()) / 1000,
        });
      }
      return write(() =>
        settle({
          ...ownerOf(job),
          state: 'COMPLETED',
          output,
          ...(routeModel !== undefined && { routeModel }),
          ...(costUsd !== undefined && { costUsd }),
        }),
      );
    },
    async fail(attempt, thrown, write) {
      const { job, upstream } = attempt;
      const model = catalog.find(job.model);
      const error = withDoubt(thrown, attempt, model);
      const fields = { jobId: job.id, attempt: job.attempt, provider: job.provider };
      if (!(error instanceof ProviderError)) log.error({ ...fields, error }, 'provider broke');
      const failure = describeFailure(error);
      if (!upstream.isSimulated) noteHealth(job.provider, error);
      const routeModel = model && routeOf(model, job.provider)?.model;
      const route = routeModel === undefined ? {} : { routeModel };
      const next = canHelp(error) ? await nextTry(attempt, error) : undefined;
      if (!next) {
        await write(() => settle({ ...ownerOf(job), state: 'FAILED', failure, ...route }));
        log.info({ ...fields, code: failure.code }, 'attempt failed');
        return;
      }
      const { provider, delayMs } = next;
      const mayHaveStarted = error instanceof RetryableError && error.mayHaveStarted;
      const requeued = await write(() =>
        requeue({ ...ownerOf(job), outcome: 'failed', failure, delayMs, provider, mayHaveStarted, ...route }),
      );
      // Otherwise the sweep rings when the database says that the wait is over.
      if (requeued && delayMs === 0) ring(doorbellOf(requeued));
      log.info({ ...fields, delayMs, next: provider }, 'attempt failed, will be tried again');
    },
    release: (job) => requeue({ ...ownerOf(job), outcome: 'released', delayMs: 0 }),
  };

  function noteHealth(provider: string, error: unknown): void {
    if (error instanceof RetryableError) health.failed(provider, error);
    // It has understood the request and answered it.
    else if (error instanceof TerminalError && !error.isProvidersOnly && error.code !== 'internal') health.succeeded(provider);
  }
}

function canHelp(error: unknown): error is ProviderError {
  return error instanceof RetryableError || (error instanceof TerminalError && error.isProvidersOnly);
}

/**
 * An error of a start that may have reached the upstream all the same. A model that would rather fail than pay twice fails; and the doubt does
 * not matter where the run has a handle, or the upstream recognises what it has seen.
 */
function withDoubt(error: unknown, { hasHandle, upstream }: OpenAttempt, model: Model | undefined): unknown {
  if (!(error instanceof RetryableError) || !error.mayHaveStarted) return error;
  if (hasHandle || upstream.isIdempotent) {
    const { code, cause, message, retryAfterMs } = error;
    return new RetryableError(message, { code, cause, ...(retryAfterMs !== undefined && { retryAfterMs }) });
  }
  if (model?.onUnknown !== 'fail') return error;
  const message = 'The provider did not answer when it was handed the request; whether it ran it is unknown.';
  return new TerminalError(message, { code: 'outcome_unknown', cause: error });
}

/** What the client wants pictures to be, where the model lets it choose. */
function wantedFormat(model: Model | undefined, { input }: Job): { readonly format?: string; readonly quality?: number } {
  if (!model?.outputFormat) return {};
  const parameters: JsonObject = JSON.parse(input);
  const format = parameters[model.outputFormat.format];
  const quality = model.outputFormat.quality === undefined ? undefined : parameters[model.outputFormat.quality];
  return { ...(typeof format === 'string' && { format }), ...(typeof quality === 'number' && { quality }) };
}

function ownerOf({ id, attempt }: Pick<Job, 'id' | 'attempt'>): { readonly jobId: string; readonly attempt: number } {
  return { jobId: id, attempt };
}

function describeFailure(error: unknown): Failure {
  if (error instanceof ProviderError) return { code: error.code, message: error.message };
  // Whatever it was, it was not written for clients.
  return { code: 'internal', message: 'The provider adapter failed unexpectedly; the operator finds the reason in the log.' };
}
