/** For the tests of model files: a built-in model as clients see it, and what each of its routes sends. */
import { AppError, type JsonObject, type Model, type Output, type Problem, parseExactJson, type Route } from '@claimcheck/core';
import { loadCatalog } from '../index.ts';

export interface BuiltInModel {
  readonly model: Model;
  /** The parameters with the defaults of those that are absent. */
  fill(given: JsonObject): JsonObject;
  /** What clients are told about parameters that the model refuses. */
  problemsWith(given: JsonObject): readonly Problem[];
  /** What the provider is sent for what a client gave. */
  sent(provider: string, given: JsonObject): Promise<JsonObject>;
  /** What clients are told when this provider is the only one. */
  problemsAt(provider: string, given: JsonObject): Promise<readonly Problem[]>;
  estimateUsd(provider: string, given: JsonObject): Promise<number | undefined>;
  costUsd(provider: string, given: JsonObject, output: Partial<Output>): Promise<number | undefined>;
}

export async function builtInModel(name: string): Promise<BuiltInModel> {
  const catalog = await loadCatalog();
  const model = catalog.find(name);
  if (!model) throw new Error(`${name} is not in the catalog`);
  const fill = (given: JsonObject): JsonObject => JSON.parse(catalog.fill(model, parseExactJson(JSON.stringify(given))));
  const route = (provider: string): Route => {
    const found = model.routes.find((known) => known.provider === provider);
    if (!found) throw new Error(`${name} has no route to ${provider}`);
    return found;
  };
  const sent = (provider: string, given: JsonObject) => catalog.express(model, route(provider), fill(given));
  return {
    model,
    fill,
    sent,
    problemsWith(given) {
      try {
        fill(given);
      } catch (error) {
        return problemsOf(error);
      }
      throw new Error('was accepted');
    },
    problemsAt: (provider, given) =>
      sent(provider, given).then(() => {
        throw new Error('was sent');
      }, problemsOf),
    estimateUsd: async (provider, given) => catalog.estimateUsd(model, route(provider), fill(given)),
    costUsd: async (provider, given, output) => catalog.costUsd(model, route(provider), fill(given), { media: [], ...output }),
  };
}

function problemsOf(error: unknown): readonly Problem[] {
  if (error instanceof AppError && error.code === 'invalid_parameters') return error.problems;
  throw error;
}

/** Pruna's sizes: what they are called, and their pixels. */
export const PRUNA_SIZES = [
  ['1024 × 1024 (Square)', 1024, 1024],
  ['768 × 1360 (Portrait)', 768, 1360],
  ['1360 × 768 (Landscape)', 1360, 768],
  ['880 × 1168 (Portrait)', 880, 1168],
  ['1168 × 880 (Landscape)', 1168, 880],
  ['1248 × 832 (Landscape)', 1248, 832],
  ['832 × 1248 (Portrait)', 832, 1248],
] as const;

export const UNSQUEEZED = 'Unsqueezed 🍋 (highest quality)';
export const SPEED_MODES = [
  UNSQUEEZED,
  'Lightly Juiced 🍊 (more consistent)',
  'Juiced 🔥 (more speed)',
  'Extra Juiced 🚀 (even more speed)',
] as const;
