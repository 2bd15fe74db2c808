/**
 * Tells of a run while it goes on: the lines it prints and the text it writes become events of its job, which clients of every process hear of
 * by the signal of the job. Written in the background, every half second at most, and when the run has ended to the last line.
 *
 * Each thing is told once, whoever tells it: a worker, the one that carries its run on, or an API that the upstream has called. What has been
 * told is read before the first word, and again when it is not known any more whether one was written, or when somebody else has told more.
 */
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { appendEvents, type NewEvent, type NewEvents, readTold, type Told } from './storage/events.ts';
import type { Ownership } from './storage/transitions.ts';
import { type Heard, openUntold, type Untold } from './untold.ts';

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

export type Tell = (options: TellOptions) => Telling;

const TELL_EVERY_MS = 500;
/** Jobs in one statement, which is so a few megabytes long at the worst. */
const BATCH_SIZE_MAX = 20;
const NOTHING_TOLD: Told = { lines: [], lineCount: 0, text: '', textCharacters: 0, sequence: 0 };

export function makeTell({ clock, database, log }: Pick<EngineContext, 'clock' | 'database' | 'log'>): Tell {
  const append = coalesce((calls: readonly NewEvents[]) => appendEvents(database.sql, calls), {
    keyOf: ({ jobId }) => jobId,
    batchSizeMax: BATCH_SIZE_MAX,
  });

  return ({ jobId, attempt, before, signal }) => {
    const flushing = new AbortController();
    /** The newest of each, as long as it may not have been told. */
    let heard: Heard = {};
    /** Undefined while it has to be found out what has been told. */
    let untold: Untold | undefined;
    let toldSequence = 0;
    /** Number of the last event from before this run; undefined until that is known. */
    let runAfter = before === 'another run' ? undefined : 0;
    let isNothingTold = before === 'nobody';
    let writing: Promise<void> | undefined;
    let nextAtMs = Number.NEGATIVE_INFINITY;
    /** Another attempt owns the job, or it has ended. */
    let isOver = false;

    function isAllTold(): boolean {
      return isOver || (untold ? untold.isEmpty : heard.logs === undefined && heard.partialText === undefined);
    }

    function writeSoon(): void {
      if (writing || isAllTold() || flushing.signal.aborted || signal.aborted) return;
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
      nextAtMs = clock.now() + TELL_EVERY_MS;
      untold ??= await openBehindTold();
      const events = untold.next();
      if (events.length > 0) await write(events);
      if (untold?.isEmpty) heard = {};
    }

    async function openBehindTold(): Promise<Untold> {
      const told = isNothingTold ? NOTHING_TOLD : await readTold(database.sql, jobId, runAfter);
      isNothingTold = false;
      toldSequence = told.sequence;
      runAfter ??= told.sequence;
      const opened = openUntold(told);
      opened.take(heard);
      return opened;
    }

    async function write(events: readonly NewEvent[]): Promise<void> {
      try {
        const appended = await append({ jobId, attempt, events, behind: toldSequence });
        if (appended.kind === 'told') toldSequence = appended.sequence;
        else if (appended.kind === 'outrun') untold = undefined;
        else isOver = true;
      } catch (error) {
        untold = undefined;
        throw error;
      }
    }

    return {
      take(news) {
        if (isOver) return;
        heard = { ...heard, ...news };
        untold?.take(news);
        writeSoon();
      },
      async flush() {
        flushing.abort();
        await writing;
        while (!isAllTold()) await writeOnce();
      },
    };
  };
}
