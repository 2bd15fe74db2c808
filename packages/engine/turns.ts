/** Work of which only so much may go on at once; the rest waits in line. */

export interface Turns {
  /** Does the work when it is its turn. @throws the signal's reason when that aborts before, else what the work throws. */
  take<Result>(work: () => Promise<Result>, signal: AbortSignal): Promise<Result>;
  /** Nothing goes on and nobody waits. */
  readonly isIdle: boolean;
}

export function makeTurns(max: number): Turns {
  let free = max;
  const line = new Set<() => void>();

  function inLine(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        line.delete(enter);
        reject(signal.reason);
      };
      const enter = () => {
        line.delete(enter);
        signal.removeEventListener('abort', leave);
        resolve();
      };
      line.add(enter);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  return {
    get isIdle() {
      return free === max;
    },
    async take(work, signal) {
      signal.throwIfAborted();
      if (free > 0) free -= 1;
      else await inLine(signal);
      try {
        return await work();
      } finally {
        // A turn that is handed over is never free in between, so nobody who comes just now is faster.
        const [next] = line;
        if (next) next();
        else free += 1;
      }
    },
  };
}
