/** Starts the service's real processes for a test and ends them by their own pid. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

export type Environment = Readonly<Record<string, string>>;

export interface StartedProcess extends AsyncDisposable {
  readonly pid: number;
  /** Everything it has printed so far, both streams. */
  output(): string;
  /** Resolves with the first match in its output, rejects when it ends without one. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  /** Sends a signal and resolves with the exit code; null when the signal killed it. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
  /** The exit code, once it has ended by itself. */
  readonly exited: Promise<number | null>;
}

/** Runs `node <main>` from the root of the repository, with only the variables given. */
export function startProcess(main: string, environment: Environment = {}, args: readonly string[] = []): StartedProcess {
  return startProgram(process.execPath, [main, ...args], environment);
}

/** Like {@link startProcess}, for another program than Node. */
export function startProgram(program: string, args: readonly string[], environment: Environment = {}): StartedProcess {
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(program, args, {
    cwd: ROOT,
    env: { PATH, HOME, NODE_COMPILE_CACHE, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return follow(child);
}

function follow(child: ChildProcess): StartedProcess {
  let output = '';
  const more = new Set<() => void>();
  const add = (chunk: Buffer) => {
    output += chunk.toString();
    for (const look of more) look();
  };
  child.stdout?.on('data', add);
  child.stderr?.on('data', add);
  // 'close' comes after the last of the output.
  const exited = once(child, 'close').then(([code]) => code as number | null);
  const end = async (signal: NodeJS.Signals = 'SIGTERM') => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return exited;
  };
  return {
    pid: child.pid ?? 0,
    output: () => output,
    exited,
    end,
    printed(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(output);
          if (!match) return;
          more.delete(look);
          resolve(match);
        };
        more.add(look);
        void exited.then(() => reject(new Error(`The process ended without printing ${pattern}:\n${output}`)));
        look();
      });
    },
    [Symbol.asyncDispose]: async () => {
      await end('SIGKILL');
    },
  };
}

export interface Folder extends AsyncDisposable {
  readonly path: string;
}

/** A temporary folder that an embedded Postgres can use, also when root starts it as another user. A killed one takes a second to leave it. */
export async function temporaryFolder(): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), 'claimcheck-e2e-'));
  await chmod(path, 0o755);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }) };
}

export interface Client {
  readonly url: string;
  readonly key: string;
  get(path: string): Promise<{ readonly status: number; readonly body: Record<string, unknown> }>;
  post(
    path: string,
    body?: object,
    headers?: Readonly<Record<string, string>>,
  ): Promise<{ readonly status: number; readonly body: Record<string, unknown> }>;
  /** Submits and returns the id. */
  submit(parameters: object): Promise<string>;
  /** Waits for the end of a job and returns its status body. */
  ended(id: string): Promise<Record<string, unknown>>;
}

export function clientOf(url: string, key: string): Client {
  const call = async (path: string, init: RequestInit = {}) => {
    const headers = { 'x-api-key': key, 'content-type': 'application/json', ...init.headers };
    const response = await fetch(`${url}${path}`, { ...init, headers });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const client: Client = {
    url,
    key,
    get: (path) => call(path),
    post: (path, body, headers = {}) => call(path, { method: 'POST', headers, ...(body && { body: JSON.stringify(body) }) }),
    async submit(parameters) {
      const { status, body } = await client.post('/v2/hidream-l1-fast', parameters);
      if (status !== 200) throw new Error(`The submission was answered with ${status}: ${JSON.stringify(body)}`);
      return String(body.request_id);
    },
    async ended(id) {
      for (;;) {
        const { body } = await client.get(`/v2/requests/${id}/status?wait=30`);
        if (body.status !== 'QUEUED' && body.status !== 'PROCESSING') return body;
      }
    },
  };
  return client;
}

/** The all-in-one process, ready; its key is only known at the first start on a data folder. */
export async function startStandalone(
  dataDir: string,
  environment: Environment = {},
): Promise<StartedProcess & { readonly url: string; readonly key: string }> {
  const started = startProcess('apps/standalone/main.ts', { DATA_DIR: dataDir, PORT: '0', ...environment });
  const [, url = ''] = await started.printed(/URL\s+(http:\S+)/);
  await started.printed(/Ctrl-C stops it/);
  const key = /API key\s+(ck_\S+)/.exec(started.output())?.[1] ?? environment.BOOTSTRAP_API_KEY ?? '';
  return Object.assign(started, { url, key });
}

/** What {@link startApi} gives its API as the bootstrap key. */
export const KEY = 'a bootstrap key of 24 characters';
/** The parts of a service share one. */
export const SECRET_KEY = Buffer.alloc(32, 7).toString('base64');

/** An API on a free port, ready, with {@link KEY}. */
export async function startApi(environment: Environment): Promise<StartedProcess & { readonly url: string }> {
  const api = startProcess('apps/api/main.ts', { PORT: '0', BOOTSTRAP_API_KEY: KEY, SECRET_KEY, ...environment });
  const [, url = ''] = await api.printed(/"url":"(http:[^"]+)"/);
  return Object.assign(api, { url });
}

/** A worker that takes jobs. */
export async function startWorker(environment: Environment): Promise<StartedProcess> {
  const worker = startProcess('apps/worker/main.ts', environment);
  await worker.printed(/worker takes jobs/);
  return worker;
}
