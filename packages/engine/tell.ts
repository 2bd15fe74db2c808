/**
 * Tells of a run while it goes on: the lines it prints and the text it writes become events of its job, which clients of every process hear of
 * by the signal of the job. Written in the background, every half second at most, and when the run has ended to the last line.
 */
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { appendEvents, type NewEvents, readTold, type Told } from './storage/events.ts';
import type { Ownership } from './storage/transitions.ts';
import { type Heard, openUntold } from './untold.ts';

export interface Telling {
  /** Takes what the newest look told, and returns at once. */
  take(heard: Heard): void;
  /**
   * Writes what is left, for when the run has ended; from then on nothing is written by itself. @throws when the database does not answer: it
   * may be called again, and nothing is lost by that.
   */
  flush(): Promise<void>;
}

export interface TellOptions extends Ownership {
  /** Who may have told of the job already: nobody, another run of it, or this one, in an earlier attempt or by another process. */
  readonly before: 'nobody' | 'another run' | 'this run';
  /** Aborts when the attempt is over. What is left can still be flushed. */
  readonly signal: AbortSignal;
}

export type Tell = (options: TellOptions) => Promise<Telling>;

const TELL_EVERY_MS = 500;
/** Jobs in one statement, which is so a few megabytes long at the worst. */
const BATCH_SIZE_MAX = 20;

export function makeTell({ clock, database, log }: Pick<EngineContext, 'clock' | 'database' | 'log'>): Tell {
  const append = coalesce(
    async (calls: readonly NewEvents[]) => {
      const told = await appendEvents(database.sql, calls);
      return calls.map(({ jobId }) => told.has(jobId));
    },
    { keyOf: ({ jobId }) => jobId, batchSizeMax: BATCH_SIZE_MAX },
  );

  /** Undefined when it cannot be read: then clients hear lines twice, which is better than never. */
  async function toldBefore({ jobId, before }: TellOptions): Promise<Told | undefined> {
    if (before === 'nobody') return { lines: [], text: '' };
    try {
      const told = await readTold(database.sql, jobId);
      // Another run begins with its own first line, whatever was printed before it; its text takes the place of what clients have.
      return before === 'this run' ? told : { ...told, lines: [] };
    } catch (error) {
      log.warn({ error, jobId }, 'what was told of a run before is not known');
      return undefined;
    }
  }

  return async (options) => {
    const { jobId, attempt, signal } = options;
    const untold = openUntold(await toldBefore(options));
    const flushing = new AbortController();
    let writing: Promise<void> | undefined;
    let nextAtMs = Number.NEGATIVE_INFINITY;
    /** Another attempt owns the job, or it has ended. */
    let isOver = false;

    function writeSoon(): void {
      if (writing || isOver || untold.isEmpty || flushing.signal.aborted || signal.aborted) return;
      writing = writeWhenTime()
        .catch((error: unknown) => log.warn({ error, jobId }, 'what a run told is not written yet'))
        .finally(() => {
          writing = undefined;
          writeSoon();
        });
    }

    async function writeWhenTime(): Promise<void> {
      const waitMs = nextAtMs - clock.now();
      if (waitMs > 0) await clock.sleep(waitMs, AbortSignal.any([signal, flushing.signal])).catch(() => {});
      if (!flushing.signal.aborted && !signal.aborted) await writeOnce();
    }

    async function writeOnce(): Promise<void> {
      const { events, putBack } = untold.next();
      if (events.length === 0) return;
      nextAtMs = clock.now() + TELL_EVERY_MS;
      try {
        isOver = !(await append({ jobId, attempt, events }));
      } catch (error) {
        putBack();
        throw error;
      }
    }

    return {
      take(heard) {
        if (!isOver) untold.take(heard);
        writeSoon();
      },
      async flush() {
        flushing.abort();
        await writing;
        while (!isOver && !untold.isEmpty) await writeOnce();
      },
    };
  };
}
