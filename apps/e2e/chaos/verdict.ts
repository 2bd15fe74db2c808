/** What a scenario came to, read from the database, the upstream and the receiver after everything has settled. */
import type { Arena } from './arena.ts';

export interface Verdict {
  readonly scenario: string;
  readonly queue: string;
  readonly faults: number;
  readonly acknowledged: number;
  readonly terminal: number;
  readonly lost: number;
  readonly duplicateTerminals: number;
  readonly duplicateSubmits: number;
  /** Submissions that a killed worker could not say whether it had made. */
  readonly duplicateSubmitsAllowed: number;
  readonly webhooksMissing: number;
  readonly recoverySeconds: readonly number[];
  readonly unaskedExits: number;
  readonly seconds: number;
  /** A sentence for each broken invariant; empty when all hold. */
  readonly broken: readonly string[];
}

interface JobFacts {
  readonly id: string;
  readonly state: string;
  readonly failure_code: string | null;
  readonly terminal_events: number;
  readonly deliveries: number;
  readonly lost_attempts: number;
}

const FACTS = `
  select jobs.id, state, failure_code,
    (select count(*)::integer from job_events where job_id = jobs.id and type = 'status' and state in ('COMPLETED', 'FAILED', 'CANCELLED'))
      as terminal_events,
    (select count(*)::integer from deliveries where job_id = jobs.id) as deliveries,
    (select count(*)::integer from attempts where job_id = jobs.id and outcome = 'lost') as lost_attempts
  from jobs`;
/** A job that loses this many workers is taken out of the queue: the product's promise, not a fault. */
const CRASHES_TO_QUARANTINE = 3;
const NAMED_MAX = 3;

export async function judge(arena: Arena, scenario: string, startedMs: number): Promise<Verdict> {
  const facts = new Map((await arena.observer.rows<JobFacts>(FACTS)).map((job) => [job.id, job]));
  const acknowledged = Array.from(arena.acknowledged.keys());
  const isTerminal = (id: string) => ['COMPLETED', 'FAILED', 'CANCELLED'].includes(facts.get(id)?.state ?? '');
  const all = Array.from(facts.values());
  const lost = acknowledged.filter((id) => !isTerminal(id));
  const contradicted = Array.from(arena.receiver.received)
    .filter(([, statuses]) => new Set(statuses).size > 1)
    .map(([id]) => id);
  const twice = all.filter((job) => job.terminal_events > 1).map(({ id }) => id);
  const unowed = all.filter((job) => isTerminal(job.id) && job.deliveries !== 1).map(({ id }) => id);
  const silent = all.filter((job) => isTerminal(job.id) && !arena.receiver.received.has(job.id)).map(({ id }) => id);
  const failed = all
    .filter((job) => job.state === 'FAILED' && !isQuarantined(job))
    .map(({ id, failure_code }) => `${id} (${failure_code})`);
  const repeated = Array.from(arena.upstream.submissions).map(([id, made]) => ({
    id,
    extra: made.length - 1,
    allowed: arena.blindSubmits(id),
  }));
  const paidTwice = repeated.filter(({ extra, allowed }) => extra > allowed).map(({ id, extra }) => `${id} (${extra} more)`);
  const surplus = facts.size - arena.keysUsed;
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  const broken = [
    ...arena.violations,
    ...arena.fleet.unasked,
    ...sentence(lost, 'acknowledged jobs are not terminal'),
    ...sentence([...new Set([...twice, ...contradicted])], 'jobs ended more than once'),
    ...sentence(unowed, 'ended jobs do not owe exactly one delivery'),
    ...sentence(silent, 'ended jobs were never told to their webhook'),
    ...sentence(failed, 'jobs failed that nothing should have failed'),
    ...sentence(paidTwice, 'jobs were submitted upstream more often than kills explain'),
    ...(surplus > 0 ? [`${surplus} jobs more than idempotency keys`] : []),
  ];
  return {
    scenario,
    queue: arena.queue,
    faults: arena.faults,
    acknowledged: acknowledged.length,
    terminal: acknowledged.length - lost.length,
    lost: lost.length,
    duplicateTerminals: new Set([...twice, ...contradicted]).size,
    duplicateSubmits: sum(repeated.map(({ extra }) => extra)),
    duplicateSubmitsAllowed: sum(repeated.map(({ allowed }) => allowed)),
    webhooksMissing: silent.length,
    recoverySeconds: arena.recoveries,
    unaskedExits: arena.fleet.unasked.length,
    seconds: (performance.now() - startedMs) / 1000,
    broken,
  };
}

function isQuarantined({ failure_code, lost_attempts }: JobFacts): boolean {
  return failure_code === 'worker_crashed' && lost_attempts >= CRASHES_TO_QUARANTINE;
}

function sentence(named: readonly string[], what: string): string[] {
  return named.length === 0
    ? []
    : [`${named.length} ${what}: ${named.slice(0, NAMED_MAX).join(', ')}${named.length > NAMED_MAX ? ', …' : ''}`];
}
