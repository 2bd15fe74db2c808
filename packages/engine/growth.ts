/**
 * What is new in what a run tells from its beginning at every look: its lines, and its text. Neither is kept here, because one worker may have
 * thousands of runs: digests of the last lines and of the text are enough to know them again.
 */
import { hash } from 'node:crypto';

export interface GrowingLines {
  /**
   * Those that came behind the ones given before. A list that was cut at its front is recognised by what is left; of one in which nothing is
   * known any more everything is new. A list that ends earlier than before, as an older answer does, brings nothing.
   */
  added(lines: readonly string[]): readonly string[];
}

/** Of lines that repeat, so many in a row are taken for the place where the last look ended. */
const TAIL_LINES = 20;

export interface KnownLines {
  /** The newest last, as many as it takes to know them again. */
  readonly lines: readonly string[];
  /** How many there are in all, those given and those before. */
  readonly lineCount: number;
}

/** `before`: lines that are known already. `asTold`: a line as it is told, and so found among those. */
export function growingLines(before: KnownLines, asTold: (line: string) => string = (line) => line): GrowingLines {
  const digestOf = (line: string) => digest(asTold(line));
  let tail = before.lines.slice(-TAIL_LINES).map(digestOf);
  /** Where the known lines end in a list that was not cut. */
  let count = before.lineCount;

  return {
    added(lines) {
      const digests = new Map<number, string>();
      const digestAt = (index: number) => {
        const known = digests.get(index) ?? digestOf(lines[index] ?? '');
        digests.set(index, known);
        return known;
      };
      /** Whether the known lines can end in front of `end`: as far as the two overlap, they are the same. */
      const endsAt = (end: number) => {
        const from = Math.max(0, end - tail.length);
        const to = Math.min(end, lines.length);
        for (let index = to - 1; index >= from; index -= 1) {
          if (digestAt(index) !== tail[tail.length - (end - index)]) return false;
        }
        return from < to;
      };
      const end = endsAt(count) ? count : placeWhere(endsAt, lines.length);
      if (end >= lines.length) {
        if (end === lines.length) count = end;
        return [];
      }
      const fresh = lines.slice(end);
      tail = [...tail, ...fresh.slice(-TAIL_LINES).map(digestOf)].slice(-TAIL_LINES);
      count = lines.length;
      return fresh;
    },
  };
}

/** The last place in the list, else the first one behind it, else 0. */
function placeWhere(endsAt: (end: number) => boolean, length: number): number {
  for (let end = length; end > 0; end -= 1) if (endsAt(end)) return end;
  for (let end = length + 1; end < length + TAIL_LINES; end += 1) if (endsAt(end)) return end;
  return 0;
}

/** What to tell of a text. */
export interface Growth {
  readonly text: string;
  /** True when it is the whole text, in place of what was told before. */
  readonly isReset: boolean;
}

export interface GrowingText {
  /** What of `text` was not told yet; undefined when that is nothing. */
  growth(text: string): Growth | undefined;
  /** `text` is what has been told by now. */
  told(text: string): void;
}

/** `before`: what was told already. An older answer, which has only the beginning of that, brings nothing. */
export function growingText(before: string): GrowingText {
  let length = before.length;
  let known = digest(before);
  let toldBefore: string | undefined = before;
  return {
    growth(text) {
      if (toldBefore?.startsWith(text)) return undefined;
      if (text.length < length || digest(text.slice(0, length)) !== known) return { text, isReset: true };
      return text.length === length ? undefined : { text: text.slice(length), isReset: false };
    },
    told(text) {
      length = text.length;
      known = digest(text);
      toldBefore = undefined;
    },
  };
}

function digest(text: string): string {
  return hash('sha256', text, 'base64');
}
