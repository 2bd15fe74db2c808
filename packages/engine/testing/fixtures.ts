/** Rows, submissions, models and upstreams for tests: legal for their state without being told. Set only what the test is about. */
import { createHash } from 'node:crypto';
import {
  type Catalog,
  type DeliveryState,
  isTerminal,
  type JsonText,
  type JsonValue,
  type Model,
  newId,
  type Output,
  type Run,
  type SendTrigger,
  type State,
  type Step,
  type Submission,
  systemClock,
  type Upstream,
} from '@claimcheck/core';
import type { Sql } from '../storage/connection.ts';

export const OUTPUT: Output = { media: [], text: 'done' };
export const MODEL = 'test-model';
export const PROVIDER = 'testing';

/** Retries come at once, so that a test need not wait. */
export const aModel: Model = {
  name: MODEL,
  aliases: [],
  title: 'A model for tests',
  produces: 'text',
  parameters: { type: 'object' },
  routes: [{ provider: PROVIDER, model: 'upstream/test-model' }],
  routing: 'order',
  retry: { attempts: 3, firstDelayMs: 1, factor: 1, delayMsMax: 1 },
  timeoutSeconds: 900,
  onUnknown: 'resubmit',
};

/** A catalog of these models, whose routes send parameters as they are and cost nothing. */
export function aCatalog(...models: Model[]): Pick<Catalog, 'find' | 'express' | 'estimateUsd' | 'costUsd'> {
  return {
    find: (name) => models.find((model) => model.name === name),
    express: (_model, _route, parameters) => Promise.resolve(parameters),
    estimateUsd: () => Promise.resolve(undefined),
    costUsd: () => Promise.resolve(undefined),
  };
}

/** A caller of its own. Returns the id. */
export async function aCaller(sql: Sql, name = `caller ${newId(systemClock)}`): Promise<string> {
  const id = newId(systemClock);
  await sql`insert into callers (id, name) values (${id}, ${name})`;
  return id;
}

export function aSubmission(callerId: string, set: Partial<Submission> = {}): Submission {
  return {
    callerId,
    dialect: 'native',
    model: MODEL,
    provider: PROVIDER,
    input: '{"prompt":"a lighthouse"}' as JsonText,
    priority: 'normal',
    timeoutSeconds: 900,
    baseUrl: 'https://queue.example',
    ...set,
  };
}

export interface JobFields {
  readonly id?: string;
  readonly callerId: string;
  readonly state?: State;
  readonly provider?: string;
  /** Number of the newest attempt; by default 0 for a job that waits and 1 for any other. */
  readonly attempt?: number;
  readonly crashedAttempts?: number;
  readonly failedAttempts?: number;
  readonly webhookUrl?: string;
  /** The newest attempt's handle. */
  readonly handle?: JsonValue;
  /** Seconds from now until the lease of a PROCESSING job runs out; negative when it has. */
  readonly leaseSeconds?: number;
  /** Seconds from now until an ended job expires. */
  readonly expiresInSeconds?: number;
}

/** A job with the attempt and the events that its state implies. Returns its id. */
export async function aJob(sql: Sql, fields: JobFields): Promise<string> {
  const { callerId, state = 'QUEUED', id = newId(systemClock) } = fields;
  const ended = isTerminal(state);
  const attempt = fields.attempt ?? (state === 'QUEUED' ? 0 : 1);
  const failure = state === 'FAILED' ? 'provider_error' : state === 'CANCELLED' ? 'cancelled' : null;
  const outcome = { QUEUED: 'released', PROCESSING: null, COMPLETED: 'succeeded', FAILED: 'failed', CANCELLED: 'cancelled' }[state];
  const lease = state === 'PROCESSING' ? (fields.leaseSeconds ?? 60) : null;
  const expires = ended ? (fields.expiresInSeconds ?? 3600) : null;
  await sql.begin(async (tx) => {
    await tx`
      insert into jobs (id, caller_id, dialect, model, provider, input, base_url, webhook_url, state, attempt, crashed_attempts, failed_attempts,
        event_count, output, failure_code, failure_message, started_at, attempt_started_at, lease_until, finished_at, expires_at, progress, deadline_at)
      values (${id}, ${callerId}, 'native', ${MODEL}, ${fields.provider ?? PROVIDER}, '{}', 'https://queue.example', ${fields.webhookUrl ?? null},
        ${state}, ${attempt}, ${fields.crashedAttempts ?? 0}, ${fields.failedAttempts ?? 0}, ${attempt + 1 + (ended ? 1 : 0)},
        ${state === 'COMPLETED' ? JSON.stringify(OUTPUT) : null}, ${failure}, ${failure && 'It did not work.'},
        case when ${attempt > 0} then db_now() end, case when ${attempt > 0} then db_now() end,
        db_now() + make_interval(secs => ${lease}), case when ${ended} then db_now() end, db_now() + make_interval(secs => ${expires}),
        ${state === 'COMPLETED' ? 1 : 0}, db_now() + interval '1 hour')`;
    await tx`insert into job_events (job_id, sequence, type, state, progress) values (${id}, 1, 'status', 'QUEUED', 0)`;
    for (let number = 1; number <= attempt; number++) {
      const newest = number === attempt;
      await tx`
        insert into attempts (job_id, number, provider, worker_id, handle, finished_at, outcome)
        values (${id}, ${number}, ${fields.provider ?? PROVIDER}, 'a worker', ${newest && fields.handle !== undefined ? JSON.stringify(fields.handle) : null},
          case when ${!newest || outcome !== null} then db_now() end, ${newest ? outcome : 'failed'})`;
      await tx`insert into job_events (job_id, sequence, type, state, progress) values (${id}, ${number + 1}, 'status', 'PROCESSING', 0)`;
    }
    if (ended)
      await tx`insert into job_events (job_id, sequence, type, state, progress) values (${id}, ${attempt + 2}, 'status', ${state}, 0)`;
  });
  return id;
}

export interface DeliveryFields {
  readonly callerId: string;
  readonly url: string;
  readonly jobId?: string;
  readonly body?: string;
  readonly schedule?: readonly number[];
  readonly state?: DeliveryState;
  readonly claim?: number;
  readonly event?: string;
  readonly trigger?: SendTrigger;
}

/** A delivery that is due now. Returns its id. */
export async function aDelivery(sql: Sql, fields: DeliveryFields): Promise<string> {
  const id = newId(systemClock);
  const state = fields.state ?? 'PENDING';
  const failureCode = { PENDING: null, DELIVERED: null, FAILED: 'http_error', HELD: 'endpoint_disabled' }[state];
  await sql`
    insert into deliveries (id, caller_id, job_id, url, content_type, body, schedule, state, claim, event, trigger, next_send_at, finished_at,
      failure_code)
    values (${id}, ${fields.callerId}, ${fields.jobId ?? newId(systemClock)}, ${fields.url}, 'application/json', ${fields.body ?? '{}'},
      ${fields.schedule ?? [0]}, ${state}, ${fields.claim ?? 0}, ${fields.event ?? 'request.completed'}, ${fields.trigger ?? 'auto'}, db_now(),
      case when ${state !== 'PENDING'} then db_now() end, ${failureCode})`;
  return id;
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export interface UpstreamCall {
  readonly verb: 'start' | 'check' | 'cancel';
  readonly run: Run;
  readonly handle?: JsonValue;
}

export interface RecordingUpstream extends Upstream {
  readonly calls: readonly UpstreamCall[];
  /** The verbs that were called for a job, in order. */
  verbs(jobId: string): string[];
}

/** An upstream that does as it is told and finishes at once where it is told nothing. */
export function anUpstream(behaviour: Partial<Upstream> = {}): RecordingUpstream {
  const calls: UpstreamCall[] = [];
  const finished = (): Promise<Step> => Promise.resolve({ kind: 'finished', output: OUTPUT });
  return {
    calls,
    verbs: (jobId) => calls.filter(({ run }) => run.jobId === jobId).map(({ verb }) => verb),
    ...(behaviour.concurrency !== undefined && { concurrency: behaviour.concurrency }),
    ...(behaviour.limits && { limits: behaviour.limits }),
    ...(behaviour.receive && { receive: behaviour.receive }),
    start(run) {
      calls.push({ verb: 'start', run });
      return behaviour.start?.(run) ?? finished();
    },
    check(run, handle) {
      calls.push({ verb: 'check', run, handle });
      return behaviour.check?.(run, handle) ?? finished();
    },
    async cancel(run, handle) {
      calls.push({ verb: 'cancel', run, handle });
      await behaviour.cancel?.(run, handle);
    },
  };
}

/** A run that goes on until it is told to stop. */
export function running(handle: JsonValue, checkAfterMs = 3_600_000): Step {
  return { kind: 'running', handle, checkAfterMs };
}

/** Rejects as a call out does when its signal aborts. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}
