/** The JSON Schema of a model's parameters, compiled once: checks what clients send and knows the defaults of what they leave out. */
import {
  type ExactJson,
  isJsonObject,
  type JsonObject,
  type JsonText,
  type JsonValue,
  membersOf,
  type Problem,
  toJsonText,
} from '@claimcheck/core';
import { Ajv2020, type Options, type ValidateFunction } from 'ajv/dist/2020.js';
import { problemsOf } from './parameter-problems.ts';

export interface ParameterSchema {
  /** The names of the top-level parameters. */
  readonly names: ReadonlySet<string>;
  /** The defaults of top-level parameters, in the order of the schema. */
  readonly defaults: ReadonlyMap<string, JsonText>;
  /** Everything that is wrong with the parameters; empty when they are valid. Of a huge body only the first problem. */
  problemsWith(parameters: ExactJson): readonly Problem[];
}

/** A fault of the schema itself; `path` leads from the schema's root to the culprit. */
export interface SchemaProblem {
  readonly path: readonly string[];
  readonly reason: string;
}

export type CompiledParameters =
  | { readonly kind: 'broken'; readonly problems: readonly SchemaProblem[] }
  | { readonly kind: 'ready'; readonly schema: ParameterSchema };

const AJV_OPTIONS: Options = {
  strict: true,
  // "type: [string, integer]" is plain 2020-12; strict mode alone would only let a type be joined with null.
  allowUnionTypes: true,
  // JSON Schema 2020-12 makes "format" an annotation.
  validateFormats: false,
  // Parameters may be called "constructor" or "toString"; what objects inherit is not what the client sent.
  ownProperties: true,
  // Values and schemas travel with the errors, so that messages can name them.
  verbose: true,
  logger: false,
  // Done once for all by `metaSchema`; each Ajv would compile it anew, which takes most of a load.
  validateSchema: false,
};

/** Knows what a schema may be. It compiles none, so one serves all files. */
const metaSchema = new Ajv2020({ ...AJV_OPTIONS, allErrors: true });

/** Collecting every problem of a body with more values than this could cost gigabytes: five million wrong items fit into ten megabytes. */
const EXPLAINED_COMMAS_MAX = 1_000;

/** Compiles the schema and checks everything about it that can be checked before a client comes. */
export function compileParameters(parameters: JsonObject): CompiledParameters {
  const problems = [...schemaProblems(parameters), ...costlyUniqueItems(parameters, [])];
  if (problems.length > 0) return { kind: 'broken', problems };
  // Each schema gets its own Ajv: in a shared one, an "$id" that two model files use would be a clash.
  const explains = new Ajv2020({ ...AJV_OPTIONS, allErrors: true }).compile(parameters);
  const accepts = new Ajv2020(AJV_OPTIONS).compile(parameters);
  const properties = propertiesOf(parameters);
  const defaults = Object.entries(properties).flatMap(([name, property]): [string, JsonValue][] =>
    isJsonObject(property) && property.default !== undefined ? [[name, property.default]] : [],
  );
  const wrongDefaults = defaultProblems(explains, defaults);
  if (wrongDefaults.length > 0) return { kind: 'broken', problems: wrongDefaults };
  return {
    kind: 'ready',
    schema: {
      names: namesOf(parameters),
      defaults: new Map(defaults.map(([name, value]) => [name, toJsonText(value)])),
      problemsWith({ text, value }) {
        if (accepts(value)) return [];
        if (hasManyCommas(text)) return problemsOf(accepts.errors ?? [], new Map());
        explains(value);
        return problemsOf(explains.errors ?? [], isJsonObject(value) ? membersOf(text) : new Map());
      },
    },
  };
}

/** The names of the top-level parameters. */
export function namesOf(parameters: JsonObject): ReadonlySet<string> {
  return new Set(Object.keys(propertiesOf(parameters)));
}

/** What the 2020-12 meta-schema or Ajv's strict mode finds wrong. */
function schemaProblems(parameters: JsonObject): SchemaProblem[] {
  const refusal = refusalOf(() => metaSchema.validateSchema(parameters));
  if (refusal !== undefined) return [{ path: [], reason: refusal }];
  const problems = problemsOf(metaSchema.errors ?? [], new Map());
  if (problems.length > 0) return problems.map(({ pointer, message }) => ({ path: pathOf(pointer), reason: message }));
  return compileProblems(parameters);
}

/**
 * Strict mode refuses with an exception that names no place. So the parts are compiled apart, each parameter among others that
 * allow everything, to learn which of them it means.
 */
function compileProblems(parameters: JsonObject): SchemaProblem[] {
  const refusal = refusalOfSchema(parameters);
  if (refusal === undefined) return [];
  const properties = propertiesOf(parameters);
  const open = Object.fromEntries(Object.keys(properties).map((name) => [name, true]));
  const { $id, $schema, $defs } = parameters;
  const shared = Object.fromEntries(Object.entries({ $id, $schema, $defs }).filter(([, value]) => value !== undefined));
  const ofProperties = Object.entries(properties).flatMap(([name, property]): SchemaProblem[] => {
    const reason = refusalOfSchema({ ...shared, type: 'object', properties: { ...open, [name]: property } });
    return reason === undefined ? [] : [{ path: ['properties', name], reason }];
  });
  const ofRoot = refusalOfSchema({ ...parameters, properties: open });
  if (ofRoot !== undefined) return [{ path: [], reason: ofRoot }, ...ofProperties];
  return ofProperties.length > 0 ? ofProperties : [{ path: [], reason: refusal }];
}

function refusalOfSchema(schema: JsonObject): string | undefined {
  return refusalOf(() => new Ajv2020(AJV_OPTIONS).compile(schema));
}

function refusalOf(attempt: () => unknown): string | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Ajv compares objects and arrays pair by pair, which costs the square of a list whose length a stranger chooses. */
function costlyUniqueItems(schema: JsonValue | undefined, path: readonly string[]): SchemaProblem[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const inside = Object.entries(schema).flatMap(([key, value]) => costlyUniqueItems(value, [...path, key]));
  if (!isJsonObject(schema) || schema.uniqueItems !== true) return inside;
  const itemTypes = isJsonObject(schema.items) ? [schema.items.type].flat() : [];
  const isCheap = itemTypes.length > 0 && itemTypes.every((type) => type !== undefined && type !== 'object' && type !== 'array');
  if (isCheap) return inside;
  return [{ path: [...path, 'uniqueItems'], reason: 'is only supported for items of a type other than object and array' }, ...inside];
}

function defaultProblems(explains: ValidateFunction, defaults: readonly (readonly [string, JsonValue])[]): SchemaProblem[] {
  const names = new Set(defaults.map(([name]) => name));
  explains(Object.fromEntries(defaults));
  return problemsOf(explains.errors ?? [], new Map()).flatMap(({ pointer, message }) => {
    const [name, ...rest] = pathOf(pointer);
    // Only the defaults were given, so parameters that must be given are missing: that is no fault of the file.
    return name === undefined || !names.has(name) ? [] : [{ path: ['properties', name, 'default', ...rest], reason: message }];
  });
}

function propertiesOf(parameters: JsonObject): JsonObject {
  return isJsonObject(parameters.properties) ? parameters.properties : {};
}

function pathOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function hasManyCommas(text: string): boolean {
  let at = -1;
  for (let commas = 0; commas <= EXPLAINED_COMMAS_MAX; commas += 1) {
    at = text.indexOf(',', at + 1);
    if (at === -1) return false;
  }
  return true;
}
