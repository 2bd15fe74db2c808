/** What a client is told about an error that nobody meant for it. */
import { AppError } from '@claimcheck/core';

/** An `AppError` as it is; a database that cannot be reached as `unavailable`; anything else as `internal`, with the error as its cause. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (isDatabaseAway(error)) {
    return new AppError('unavailable', 'The service cannot reach its database at the moment; nothing was accepted, please try again.', {
      retryAfterSeconds: 2,
      cause: error,
    });
  }
  return new AppError('internal', 'Something went wrong on our side; the operator finds the reason in the log.', { cause: error });
}

/**
 * Codes of postgres.js for lost connections, of Node for hosts that cannot be found or reached, and SQLSTATE classes 08, 53 and 57
 * (cannot serve right now). Drizzle wraps what the driver threw.
 */
function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? error.code : undefined;
  const isAway = typeof code === 'string' && /^(CONNECT|ECONN|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_|EHOST|ENET|08...$|53...$|57...$)/.test(code);
  return isAway || isDatabaseAway(error.cause);
}
