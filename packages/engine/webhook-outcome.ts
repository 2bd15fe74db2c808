/** What becomes of a delivery after a send: the one place that turns an answer, or the lack of one, into what happens next. */
import type { ClaimedDelivery, SendRecord } from './storage/deliveries.ts';

/** What came back from a receiver. Exactly one of `status` and `failure` is given. */
export interface SendResult {
  readonly status?: number;
  /** By lower-case name. */
  readonly headers?: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly failure?: {
    readonly code: string;
    readonly message: string;
    /** True when the URL names an address itself, so that another look-up cannot change it. */
    readonly isLiteral?: boolean;
  };
}

export interface Outcome extends Pick<SendRecord, 'next' | 'nextReason' | 'health' | 'error'> {
  /** How the host did: `slow` asks for fewer sends at a time, `failed` counts against it. */
  readonly lane: 'ok' | 'failed' | 'slow';
}

/** A receiver that says it is overloaded, or did not answer in time, is left alone for this long. */
const OVERLOADED_SECONDS = 60;
const RETRY_AFTER_SECONDS_MAX = 86_400;
const OVERLOADED_STATUS: ReadonlySet<number> = new Set([429, 502, 504]);
const TIMEOUTS: ReadonlySet<string> = new Set(['connect_timeout', 'headers_timeout', 'total_timeout']);

type Delivery = Pick<ClaimedDelivery, 'schedule' | 'sendCount' | 'trigger' | 'fallsBackTo'>;

/** Share of a wait that is left to chance, so that what failed together does not come back together. */
const JITTER = 0.2;

/** Decides, by the table in the README. `nowMs` and `random` as of the process; the database adds the wait to its own clock. */
export function judgeSend(result: SendResult, delivery: Delivery, { nowMs, random }: { nowMs: number; random: () => number }): Outcome {
  const wish = headerOf(result, 'webhook-delivery')?.toLowerCase();
  const { status } = result;
  if (status !== undefined && status >= 200 && status < 300) {
    if (wish === 'disable')
      return { next: 'DELIVERED', nextReason: 'delivered; the receiver asked for no more', health: 'asked', lane: 'ok' };
    return { next: 'DELIVERED', nextReason: 'delivered', health: 'ok', lane: 'ok' };
  }
  const error = errorOf(result);
  const isSlow = (status !== undefined && OVERLOADED_STATUS.has(status)) || TIMEOUTS.has(error.code);
  const lane = isSlow ? 'slow' : 'failed';
  const final = finalOf(result, wish);
  if (final) {
    const { health, code = error.code, reason } = final;
    return { next: delivery.fallsBackTo ?? 'FAILED', nextReason: reason, error: { ...error, code }, lane, ...(health && { health }) };
  }
  // What somebody asked for says nothing about how the endpoint does by itself.
  const health = delivery.trigger === 'auto' ? ({ health: 'failed' } as const) : {};
  if (delivery.fallsBackTo) return { next: delivery.fallsBackTo, nextReason: 'the resend failed', error, lane, ...health };
  // schedule[0] was the wait before the first send, so after n sends schedule[n] is the next wait.
  const step = delivery.schedule[delivery.sendCount + 1];
  if (step === undefined) return { next: 'FAILED', nextReason: 'the schedule is used up', error, lane, ...health };
  const scheduled = step * (1 + JITTER * (2 * random() - 1));
  const asked = status === 429 || status === 503 ? retryAfterSeconds(headerOf(result, 'retry-after'), nowMs) : undefined;
  const least = Math.max(asked ?? 0, isSlow ? OVERLOADED_SECONDS : 0);
  const reason = least <= scheduled ? 'by schedule' : asked === least ? 'as Retry-After asks' : 'overloaded: a minute at least';
  return { next: { afterSeconds: Math.max(scheduled, least) }, nextReason: reason, error, lane, ...health };
}

interface Final {
  readonly reason: string;
  readonly code?: string;
  readonly health?: 'gone' | 'asked';
}

/** Why no further send can help. */
function finalOf({ status, failure }: SendResult, wish: string | undefined): Final | undefined {
  if (wish === 'disable') return { reason: 'the receiver asked for no more', code: 'endpoint_disabled', health: 'asked' };
  if (wish === 'abort-message') return { reason: 'the receiver does not want this one', code: 'aborted_by_receiver' };
  if (status === 410) return { reason: 'the receiver is gone for good', code: 'endpoint_disabled', health: 'gone' };
  if (status !== undefined && status >= 300 && status < 400) return { reason: 'redirects are not followed' };
  if (failure?.code === 'blocked_address' && failure.isLiteral) return { reason: 'the address may not be called' };
  return undefined;
}

function errorOf({ status, failure, ...result }: SendResult): { readonly code: string; readonly message: string } {
  if (failure) return { code: failure.code, message: failure.message };
  if (status === undefined || status < 300 || status >= 400) return { code: 'http_error', message: `The receiver answered ${status}.` };
  const location = headerOf(result, 'location');
  return { code: 'redirect', message: `The receiver answered ${status}${location === undefined ? '' : ` and points to ${location}`}.` };
}

/**
 * Seconds that Retry-After asks for, 1 to 86,400: a number, or an HTTP date compared with `nowMs`. Undefined for anything else: an answer
 * that cannot be understood asks for nothing.
 */
export function retryAfterSeconds(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  const trimmed = text.trim();
  const isDate = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(trimmed);
  const seconds = /^\d{1,15}$/.test(trimmed) ? Number(trimmed) : isDate ? (Date.parse(trimmed) - nowMs) / 1000 : Number.NaN;
  if (Number.isNaN(seconds)) return undefined;
  return Math.min(Math.max(seconds, 1), RETRY_AFTER_SECONDS_MAX);
}

function headerOf({ headers }: Pick<SendResult, 'headers'>, name: string): string | undefined {
  const value = headers?.[name];
  return typeof value === 'string' ? value : value?.[0];
}
