/** All scenarios, in the order in which they run. */
import type { Scenario } from '../scenario.ts';
import { apiScenarios } from './api.ts';
import { clockScenarios } from './clock.ts';
import { dispatcherScenarios } from './dispatcher.ts';
import { duplicateScenarios } from './duplicates.ts';
import { postgresScenarios } from './postgres.ts';
import { redisScenarios } from './redis.ts';
import { workerScenarios } from './worker.ts';

export const SCENARIOS: readonly Scenario[] = [
  ...workerScenarios,
  ...apiScenarios,
  ...dispatcherScenarios,
  ...redisScenarios,
  ...postgresScenarios,
  ...clockScenarios,
  ...duplicateScenarios,
];
