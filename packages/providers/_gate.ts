/** Lets only so many pieces of work run at a time; the others wait in the order they came. */

export interface Gate {
  /**
   * Runs `work` when a place is free and gives the place back however it ends.
   * @throws the signal's reason when it aborts before the work has begun; the work is then never run.
   */
  run<Result>(signal: AbortSignal, work: () => Promise<Result>): Promise<Result>;
}

export function createGate(places: number): Gate {
  let free = places;
  const waiting = new Set<() => void>();

  async function enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (free > 0) {
      free -= 1;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => {
      waiting.delete(resolve);
      reject(signal.reason);
    };
    waiting.add(resolve);
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  /** Hands the place straight to who waited longest, so that a newcomer cannot slip in between. */
  function leave(): void {
    const [next] = waiting;
    if (!next) {
      free += 1;
      return;
    }
    waiting.delete(next);
    next();
  }

  return {
    async run(signal, work) {
      await enter(signal);
      try {
        // An abort may fall between being let in and getting here.
        signal.throwIfAborted();
        return await work();
      } finally {
        leave();
      }
    },
  };
}
