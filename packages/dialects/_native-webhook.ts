/**
 * The body posted to a native job's webhook: the seven fields of inference.sh's schema and no others, because receivers check it
 * strictly. Everything else about the job travels in headers.
 */
import type { Job, State, WebhookMessage, WebhookSettings } from '@claimcheck/core';
import { producedMembers } from './_native-answers.ts';

/**
 * The vendor renumbered its ends: its webhook page still shows the old numbers, its newest clients count with the new ones. What comes
 * before the end has the same number in both (protocols/inference-sh.md section 5).
 */
const STATUS_NUMBERS = {
  documented: { QUEUED: 2, PROCESSING: 7, COMPLETED: 9, FAILED: 10, CANCELLED: 11 },
  current: { QUEUED: 2, PROCESSING: 7, COMPLETED: 10, FAILED: 11, CANCELLED: 12 },
} as const satisfies Record<WebhookSettings['statusNumbering'], Record<State, number>>;

export function encodeWebhook(job: Job, settings: WebhookSettings): WebhookMessage {
  return sevenFields(job, settings, producedMembers(job, job.baseUrl));
}

/** `output` is what the job has produced, told only of one that completed. */
export function sevenFields(job: Job, settings: WebhookSettings, output: unknown): WebhookMessage {
  const { state } = job;
  const body = {
    id: job.id,
    status: STATUS_NUMBERS[settings.statusNumbering][state],
    output: state === 'COMPLETED' ? output : null,
    error: job.failure?.message ?? '',
    session_id: job.sessionId ?? null,
    created_at: job.createdAt.toISOString(),
    updated_at: (job.finishedAt ?? job.updatedAt).toISOString(),
  };
  return { contentType: 'application/json', body: JSON.stringify(body) };
}
