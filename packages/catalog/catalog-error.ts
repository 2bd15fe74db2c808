/** What stops the catalog from loading: everything that is wrong in any model file, reported at once. */
import { StartError } from '@claimcheck/core';

export interface CatalogProblem {
  /** The file, or the folder that was to be read. */
  readonly file: string;
  /** Both count from 1; absent when the file could not be read at all. */
  readonly line?: number;
  readonly column?: number;
  readonly reason: string;
}

/** Model files are wrong. The message has one line per problem, `file:line:column: reason`, and is ready to print. */
export class CatalogError extends StartError {
  override readonly name = 'CatalogError';
  readonly problems: readonly CatalogProblem[];

  constructor(problems: readonly CatalogProblem[]) {
    super(`The model catalog cannot be loaded:\n${problems.map((problem) => `  ${describeProblem(problem)}`).join('\n')}`);
    this.problems = problems;
  }
}

/** `file:line:column: reason`, as editors and terminals understand. */
export function describeProblem({ file, line, column, reason }: CatalogProblem): string {
  return `${[file, line, column].filter((part) => part !== undefined).join(':')}: ${reason}`;
}
