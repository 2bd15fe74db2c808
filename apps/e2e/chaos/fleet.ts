/** The service's processes: started as children, killed by their own pid, started anew when one ends unasked. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export type Part = 'api' | 'worker' | 'dispatcher';
export type Environment = Readonly<Record<string, string>>;

export interface PartProcess {
  readonly part: Part;
  readonly pid: number;
  /** Where an API listens. */
  readonly url: string;
  /** Resolves when it works; rejects when it ends before that. */
  readonly ready: Promise<void>;
  /** Resolves with the exit code when it has ended; null when a signal ended it. */
  readonly exited: Promise<number | null>;
}

export interface Fleet extends AsyncDisposable {
  /** Starts a process; its variables win over those that all have. It is not ready yet. */
  start(part: Part, environment?: Environment): PartProcess;
  /** Signals a process and resolves with its exit code when it is gone. */
  end(process: PartProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null>;
  /** Those that are ready and not being ended. */
  live(part: Part): readonly PartProcess[];
  /** A sentence for each process that ended without being asked. */
  readonly unasked: readonly string[];
}

const PROGRAMS: Readonly<Record<Part, { readonly file: URL; readonly ready: RegExp }>> = {
  api: { file: new URL('api-process.ts', import.meta.url), ready: /"url":"(http:[^"]+)".*api listens/ },
  worker: { file: new URL('worker-process.ts', import.meta.url), ready: /worker takes jobs/ },
  // The product's own: it knows nothing of providers.
  dispatcher: { file: new URL('../../dispatcher/main.ts', import.meta.url), ready: /dispatcher delivers/ },
};
/** What is repeated of the last words of a process that ended unasked. */
const COMPLAINT_MAX = 1_000;
const TETHER = fileURLToPath(new URL('tether.ts', import.meta.url));

export interface FleetOptions {
  /** Variables of every process. */
  readonly environment: Environment;
  /** Where the output of each process goes. */
  readonly logDir: string;
}

export function openFleet({ environment, logDir }: FleetOptions): Fleet {
  const running = new Map<PartProcess, ChildProcess>();
  const ready = new Set<PartProcess>();
  const ending = new Set<PartProcess>();
  const unasked: string[] = [];
  let isClosing = false;

  const start = (part: Part, own: Environment = {}): PartProcess => {
    const program = PROGRAMS[part];
    const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
    const child = spawn(process.execPath, ['--import', TETHER, fileURLToPath(program.file)], {
      env: { PATH, HOME, NODE_COMPILE_CACHE, ...environment, ...own },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // Ctrl-C in the terminal is for the controller, which ends everything in order.
      detached: true,
    });
    const pid = child.pid ?? 0;
    const log = createWriteStream(join(logDir, `${part}-${pid}.log`));
    const isReady = Promise.withResolvers<void>();
    isReady.promise.catch(() => {});
    let url = '';
    let complaint = '';
    child.stderr?.pipe(log, { end: false });
    child.stderr?.on('data', (chunk) => {
      complaint = `${complaint}${chunk}`.slice(-COMPLAINT_MAX);
    });
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        log.write(`${line}\n`);
        if (ready.has(started)) return;
        const match = program.ready.exec(line);
        if (!match) return;
        url = match[1] ?? '';
        ready.add(started);
        isReady.resolve();
      });
    }
    const exited = once(child, 'exit').then(([code, signal]: (number | string | null)[]) => {
      running.delete(started);
      isReady.reject(new Error(`The ${part} ${pid} ended before it was ready.`));
      if (!ending.has(started) && !isClosing) {
        unasked.push(`${part} ${pid} ended with ${signal ?? `code ${code}`} unasked, see ${part}-${pid}.log: ${complaint.trim()}`);
        start(part, own);
      }
      return typeof code === 'number' ? code : null;
    });
    const started: PartProcess = {
      part,
      pid,
      get url() {
        return url;
      },
      ready: isReady.promise,
      exited,
    };
    running.set(started, child);
    return started;
  };

  const end = async (target: PartProcess, signal: 'SIGKILL' | 'SIGTERM') => {
    ending.add(target);
    running.get(target)?.kill(signal);
    return target.exited;
  };
  return {
    start,
    end,
    unasked,
    live: (part) => Array.from(running.keys()).filter((one) => one.part === part && ready.has(one) && !ending.has(one)),
    async [Symbol.asyncDispose]() {
      isClosing = true;
      await Promise.all(Array.from(running.keys(), (one) => end(one, 'SIGKILL')));
    },
  };
}
