/** Which known names someone may have meant by a name that is unknown. */
import { distance } from 'fastest-levenshtein';

const NAMES_MAX = 3;
/** Longer input is no misspelt name; it also bounds what a stranger can make us compute. */
const NAME_LENGTH_MAX = 200;
/** Shorter fragments are part of nearly everything. */
const FRAGMENT_LENGTH_MIN = 3;

/** Up to three of `known`, the closest first: misspellings, then names that begin like `name`, then names that share it as a part. */
export function nearestNames(name: string, known: readonly string[]): readonly string[] {
  if (name.length > NAME_LENGTH_MAX) return [];
  return known
    .flatMap((candidate) => {
      const rank = rankOf(name.toLowerCase(), candidate.toLowerCase());
      return rank === undefined ? [] : [{ candidate, rank }];
    })
    .sort((a, b) => a.rank - b.rank || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, NAMES_MAX)
    .map(({ candidate }) => candidate);
}

/** Lower is closer; undefined is not close. The kinds of closeness are far enough apart that no distance crosses over. */
function rankOf(name: string, candidate: string): number | undefined {
  const edits = distance(name, candidate);
  // A third of the name may be wrong: with more, a person would not see the likeness either.
  if (edits <= Math.max(name.length, candidate.length) / 3) return edits;
  if (Math.min(name.length, candidate.length) < FRAGMENT_LENGTH_MIN) return undefined;
  if (candidate.startsWith(name) || name.startsWith(candidate)) return 1_000 + edits;
  if (candidate.includes(name) || name.includes(candidate)) return 2_000 + edits;
  return undefined;
}
