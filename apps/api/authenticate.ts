/** Who is calling: the API key of a request, and the caller it belongs to. */
import { AppError } from '@claimcheck/core';
import type { KeyOwner, Keys } from '@claimcheck/engine';

/**
 * The caller, and what was chosen for the key. Keys travel as `x-api-key`, or as `Authorization` with `Bearer`, `Key` or `Token`.
 * @throws AppError `unauthorized`.
 */
export async function authenticate(keys: Keys, header: (name: string) => string | undefined): Promise<KeyOwner> {
  // Some clients always send both, one of them empty.
  const key = header('x-api-key') || /^(?:Bearer|Key|Token)[ \t]+(.+)$/i.exec(header('authorization') ?? '')?.[1];
  if (key === undefined) {
    throw new AppError('unauthorized', 'No API key was sent. Send it as "x-api-key: <key>" or "Authorization: Bearer <key>".');
  }
  const owner = await keys.identify(key);
  if (owner === undefined) throw new AppError('unauthorized', 'The API key is not valid: it is mistyped, unknown or revoked.');
  return owner;
}
