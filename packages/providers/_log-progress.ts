/** What the logs of a model tell besides words: progress bars as `tqdm` draws them, and the seed that was chosen. */

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

/** The seed of a line such as `Using seed: 1234`. */
export function seedIn(logs: string): number | undefined {
  const seed = Number(/\bseed\s*[:=]\s*(\d{1,16})\b/i.exec(logs.slice(0, TAIL_CHARACTERS))?.[1] ?? Number.NaN);
  return Number.isSafeInteger(seed) ? seed : undefined;
}
