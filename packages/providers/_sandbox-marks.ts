/** The marks in a sandbox prompt that say how the run shall go, such as `[[slow:1500]]`. Anything that is not exactly a mark is plain text. */

export interface Marked {
  /** The prompt without its marks. */
  readonly text: string;
  /** How long the run takes, in milliseconds; several `slow` add up, to one hour at most. */
  readonly durationMs: number | undefined;
  /** Ends FAILED with this message. */
  readonly failure: string | undefined;
  /** The number of attempts that fail first. */
  readonly flakyAttempts: number;
  /** Never ends. */
  readonly hangs: boolean;
  /** Refused for its content. */
  readonly refused: boolean;
}

export const DURATION_MS_MAX = 3_600_000;

/**
 * A failure's text may itself end in a bracket, hence the look-ahead. Its length is bounded because the search for its end
 * starts anew at every `[[fail:`, which would let a hostile prompt cost quadratic time.
 */
const MARK = /\[\[(?:slow:(?<slow>\d+)|flaky:(?<flaky>\d+)|fail:(?<fail>.{1,1000}?)(?=\]\](?!\]))|(?<hang>hang)|(?<nsfw>nsfw))\]\]/gsu;

export function readMarks(prompt: string): Marked {
  let durationMs: number | undefined;
  let failure: string | undefined;
  let flakyAttempts = 0;
  let hangs = false;
  let refused = false;
  for (const { groups = {} } of prompt.matchAll(MARK)) {
    if (groups.slow !== undefined) durationMs = Math.min(DURATION_MS_MAX, (durationMs ?? 0) + Number(groups.slow));
    if (groups.flaky !== undefined) flakyAttempts = Math.max(flakyAttempts, Number(groups.flaky));
    failure ??= groups.fail;
    hangs ||= groups.hang !== undefined;
    refused ||= groups.nsfw !== undefined;
  }
  return { text: prompt.replace(MARK, ''), durationMs, failure, flakyAttempts, hangs, refused };
}
