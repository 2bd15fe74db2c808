/** Why a call out got no complete answer. */

export const OUTBOUND_CODES = [
  'dns_not_found',
  'dns_error',
  'blocked_address',
  'connect_refused',
  'connect_timeout',
  'tls_error',
  'connection_reset',
  'headers_timeout',
  'total_timeout',
  'response_invalid',
  'internal',
] as const;
/** Stable: stored with each send and shown to its owner. */
export type OutboundCode = (typeof OUTBOUND_CODES)[number];

/** How long the steps of a call took, in milliseconds. Steps that a call did not need are left out. */
export interface CallTimings {
  /** Looking up the name. Left out for addresses and on a reused connection. */
  readonly dnsMs?: number;
  /** Connecting, without the lookup. Left out on a reused connection. */
  readonly connectMs?: number;
  /** Agreeing on encryption. Left out without TLS and on a reused connection. */
  readonly tlsMs?: number;
  /** From the start of the call to the first byte of the answer. */
  readonly firstByteMs: number;
  /** From the start of the call to its end. */
  readonly totalMs: number;
  /** Whether the connection had served a call before. */
  readonly isReused: boolean;
}

export interface OutboundErrorDetails {
  /** For humans, in one sentence; without it, what the code means. */
  readonly message?: string;
  readonly timings?: Partial<CallTimings>;
  readonly address?: string;
  readonly status?: number;
  readonly isLiteral?: boolean;
  readonly cause?: unknown;
}

const MESSAGES: Readonly<Record<OutboundCode, string>> = {
  dns_not_found: 'The name of the receiver does not exist.',
  dns_error: 'The name of the receiver could not be looked up.',
  blocked_address: 'The name of the receiver leads to private or reserved addresses only.',
  connect_refused: 'The receiver refused the connection or cannot be reached.',
  connect_timeout: 'The receiver could not be connected in time.',
  tls_error: 'The certificate or the encryption of the receiver was not accepted.',
  connection_reset: 'The receiver closed the connection before it had answered.',
  headers_timeout: 'The receiver did not begin to answer in time.',
  total_timeout: 'The receiver did not finish its answer in time.',
  response_invalid: 'The answer was incomplete, not HTTP, or had headers that were too large.',
  internal: 'The call could not be made.',
};

/** A call that failed. The message may be shown to whoever named the URL: it tells nothing about our network. */
export class OutboundError extends Error {
  override readonly name = 'OutboundError';
  readonly code: OutboundCode;
  /** Of the steps that were finished. */
  readonly timings: Partial<CallTimings>;
  /** The address that was connected, when the connection was allowed. */
  readonly address: string | undefined;
  /** The status of the answer, when its head arrived and its body did not. */
  readonly status: number | undefined;
  /** With `blocked_address`: the URL itself is refused, and always will be. Otherwise its name leads to refused addresses today. */
  readonly isLiteral: boolean;

  constructor(code: OutboundCode, details: OutboundErrorDetails = {}) {
    super(details.message ?? MESSAGES[code], { cause: details.cause });
    this.code = code;
    this.timings = details.timings ?? {};
    this.address = details.address;
    this.status = details.status;
    this.isLiteral = details.isLiteral ?? false;
  }
}
