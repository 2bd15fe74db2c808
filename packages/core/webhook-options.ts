/** What a client may choose about its webhooks: format, schedule and events, as it writes them in requests and settings. */
import { z } from 'zod';
import { AppError, type Problem } from './errors.ts';
import { WEBHOOK_EVENTS, WEBHOOK_FORMATS, type WebhookEvent, type WebhookOptions } from './job.ts';
import type { JsonValue } from './json.ts';
import { problemWithHeaders } from './webhook-headers.ts';

/**
 * Seconds to wait before each send. `standard` is meant for receivers that may be down over a weekend (75 h 35 min), `fast` gives up after
 * a day (27 h 35 min), `short` after two hours.
 */
export const SCHEDULE_PRESETS = {
  standard: [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400],
  fast: [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000],
  short: [0, 5, 30, 120, 600, 1_800, 4_500],
} as const satisfies Readonly<Record<string, readonly number[]>>;

const HEADERS_MAX = 20;
const HEADER_CHARACTERS_MAX = 4_096;
const ENTRIES_MAX = 20;
const SECONDS_MAX = 86_400;
/** Completes a sentence about a schedule that is none. */
export const SCHEDULE_RULE = `must be ${Object.keys(SCHEDULE_PRESETS).join(', ')}, or 1 to ${ENTRIES_MAX} whole numbers of seconds from 0 to ${SECONDS_MAX}, separated by commas`;
const EVENTS_RULE = `must be a list of ${WEBHOOK_EVENTS.join(', ')}; the end is always told`;
const HEADERS_RULE = `must be an object of at most ${HEADERS_MAX} headers with texts, ${HEADER_CHARACTERS_MAX} characters in all`;

/** Reads a preset's name or a list such as `0,5,300`; undefined when it is neither. */
export function parseSchedule(text: string): readonly number[] | undefined {
  const preset = Object.entries(SCHEDULE_PRESETS).find(([name]) => name === text);
  if (preset) return preset[1];
  const entries = text.split(',').map((entry) => entry.trim());
  return entries.every((entry) => /^\d{1,5}$/.test(entry)) ? scheduleOf(entries.map(Number)) : undefined;
}

function scheduleOf(seconds: readonly number[]): readonly number[] | undefined {
  const isSchedule = seconds.length > 0 && seconds.length <= ENTRIES_MAX && seconds.every((entry) => entry >= 0 && entry <= SECONDS_MAX);
  return isSchedule ? seconds : undefined;
}

const error = (message: string) => ({ error: message });

/** Texts with commas, as in an address line, and JSON lists alike. */
export const webhookOptionSchemas = {
  format: z.enum(WEBHOOK_FORMATS, error(`must be ${WEBHOOK_FORMATS.join(' or ')}`)),
  schedule: z
    .union([z.string(), z.array(z.int())], error(SCHEDULE_RULE))
    .transform((given, { issues }) => read(typeof given === 'string' ? parseSchedule(given) : scheduleOf(given), issues, SCHEDULE_RULE)),
  events: z.union([z.string(), z.array(z.enum(WEBHOOK_EVENTS))], error(EVENTS_RULE)).transform((given, { issues }) => {
    const names: readonly string[] = typeof given === 'string' ? given.split(',').map((name) => name.trim()) : given;
    const known: readonly WebhookEvent[] = WEBHOOK_EVENTS.filter((event) => names.includes(event));
    return read(names.every((name) => known.some((event) => event === name)) ? known : undefined, issues, EVENTS_RULE);
  }),
  headers: z.record(z.string(), z.string(error(HEADERS_RULE)), error(HEADERS_RULE)).transform((given, { issues }) => {
    const headers = Object.fromEntries(Object.entries(given).map(([name, text]) => [name.toLowerCase(), text]));
    const entries = Object.entries(given);
    const characters = entries.reduce((sum, [name, text]) => sum + name.length + text.length, 0);
    const isShort = entries.length <= HEADERS_MAX && characters <= HEADER_CHARACTERS_MAX;
    // What is said never repeats a value.
    const problem = isShort ? problemWithHeaders(headers) : HEADERS_RULE;
    return read(problem === undefined ? headers : undefined, issues, problem ?? HEADERS_RULE);
  }),
} as const;

function read<Value>(value: Value | undefined, issues: z.core.$ZodRawIssue[], message: string): Value {
  if (value !== undefined) return value;
  issues.push({ code: 'custom', message, input: value });
  return z.NEVER;
}

/** As given, whatever it is; undefined and null mean that it is not given. */
export type GivenWebhookOptions = { readonly [Option in keyof WebhookOptions]?: JsonValue | undefined };

/**
 * Reads options by their schemas. `pointerTo` says where an option was given.
 * @throws AppError `invalid_parameters` that lists everything that is wrong.
 */
export function readWebhookOptions(given: GivenWebhookOptions, pointerTo: (option: keyof WebhookOptions) => string): WebhookOptions {
  const problems: Problem[] = [];
  const readOne = <Value>(option: keyof WebhookOptions, schema: z.ZodType<Value>): Value | undefined => {
    const parsed = schema.nullish().safeParse(given[option]);
    for (const { message } of parsed.error?.issues.slice(0, 1) ?? []) problems.push({ pointer: pointerTo(option), message });
    return parsed.data ?? undefined;
  };
  const format = readOne('format', webhookOptionSchemas.format);
  const schedule = readOne('schedule', webhookOptionSchemas.schedule);
  const events = readOne('events', webhookOptionSchemas.events);
  const headers = readOne('headers', webhookOptionSchemas.headers);
  if (problems.length > 0) {
    const sentences = problems.map(({ pointer, message }) => `${pointer} ${message}.`);
    throw new AppError('invalid_parameters', sentences.join(' '), { problems });
  }
  return { ...(format && { format }), ...(schedule && { schedule }), ...(events && { events }), ...(headers && { headers }) };
}
