/** The life of a process: start, run until it is told to stop, drain, exit. Shared by every app's `main.ts`. */
import { StartError } from './errors.ts';

export interface Running {
  /** Drains and closes; called once. */
  stop(): Promise<void>;
  /** Rejects when the process cannot go on, as when the embedded database died. */
  readonly broken?: Promise<never>;
}

/** How long draining may take before the process gives up and exits with code 1. */
const STOP_MS = 20_000;
/**
 * Signals that come so soon after the first are the same Ctrl-C: the terminal sends it to everyone in the foreground, and npm hands on to
 * us what it got itself. Taking that for impatience would end the process in the middle of its stop.
 */
const SAME_SIGNAL_MS = 1_000;

/**
 * Starts an app and keeps it until SIGTERM or SIGINT, then stops it and exits with 0. A second signal, a second later or more, exits at once.
 * A start that fails prints one sentence for expected errors, the stack for others, and exits with 1.
 */
export async function runProcess(start: (stopping: AbortSignal) => Promise<Running>): Promise<void> {
  const stopping = new AbortController();
  const stopped = Promise.withResolvers<void>();
  let firstMs = Number.NEGATIVE_INFINITY;
  const onSignal = () => {
    if (stopping.signal.aborted) {
      if (performance.now() - firstMs >= SAME_SIGNAL_MS) process.exit(130);
      return;
    }
    firstMs = performance.now();
    stopping.abort(new StartError('Stopped before the start was complete.'));
    stopped.resolve();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  try {
    const running = await start(stopping.signal);
    let failure: unknown;
    await Promise.race([stopped.promise, running.broken ?? stopped.promise]).catch((error: unknown) => {
      failure = error;
    });
    setTimeout(() => {
      console.error('Stopping took too long; giving up.');
      process.exit(1);
    }, STOP_MS).unref();
    await running.stop();
    if (failure !== undefined) throw failure;
    process.exit(0);
  } catch (error) {
    if (stopping.signal.aborted && error === stopping.signal.reason) process.exit(0);
    console.error(error instanceof StartError ? error.message : error);
    process.exit(1);
  }
}
