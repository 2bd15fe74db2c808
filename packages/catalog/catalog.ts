/** Loads every model file into the {@link Catalog} and answers from memory: finding, listing, filling and expressing parameters, prices. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, type Catalog, type Model, membersOf, objectFrom } from '@claimcheck/core';
import { CatalogError, type CatalogProblem } from './catalog-error.ts';
import { costUsd, estimateUsd, roundUsd } from './cost.ts';
import { type ModelFile, type ReadModelFile, readModelFile } from './model-file.ts';
import { nearestNames } from './nearest-names.ts';
import { sentenceOf } from './parameter-problems.ts';
import type { KnownProvider } from './route-options.ts';
import { readTextParameters } from './text-parameters.ts';

const BUILT_IN_DIR = join(import.meta.dirname, 'models');

export interface CatalogOptions {
  /** A folder of user models, *.yaml or *.yml. They add to the built-in ones; one with a built-in's name replaces it, aliases and all. */
  readonly modelsDir?: string;
  /**
   * All providers there are. Routes of others, and `options` that a provider does not understand, are problems then. Without it neither is
   * looked at, and `options` are left as they are written.
   */
  readonly providers?: readonly KnownProvider[];
}

/**
 * Reads the built-in models and those of `modelsDir`.
 * @throws CatalogError that lists every problem of every file: unreadable, broken YAML, unknown or wrong keys, a wrong schema, a default
 *   that its own schema refuses, a broken expression, a mention of a parameter or provider that does not exist, `options` that the provider
 *   does not understand, and names or aliases that two models claim.
 */
export async function loadCatalog({ modelsDir, providers }: CatalogOptions = {}): Promise<Catalog> {
  const [builtIn, user] = await Promise.all([
    readFolder(BUILT_IN_DIR, providers),
    modelsDir === undefined ? emptyFolder : readFolder(modelsDir, providers),
  ]);
  const modelFiles = [...notReplaced(builtIn.modelFiles, user.modelFiles), ...user.modelFiles];
  const problems = [...builtIn.problems, ...user.problems, ...nameClashes(modelFiles)];
  if (problems.length > 0) throw new CatalogError(problems);
  return catalogOf(modelFiles);
}

/** One file that was looked at: its model, or everything that is wrong with it. */
export type CheckedModelFile = { readonly model: Model } | { readonly problems: readonly CatalogProblem[] };

export interface CheckedModelFiles {
  /** One for each file, in their order. */
  readonly checked: readonly CheckedModelFile[];
  /** Of the models of those files that have no problem, and no other. */
  readonly catalog: Catalog;
}

/**
 * Looks at single files as if they alone were user models: each for itself and beside the built-in models. Never throws for what is wrong
 * with them.
 */
export async function checkModelFiles(
  files: readonly string[],
  { providers }: Pick<CatalogOptions, 'providers'> = {},
): Promise<CheckedModelFiles> {
  const builtIn = await readFolder(BUILT_IN_DIR, providers);
  const results = await Promise.all(files.map((file) => readModelFile(file, providers)));
  const readable = results.flatMap((result) => (result.kind === 'ready' ? [result.modelFile] : []));
  const clashes = nameClashes([...notReplaced(builtIn.modelFiles, readable), ...readable]);
  const problemsOf = (result: ReadModelFile) =>
    result.kind === 'broken' ? result.problems : clashes.filter(({ file }) => file === result.modelFile.file);
  return {
    checked: results.map((result) => {
      const problems = problemsOf(result);
      return result.kind === 'ready' && problems.length === 0 ? { model: result.modelFile.model } : { problems };
    }),
    catalog: catalogOf(readable.filter(({ file }) => clashes.every((clash) => clash.file !== file))),
  };
}

function notReplaced(builtIn: readonly ModelFile[], user: readonly ModelFile[]): readonly ModelFile[] {
  const userNames = new Set(user.map(({ model }) => model.name));
  return builtIn.filter(({ model }) => !userNames.has(model.name));
}

interface Folder {
  readonly modelFiles: readonly ModelFile[];
  readonly problems: readonly CatalogProblem[];
}

const emptyFolder: Folder = { modelFiles: [], problems: [] };

async function readFolder(folder: string, providers: readonly KnownProvider[] | undefined): Promise<Folder> {
  let entries: string[];
  try {
    entries = await readdir(folder);
  } catch (error) {
    return { modelFiles: [], problems: [{ file: folder, reason: `cannot be read: ${error instanceof Error ? error.message : error}` }] };
  }
  // Names with a leading dot belong to editors and file managers.
  const files = entries.filter((entry) => /^[^.].*\.ya?ml$/.test(entry)).sort();
  const results = await Promise.all(files.map((entry) => readModelFile(join(folder, entry), providers)));
  return {
    modelFiles: results.flatMap((result) => (result.kind === 'ready' ? [result.modelFile] : [])),
    problems: results.flatMap((result) => (result.kind === 'broken' ? result.problems : [])),
  };
}

/** A name or alias means one model. Letting one of two win would change what clients get by adding a file. */
function nameClashes(modelFiles: readonly ModelFile[]): CatalogProblem[] {
  const fileByName = new Map<string, string>();
  const problems: CatalogProblem[] = [];
  for (const { file, model, place } of modelFiles) {
    const claims = [{ name: model.name, path: ['name'] }, ...model.aliases.map((name, index) => ({ name, path: ['aliases', index] }))];
    for (const { name, path } of claims) {
      const first = fileByName.get(name);
      if (first === undefined) fileByName.set(name, file);
      else
        problems.push({ file, ...place(path), reason: `"${name}" is taken already, by ${first === file ? 'this model itself' : first}` });
    }
  }
  return problems;
}

/** Answers for these models and no other; their names must be free of clashes. */
export function catalogOf(modelFiles: readonly ModelFile[]): Catalog {
  const models = modelFiles.map(({ model }) => model).sort((a, b) => (a.name < b.name ? -1 : 1));
  const byName = new Map(models.flatMap((model) => [model.name, ...model.aliases].map((name) => [name, model])));
  const files = new Map(modelFiles.map((modelFile) => [modelFile.model.name, modelFile]));
  const fileOf = ({ name }: Model) => {
    const file = files.get(name);
    if (!file) throw new Error(`Model ${JSON.stringify(name)} is not of this catalog`);
    return file;
  };
  const names = [...byName.keys()];
  return {
    find: (name) => byName.get(name),
    nearest: (name) => nearestNames(name, names),
    list: () => models,
    readText: (model, parameters) => readTextParameters(model.parameters, parameters),
    declares: (model, parameter) => fileOf(model).schema.names.has(parameter),
    fill(model, parameters) {
      const { schema } = fileOf(model);
      const problems = schema.problemsWith(parameters);
      if (problems.length > 0) {
        const lead = `The parameters of model "${model.name}" are not valid`;
        throw new AppError('invalid_parameters', sentenceOf(lead, problems), { problems });
      }
      const members = membersOf(parameters.text);
      for (const [name, value] of schema.defaults) if (!members.has(name)) members.set(name, value);
      return objectFrom(members);
    },
    async express(model, { provider }, parameters) {
      return (await fileOf(model).routes.get(provider)?.mapping?.express(parameters)) ?? parameters;
    },
    async estimateUsd(model, { provider }, parameters) {
      const pricing = fileOf(model).routes.get(provider)?.pricing;
      return pricing && estimateUsd(pricing, parameters);
    },
    async costUsd(model, { provider }, parameters, output) {
      if (output.usage?.usd !== undefined) return roundUsd(output.usage.usd);
      const pricing = fileOf(model).routes.get(provider)?.pricing;
      return pricing && costUsd(pricing, parameters, output);
    },
  };
}
