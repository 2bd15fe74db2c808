/** What Replicate's requests ask for (replicate.md, sections 1 to 3): the submission in its body and headers, and pages of lists. */
import {
  AppError,
  type ExactJson,
  fromJsonText,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  membersOf,
  type Operations,
  type Problem,
  type SubmitOperation,
  type WebhookEvent,
  type WireRequest,
} from '@claimcheck/core';
import { z } from 'zod';
import { modelNameOf } from './_replicate-prediction.ts';

/** The longest wait, and the one of `Prefer: wait` without a number (section 2). */
export const WAIT_SECONDS_MAX = 60;
const PAGE_SIZE = 100;
const CANCEL_AFTER_SECONDS = { min: 5, max: 24 * 3600 };

/** A parameter that the route's own path promises. */
export function pathParameter(request: WireRequest, name: 'id' | 'model' | 'token' | 'version'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

export function modelInPath(request: WireRequest): string {
  return modelNameOf(pathParameter(request, 'model'));
}

/** By the version in the body. @throws AppError when none is named. */
export function submissionByVersion(request: WireRequest, headers: z.output<typeof submissionHeaders>): SubmitOperation {
  const { version } = bodyOf(request);
  if (typeof version !== 'string' || version === '') {
    throw refusal([{ pointer: '/version', message: 'must name a model; GET /replicate/v1/models lists them with their versions' }]);
  }
  return { ...submission(request, headers, modelOfVersion(version)), modelPointer: '/version' };
}

/** Versions are names of models. The vendor's `owner/name:version` says twice what is meant; the version decides, as in its clients. */
function modelOfVersion(version: string): string {
  return modelNameOf(version.slice(version.indexOf(':') + 1));
}

/**
 * Members of the body that nobody knows are passed over, as the vendor does: its own client puts options of its own there. So is `stream`: every
 * prediction has one.
 */
export function submission(request: WireRequest, headers: z.output<typeof submissionHeaders>, model: string): SubmitOperation {
  const { webhook } = bodyOf(request);
  if (webhook !== undefined && webhook !== null && typeof webhook !== 'string') {
    throw refusal([{ pointer: '/webhook', message: 'must be a URL' }]);
  }
  const events = wantedEvents(request);
  const { Prefer: seconds, 'Cancel-After': timeoutSeconds, 'Idempotency-Key': idempotencyKey } = headers;
  return {
    kind: 'submit',
    model,
    parameters: inputOf(request),
    ...(typeof webhook === 'string' && webhook !== '' && { webhookUrl: webhook }),
    ...(events && { webhookOptions: { events } }),
    ...(seconds !== undefined && { wait: { until: 'end', seconds } as const, withLogs: true }),
    ...(timeoutSeconds !== undefined && { timeoutSeconds }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
}

function bodyOf({ body }: WireRequest): JsonObject {
  if (body && isJsonObject(body.value)) return body.value;
  throw refusal([{ pointer: '', message: 'must be an object with the member input' }]);
}

/** The exact text of the parameters. */
function inputOf({ body }: WireRequest): ExactJson {
  const text = body && membersOf(body.text).get('input');
  const value = text === undefined ? undefined : fromJsonText(text);
  if (text !== undefined && isJsonObject(value)) return { text, value };
  throw refusal([{ pointer: '/input', message: "must be an object whose members are the model's parameters" }]);
}

/** What the vendor's events are here; the end is always told. Output and logs have no happening of their own but progress. */
const EVENTS: Readonly<Record<string, readonly WebhookEvent[]>> = {
  start: ['started'],
  output: ['progress'],
  logs: ['progress'],
  completed: [],
};

/** @throws AppError for a filter that leaves out the end. */
function wantedEvents(request: WireRequest): readonly WebhookEvent[] | undefined {
  const { webhook_events_filter: filter } = bodyOf(request);
  if (filter === undefined || filter === null) return undefined;
  const names: readonly JsonValue[] = Array.isArray(filter) ? filter : [filter];
  const wanted = names.map((name) => (typeof name === 'string' ? EVENTS[name] : undefined));
  const problem = wanted.includes(undefined)
    ? `must be a list of ${Object.keys(EVENTS).join(', ')}`
    : names.includes('completed') || names.length === 0
      ? undefined
      : 'must have completed: the end is always told';
  if (problem !== undefined) throw refusal([{ pointer: '/webhook_events_filter', message: problem }]);
  return [...new Set(wanted.flatMap((events = []) => events))];
}

/** `Prefer: wait`, alone or with seconds. Undefined when there is none that can be understood: RFC 7240 wants such preferences ignored. */
export function waitSeconds({ header }: Pick<WireRequest, 'header'>): number | undefined {
  return waitIn(header('prefer') ?? '');
}

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

export function predictionPage(query: z.output<typeof predictionQuery>): Omit<Operations['list']['operation'], 'kind'> {
  const { created_after: createdAfter, created_before: createdBefore } = query;
  return { ...page(query), ...(createdAfter && { createdAfter }), ...(createdBefore && { createdBefore }) };
}

export function page({ cursor }: z.output<typeof pageQuery>): { readonly limit: number; readonly cursor?: string } {
  return { limit: PAGE_SIZE, ...(cursor !== undefined && { cursor }) };
}

/** A page as the vendor has it. Nobody can go back: `previous` is null, as on the vendor's first page. */
export function pageBody(results: readonly unknown[], nextCursor: string | undefined, { baseUrl, path, query }: WireRequest) {
  const next = new URLSearchParams(query);
  if (nextCursor !== undefined) next.set('cursor', nextCursor);
  return { previous: null, next: nextCursor === undefined ? null : `${baseUrl}${path}?${next}`, results };
}

export function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer.slice(1)} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}
