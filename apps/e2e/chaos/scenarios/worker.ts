/** Workers that die at each point of an attempt, and workers that are asked to stop. */
import type { Arena } from '../arena.ts';
import type { PartProcess } from '../fleet.ts';
import { BOTH, LIMITS, type Scenario } from '../scenario.ts';

/** Stopping gives this many attempts back, in this many seconds. */
const IN_FLIGHT = 300;
const STOP_SECONDS = 5;

export const workerScenarios: readonly Scenario[] = [
  {
    name: 'worker-before-submit',
    summary: 'kill -9 of a worker between its claim and its submission upstream',
    queues: BOTH,
    size: { worker: 3 },
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(20, () => killAt(arena, 'gate')),
  },
  {
    name: 'worker-after-submit',
    summary: 'kill -9 of a worker whose submission has arrived upstream, before it has the handle',
    queues: BOTH,
    size: { worker: 3 },
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(20, () => killAt(arena, 'submit')),
  },
  {
    name: 'worker-with-handle',
    summary: 'kill -9 of a worker that waits for runs whose handles it has saved',
    queues: BOTH,
    size: { worker: 3 },
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(20, async () => {
        const tag = arena.newTag();
        // The first look at a run comes after its handle was saved.
        const caught = arena.upstream.catchNext('check', tag);
        const { id } = await arena.submit(tag);
        const { pid, release } = await arena.wait(caught);
        await killAndExpect(arena, pid, id);
        release();
        arena.upstream.finish(tag);
        await arena.replace('worker');
      }),
  },
  {
    name: 'worker-in-ending',
    summary: 'kill -9 of a worker inside the transaction that ends a job',
    queues: BOTH,
    size: { worker: 3 },
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(20, () => killInEnding(arena)),
  },
  {
    name: 'worker-sigterm',
    summary: 'SIGTERM of a worker with hundreds of attempts under way: exits in 5 s, submits nothing twice',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(6, () => stopBusyWorker(arena)),
  },
];

async function killAt(arena: Arena, point: 'gate' | 'submit'): Promise<void> {
  const tag = arena.newTag();
  const caught = arena.upstream.catchNext(point, tag);
  const { id } = await arena.submit(tag, { durationMs: 300, gate: true });
  const { pid, release } = await arena.wait(caught);
  await killAndExpect(arena, pid, id);
  release();
  await arena.replace('worker');
}

/** Kills the worker and expects another one to go on with the job. */
export async function killAndExpect(arena: Arena, pid: number, jobId: string): Promise<void> {
  const goesOn = arena.upstream.hears(jobId, (other) => other !== pid);
  await arena.killWorker(workerOf(arena, pid));
  arena.expectRecovery(LIMITS.workerCrash, goesOn);
}

export function workerOf(arena: Arena, pid: number): PartProcess {
  const worker = arena.fleet.live('worker').find((one) => one.pid === pid);
  if (!worker) throw new Error(`no worker has the pid ${pid}`);
  return worker;
}

async function killInEnding(arena: Arena): Promise<void> {
  const tag = arena.newTag();
  const looked = arena.upstream.catchNext('check', tag);
  const { id } = await arena.submit(tag);
  const first = await arena.wait(looked);
  const lock = await arena.observer.lock('select from jobs where id = $1 for update', [id]);
  try {
    arena.upstream.finish(tag);
    first.release();
    const name = `claimcheck-worker-${first.pid}`;
    await arena.until(async () => (await lock.waiting()).includes(name));
    await killAndExpect(arena, first.pid, id);
  } finally {
    await lock.letGo();
  }
  await arena.replace('worker');
}

async function stopBusyWorker(arena: Arena): Promise<void> {
  const crowd = Math.min(IN_FLIGHT, 20 + arena.acknowledged.size);
  const jobs = await arena.submitMany(crowd, [3_000, 6_000]);
  const worker = arena.random.pick(arena.fleet.live('worker'));
  await arena.until(async () => arena.upstream.activeOf(worker.pid).length >= jobs.length / 4);
  const [held] = arena.upstream.activeOf(worker.pid);
  const startedMs = performance.now();
  if (held !== undefined)
    arena.expectRecovery(
      LIMITS.workerCrash,
      arena.upstream.hears(held, (pid) => pid !== worker.pid),
    );
  const code = await arena.fleet.end(worker, 'SIGTERM');
  const seconds = (performance.now() - startedMs) / 1000;
  if (code !== 0) arena.violate(`a worker ended with code ${code} at SIGTERM`);
  if (seconds > STOP_SECONDS) arena.violate(`a worker took ${seconds.toFixed(1)} s to stop`);
  arena.count();
  await arena.replace('worker');
}
