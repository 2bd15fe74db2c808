/**
 * What a sandbox run prints: where it begins, a bar of quarters as real models draw them, and its end. It follows from the parameters and the
 * fraction done alone, so that a process that carries a run on prints what another has printed before.
 */
import type { Run } from '@claimcheck/core';
import { readSeed } from './_sandbox-parameters.ts';

const QUARTERS = 4;
const BAR_CHARACTERS = 8;

/** `progress` 0 to 1. Lines of a later moment begin with those of an earlier one. */
export function sandboxLog(
  { model, produces, parameters }: Pick<Run, 'model' | 'produces' | 'parameters'>,
  progress: number,
): readonly string[] {
  const quartersDone = Math.floor(progress * QUARTERS);
  return [
    `The sandbox runs ${model}`,
    ...(produces === 'text' ? [] : [`Using seed: ${readSeed(parameters)}`]),
    ...Array.from({ length: quartersDone }, (_, index) => barOf(index + 1)),
    ...(progress >= 1 ? ['Done'] : []),
  ];
}

/** Such as ` 50%|████    | 2/4`, from which readers of logs know how far a run is. */
function barOf(quarters: number): string {
  const percent = String((100 * quarters) / QUARTERS).padStart(3);
  const bar = '█'.repeat((BAR_CHARACTERS * quarters) / QUARTERS).padEnd(BAR_CHARACTERS);
  return `${percent}%|${bar}| ${quarters}/${QUARTERS}`;
}
