/** The scripted upstream: counts what is submitted to it, and can hold an answer while the controller kills whoever waits for it. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { z } from 'zod';
import { closeServer, listenOnLoopback, readBody } from './http.ts';

/** Where a worker can be caught: before it submits, when its submission has arrived but is not answered, when it looks after its run. */
export type Point = 'gate' | 'submit' | 'check';

export interface Submission {
  readonly pid: number;
  readonly atMs: number;
  /** Undefined until it is answered. */
  answeredAtMs?: number;
}

export interface Caught {
  readonly jobId: string;
  readonly pid: number;
  /** Answers after all. Harmless when the caller is gone. */
  release(): void;
}

export interface Upstream extends AsyncDisposable {
  readonly url: string;
  /** By job, in the order of arrival. */
  readonly submissions: ReadonlyMap<string, readonly Submission[]>;
  /** Holds the answer of the next call at `point` for the job with this tag, and tells of it. */
  catchNext(point: Point, tag: string): Promise<Caught>;
  /** Ends the run of a job that was submitted without a duration. */
  finish(tag: string): void;
  /** Resolves with the pid when a process calls about the job; `isWanted` may rule pids out. */
  hears(jobId: string, isWanted?: (pid: number) => boolean): Promise<number>;
  /** Jobs whose runs are not known to have ended, and which this process was the last to call about. */
  activeOf(pid: number): readonly string[];
  /** Resolves when this many runs are under way. */
  isBusyWith(runs: number): Promise<void>;
}

const parameters = z.object({ tag: z.string(), duration_ms: z.number().optional() });
/** How soon a run whose end is open is looked at again. */
const CHECK_MS = 150;

interface ScriptedRun {
  readonly jobId: string;
  readonly tag: string;
  /** When it ends, as far as known. */
  doneAtMs: number;
}

interface Listener {
  readonly jobId: string;
  readonly isWanted: (pid: number) => boolean;
  readonly tell: (pid: number) => void;
}

export async function startUpstream(): Promise<Upstream> {
  const submissions = new Map<string, Submission[]>();
  const runs = new Map<string, ScriptedRun>();
  const runsOfTag = new Map<string, ScriptedRun[]>();
  const finishedTags = new Set<string>();
  const holders = new Map<string, number>();
  const active = new Set<string>();
  const traps = new Map<string, (caught: Caught) => void>();
  const listeners = new Map<string, Set<Listener>>();
  const crowds = new Set<{ readonly runs: number; readonly resolve: () => void }>();

  const reach = async (point: Point, tag: string, jobId: string, pid: number) => {
    const trap = traps.get(`${point} ${tag}`);
    if (!trap) return;
    traps.delete(`${point} ${tag}`);
    const held = Promise.withResolvers<void>();
    trap({ jobId, pid, release: held.resolve });
    await held.promise;
  };
  const hear = (jobId: string, pid: number) => {
    holders.set(jobId, pid);
    for (const listener of listeners.get(jobId) ?? []) if (listener.isWanted(pid)) listener.tell(pid);
  };
  const standOf = (id: string, run: ScriptedRun) => {
    const leftMs = run.doneAtMs - performance.now();
    if (leftMs <= 0) active.delete(run.jobId);
    return leftMs <= 0
      ? { run: id, done: true }
      : { run: id, done: false, check_after_ms: Math.ceil(Math.min(leftMs, 1_000, CHECK_MS + leftMs / 2)) };
  };

  const submit = async (jobId: string, pid: number, body: unknown) => {
    const { tag, duration_ms: durationMs } = parameters.parse(body);
    const submission: Submission = { pid, atMs: performance.now() };
    const earlier = submissions.get(jobId) ?? [];
    submissions.set(jobId, earlier);
    earlier.push(submission);
    const openEnd = finishedTags.has(tag) ? 0 : Number.POSITIVE_INFINITY;
    const run: ScriptedRun = { jobId, tag, doneAtMs: durationMs === undefined ? openEnd : submission.atMs + durationMs };
    const id = `${jobId}.${earlier.length}`;
    runs.set(id, run);
    runsOfTag.set(tag, [...(runsOfTag.get(tag) ?? []), run]);
    active.add(jobId);
    for (const crowd of crowds) if (active.size >= crowd.runs) crowd.resolve();
    hear(jobId, pid);
    await reach('submit', tag, jobId, pid);
    submission.answeredAtMs = performance.now();
    // Never done at once: a real upstream that can be asked later takes its time.
    return { run: id, done: false, check_after_ms: Math.min(CHECK_MS, durationMs ?? CHECK_MS) };
  };

  const answer = async (request: IncomingMessage): Promise<object | undefined> => {
    const jobId = String(request.headers['idempotency-key']).slice(0, 36);
    const pid = Number(request.headers['x-pid']);
    const text = await readBody(request);
    if (request.method === 'POST') {
      const body: unknown = JSON.parse(text);
      if (request.url === '/runs') return submit(jobId, pid, body);
      await reach('gate', parameters.parse(body).tag, jobId, pid);
      return {};
    }
    const id = request.url?.split('/').at(-1) ?? '';
    const run = runs.get(id);
    if (!run) return undefined;
    if (request.method === 'DELETE') {
      active.delete(run.jobId);
      return {};
    }
    hear(run.jobId, pid);
    await reach('check', run.tag, jobId, pid);
    return standOf(id, run);
  };
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await answer(request).catch((error: unknown) => ({ error: String(error) }));
    response.writeHead(body === undefined ? 404 : 'error' in body ? 400 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body ?? {}));
  };
  const server = createServer((request, response) => void handle(request, response));
  const url = await listenOnLoopback(server);

  return {
    url,
    submissions,
    catchNext: (point, tag) => new Promise((resolve) => traps.set(`${point} ${tag}`, resolve)),
    finish(tag) {
      finishedTags.add(tag);
      for (const run of runsOfTag.get(tag) ?? []) run.doneAtMs = 0;
    },
    hears(jobId, isWanted = () => true) {
      return new Promise((resolve) => {
        const those = listeners.get(jobId) ?? new Set();
        listeners.set(jobId, those);
        const listener: Listener = {
          jobId,
          isWanted,
          tell: (pid) => {
            those.delete(listener);
            resolve(pid);
          },
        };
        those.add(listener);
      });
    },
    activeOf: (pid) => Array.from(active).filter((jobId) => holders.get(jobId) === pid),
    async isBusyWith(count) {
      if (active.size >= count) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const crowd = { runs: count, resolve };
      crowds.add(crowd);
      await promise;
      crowds.delete(crowd);
    },
    [Symbol.asyncDispose]: () => closeServer(server),
  };
}
