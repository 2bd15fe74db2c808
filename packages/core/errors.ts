/**
 * Errors that unwind to an edge. `AppError` reaches clients, so its message is written for them;
 * `ProviderError` reaches the engine, which decides from its type whether the job is tried again.
 */

/** Every code a client can meet, with the HTTP status a dialect uses unless its vendor answers otherwise. */
export const ERROR_STATUS = {
  invalid_json: 400,
  invalid_parameters: 400,
  invalid_request: 400,
  unauthorized: 401,
  forbidden: 403,
  unknown_model: 404,
  unknown_path: 404,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  idempotency_mismatch: 422,
  payload_too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  internal: 500,
  not_implemented: 501,
  unavailable: 503,
  wait_timeout: 504,
} as const;
export type ErrorCode = keyof typeof ERROR_STATUS;

/** One thing that is wrong with an input. `pointer` is an RFC 6901 JSON pointer; `''` is the whole document. */
export interface Problem {
  readonly pointer: string;
  readonly message: string;
}

export interface AppErrorDetails {
  readonly problems?: readonly Problem[];
  /** The job the error is about, when there is one: nothing paid for may be lost from sight. */
  readonly requestId?: string;
  /** Seconds after which the same call may succeed; sent as `Retry-After`. */
  readonly retryAfterSeconds?: number;
  /** Logged, never shown to a client. */
  readonly cause?: unknown;
}

/** An error whose message may be shown to the client as it is: no stack, no SQL, no upstream body. */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly problems: readonly Problem[];
  readonly requestId: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, details: AppErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.code = code;
    this.problems = details.problems ?? [];
    this.requestId = details.requestId;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }

  get status(): number {
    return ERROR_STATUS[this.code];
  }
}

/** The process cannot start, for a reason that the operator can mend. The message is ready to print; a stack would only hide it. */
export class StartError extends Error {
  override readonly name: string = 'StartError';
}

/** Why a job ended without a result. `code` is stable for programs; the message is shown to the client. */
export const FAILURE_CODES = [
  'provider_error',
  'content_refused',
  'invalid_input',
  'timeout',
  'worker_crashed',
  'outcome_unknown',
  'cancelled',
  'internal',
] as const;
export type FailureCode = (typeof FAILURE_CODES)[number];

export interface Failure {
  readonly code: FailureCode;
  readonly message: string;
}

export interface ProviderErrorDetails {
  readonly code?: FailureCode;
  readonly cause?: unknown;
}

/** A run failed at an upstream. Adapters throw one of the two subclasses and so decide, once, whether trying again can help. */
export abstract class ProviderError extends Error {
  readonly code: FailureCode;
  /** Everything that the run had printed, by lines, where the upstream tells it together with the failure. */
  logs?: readonly string[];

  constructor(message: string, details: ProviderErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.code = details.code ?? 'provider_error';
  }
}

/** Trying again cannot help: bad input, refused content, a failure the upstream calls final. */
export class TerminalError extends ProviderError {
  override readonly name = 'TerminalError';
  /** True for what is wrong between us and this provider alone, such as a refused key or an empty account: another may serve the request. */
  readonly isProvidersOnly: boolean;

  constructor(message: string, details: ProviderErrorDetails & { readonly isProvidersOnly?: boolean } = {}) {
    super(message, details);
    this.isProvidersOnly = details.isProvidersOnly ?? false;
  }
}

/** Trying again can help: overload, a lost connection, a 5xx. */
export class RetryableError extends ProviderError {
  override readonly name = 'RetryableError';
  /** Milliseconds the upstream asked us to wait; undefined leaves it to the model's schedule. */
  readonly retryAfterMs: number | undefined;
  /**
   * Of a start: the upstream may run the request all the same, as when the connection broke before its answer came. Trying again may pay
   * twice, so the model's `on_unknown` decides, unless the upstream recognises what it has seen.
   */
  readonly mayHaveStarted: boolean;

  constructor(message: string, details: ProviderErrorDetails & { readonly retryAfterMs?: number; readonly mayHaveStarted?: boolean } = {}) {
    super(message, details);
    this.retryAfterMs = details.retryAfterMs;
    this.mayHaveStarted = details.mayHaveStarted ?? false;
  }
}
