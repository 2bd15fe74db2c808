/** One model file: its text as a {@link Model} with a compiled parameter schema, or everything that is wrong with it. */
import { readFile } from 'node:fs/promises';
import { isJsonObject, type JsonValue, jsonPointer, type Model, ROUTINGS } from '@claimcheck/core';
import { z } from 'zod';
import type { CatalogProblem } from './catalog-error.ts';
import { type CompiledParameters, compileParameters, type ParameterSchema } from './parameter-schema.ts';
import { type Place, readYaml } from './yaml-text.ts';

export interface ModelFile {
  readonly file: string;
  readonly model: Model;
  readonly schema: ParameterSchema;
  /** Where in the file the value at `path` stands. */
  place(path: readonly PropertyKey[]): Place;
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

const modelSchema = z
  .strictObject({
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
      .array(z.strictObject({ provider: z.string().min(1), model: z.string().min(1) }))
      .min(1)
      .superRefine((routes, context) => {
        // A job remembers its route by the provider alone.
        routes.forEach(({ provider }, index) => {
          if (routes.findIndex((route) => route.provider === provider) === index) return;
          context.addIssue({ code: 'custom', path: [index, 'provider'], message: `"${provider}" has a route already` });
        });
      }),
    routing: z.enum(ROUTINGS).default('order'),
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
  })
  .transform(
    ({ retry, timeout_seconds, on_unknown, ...model }): Model => ({
      ...model,
      retry: { attempts: retry.attempts, firstDelayMs: retry.first_delay_ms, factor: retry.factor, delayMsMax: retry.delay_ms_max },
      timeoutSeconds: timeout_seconds,
      onUnknown: on_unknown,
    }),
  );

/** Never throws for what is wrong with the file; it is reported together with what is wrong with others. */
export async function readModelFile(file: string): Promise<ReadModelFile> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (error) {
    return broken([{ file, reason: `cannot be read: ${error instanceof Error ? error.message : String(error)}` }]);
  }
  return parseModelFile(file, bytes);
}

function parseModelFile(file: string, bytes: Uint8Array): ReadModelFile {
  const text = new TextDecoder().decode(bytes);
  const notUtf8 = placeOfBadByte(bytes, text);
  if (notUtf8) return broken([{ file, ...notUtf8, reason: 'is not UTF-8 text' }]);

  const yaml = readYaml(text);
  if (yaml.kind === 'broken') return broken(yaml.problems.map(({ place, reason }) => ({ file, ...place, reason })));

  const problemAt = (path: readonly PropertyKey[], reason: string): CatalogProblem => {
    const pointer = jsonPointer(path.map(String));
    return { file, ...yaml.place(path), reason: pointer === '' ? reason : `${pointer} ${reason}` };
  };
  const parsed = modelSchema.safeParse(yaml.value, { error: describeIssue });
  // Compiled even when the rest of the file is wrong, so that one start shows all there is to mend.
  const compiled = compileMember(yaml.value);
  if (parsed.success && compiled?.kind === 'ready') {
    return { kind: 'ready', modelFile: { file, model: parsed.data, schema: compiled.schema, place: yaml.place } };
  }
  return broken([
    ...(parsed.error?.issues ?? []).flatMap((issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => problemAt([...issue.path, key], 'is not a key that model files have'))
        : [problemAt(issue.path, issue.message)],
    ),
    ...(compiled?.kind === 'broken' ? compiled.problems : []).map(({ path, reason }) => problemAt(['parameters', ...path], reason)),
  ]);
}

function compileMember(value: JsonValue): CompiledParameters | undefined {
  return isJsonObject(value) && isJsonObject(value.parameters) ? compileParameters(value.parameters) : undefined;
}

function describeIssue(issue: z.core.$ZodRawIssue): string | undefined {
  return issue.code === 'invalid_type' && issue.input === undefined ? 'is required' : undefined;
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
