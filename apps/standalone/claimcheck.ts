#!/usr/bin/env node
/** `npx claimcheck models check | list`: looks at models without starting anything. Ends with 0, 1 or 2, as its help says. */
import { StartError } from '@claimcheck/core';
import type { Report } from './models.ts';
import { type ModelsCommand, readModelsOptions, USAGE, UsageError } from './models-options.ts';

/** What a command needs is loaded when it is known: with the settings comes the whole service, which takes longer than any check. */
async function run(command: ModelsCommand): Promise<Report> {
  const { checkModels, listModels } = await import('./models.ts');
  if (command.verb === 'check') return checkModels(command);
  const { readModelsConfig } = await import('./config.ts');
  return listModels(readModelsConfig().MODELS_DIR);
}

try {
  const command = readModelsOptions(process.argv.slice(2));
  const { faults, findings } = command === 'help' ? { faults: [], findings: [USAGE] } : await run(command);
  if (findings.length > 0) console.log(findings.join('\n\n'));
  if (faults.length > 0) console.error(faults.join('\n'));
  process.exitCode = faults.length > 0 ? 1 : 0;
} catch (error) {
  console.error(error instanceof StartError ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
