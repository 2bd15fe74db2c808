/**
 * The body posted to a native job's webhook: the seven fields of inference.sh's schema and no others, because receivers check it
 * strictly. Everything else about the job travels in headers.
 */
import { isTerminal, type Job, type TerminalState, type WebhookMessage, type WebhookSettings } from '@claimcheck/core';
import { producedMembers } from './_native-answers.ts';

/** The vendor renumbered its states: its webhook page still shows the old numbers, its newest clients count with the new ones. */
const STATUS_NUMBERS = {
  documented: { COMPLETED: 9, FAILED: 10, CANCELLED: 11 },
  current: { COMPLETED: 10, FAILED: 11, CANCELLED: 12 },
} as const satisfies Record<WebhookSettings['statusNumbering'], Record<TerminalState, number>>;

/** @throws Error for a job that has not ended: nothing is owed to its webhook yet. */
export function encodeWebhook(job: Job, settings: WebhookSettings): WebhookMessage {
  const { state } = job;
  if (!isTerminal(state)) throw new Error(`Job ${job.id} is ${state}: only a job that has ended is told to a webhook.`);
  const body = {
    id: job.id,
    status: STATUS_NUMBERS[settings.statusNumbering][state],
    output: state === 'COMPLETED' ? producedMembers(job, job.baseUrl) : null,
    error: job.failure?.message ?? '',
    session_id: job.sessionId ?? null,
    created_at: job.createdAt.toISOString(),
    updated_at: (job.finishedAt ?? job.updatedAt).toISOString(),
  };
  return { contentType: 'application/json', body: JSON.stringify(body) };
}
