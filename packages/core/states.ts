/**
 * The states of a job and every transition between them.
 * `storage/` guards its updates with these; nothing else decides who may go where.
 */

export const STATES = ['QUEUED', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED'] as const;
export type State = (typeof STATES)[number];

/**
 * From each state to the states it may become. PROCESSING goes back to QUEUED when an attempt is retried,
 * released by a worker that shuts down, or rescued from a worker that died.
 */
export const TRANSITIONS = {
  QUEUED: ['PROCESSING', 'FAILED', 'CANCELLED'],
  PROCESSING: ['QUEUED', 'COMPLETED', 'FAILED', 'CANCELLED'],
  COMPLETED: [],
  FAILED: [],
  CANCELLED: [],
} as const satisfies Record<State, readonly State[]>;

export type TerminalState = { [S in State]: (typeof TRANSITIONS)[S]['length'] extends 0 ? S : never }[State];

/** True when no transition leaves the state: the job has ended for good. */
export function isTerminal(state: State): state is TerminalState {
  return TRANSITIONS[state].length === 0;
}

/** The states from which `to` may be entered; the `where` clause of a guarded update. */
export function statesBefore(to: State): readonly State[] {
  return STATES.filter((from) => (TRANSITIONS[from] as readonly State[]).includes(to));
}
