/**
 * Ends a process of ours when we are gone, however that happened. The watcher is a small shell in a session of its own that reads a pipe
 * from us; when we die the pipe ends. It is a shell because it must survive us, and it needs no program besides `sleep`.
 */
import { spawn } from 'node:child_process';
import { type Account, SERVER_ENVIRONMENT } from './embedded-postgres-place.ts';

export interface Watcher {
  /** Names the process to end. Call it right after the process was started. */
  watch(pid: number): void;
  /** The process has ended or is being ended in an orderly way: there is nothing left to watch. */
  dismiss(): void;
}

/**
 * First line: the pid. A second line dismisses the watcher; the end of the pipe means that we died. For Postgres the signals are
 * a fast shutdown and, 4 s later, an immediate one, which gets 6 s, as in a stop that we do ourselves. A process that ended but
 * that its new parent does not collect (containers without an init) has ended all the same.
 */
const SCRIPT = `
read -r pid || exit 0
read -r dismissed && exit 0
kill -INT "$pid" || exit 0
n=0
while kill -0 "$pid"; do
  if read -r _ _ state _ <"/proc/$pid/stat" && [ "$state" = Z ]; then exit 0; fi
  n=$((n + 1))
  if [ $n = 40 ]; then kill -QUIT "$pid"; fi
  if [ $n = 100 ]; then kill -KILL "$pid"; exit 0; fi
  sleep 0.1
done
`;

/** Starts the watcher as `account`, who must be allowed to signal the process that it is told about. */
export function startWatcher(account: Account): Watcher {
  const shell = spawn('/bin/sh', ['-c', SCRIPT], {
    ...account,
    cwd: '/',
    env: SERVER_ENVIRONMENT,
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // A watcher that somebody killed, or that could not start: its process then goes unwatched, and the next start finds it.
  shell.on('error', () => {});
  shell.stdin.on('error', () => {});
  return {
    watch: (pid) => void shell.stdin.write(`${pid}\n`),
    dismiss: () => void shell.stdin.end('dismissed\n'),
  };
}
