/**
 * Tokens that let whoever has one follow a job without a key. A token is the job and its caller, sealed: it is stored nowhere, cannot be guessed,
 * and is worth nothing once the job is gone.
 */
import { isId } from '@claimcheck/core';
import { type SecretBox, SecretBoxError } from './secret-box.ts';
import type { JobReference } from './storage/jobs.ts';

export interface FollowTokens {
  /** Asked again, another one that is as good. Undefined without SECRET_KEY. */
  of(job: JobReference): string | undefined;
  /** The job that a token was made for; undefined for what is no token, or was made with a key that is gone. */
  read(token: string): JobReference | undefined;
}

const PLACE = 'token to follow a job';

export function makeFollowTokens(box: SecretBox): FollowTokens {
  return {
    of: ({ callerId, id }) => unlessClosed(() => box.seal(`${callerId} ${id}`, PLACE)),
    read(token) {
      const [callerId = '', id = ''] = unlessClosed(() => box.open(token, PLACE))?.split(' ') ?? [];
      return isId(callerId) && isId(id) ? { callerId, id } : undefined;
    },
  };
}

function unlessClosed(use: () => string): string | undefined {
  try {
    return use();
  } catch (error) {
    if (error instanceof SecretBoxError) return undefined;
    throw error;
  }
}
