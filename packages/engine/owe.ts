/** Which webhooks a change of a job owes, and their messages. Recorded in the transaction that makes the change. */
import { isTerminal, type Job, newId, type WebhookEvent, type WebhookMessage } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import type { SqlLike } from './storage/connection.ts';
import { insertDeliveries, type OwedDelivery } from './storage/deliveries.ts';
import { readLogsOf } from './storage/events.ts';

/** The event as receivers know it, by what happened to the job. */
const EVENT_NAMES = {
  queued: 'request.queued',
  started: 'request.started',
  progress: 'request.progress',
  COMPLETED: 'request.completed',
  FAILED: 'request.failed',
  CANCELLED: 'request.cancelled',
} as const;

/** News that is stale a minute later. */
const EVENT_SCHEDULE: readonly number[] = [0, 5, 30];

type Happening = WebhookEvent | 'end';
/** Lines that a message repeats at most, the newest. Progress is told again and again, and before the first attempt nothing was printed. */
const LOG_LINES_MAX: Partial<Record<Happening, number>> = { progress: 100, end: 1_000 };
type OweContext = Pick<EngineContext, 'clock' | 'encodeWebhook' | 'log' | 'settings'>;

/** Records what jobs owe for what just happened to them: nothing for those without a webhook, or whose client did not ask to be told. */
export async function owe(context: OweContext, sql: SqlLike, happening: Happening, jobs: readonly (Job | undefined)[]): Promise<void> {
  const told = jobs.filter((job): job is Job => job !== undefined && isTold(job, happening));
  const owed = (await withLogs(context, sql, happening, told)).flatMap((job) => owedDelivery(context, happening, job));
  if (owed.length > 0) await insertDeliveries(sql, owed);
}

/** The jobs, each whose message repeats what its runs have printed with these lines. */
async function withLogs({ encodeWebhook }: OweContext, sql: SqlLike, happening: Happening, jobs: readonly Job[]): Promise<readonly Job[]> {
  const linesMax = LOG_LINES_MAX[happening];
  const tellsLogs = ({ dialect }: Job) => encodeWebhook.tellsLogs?.(dialect) === true;
  const telling = jobs.filter(tellsLogs).map(({ id }) => id);
  if (linesMax === undefined || telling.length === 0) return jobs;
  const logs = await readLogsOf(sql, telling, linesMax);
  return jobs.map((job) => (tellsLogs(job) ? { ...job, logs: logs.get(job.id) ?? [] } : job));
}

/** True when the job's webhook is told of this. */
export function isTold({ webhookUrl, webhookOptions }: Pick<Job, 'webhookUrl' | 'webhookOptions'>, happening: Happening): boolean {
  return webhookUrl !== undefined && (happening === 'end' || webhookOptions?.events?.includes(happening) === true);
}

function owedDelivery(context: OweContext, happening: Happening, job: Job): OwedDelivery[] {
  const { webhookUrl } = job;
  const event = eventOf(happening, job);
  if (webhookUrl === undefined || event === undefined) return [];
  return [
    {
      id: newId(context.clock),
      callerId: job.callerId,
      jobId: job.id,
      url: webhookUrl,
      ...messageOf(context, event, job),
      ...signedAs(job),
      schedule: happening === 'end' ? (job.webhookOptions?.schedule ?? context.settings.webhookSchedule) : EVENT_SCHEDULE,
      event,
      sequence: job.sequence,
      ...(happening === 'progress' && { progress: job.progress }),
      ...(job.webhookOptions?.headers && { headers: job.webhookOptions.headers }),
    },
  ];
}

/** Who chose the envelope of Standard Webhooks has a receiver for these, and not one that knows the vendor's signature. */
function signedAs({ dialect, webhookOptions }: Job): Pick<OwedDelivery, 'dialect'> {
  return webhookOptions?.format === 'standard' ? {} : { dialect };
}

function eventOf(happening: Happening, { state }: Job): string | undefined {
  if (happening !== 'end') return EVENT_NAMES[happening];
  return isTerminal(state) ? EVENT_NAMES[state] : undefined;
}

function messageOf({ encodeWebhook, log }: OweContext, event: string, job: Job): WebhookMessage {
  const message = encodeSafely(encodeWebhook, log, job);
  return job.webhookOptions?.format === 'standard' ? inEnvelope(event, job.updatedAt, message) : message;
}

/** The envelope of Standard Webhooks around a message that is JSON. The message's own text is kept as it is. */
export function inEnvelope(type: string, happenedAt: Date, { body }: WebhookMessage): WebhookMessage {
  const timestamp = happenedAt.toISOString();
  return { contentType: 'application/json', body: `{"type":${JSON.stringify(type)},"timestamp":"${timestamp}","data":${body}}` };
}

/** A dialect that cannot tell of a job must not keep it, and those of its batch, from ending. */
function encodeSafely(encode: OweContext['encodeWebhook'], log: OweContext['log'], job: Job): WebhookMessage {
  try {
    return encode(job);
  } catch (error) {
    log.error({ error, jobId: job.id, dialect: job.dialect }, 'webhook not encoded');
    return { contentType: 'application/json', body: JSON.stringify({ id: job.id, status: job.state }) };
  }
}
