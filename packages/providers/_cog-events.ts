/** What Cog containers, and Replicate, which runs them, are asked to call back for (replicate.md and cog.md, section 7). */
import type { Run } from '@claimcheck/core';

/**
 * The end; of words also every piece of them, twice a second at most, because whoever reads along would otherwise read nothing before the next
 * slow look. A picture has nothing to read along that would be worth so many calls.
 */
export function eventsToTell({ produces }: Pick<Run, 'produces'>): readonly string[] {
  return produces === 'text' ? ['output', 'logs', 'completed'] : ['completed'];
}
