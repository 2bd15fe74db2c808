/** All scenarios, in the order in which they run. */
import type { Scenario } from '../scenario.ts';
import { workerScenarios } from './worker.ts';

export const SCENARIOS: readonly Scenario[] = [...workerScenarios];
