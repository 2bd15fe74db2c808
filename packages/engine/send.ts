/**
 * One send of one delivery: signed, posted to an address that may be called, and written down with all that an owner wants to know when it
 * did not work. It never throws for what a receiver does.
 */
import { allowedHeaders } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import { type CallTimings, OutboundError, openCaller } from './outbound/index.ts';
import { makeSign } from './sign.ts';
import type { ClaimedDelivery, SendFacts } from './storage/deliveries.ts';
import type { SendResult } from './webhook-outcome.ts';

export interface SendOptions {
  readonly userAgent: string;
  /** Milliseconds from the start to the last byte of the answer. */
  readonly totalMs: number;
}

export interface Send {
  (delivery: ClaimedDelivery): Promise<{ readonly facts: SendFacts; readonly result: SendResult }>;
  close(): Promise<void>;
}

/** Callers share them; each caller's lane is narrower. */
const CONNECTIONS = 50;
const OWN_HEADERS: ReadonlySet<string> = new Set([
  'content-type',
  'user-agent',
  'webhook-id',
  'webhook-event',
  'webhook-sequence',
  'webhook-status',
  'webhook-progress',
  'webhook-timestamp',
]);
const RESPONSE_BYTES_MAX = 16_384;
/** The state that the event stands for, as receivers of the schema without words want to know it. */
const STATUS_OF_EVENT: Readonly<Record<string, string>> = {
  'request.queued': 'QUEUED',
  'request.started': 'PROCESSING',
  'request.progress': 'PROCESSING',
  'request.completed': 'COMPLETED',
  'request.failed': 'FAILED',
  'request.cancelled': 'CANCELLED',
};

export function makeSend(context: EngineContext, { userAgent, totalMs }: SendOptions): Send {
  const { clock, guard, log } = context;
  const sign = makeSign(context);
  const caller = openCaller({ guard, clock, connectionsPerOrigin: CONNECTIONS });

  /** @throws OutboundError, or anything when the database does not answer: then nothing was sent. */
  const post = async (delivery: ClaimedDelivery, headers: Record<string, string>) => {
    Object.assign(headers, await sign(delivery));
    return caller.call({ url: delivery.url, method: 'POST', headers, body: delivery.body, totalMs, bodyBytesMax: RESPONSE_BYTES_MAX });
  };

  const send = async (delivery: ClaimedDelivery) => {
    const startedMs = clock.now();
    const headers = headersOf(delivery, userAgent);
    try {
      const { status, headers: responseHeaders, bodyHead, timings, address } = await post(delivery, headers);
      const answer = { status, responseHeaders, responseBody: textOf(bodyHead) };
      return {
        facts: { ...factsOf(timings, address), ...answer, requestHeaders: masked(headers) },
        result: { status, headers: responseHeaders },
      };
    } catch (error) {
      const known = error instanceof OutboundError ? error : new OutboundError('internal', { cause: error });
      if (known.code === 'internal') log.error({ error, deliveryId: delivery.id }, 'webhook not sent');
      const failure = { code: known.code, message: known.message, isLiteral: known.isLiteral };
      const timings = { totalMs: clock.now() - startedMs, ...known.timings };
      const requestHeaders = masked(headers);
      return {
        facts: {
          ...factsOf(timings, known.address),
          ...(known.status !== undefined && { status: known.status }),
          requestHeaders,
          error: { code: failure.code, message: failure.message },
        },
        result: { failure },
      };
    }
  };
  return Object.assign(send, { close: () => caller.close() });
}

function headersOf({ id, contentType, event, sequence, progress, headers }: ClaimedDelivery, userAgent: string): Record<string, string> {
  const status = STATUS_OF_EVENT[event];
  return {
    ...allowedHeaders(headers === null ? {} : JSON.parse(headers)),
    'content-type': contentType,
    'user-agent': userAgent,
    'webhook-id': id,
    'webhook-event': event,
    'webhook-sequence': String(sequence),
    ...(status !== undefined && { 'webhook-status': status }),
    ...(progress !== null && { 'webhook-progress': String(progress) }),
  };
}

/**
 * As they may be looked at later: without signatures, which are good for as long as their timestamp is, and without what the client or its
 * dialect added.
 */
function masked(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const shown = Object.entries(headers).map(([name, value]) => {
    if (name === 'webhook-signature') return [name, value.replace(/([^ ,]*,)?[^ ]+/g, '$1…')];
    return [name, OWN_HEADERS.has(name) ? value : '…'];
  });
  return Object.fromEntries(shown);
}

function factsOf(
  { totalMs, dnsMs, connectMs, tlsMs, firstByteMs }: Partial<CallTimings> & Pick<CallTimings, 'totalMs'>,
  address: string | undefined,
): Pick<SendFacts, 'durationMs' | 'dnsMs' | 'connectMs' | 'tlsMs' | 'firstByteMs' | 'address'> {
  return {
    durationMs: totalMs,
    ...(dnsMs !== undefined && { dnsMs }),
    ...(connectMs !== undefined && { connectMs }),
    ...(tlsMs !== undefined && { tlsMs }),
    ...(firstByteMs !== undefined && { firstByteMs }),
    ...(address !== undefined && { address }),
  };
}

/** Postgres stores no NUL. */
function textOf(body: string): string {
  return body.replaceAll('\u0000', '\ufffd');
}
