/** Work of which only so much may go on at once; the rest waits in line. */

export interface Turns {
  /**
   * Does the work when it is its turn. Heavy work takes the place of several; more than there are places counts as all of them.
   * @throws the signal's reason when that aborts before, else what the work throws.
   */
  take<Result>(work: () => Promise<Result>, signal: AbortSignal, places?: number): Promise<Result>;
  /** Nothing goes on and nobody waits. */
  readonly isIdle: boolean;
}

interface Waiting {
  readonly places: number;
  enter(): void;
}

export function makeTurns(max: number): Turns {
  let free = max;
  const line = new Set<Waiting>();

  /** Strictly in order: if light work overtook, heavy work might wait for ever. */
  function letIn(): void {
    for (const next of line) {
      if (next.places > free) return;
      // Taken for it here and now, so that nobody who comes just now is faster.
      free -= next.places;
      line.delete(next);
      next.enter();
    }
  }

  function inLine(places: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        line.delete(waiting);
        reject(signal.reason);
        letIn();
      };
      const waiting = {
        places,
        enter() {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      line.add(waiting);
      signal.addEventListener('abort', leave, { once: true });
      letIn();
    });
  }

  return {
    get isIdle() {
      return free === max;
    },
    async take(work, signal, places = 1) {
      signal.throwIfAborted();
      const taken = Math.min(places, max);
      await inLine(taken, signal);
      try {
        return await work();
      } finally {
        free += taken;
        letIn();
      }
    },
  };
}
