/**
 * What a run has told and clients have not heard yet, as events that are small enough to be written, read and sent. Bounded: what a run prints
 * without end must not fill the database, nor this process.
 */
import { growingLines, growingText } from './growth.ts';
import type { NewEvent, Told } from './storage/events.ts';

/** As a step has it: everything since the run began. */
export interface Heard {
  readonly logs?: readonly string[];
  readonly partialText?: string;
}

export interface Untold {
  take(heard: Heard): void;
  /** False as long as {@link next} may bring something. */
  readonly isEmpty: boolean;
  /** The next events for one statement, lines before text, which count as told from then on; none when all has been told. */
  next(): readonly NewEvent[];
}

/** Of one run; the first lines say the most. */
export const LINES_MAX = 1_000;
export const LINE_CHARACTERS_MAX = 2_000;
/** Of one run, with what was told again after a change. The result has all of it. */
export const TEXT_CHARACTERS_MAX = 1_000_000;
const EVENT_LINES_MAX = 100;
/** At most 24 kB: small enough that a reader may hold a page of events. */
const EVENT_CHARACTERS_MAX = 8_000;
/** In one statement; the rest follows with the next. */
const EVENTS_MAX = 20;

/** `before`: what clients have heard already. */
export function openUntold(before: Omit<Told, 'sequence'>): Untold {
  const lines = growingLines(before, lineToTell);
  const text = growingText(before.text);
  let linesLeft = LINES_MAX - before.lineCount;
  let charactersLeft = TEXT_CHARACTERS_MAX - before.textCharacters;
  let waiting: readonly string[] = [];
  /** The newest text; gone once nothing of it is left to tell. */
  let newest: string | undefined;

  /** As much of the newest text as there is room for, in pieces. */
  function nextOfText(room: number): readonly NewEvent[] {
    if (newest === undefined || room === 0) return [];
    const growth = charactersLeft > 0 ? text.growth(newest) : undefined;
    if (!growth) {
      newest = undefined;
      return [];
    }
    const events: NewEvent[] = [];
    let rest = growth.text;
    do {
      const piece = beginningOf(rest, EVENT_CHARACTERS_MAX);
      events.push({ type: 'partial', data: { text: piece, ...(growth.isReset && events.length === 0 && { isReset: true }) } });
      rest = rest.slice(piece.length);
    } while (rest !== '' && events.length < room);
    charactersLeft -= growth.text.length - rest.length;
    text.told(newest.slice(0, newest.length - rest.length));
    return events;
  }

  return {
    take({ logs, partialText }) {
      if (logs && linesLeft > 0) {
        const fresh = lines.added(logs).slice(0, linesLeft);
        linesLeft -= fresh.length;
        waiting = [...waiting, ...fresh.map(lineToTell)];
      }
      if (partialText !== undefined && charactersLeft > 0) newest = textToTell(partialText);
    },
    get isEmpty() {
      return waiting.length === 0 && newest === undefined;
    },
    next() {
      const events: NewEvent[] = [];
      let count = 0;
      while (count < waiting.length && events.length < EVENTS_MAX) {
        const some = firstLines(waiting.slice(count, count + EVENT_LINES_MAX));
        events.push({ type: 'log', data: { lines: some } });
        count += some.length;
      }
      waiting = waiting.slice(count);
      return [...events, ...nextOfText(EVENTS_MAX - events.length)];
    },
  };
}

/** What fits into one event: one line at least. */
function firstLines(lines: readonly string[]): readonly string[] {
  let characters = 0;
  const over = lines.findIndex((line, index) => {
    characters += line.length;
    return index > 0 && characters > EVENT_CHARACTERS_MAX;
  });
  return over === -1 ? lines : lines.slice(0, over);
}

/** The same for a line that has been through this before. */
function lineToTell(line: string): string {
  return storable(line.length > LINE_CHARACTERS_MAX ? `${line.slice(0, LINE_CHARACTERS_MAX)}…` : line);
}

/** Without the half of a character at its end whose other half is still to come. */
function textToTell(text: string): string {
  return storable(withoutHalf(text));
}

/** Never between the halves of a character. */
function beginningOf(text: string, characters: number): string {
  return text.length <= characters ? text : withoutHalf(text.slice(0, characters));
}

function withoutHalf(text: string): string {
  return text.replace(/[\ud800-\udbff]$/, '');
}

/** Postgres reads neither NUL nor halves of characters out of JSON. */
function storable(text: string): string {
  return text.replaceAll('\u0000', '\ufffd').toWellFormed();
}
