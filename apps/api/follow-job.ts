/** Follows jobs for their callers, and for whoever was given a token for one. */
import { AppError, type Followed, type Job } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';

type Following = Pick<Engine, 'follow' | 'read'>;

/** Events after number `after`, until `signal` ends them. */
export function followJob(engine: Following, { signal }: { readonly signal: AbortSignal }, job: Job, after: number): Followed {
  return { job, events: engine.follow(job, after, signal), read: () => engine.read(job) };
}

/** @throws AppError `not_found` for a token that is none, or whose job is gone. */
export async function followByToken(
  { followTokens, ...engine }: Following & Pick<Engine, 'followTokens'>,
  token: string,
  signal: AbortSignal,
): Promise<Followed> {
  const reference = followTokens.read(token);
  const job = reference && (await engine.read(reference));
  if (job) return followJob(engine, { signal }, job, 0);
  throw new AppError('not_found', 'There is no stream at this address: it is mistyped, or its job has been removed.');
}
