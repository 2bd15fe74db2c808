/** What the native routes read out of a request: path parameters, the model's parameters, preferences and query values. */
import {
  AppError,
  DELIVERY_STATES,
  type ExactJson,
  flagText,
  instant,
  isJsonObject,
  PRIORITIES,
  STATES,
  type SubmitOperation,
  type WebhookOptions,
  type WireRequest,
  webhookOptionSchemas,
  wholeNumberText,
  wordText,
} from '@claimcheck/core';
import { z } from 'zod';

/** The longest a claim check or a status is held back, in seconds: common proxies give up on a silent answer after 60. */
export const HOLD_SECONDS_MAX = 60;

/** A month: longer plans belong into the client's own calendar. */
const DELAY_SECONDS_MAX = 31 * 24 * 3600;
const TIMEOUT_SECONDS_MAX = 24 * 3600;
const LIST_LIMIT_DEFAULT = 20;
const LIST_LIMIT_MAX = 100;

/** Far above the events of any job, and the largest number every store can compare; a larger one is a mistake. */
const SEQUENCE_MAX = 2 ** 31 - 1;

/** A parameter the route's own path promises. */
export function pathParameter(request: WireRequest, name: 'id' | 'model'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

/** @throws AppError when the body is not a JSON object. */
export function modelParameters(request: WireRequest): ExactJson {
  if (request.body && isJsonObject(request.body.value)) return request.body;
  const message = "The body must be a JSON object whose members are the model's parameters.";
  throw new AppError('invalid_parameters', message, { problems: [{ pointer: '', message }] });
}

/**
 * `wait=N` of a Prefer header (RFC 7240). Undefined when there is none that can be understood: the RFC wants such preferences ignored, and of
 * a repeated one only the first counts.
 */
function waitPreferredIn(header: string): number | undefined {
  for (const preference of header.match(PREFERENCE) ?? []) {
    if (!/^\s*wait\s*(?:[=;]|$)/i.test(preference)) continue;
    const seconds = /^\s*wait\s*=\s*"?(\d+)"?\s*(?:;|$)/i.exec(preference)?.[1];
    return seconds === undefined ? undefined : Number(seconds);
  }
  return undefined;
}

/** The same, at most `secondsMax`. */
export function preferredWaitSeconds({ header }: Pick<WireRequest, 'header'>, secondsMax: number): number | undefined {
  const seconds = waitPreferredIn(header('prefer') ?? '');
  return seconds === undefined ? undefined : Math.min(seconds, secondsMax);
}

/** One member of the list in a Prefer header; commas inside quotes do not end it. An unclosed quote runs to the end: no backtracking. */
const PREFERENCE = /(?:[^,"]|"(?:[^"\\]|\\.)*\\?(?:"|$))+/g;

/** An empty value is none. */
function nonEmptyText() {
  return z
    .string()
    .transform((text) => text || undefined)
    .optional()
    .meta({ type: 'string' });
}

const HOLD_RULE = `a whole number of seconds, 0 to ${HOLD_SECONDS_MAX} (more counts as ${HOLD_SECONDS_MAX})`;

/** Of the status route. */
export const statusQuery = z.object({
  wait: wholeNumberText({ min: 0, max: HOLD_SECONDS_MAX, isCut: true, rule: HOLD_RULE })
    .optional()
    .meta({ description: `Seconds to hold the answer until the state changes; more counts as ${HOLD_SECONDS_MAX}.` }),
  logs: flagText().default(false).meta({ description: 'Also tells what the run has printed.' }),
});

/** Of the route of one model. */
export const modelQuery = z.object({
  schema: flagText().default(false).meta({ description: "Adds the JSON Schema of the model's parameters." }),
});

/** Of every list. */
const pageQuery = {
  limit: wholeNumberText({ min: 1, max: LIST_LIMIT_MAX, rule: `a whole number from 1 to ${LIST_LIMIT_MAX}` })
    .default(LIST_LIMIT_DEFAULT)
    .meta({ description: 'How many at most.' }),
  // Clients that keep the cursor in a variable send it empty for the first page.
  cursor: nonEmptyText().meta({ description: 'The `next_cursor` of the page before; none for the first page.' }),
};

export const listQuery = z.object({
  ...pageQuery,
  status: wordText(STATES).optional().meta({ description: 'Only jobs in this state; letters of either case.' }),
});

export const deliveryQuery = z.object({
  ...pageQuery,
  state: wordText(DELIVERY_STATES).optional().meta({ description: 'Only deliveries in this state; letters of either case.' }),
});

export const uploadQuery = z.object(pageQuery);

/** Under these names a request chooses how its webhook is told, in its address line or in its body. */
export const WEBHOOK_OPTION_NAMES = {
  format: 'webhook_format',
  schedule: 'webhook_schedule',
  events: 'webhook_events',
  headers: 'webhook_headers',
} as const;

/**
 * When and how urgently a job is to run, and how its webhook is told. Without the webhook's headers, which may be secret: an address line is
 * written down in many places.
 */
export const submissionQuery = z
  .object({
    priority: wordText(PRIORITIES).optional().meta({ description: 'Which jobs of a queue go first; wins over the header x-priority.' }),
    delay_seconds: secondsText(0, DELAY_SECONDS_MAX).optional().meta({ description: 'Starts not before so many seconds have passed.' }),
    timeout_seconds: secondsText(1, TIMEOUT_SECONDS_MAX)
      .optional()
      .meta({ description: "Ends FAILED when not done so many seconds after it could start; the model's own time unless given." }),
    run_at: instant().optional().meta({ description: 'Starts not before this instant; not together with `delay_seconds`.' }),
    webhook: z.string().optional().meta({ description: 'Where the end of the job is told.' }),
    webhook_format: webhookOptionSchemas.format
      .optional()
      .meta({ description: "`dialect`: the format's own body; `standard`: that in an envelope." }),
    webhook_schedule: webhookOptionSchemas.schedule.optional().meta({
      type: 'string',
      examples: ['0,5,300'],
      description: 'Seconds to wait before each send, or a preset: standard, fast, short.',
    }),
    webhook_events: webhookOptionSchemas.events
      .optional()
      .meta({ type: 'string', examples: ['started,progress'], description: 'What is told besides the end: queued, started, progress.' }),
  })
  .check(({ value, issues }) => {
    if (value.run_at === undefined || value.delay_seconds === undefined) return;
    issues.push({ code: 'custom', path: ['run_at'], message: 'must be absent when delay_seconds is given', input: value });
  });

/** They may stand in the body as well, where headers are nobody else's to read. */
export const submissionMembers = z.object({
  webhook: z.string().optional().meta({ id: 'Webhook', description: 'Where the end of the job is told.' }),
  [WEBHOOK_OPTION_NAMES.format]: webhookOptionSchemas.format.optional().meta({ id: 'WebhookFormat' }),
  [WEBHOOK_OPTION_NAMES.schedule]: webhookOptionSchemas.schedule
    .optional()
    .meta({ id: 'WebhookSchedule', description: 'Seconds to wait before each send, as a list or with commas, or a preset.' }),
  [WEBHOOK_OPTION_NAMES.events]: webhookOptionSchemas.events
    .optional()
    .meta({ id: 'WebhookEvents', description: 'What is told besides the end.' }),
  [WEBHOOK_OPTION_NAMES.headers]: webhookOptionSchemas.headers
    .optional()
    .meta({ id: 'WebhookHeaders', description: 'Sent along with every webhook of the job.' }),
});

function secondsText(min: number, max: number) {
  return wholeNumberText({ min, max, rule: `a whole number of seconds from ${min} to ${max}` });
}

export const submissionHeaders = z.object({
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again; 1 to 255 characters.' }),
  Prefer: z
    .string()
    .transform(waitPreferredIn)
    .optional()
    .meta({ type: 'string', examples: ['wait=30'], description: 'Seconds to wait for the end of the job (RFC 7240).' }),
  'x-priority': wordText(PRIORITIES).optional().meta({ description: 'As `priority`.' }),
  'x-provider': nonEmptyText().meta({ description: 'The provider that must serve the job; no other does then.' }),
});

export type SubmissionQuery = z.output<typeof submissionQuery>;
export type SubmissionHeaders = z.output<typeof submissionHeaders>;
export type Scheduling = Pick<SubmitOperation, 'priority' | 'timeoutSeconds' | 'runAt' | 'delaySeconds'>;

export function scheduling(query: SubmissionQuery, headers: SubmissionHeaders): Scheduling {
  return {
    priority: query.priority ?? headers['x-priority'],
    timeoutSeconds: query.timeout_seconds,
    runAt: query.run_at,
    delaySeconds: query.delay_seconds,
  };
}

export function optionsInQuery({
  webhook_format: format,
  webhook_schedule: schedule,
  webhook_events: events,
}: SubmissionQuery): WebhookOptions {
  return { ...(format && { format }), ...(schedule && { schedule }), ...(events && { events }) };
}

const SEQUENCE_RULE = `the number of an event: a whole number from 0 to ${SEQUENCE_MAX}`;
const sequenceText = wholeNumberText({ min: 0, max: SEQUENCE_MAX, rule: SEQUENCE_RULE });

export const followQuery = z.object({
  after: sequenceText.default(0).meta({ description: 'Number of the last event that is known already.' }),
});

/** A reconnecting browser repeats the first URL, so its header wins. */
export const followHeaders = z.object({
  'Last-Event-ID': z
    .preprocess((text) => (text === '' ? undefined : text), sequenceText.optional())
    .meta({ description: 'As `after`, and wins over it.' }),
});
