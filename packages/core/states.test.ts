import { expect, test } from 'vitest';
import { isTerminal, STATES, statesBefore, TRANSITIONS } from './states.ts';

test('a terminal state is one that nothing leaves', () => {
  expect(STATES.filter(isTerminal)).toEqual(['COMPLETED', 'FAILED', 'CANCELLED']);
  for (const state of STATES) expect(isTerminal(state)).toBe(STATES.every((to) => !statesBefore(to).includes(state)));
});

test('every state can be reached from QUEUED', () => {
  const reached = new Set<string>(['QUEUED']);
  for (const from of reached) for (const to of TRANSITIONS[from as (typeof STATES)[number]]) reached.add(to);
  expect([...reached].sort()).toEqual([...STATES].sort());
});

test('the states before one are those with a transition to it', () => {
  expect(statesBefore('PROCESSING')).toEqual(['QUEUED']);
  expect(statesBefore('COMPLETED')).toEqual(['PROCESSING']);
  expect(statesBefore('FAILED')).toEqual(['QUEUED', 'PROCESSING']);
  expect(statesBefore('CANCELLED')).toEqual(['QUEUED', 'PROCESSING']);
  expect(statesBefore('QUEUED')).toEqual(['PROCESSING']);
});
