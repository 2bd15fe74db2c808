/** Schemas of Replicate's requests (replicate.md, sections 1 to 3): they read what comes, and describe the API. */
import type { WebhookEvent } from '@claimcheck/core';
import { z } from 'zod';

/** The longest wait, and the one of `Prefer: wait` without a number (section 2). */
const WAIT_SECONDS_MAX = 60;
const CANCEL_AFTER_SECONDS = { min: 5, max: 24 * 3600 };

/** `Prefer: wait`, alone or with seconds. Undefined when there is none that can be understood: RFC 7240 wants such preferences ignored. */
function waitIn(prefer: string): number | undefined {
  const [, seconds = String(WAIT_SECONDS_MAX)] = /(?:^|,)\s*wait\s*(?:=\s*"?(\d{1,9})"?\s*)?(?:[;,]|$)/i.exec(prefer) ?? [undefined, ''];
  return seconds === '' ? undefined : Math.min(Math.max(Number(seconds), 1), WAIT_SECONDS_MAX);
}

/** As `90s` or `1h30m` (section 2). */
const cancelAfter = z
  .string()
  .transform((text, { issues }) => {
    const [whole, hours = 0, minutes = 0, rest = 0] = /^(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?$/.exec(text.trim()) ?? [];
    const seconds = whole ? Number(hours) * 3600 + Number(minutes) * 60 + Number(rest) : 0;
    const { min, max } = CANCEL_AFTER_SECONDS;
    if (seconds >= min && seconds <= max) return seconds;
    issues.push({ code: 'custom', message: `must be a time from ${min}s to ${max / 3600}h, such as 90s or 1h30m`, input: text });
    return z.NEVER;
  })
  .optional()
  .meta({ type: 'string', examples: ['90s', '1h30m'], description: 'When a prediction that has not ended is cancelled.' });

/** Of every line that hands in a job. */
export const submissionHeaders = z.object({
  Prefer: z
    .string()
    .transform(waitIn)
    .optional()
    .meta({ type: 'string', examples: ['wait', 'wait=30'], description: `Seconds to wait for the end, ${WAIT_SECONDS_MAX} at most.` }),
  'Cancel-After': cancelAfter,
  // The vendor has none, and so its client makes a prediction twice when a connection breaks (section 10).
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again.' }),
});
export type SubmissionHeaders = z.output<typeof submissionHeaders>;

export const eventName = z.enum(['start', 'output', 'logs', 'completed']);

/** What the vendor's events are here; the end is always told. Output and logs have no happening of their own but progress. */
const EVENTS: Readonly<Record<z.output<typeof eventName>, readonly WebhookEvent[]>> = {
  start: ['started'],
  output: ['progress'],
  logs: ['progress'],
  completed: [],
};

/** Some clients send one name alone. */
const eventsFilter = z
  .union([z.array(eventName), eventName], { error: `must be a list of ${eventName.options.join(', ')}` })
  .transform((names) => [names].flat())
  .refine((names) => names.length === 0 || names.includes('completed'), { error: 'must have completed: the end is always told' })
  .transform((names): readonly WebhookEvent[] => [...new Set(names.flatMap((name) => EVENTS[name]))]);

/**
 * Members that nobody knows are passed over, as the vendor does: its own client puts options of its own there. So is `stream`: every prediction
 * has one.
 */
export const submissionMembers = z.object({
  input: z
    .looseObject({}, { error: "must be an object whose members are the model's parameters" })
    .meta({ description: "The model's parameters." }),
  webhook: z.string({ error: 'must be a URL' }).nullish().meta({ description: 'Where the end of the prediction is told.' }),
  webhook_events_filter: eventsFilter
    .nullish()
    .meta({ description: 'What the webhook is told; with `completed`, unless empty. The choice that was made for the key unless given.' }),
  stream: z
    .unknown()
    .optional()
    .meta({ type: 'boolean', deprecated: true, description: 'Changes nothing: every prediction has a stream.' }),
});
export type SubmissionMembers = z.output<typeof submissionMembers>;

const VERSION_ERROR = { error: 'must name a model; GET /replicate/v1/models lists them with their versions' };
export const submissionByVersionMembers = submissionMembers.extend({
  version: z.string(VERSION_ERROR).min(1, VERSION_ERROR).meta({ description: "A model's name, or `owner/name:` and that." }),
});

/** Without its offset an instant would be another one on every machine; the vendor takes a day alone for one in UTC. */
const INSTANT = /^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2}))?$/;

function instantOrDay(description: string) {
  return z
    .string()
    .transform((text, { issues }) => {
      const date = new Date(INSTANT.test(text) ? text : Number.NaN);
      if (!Number.isNaN(date.getTime())) return date;
      issues.push({ code: 'custom', message: 'must be an instant such as 2030-01-31T09:00:00Z', input: text });
      return z.NEVER;
    })
    .optional()
    .meta({ type: 'string', description });
}

/** Of every list. */
export const pageQuery = z.object({
  cursor: z
    .string()
    .transform((text) => text || undefined)
    .optional()
    .meta({ type: 'string', description: 'Stands in the address of the `next` page.' }),
});

export const predictionQuery = pageQuery.extend({
  created_after: instantOrDay('Only predictions that were made from this instant on.'),
  created_before: instantOrDay('Only predictions that were made up to this instant.'),
});
