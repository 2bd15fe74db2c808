/** When a webhook is sent: presets, lists of one's own, and the chance in between. */

/**
 * Seconds to wait before each send. `standard` is meant for receivers that may be down over a weekend (75 h 35 min), `fast` gives up after
 * a day (27 h 35 min), `short` after two hours.
 */
export const SCHEDULE_PRESETS = {
  standard: [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400],
  fast: [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000],
  short: [0, 5, 30, 120, 600, 1_800, 4_500],
} as const satisfies Record<string, readonly number[]>;

/** News that is stale a minute later. What is owed for the end of a job has the job's own schedule. */
export const EVENT_SCHEDULE: readonly number[] = [0, 5, 30];

export const SCHEDULE_ENTRIES_MAX = 20;
export const SCHEDULE_SECONDS_MAX = 86_400;
export const SCHEDULE_RULE = `must be ${Object.keys(SCHEDULE_PRESETS).join(', ')}, or 1 to ${SCHEDULE_ENTRIES_MAX} whole numbers of seconds from 0 to ${SCHEDULE_SECONDS_MAX}, separated by commas`;

/** Reads a preset's name or a list such as `0,5,300`; undefined when it is neither. */
export function parseSchedule(text: string): readonly number[] | undefined {
  if (Object.hasOwn(SCHEDULE_PRESETS, text)) return SCHEDULE_PRESETS[text as keyof typeof SCHEDULE_PRESETS]; // hasOwn has checked it
  const entries = text.split(',').map((entry) => entry.trim());
  if (entries.length > SCHEDULE_ENTRIES_MAX || !entries.every((entry) => /^\d{1,5}$/.test(entry))) return undefined;
  const seconds = entries.map(Number);
  return seconds.every((entry) => entry <= SCHEDULE_SECONDS_MAX) ? seconds : undefined;
}

/** Share of a wait that is left to chance, so that what failed together does not come back together. */
const JITTER = 0.2;

/** The wait, up to a fifth shorter or longer. `random` is uniform in [0, 1). */
export function withJitter(seconds: number, random: () => number): number {
  return seconds * (1 + JITTER * (2 * random() - 1));
}
