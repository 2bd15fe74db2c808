/** The logs of a model, and what they tell besides words: progress bars as `tqdm` draws them, and the seed that was chosen. */
import { type Output, ProviderError, type Step } from '@claimcheck/core';

/** Bars are drawn again and again, so the last lines suffice. */
const TAIL_CHARACTERS = 4_000;

/** Fraction done by the last bar, such as ` 42%|████▏     | 21/50`. Below 1, as what follows the last bar takes its time too. */
export function progressIn(logs: string): { readonly progress?: number } {
  const percent = logs
    .slice(-TAIL_CHARACTERS)
    .match(/\b\d{1,3}(?=%\|)/g)
    ?.at(-1);
  return percent === undefined ? {} : { progress: Math.min(99, Number(percent)) / 100 };
}

/**
 * The lines of a text that grows: only those that have ended, since the last one may still. Of a bar that was drawn over and over in one line,
 * what a terminal would show in the end.
 */
export function linesOf(logs: string): readonly string[] {
  const ended = logs.slice(0, logs.lastIndexOf('\n') + 1);
  return ended === '' ? [] : ended.slice(0, -1).split('\n').map(shownOf);
}

/** The lines of entries that are complete. */
export function entriesOf(entries: readonly unknown[]): readonly string[] {
  return entries.filter((entry) => typeof entry === 'string').flatMap((entry) => linesOf(entry.endsWith('\n') ? entry : `${entry}\n`));
}

/** The lines of a text that grows no more: the last one has ended too. */
export function endedLinesOf(logs: unknown): readonly string[] {
  return entriesOf(logs === '' ? [] : [logs]);
}

function shownOf(line: string): string {
  return line.replace(/\r+$/, '').split('\r').at(-1) ?? '';
}

/** As members of a step that is running; none where there is nothing to tell. */
export function told(logs: readonly string[], partialText?: string): { readonly logs?: readonly string[]; readonly partialText?: string } {
  return { ...(logs.length > 0 && { logs }), ...(partialText !== undefined && partialText !== '' && { partialText }) };
}

/** The end of a run with everything that it has printed. @throws what `end` throws for a run that failed, which then knows the lines. */
export async function endTold(logs: readonly string[], end: () => Promise<Output>): Promise<Step> {
  try {
    return { kind: 'finished', output: await end(), ...(logs.length > 0 && { logs }) };
  } catch (error) {
    if (error instanceof ProviderError && logs.length > 0) error.logs = logs;
    throw error;
  }
}

/** The seed of a line such as `Using seed: 1234`. */
export function seedIn(logs: string): number | undefined {
  const seed = Number(/\bseed\s*[:=]\s*(\d{1,16})\b/i.exec(logs.slice(0, TAIL_CHARACTERS))?.[1] ?? Number.NaN);
  return Number.isSafeInteger(seed) ? seed : undefined;
}
