/** The arguments of `npx claimcheck models`. */
import { parseArgs } from 'node:util';
import { isJsonObject, type JsonText, membersOf, parseExactJson, StartError, toJsonText } from '@claimcheck/core';

export type ModelsCommand = { readonly verb: 'list' } | CheckCommand;

export interface CheckCommand {
  readonly verb: 'check';
  /** One or more, each once. */
  readonly files: readonly string[];
  /** What clients would send, instead of the examples of what is required. */
  readonly parameters?: ReadonlyMap<string, JsonText>;
  /** Single parameters, over the others. */
  readonly set: ReadonlyMap<string, JsonText>;
}

/** The command line is not understood. */
export class UsageError extends StartError {
  override readonly name = 'UsageError';
}

export const USAGE = `Usage: npx claimcheck models <command>

  check FILE...        tells all that is wrong with model files, or else what each route would send to its provider
  list                 lists all models with their routes, those in MODELS_DIR too

  --set NAME=VALUE     checks with this parameter; the value is JSON or else text; may be given several times
  --parameters JSON    checks with these parameters, as clients would send them; without it, with the first of the
                       "examples" of each parameter that is required
  --help               shows this

Neither a key nor a database is needed. Ends with 0 when all is well, with 1 when something is wrong with a file or
with the parameters that were given, and with 2 when the command line is.`;

/** Returns 'help' when that was asked for. `args` begin with `models`. @throws UsageError with the usage. */
export function readModelsOptions(args: readonly string[]): ModelsCommand | 'help' {
  try {
    return parse(args);
  } catch (error) {
    // `parseArgs` words its errors for the one who typed the arguments.
    throw new UsageError(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
  }
}

function parse(args: readonly string[]): ModelsCommand | 'help' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      set: { type: 'string', multiple: true, default: [] },
      parameters: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [noun, verb, ...rest] = positionals;
  if (values.help || noun === undefined) return 'help';
  if (noun !== 'models') throw new Error(`"${noun}" is not a command.`);
  if (verb === undefined) throw new Error('The command is missing.');
  if (verb === 'check') {
    if (rest.length === 0) throw new Error('The file is missing.');
    return {
      verb,
      files: [...new Set(rest)],
      ...(values.parameters !== undefined && { parameters: parametersOf(values.parameters) }),
      set: new Map(values.set.map(settingOf)),
    };
  }
  if (verb !== 'list') throw new Error(`"models ${verb}" is not a command.`);
  if (rest.length > 0) throw new Error('"models list" takes no file; MODELS_DIR names a folder of them.');
  if (values.set.length > 0 || values.parameters !== undefined) throw new Error('Parameters are for "models check".');
  return { verb };
}

function parametersOf(text: string): ReadonlyMap<string, JsonText> {
  const json = jsonOf(text);
  if (json === undefined || !isJsonObject(json.value)) throw new Error(`--parameters must be a JSON object, not ${text}.`);
  return membersOf(json.text);
}

function settingOf(text: string): [string, JsonText] {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new Error(`--set must be NAME=VALUE, not "${text}".`);
  return [name, jsonOf(value)?.text ?? toJsonText(value)];
}

function jsonOf(text: string) {
  try {
    return parseExactJson(text);
  } catch {
    return undefined;
  }
}
