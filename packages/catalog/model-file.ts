/** One model file: its text as a {@link Model} with everything of it compiled, or all that is wrong with it. */
import { readFile } from 'node:fs/promises';
import { compileExpression, isJsonObject, type JsonObject, type JsonValue, jsonPointer, type Model, ROUTINGS } from '@claimcheck/core';
import { z } from 'zod';
import type { CatalogProblem } from './catalog-error.ts';
import type { Pricing } from './cost.ts';
import { describeIssue, type FileProblem, problemsOfIssues } from './file-problem.ts';
import { compileMapping, type Mapping } from './mapping.ts';
import { type CompiledParameters, compileParameters, namesOf, type ParameterSchema } from './parameter-schema.ts';
import { referenceProblems } from './references.ts';
import { type RouteFile, routeFrom, routeSchema } from './route-file.ts';
import { checkRouteOptions, type KnownProvider } from './route-options.ts';
import { type Place, readYaml } from './yaml-text.ts';

export interface ModelFile {
  readonly file: string;
  readonly model: Model;
  readonly schema: ParameterSchema;
  /** By the name of the provider. */
  readonly routes: ReadonlyMap<string, CompiledRoute>;
  /** Where in the file the value at `path` stands. */
  place(path: readonly PropertyKey[]): Place;
}

export interface CompiledRoute {
  /** Without one, parameters are sent as they are. */
  readonly mapping?: Mapping;
  readonly pricing?: Pricing;
}

export type ReadModelFile =
  | { readonly kind: 'broken'; readonly problems: readonly CatalogProblem[] }
  | { readonly kind: 'ready'; readonly modelFile: ModelFile };

/** What a path of a URL can hold without escapes; slashes part a vendor's name from its model's. */
const modelName = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9][\w.:-]*(\/[A-Za-z0-9][\w.:-]*)*$/, 'must be letters, digits and . _ : - in parts joined by "/"');

const DIALECT_URI = 'https://json-schema.org/draft/2020-12/schema';

const modelSchema = z.strictObject({
  name: modelName,
  aliases: z.array(modelName).default([]),
  title: z.string().min(1),
  produces: z.enum(['image', 'video', 'audio', 'text', 'json'] as const satisfies readonly Model['produces'][]),
  parameters: z
    .record(z.string(), z.json())
    .refine((schema) => schema.type === 'object', { path: ['type'], error: 'must be "object": parameters have names' })
    .refine((schema) => schema.$async === undefined, { path: ['$async'], error: 'is not supported' })
    .refine((schema) => schema.$schema === undefined || schema.$schema === DIALECT_URI, {
      path: ['$schema'],
      error: `must be "${DIALECT_URI}" or absent`,
    }),
  routes: z
    .array(routeSchema)
    .min(1)
    .superRefine((routes, context) => {
      // A job remembers its route by the provider alone.
      routes.forEach(({ provider }, index) => {
        if (routes.findIndex((route) => route.provider === provider) === index) return;
        context.addIssue({ code: 'custom', path: [index, 'provider'], message: `"${provider}" has a route already` });
      });
    }),
  routing: z.enum(ROUTINGS).default('order'),
  output_format: z.strictObject({ format: z.string().min(1), quality: z.string().min(1).optional() }).optional(),
  retry: z
    .strictObject({
      attempts: z.int().min(1).max(20),
      first_delay_ms: z.int().min(0),
      factor: z.number().min(1),
      delay_ms_max: z.int().min(0),
    })
    .refine((retry) => retry.delay_ms_max >= retry.first_delay_ms, { path: ['delay_ms_max'], error: 'must not be below first_delay_ms' }),
  timeout_seconds: z.int().min(1).max(86_400).default(900),
  on_unknown: z.enum(['resubmit', 'fail']).default('resubmit'),
});

/** Never throws for what is wrong with the file; it is reported together with what is wrong with others. */
export async function readModelFile(file: string, providers: readonly KnownProvider[] | undefined): Promise<ReadModelFile> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (error) {
    return broken([{ file, reason: `cannot be read: ${error instanceof Error ? error.message : String(error)}` }]);
  }
  return parseModelFile(file, bytes, providers);
}

function parseModelFile(file: string, bytes: Uint8Array, providers: readonly KnownProvider[] | undefined): ReadModelFile {
  const text = new TextDecoder().decode(bytes);
  const notUtf8 = placeOfBadByte(bytes, text);
  if (notUtf8) return broken([{ file, ...notUtf8, reason: 'is not UTF-8 text' }]);

  const yaml = readYaml(text);
  if (yaml.kind === 'broken') return broken(yaml.problems.map(({ place, reason }) => ({ file, ...place, reason })));

  const parsed = modelSchema.safeParse(yaml.value, { error: describeIssue });
  // The parts are looked at even when the rest of the file is wrong, so that one start shows all there is to mend.
  const { parameters, routes, references } = readParts(yaml.value, providers);
  const problems: FileProblem[] = [
    ...problemsOfIssues(parsed.error?.issues ?? [], [], 'is not a key that model files have'),
    ...(parameters?.kind === 'broken' ? parameters.problems : []).map(({ path, reason }) => ({ path: ['parameters', ...path], reason })),
    ...references,
    ...routes.problems,
  ];
  if (parsed.success && parameters?.kind === 'ready' && problems.length === 0) {
    return { kind: 'ready', modelFile: toModelFile(file, yaml.place, parsed.data, parameters.schema, routes.options) };
  }
  return broken(
    problems.map(({ path, reason }) => {
      const pointer = jsonPointer(path.map(String));
      return { file, ...yaml.place(path), reason: pointer === '' ? reason : `${pointer} ${reason}` };
    }),
  );
}

function readParts(value: JsonValue, providers: readonly KnownProvider[] | undefined) {
  const file: JsonObject = isJsonObject(value) ? value : {};
  const parameters: CompiledParameters | undefined = isJsonObject(file.parameters) ? compileParameters(file.parameters) : undefined;
  return {
    parameters,
    routes: checkRouteOptions(file.routes, providers),
    references: isJsonObject(file.parameters) ? referenceProblems(file, namesOf(file.parameters)) : [],
  };
}

function toModelFile(
  file: string,
  place: ModelFile['place'],
  { retry, timeout_seconds, on_unknown, output_format, routes, ...model }: z.infer<typeof modelSchema>,
  schema: ParameterSchema,
  options: readonly (JsonObject | undefined)[],
): ModelFile {
  const converted = Object.values(output_format ?? {});
  const compile = (route: RouteFile, index: number): [string, CompiledRoute] => {
    const where = (member: string) => {
      const path = ['routes', index, 'parameters', member];
      const { line, column } = place(path);
      return `${file}:${line}:${column}: ${jsonPointer(path)}`;
    };
    return [route.provider, compileRoute(route, { model: model.name, schema, converted, where })];
  };
  return {
    file,
    model: {
      ...model,
      routes: routes.map((route, index) => routeFrom(route, options[index])),
      ...(output_format && { outputFormat: output_format }),
      retry: { attempts: retry.attempts, firstDelayMs: retry.first_delay_ms, factor: retry.factor, delayMsMax: retry.delay_ms_max },
      timeoutSeconds: timeout_seconds,
      onUnknown: on_unknown,
    },
    schema,
    routes: new Map(routes.map(compile)),
    place,
  };
}

interface RouteSurroundings {
  readonly model: string;
  readonly schema: ParameterSchema;
  /** Parameters that are seen to after the run, whatever the route made of them. */
  readonly converted: readonly string[];
  where(member: string): string;
}

function compileRoute(route: RouteFile, { model, schema, converted, where }: RouteSurroundings): CompiledRoute {
  const { provider, parameters: members, drops, price: written } = route;
  const { price } = routeFrom(route, undefined);
  return {
    ...(members && { mapping: compileMapping({ model, provider, members, spared: [...drops, ...converted], schema, where }) }),
    ...(price && { pricing: { price, ...(written?.estimate !== undefined && { estimate: compileExpression(written.estimate) }) } }),
  };
}

/** Decoding puts U+FFFD where bytes are no UTF-8; a file may also contain that character rightly, so the strict decoder decides first. */
function placeOfBadByte(bytes: Uint8Array, text: string): Place | undefined {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return undefined;
  } catch {
    const lines = text.slice(0, text.indexOf('\uFFFD')).split('\n');
    return { line: lines.length, column: (lines.at(-1)?.length ?? 0) + 1 };
  }
}

function broken(problems: readonly CatalogProblem[]): ReadModelFile {
  return { kind: 'broken', problems };
}
