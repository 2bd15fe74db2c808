/** Workers that die at each point of an attempt, and workers that are asked to stop. */
import type { Arena } from '../arena.ts';
import type { PartProcess } from '../fleet.ts';
import { BOTH, LIMITS, type Scenario } from '../scenario.ts';
import type { Point } from '../upstream.ts';

/** Stopping gives this many attempts back, in this many seconds. */
const IN_FLIGHT = 300;
const STOP_SECONDS = 5;

/** Workers at the start, and how many of them die together in each round: enough must be left to go on. */
const WORKERS = 6;
const VICTIMS = 4;
const ROUNDS = 5;
/** A locked row holds up its worker's other writes as well, so that few can be locked at a time. */
const WORKERS_IN_ENDING = 4;
const VICTIMS_IN_ENDING = 2;
const ROUNDS_IN_ENDING = 8;

export const workerScenarios: readonly Scenario[] = [
  {
    name: 'worker-before-submit',
    summary: 'kill -9 of workers between their claim and their submission upstream',
    queues: BOTH,
    size: { worker: WORKERS },
    deadlineSeconds: 240,
    run: (arena) => arena.rounds(ROUNDS, () => killTogether(arena, VICTIMS, () => catchAt(arena, 'gate'))),
  },
  {
    name: 'worker-after-submit',
    summary: 'kill -9 of workers whose submission has arrived upstream, before they have the handle',
    queues: BOTH,
    size: { worker: WORKERS },
    deadlineSeconds: 240,
    run: (arena) => arena.rounds(ROUNDS, () => killTogether(arena, VICTIMS, () => catchAt(arena, 'submit'))),
  },
  {
    name: 'worker-with-handle',
    summary: 'kill -9 of workers that wait for runs whose handles they have saved',
    queues: BOTH,
    size: { worker: WORKERS },
    deadlineSeconds: 240,
    // The first look at a run comes after its handle was saved.
    run: (arena) => arena.rounds(ROUNDS, () => killTogether(arena, VICTIMS, () => catchAt(arena, 'check'))),
  },
  {
    name: 'worker-in-ending',
    summary: 'kill -9 of workers inside the transaction that ends a job',
    queues: BOTH,
    size: { worker: WORKERS_IN_ENDING },
    deadlineSeconds: 240,
    run: (arena) => arena.rounds(ROUNDS_IN_ENDING, () => killTogether(arena, VICTIMS_IN_ENDING, () => catchInEnding(arena))),
  },
  {
    name: 'worker-sigterm',
    summary: 'SIGTERM of a worker with hundreds of attempts under way: exits in 5 s, submits nothing twice',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(6, () => stopBusyWorker(arena)),
  },
];

/** A job whose worker stands still at the point where it is to die. */
interface Target {
  readonly id: string;
  readonly pid: number;
  /** Lets go of whatever holds the worker; called when it is dead. */
  release(): Promise<void>;
}

/** Brings several jobs to the point, kills their workers together, and waits until others have gone on with each. */
async function killTogether(arena: Arena, victims: number, bring: () => Promise<Target>): Promise<void> {
  await using held = new AsyncDisposableStack();
  const targets: Target[] = [];
  // One after the other: two at the end of their runs would wait for the first one's lock in the same statement.
  for (let n = 0; n < victims; n += 1) {
    const target = await bring();
    held.defer(() => target.release());
    targets.push(target);
  }
  const pids = new Set(targets.map(({ pid }) => pid));
  const recovered = targets.map(({ id, pid }) => {
    const goesOn = arena.upstream.hears(id, (other) => other !== pid);
    return arena.expectRecovery(LIMITS.workerCrash, goesOn);
  });
  await Promise.all(Array.from(pids, (pid) => arena.killWorker(workerOf(arena, pid))));
  await held.disposeAsync();
  await Promise.all(Array.from(pids, () => arena.replace('worker')));
  // A second kill before that would be measured with the first.
  await Promise.all(recovered);
}

export async function catchAt(arena: Arena, point: Point): Promise<Target> {
  const tag = arena.newTag();
  const caught = arena.upstream.catchNext(point, tag);
  const { id } = await arena.submit(tag, { gate: point === 'gate' });
  const { pid, release } = await arena.wait(caught);
  return {
    id,
    pid,
    async release() {
      release();
      arena.upstream.finish(tag);
    },
  };
}

async function catchInEnding(arena: Arena): Promise<Target> {
  const tag = arena.newTag();
  const looked = arena.upstream.catchNext('check', tag);
  const { id } = await arena.submit(tag);
  const { pid, release } = await arena.wait(looked);
  const lock = await arena.observer.lock('select from jobs where id = $1 for update', [id]);
  arena.upstream.finish(tag);
  release();
  await arena.until(async () => (await lock.waiting()).includes(`claimcheck-worker-${pid}`));
  return { id, pid, release: lock.letGo };
}

/** Kills the worker that holds the job and expects another one to go on with it. */
export async function killAndExpect(arena: Arena, { id, pid, release }: Target): Promise<void> {
  const recovered = arena.expectRecovery(
    LIMITS.workerCrash,
    arena.upstream.hears(id, (other) => other !== pid),
  );
  await arena.killWorker(workerOf(arena, pid));
  await release();
  await recovered;
}

function workerOf(arena: Arena, pid: number): PartProcess {
  const worker = arena.fleet.live('worker').find((one) => one.pid === pid);
  if (!worker) throw new Error(`no worker has the pid ${pid}`);
  return worker;
}

async function stopBusyWorker(arena: Arena): Promise<void> {
  const crowd = Math.min(IN_FLIGHT, 20 + arena.acknowledged.size);
  const jobs = await arena.submitMany(crowd, [3_000, 6_000]);
  const worker = arena.random.pick(arena.fleet.live('worker'));
  await arena.until(async () => arena.upstream.activeOf(worker.pid).length >= jobs.length / 4);
  const [held] = arena.upstream.activeOf(worker.pid);
  const startedMs = performance.now();
  if (held !== undefined)
    void arena.expectRecovery(
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
