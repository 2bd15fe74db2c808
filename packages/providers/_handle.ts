/** How most adapters find a started run again: the vendor's id of it, and when it was started, by which looks get rarer. */
import { isJsonObject, type JsonValue, RetryableError, type Run, TerminalError } from '@claimcheck/core';

export type Handle = { readonly id: string; readonly startedAt: number };

/**
 * Of a run that has just been started.
 * @throws RetryableError for an answer without an id, as the run may go on unseen. Ids are opaque, but one that is not a plain word would make
 * another address of those that are built from it, so it counts as none.
 */
export function startedHandle({ clock }: Run, id: JsonValue | undefined): Handle {
  if (isRunId(id)) return { id, startedAt: clock.now() };
  throw new RetryableError('The provider did not tell which run it started.', { mayHaveStarted: true });
}

/** @throws TerminalError for what {@link startedHandle} has not made. */
export function readHandle(handle: JsonValue): Handle {
  const { id, startedAt } = isJsonObject(handle) ? handle : {};
  if (isRunId(id) && typeof startedAt === 'number') return { id, startedAt };
  throw new TerminalError('The provider was asked about a run that it did not start.', { code: 'internal' });
}

function isRunId(id: JsonValue | undefined): id is string {
  return typeof id === 'string' && /^[\w-]{1,200}$/.test(id);
}
