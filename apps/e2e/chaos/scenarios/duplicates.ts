/** The same thing said twice: cancellations that race the end of a run, and doorbells that ring for work that is taken. */
import { createPostgresBackend, Queue, withBackend } from 'bullmq';
import pg from 'pg';
import type { Arena } from '../arena.ts';
import { BOTH, type Scenario } from '../scenario.ts';

const RACES_PER_ROUND = 15;
/** A look at a run and a cancellation meet within this. */
const RACE_MS = 250;
const JOBS_PER_ROUND = 10;
const RINGS_PER_JOB = 5;

export const duplicateScenarios: readonly Scenario[] = [
  {
    name: 'cancel-races',
    summary: 'cancellations at the moment in which the run ends',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(20, async () => {
        await Promise.all(Array.from({ length: RACES_PER_ROUND }, () => race(arena)));
      }),
  },
  {
    name: 'doorbells-doubled',
    summary: 'every doorbell rung five times more, before, during and after its run',
    queues: BOTH,
    deadlineSeconds: 180,
    async run(arena) {
      await using bells = openBells(arena);
      await arena.rounds(20, async () => {
        const jobs = await arena.submitMany(JOBS_PER_ROUND);
        await bells.ring(jobs.map(({ id }) => id));
        arena.count(jobs.length * RINGS_PER_JOB);
      });
    },
  },
];

async function race(arena: Arena): Promise<void> {
  const tag = arena.newTag();
  const { id } = await arena.submit(tag);
  await arena.started(id);
  const waitMs = arena.random.whole(0, RACE_MS);
  arena.upstream.finish(tag);
  await arena.pause(waitMs);
  await arena.cancel(id);
  arena.count();
}

interface Bells extends AsyncDisposable {
  ring(jobIds: readonly string[]): Promise<void>;
}

/** Entries under ids of their own, or the queue would take them for the ones it has. */
function openBells(arena: Arena): Bells {
  const entriesOf = (jobIds: readonly string[]) =>
    Array.from({ length: RINGS_PER_JOB }, (_, ring) =>
      jobIds.map((jobId) => ({ name: 'run', data: { jobId }, opts: { jobId: `${jobId}-again-${ring}`, removeOnComplete: true } })),
    ).flat();
  if (arena.queue === 'redis') {
    const queue = new Queue('invoke-scripted', { connection: { host: '127.0.0.1', port: arena.redis.port } });
    return {
      ring: async (jobIds) => void (await queue.addBulk(entriesOf(jobIds))),
      [Symbol.asyncDispose]: () => queue.close(),
    };
  }
  const pool = new pg.Pool({ connectionString: arena.observer.url, options: '-c search_path=bullmq', max: 2 });
  const queue = new (withBackend(createPostgresBackend).Queue)('invoke-scripted', { connection: pool });
  return {
    ring: async (jobIds) => void (await queue.addBulk(entriesOf(jobIds))),
    async [Symbol.asyncDispose]() {
      await queue.close();
      await pool.end();
    },
  };
}
