/** A fault inside a model file, before its line is known. */
import type { z } from 'zod';
import { nearestNames } from './nearest-names.ts';

export interface FileProblem {
  /** From the root of the file to the culprit. */
  readonly path: readonly PropertyKey[];
  readonly reason: string;
}

/** What a schema found wrong with the value at `path`. `unknownKey` is said about each key that it has not. */
export function problemsOfIssues(issues: readonly z.core.$ZodIssue[], path: readonly PropertyKey[], unknownKey: string): FileProblem[] {
  return issues.flatMap((issue): FileProblem[] => {
    const place = [...path, ...issue.path];
    if (issue.code !== 'unrecognized_keys') return [{ path: place, reason: issue.message }];
    return issue.keys.map((key) => ({ path: [...place, key], reason: unknownKey }));
  });
}

/** For `safeParse`: what is absent is required, rather than of a wrong type. */
export function describeIssue(issue: z.core.$ZodRawIssue): string | undefined {
  return (issue.code === 'invalid_type' || issue.code === 'invalid_value') && issue.input === undefined ? 'is required' : undefined;
}

/** The end of a sentence about a name that is unknown: what it may have been meant to be, or else what there is. */
export function suggestion(name: string, known: Iterable<string>): string {
  const names = [...known];
  const near = nearestNames(name, names).map((candidate) => JSON.stringify(candidate));
  if (near.length > 0) return `; did you mean ${near.join(' or ')}?`;
  return names.length === 0 ? '; there are none' : `; there are ${names.join(', ')}`;
}
