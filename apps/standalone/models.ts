/** What `npx claimcheck models` does: looks at model files and shows what their routes would send, and lists models. */
import { checkModelFiles, describeProblem, loadCatalog } from '@claimcheck/catalog';
import {
  AppError,
  type Catalog,
  fromJsonText,
  isJsonObject,
  type JsonObject,
  type JsonText,
  type Model,
  objectFrom,
  type Problem,
  parseExactJson,
  type Route,
  toJsonText,
} from '@claimcheck/core';
import { loadProviders } from '@claimcheck/providers';
import type { CheckCommand } from './models-options.ts';

export interface Report {
  /** Lines that tell what is wrong. */
  readonly faults: readonly string[];
  /** Paragraphs that show what is well. */
  readonly findings: readonly string[];
}

/** Reads the files, beside the built-in models; each fault is a line `file:line:column: reason`. */
export async function checkModels(command: CheckCommand): Promise<Report> {
  const { checked, catalog } = await checkModelFiles(command.files, { providers: await loadProviders() });
  const faults: string[] = [];
  const findings: string[] = [];
  for (const [index, file] of command.files.entries()) {
    const found = checked[index];
    if (!found) continue;
    if ('problems' in found) {
      faults.push(...found.problems.map(describeProblem));
      continue;
    }
    const report = await showModel(catalog, found.model, command);
    faults.push(...report.faults.map((fault) => (report.isOfFile ? fault : `${file}: ${fault}`)));
    findings.push(`${file}: ${found.model.name} can be loaded.`, ...report.findings);
  }
  return { faults, findings };
}

/** One line for each model: its name and aliases, what it produces, its providers in the order of the file. @throws CatalogError. */
export async function listModels(modelsDir: string | undefined): Promise<Report> {
  const catalog = await loadCatalog({ ...(modelsDir !== undefined && { modelsDir }), providers: await loadProviders() });
  const rows = catalog
    .list()
    .map(({ name, aliases, produces, routes }) => [
      [name, ...aliases].join(', '),
      produces,
      routes.map(({ provider }) => provider).join(', '),
    ]);
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return { faults: [], findings: [rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')).join('\n')] };
}

interface Shown extends Report {
  /** True when the faults name their place in the file; otherwise they are about the parameters. */
  readonly isOfFile: boolean;
}

async function showModel(catalog: Catalog, model: Model, { parameters, set }: CheckCommand): Promise<Shown> {
  const given = new Map([...(parameters ?? examplesOf(model)), ...set]);
  let filled: JsonText;
  try {
    filled = catalog.fill(model, parseExactJson(objectFrom(given)));
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    // Examples need not be there, so without them nothing is wrong; what somebody has typed is.
    const isAsked = parameters !== undefined || set.size > 0;
    const hint = `What its routes send can be shown with --set NAME=VALUE: ${linesOf(error.problems).join('; ')}.`;
    return isAsked ? { faults: [error.message], findings: [], isOfFile: false } : { faults: [], findings: [hint], isOfFile: false };
  }
  const value = fromJsonText(filled);
  const shown: Shown[] = [];
  for (const route of model.routes) shown.push(await showRoute(catalog, model, route, isJsonObject(value) ? value : {}));
  return {
    faults: shown.flatMap(({ faults }) => faults),
    findings: [`Its parameters, with defaults:\n${written(value)}`, ...shown.flatMap(({ findings }) => findings)],
    isOfFile: true,
  };
}

/** What is required has no default, but its schema may have examples. */
function examplesOf({ parameters }: Model): ReadonlyMap<string, JsonText> {
  const properties = isJsonObject(parameters.properties) ? parameters.properties : {};
  const required = Array.isArray(parameters.required) ? parameters.required : [];
  return new Map(
    required.flatMap((name): [string, JsonText][] => {
      const property = typeof name === 'string' ? properties[name] : undefined;
      const [example] = isJsonObject(property) && Array.isArray(property.examples) ? property.examples : [];
      return typeof name === 'string' && example !== undefined ? [[name, toJsonText(example)]] : [];
    }),
  );
}

async function showRoute(catalog: Catalog, model: Model, route: Route, parameters: JsonObject): Promise<Shown> {
  const name = `${route.provider}, as ${route.model}`;
  try {
    const sent = await catalog.express(model, route, parameters);
    const price = priceOf(route, await catalog.estimateUsd(model, route, parameters));
    return { faults: [], findings: [`${name}, is sent (${price}):\n${written(sent)}`], isOfFile: true };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    if (error.code === 'invalid_parameters') {
      const reasons = linesOf(error.problems).map((line) => `  ${line}`);
      return { faults: [], findings: [`${name}, cannot run it with these:\n${reasons.join('\n')}`], isOfFile: true };
    }
    return { faults: [error.cause instanceof Error ? error.cause.message : error.message], findings: [], isOfFile: true };
  }
}

function priceOf({ price }: Route, usd: number | undefined): string {
  if (!price) return 'no price';
  return usd === undefined ? 'the estimate gives no number of 0 or more' : `about ${usd.toFixed(10).replace(/\.?0+$/, '')} USD`;
}

function linesOf(problems: readonly Problem[]): string[] {
  return problems.map(({ pointer, message }) => `${pointer === '' ? 'the request' : pointer} ${message}`);
}

function written(value: unknown): string {
  return JSON.stringify(value, undefined, 2);
}
