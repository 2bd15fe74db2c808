/** Webhooks as fal posts and signs them (fal.md, section 7). */
import { createHash } from 'node:crypto';
import type { Job, SignableMessage, WebhookMessage, WebhookSigningKeys } from '@claimcheck/core';
import { outputBody } from './_fal-answers.ts';
import { failedAs } from './_fal-errors.ts';

/** Files are told by their addresses, also with `sync_mode`: the message is kept for as long as it may have to be sent again. */
export function encodeWebhook(job: Job): WebhookMessage {
  // Two ids only where the vendor's queue has tried again; here a job keeps its own.
  const body = { request_id: job.id, gateway_request_id: job.id, ...told(job) };
  return { contentType: 'application/json', body: JSON.stringify(body) };
}

function told(job: Job) {
  switch (job.state) {
    // The vendor tells of the end only. Who asked for more (`webhook_events`) hears of it in the words of its queue.
    case 'QUEUED':
      return { status: 'IN_QUEUE', payload: null };
    case 'PROCESSING':
      return { status: 'IN_PROGRESS', payload: null };
    case 'COMPLETED':
      return { status: 'OK', payload: outputBody(job, job.baseUrl) };
    case 'FAILED':
    case 'CANCELLED': {
      const { answer, payload } = failedAs(job);
      return { status: 'ERROR', error: `Invalid status code: ${answer.status}`, payload };
    }
  }
}

/** Ed25519 over four lines, of which the last is the hash of the body. */
export function signWebhook({ jobId, timestamp, body }: SignableMessage, keys: WebhookSigningKeys): Readonly<Record<string, string>> {
  const hash = createHash('sha256').update(body).digest('hex');
  const lines = [jobId, keys.callerId, String(timestamp), hash];
  return {
    'x-fal-webhook-request-id': jobId,
    'x-fal-webhook-user-id': keys.callerId,
    'x-fal-webhook-timestamp': String(timestamp),
    'x-fal-webhook-signature': Buffer.from(keys.signEd25519(Buffer.from(lines.join('\n')))).toString('hex'),
  };
}
