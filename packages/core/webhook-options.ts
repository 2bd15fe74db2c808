/** What a client may choose about its webhooks: format, schedule and events, as it writes them in requests and settings. */
import { AppError, type Problem } from './errors.ts';
import { WEBHOOK_EVENTS, WEBHOOK_FORMATS, type WebhookEvent, type WebhookFormat, type WebhookOptions } from './job.ts';
import { isJsonObject, type JsonValue } from './json.ts';

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

/** As given, whatever it is; undefined and null mean that it is not given. */
export interface GivenWebhookOptions {
  readonly format?: JsonValue | undefined;
  readonly schedule?: JsonValue | undefined;
  readonly events?: JsonValue | undefined;
  readonly headers?: JsonValue | undefined;
}

/**
 * Reads options: texts with commas, as in an address line, and JSON lists alike. `pointerTo` says where an option was given.
 * @throws AppError `invalid_parameters` that lists everything that is wrong.
 */
export function readWebhookOptions(given: GivenWebhookOptions, pointerTo: (option: keyof WebhookOptions) => string): WebhookOptions {
  const problems: Problem[] = [];
  const read = <Value>(option: keyof WebhookOptions, parse: (value: JsonValue) => Value | undefined, rule: string): Value | undefined => {
    const value = given[option];
    if (value === undefined || value === null) return undefined;
    const parsed = parse(value);
    if (parsed === undefined) problems.push({ pointer: pointerTo(option), message: rule });
    return parsed;
  };
  const format = read('format', readFormat, `must be ${WEBHOOK_FORMATS.join(' or ')}`);
  const schedule = read('schedule', readSchedule, SCHEDULE_RULE);
  const events = read('events', readEvents, `must be a list of ${WEBHOOK_EVENTS.join(', ')}; the end is always told`);
  const headers =
    given.headers === undefined || given.headers === null ? undefined : readHeaders(given.headers, problems, pointerTo('headers'));
  if (problems.length > 0) {
    const sentences = problems.map(({ pointer, message }) => `${pointer} ${message}.`);
    throw new AppError('invalid_parameters', sentences.join(' '), { problems });
  }
  return { ...(format && { format }), ...(schedule && { schedule }), ...(events && { events }), ...(headers && { headers }) };
}

function readFormat(value: JsonValue): WebhookFormat | undefined {
  return WEBHOOK_FORMATS.find((format) => format === value);
}

function readSchedule(value: JsonValue): readonly number[] | undefined {
  if (typeof value === 'string') return parseSchedule(value);
  if (!Array.isArray(value)) return undefined;
  const seconds = value.filter((entry) => Number.isInteger(entry)).map(Number);
  return seconds.length === value.length ? scheduleOf(seconds) : undefined;
}

function readEvents(value: JsonValue): readonly WebhookEvent[] | undefined {
  const names = typeof value === 'string' ? value.split(',').map((name) => name.trim()) : value;
  if (!Array.isArray(names)) return undefined;
  const known = WEBHOOK_EVENTS.filter((event) => names.includes(event));
  return names.every((name) => WEBHOOK_EVENTS.some((event) => event === name)) ? known : undefined;
}

/** Names in lower case; what may not be set is a problem that never repeats a value. */
function readHeaders(value: JsonValue, problems: Problem[], pointer: string): Readonly<Record<string, string>> | undefined {
  const entries = isJsonObject(value) ? Object.entries(value) : [];
  const headers = Object.fromEntries(entries.flatMap(([name, text]) => (typeof text === 'string' ? [[name.toLowerCase(), text]] : [])));
  const characters = entries.reduce((sum, [name, text]) => sum + name.length + String(text).length, 0);
  const isList = isJsonObject(value) && Object.keys(headers).length === entries.length;
  const rule = `must be an object of at most ${HEADERS_MAX} headers with texts, ${HEADER_CHARACTERS_MAX} characters in all`;
  const message = isList && entries.length <= HEADERS_MAX && characters <= HEADER_CHARACTERS_MAX ? problemWithHeaders(headers) : rule;
  if (message === undefined) return headers;
  problems.push({ pointer, message });
  return undefined;
}
