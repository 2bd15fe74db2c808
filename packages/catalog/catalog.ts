/** Loads every model file into the {@link Catalog} and answers from memory: finding, listing, checking and filling parameters. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, type Catalog, type Model, membersOf, objectFrom, type Problem } from '@claimcheck/core';
import { CatalogError, type CatalogProblem } from './catalog-error.ts';
import { type ModelFile, readModelFile } from './model-file.ts';
import { nearestNames } from './nearest-names.ts';

const BUILT_IN_DIR = join(import.meta.dirname, 'models');

/** Problems that the sentence of an error names; the rest is in its `problems`. */
const NAMED_PROBLEMS_MAX = 3;

export interface CatalogOptions {
  /** A folder of user models, *.yaml or *.yml. They add to the built-in ones; one with a built-in's name replaces it, aliases and all. */
  readonly modelsDir?: string;
}

/**
 * Reads the built-in models and those of `modelsDir`.
 * @throws CatalogError that lists every problem of every file: unreadable, broken YAML, unknown or wrong keys, a wrong schema, a default
 *   that its own schema refuses, and names or aliases that two models claim.
 */
export async function loadCatalog({ modelsDir }: CatalogOptions = {}): Promise<Catalog> {
  const [builtIn, user] = await Promise.all([readFolder(BUILT_IN_DIR), modelsDir === undefined ? emptyFolder : readFolder(modelsDir)]);
  const userNames = new Set(user.modelFiles.map(({ model }) => model.name));
  const modelFiles = [...builtIn.modelFiles.filter(({ model }) => !userNames.has(model.name)), ...user.modelFiles];
  const problems = [...builtIn.problems, ...user.problems, ...nameClashes(modelFiles)];
  if (problems.length > 0) throw new CatalogError(problems);
  return catalogOf(modelFiles);
}

interface Folder {
  readonly modelFiles: readonly ModelFile[];
  readonly problems: readonly CatalogProblem[];
}

const emptyFolder: Folder = { modelFiles: [], problems: [] };

async function readFolder(folder: string): Promise<Folder> {
  let entries: string[];
  try {
    entries = await readdir(folder);
  } catch (error) {
    return { modelFiles: [], problems: [{ file: folder, reason: `cannot be read: ${error instanceof Error ? error.message : error}` }] };
  }
  // Names with a leading dot belong to editors and file managers.
  const files = entries.filter((entry) => /^[^.].*\.ya?ml$/.test(entry)).sort();
  const results = await Promise.all(files.map((entry) => readModelFile(join(folder, entry))));
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

function catalogOf(modelFiles: readonly ModelFile[]): Catalog {
  const models = modelFiles.map(({ model }) => model).sort((a, b) => (a.name < b.name ? -1 : 1));
  const byName = new Map(models.flatMap((model) => [model.name, ...model.aliases].map((name) => [name, model])));
  const schemas = new Map(modelFiles.map(({ model, schema }) => [model, schema]));
  const schemaOf = (model: Model) => {
    const schema = schemas.get(model);
    if (!schema) throw new Error(`Model ${JSON.stringify(model.name)} is not of this catalog`);
    return schema;
  };
  const names = [...byName.keys()];
  return {
    find: (name) => byName.get(name),
    nearest: (name) => nearestNames(name, names),
    list: () => models,
    declares: (model, parameter) => schemaOf(model).names.has(parameter),
    fill(model, parameters) {
      const schema = schemaOf(model);
      const problems = schema.problemsWith(parameters);
      if (problems.length > 0) throw new AppError('invalid_parameters', sentenceOf(model, problems), { problems });
      const members = membersOf(parameters.text);
      for (const [name, value] of schema.defaults) if (!members.has(name)) members.set(name, value);
      return objectFrom(members);
    },
    express: (_model, _route, parameters) => Promise.resolve(parameters),
    estimateUsd: () => Promise.resolve(undefined),
    costUsd: () => Promise.resolve(undefined),
  };
}

function sentenceOf(model: Model, problems: readonly Problem[]): string {
  const named = problems.slice(0, NAMED_PROBLEMS_MAX).map(({ pointer, message }) => `${pointer === '' ? 'the body' : pointer} ${message}`);
  const rest = problems.length - named.length;
  const end = rest === 0 ? '' : `; and ${rest} more ${rest === 1 ? 'problem' : 'problems'}`;
  return `The parameters of model "${model.name}" are not valid: ${named.join('. ')}${end}.`;
}
