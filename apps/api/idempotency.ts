/** Recognises a request that is handed in again, by its Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header). */
import { createHash } from 'node:crypto';
import { AppError, type Idempotency } from '@claimcheck/core';
import type { ReceivedRequest } from './wire-request.ts';

const KEY_CHARACTERS_MAX = 255;

/** The key's scope is caller, method and path; query and body must stay the same under it. @throws AppError `invalid_request`. */
export function idempotencyOf(request: ReceivedRequest, key: string): Idempotency {
  if (key === '' || key.length > KEY_CHARACTERS_MAX) {
    throw new AppError('invalid_request', `The header Idempotency-Key must have 1 to ${KEY_CHARACTERS_MAX} characters.`);
  }
  return {
    keyHash: digest(request.method, request.path, key),
    requestHash: digest(request.query.toString(), request.bodyDigest),
  };
}

/** JSON keeps the parts apart, whatever they contain. */
function digest(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
