/**
 * Sessions of inference.sh (protocols/inference-sh.md, section 7): a name that tasks have in common. The vendor keeps a worker for a session;
 * here every task brings all that its run needs, so there is nothing to keep, and nothing that expires before the tasks do.
 */
import { AppError, type Job, type JobPage, newId, systemClock, type WireRequest } from '@claimcheck/core';

export function newSessionId(): string {
  return `sess_${newId(systemClock)}`;
}

/** Of the tasks on a page, those that have a session. */
export function sessionList({ jobs }: JobPage) {
  const bySession = Map.groupBy(jobs, ({ sessionId }) => sessionId);
  return Array.from(bySession, ([id, members]) => (id === undefined ? [] : [sessionBody(id, members)])).flat();
}

/** @throws AppError when no task that can still be read has the session of the path. */
export function oneSession({ jobs }: JobPage, { params: { id = '' } }: WireRequest) {
  if (jobs.length === 0) throw new AppError('not_found', `Session ${id} not found: no task has it, or they have all expired.`);
  return sessionBody(id, jobs);
}

function sessionBody(id: string, newestFirst: readonly Job[]) {
  const [newest] = newestFirst;
  const oldest = newestFirst.at(-1);
  return {
    id,
    short_id: id.slice(-8),
    created_at: oldest?.createdAt.toISOString(),
    updated_at: newest?.updatedAt.toISOString(),
    status: 'active',
    app_id: newest?.model,
    app_version_id: '',
    worker_id: '',
    task_id: newest?.id,
    call_count: newestFirst.length,
    last_call_at: newest?.createdAt.toISOString(),
    expires_at: null,
    ended_at: null,
    idle_timeout: null,
  };
}
