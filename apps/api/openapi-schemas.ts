/** Schemas for an OpenAPI 3.1 document, whose dialect of JSON Schema is 2020-12: made from zod's, those with an id shared as components. */
import { z } from 'zod';

export type JsonSchema = Readonly<Record<string, unknown>>;

export interface SchemaComponents {
  /** A zod schema as JSON Schema; `input` is what is sent, `output` what it is read as, or what is answered. */
  of(schema: z.ZodType, io: 'input' | 'output'): JsonSchema;
  /** Adds a component and returns the reference to it. @throws Error when another has that name. */
  add(name: string, schema: JsonSchema): JsonSchema;
  /** Adds a parameter of an address line or of a header, and returns the reference to it: many routes have the same. */
  addParameter(parameter: JsonSchema & { readonly name: string }): JsonSchema;
  /** All there are, by their names. */
  all(): { readonly schemas: Readonly<Record<string, JsonSchema>>; readonly parameters: Readonly<Record<string, JsonSchema>> };
}

export function openSchemaComponents(): SchemaComponents {
  const components = new Map<string, JsonSchema>();
  /** Names by what they say: two routes may have parameters of one name that say different things. */
  const parameterNames = new Map<string, string>();

  function add(name: string, schema: JsonSchema): JsonSchema {
    const known = components.get(name);
    if (known && JSON.stringify(known) !== JSON.stringify(schema)) throw new Error(`There are two schemas of the name ${name}`);
    components.set(name, schema);
    return { $ref: `#/components/schemas/${name}` };
  }

  return {
    add,
    addParameter(parameter) {
      const text = JSON.stringify(parameter);
      const taken = new Set(parameterNames.values());
      let name = parameterNames.get(text) ?? parameter.name;
      for (let number = 2; !parameterNames.has(text) && taken.has(name); number += 1) name = `${parameter.name}-${number}`;
      parameterNames.set(text, name);
      return { $ref: `#/components/parameters/${name}` };
    },
    all: () => ({
      schemas: Object.fromEntries([...components].sort(([a], [b]) => (a < b ? -1 : 1))),
      parameters: Object.fromEntries(Array.from(parameterNames, ([text, name]) => [name, JSON.parse(text)])),
    }),
    of(schema, io) {
      const override = ({ jsonSchema }: { readonly jsonSchema: z.core.JSONSchema.BaseSchema }) => simplify(jsonSchema, io);
      const made = z.toJSONSchema(schema, { io, unrepresentable: 'any', override });
      const { $schema: _dialect, $defs = {}, ...root } = relocated(made, '#/$defs/', '#/components/schemas/');
      for (const [name, definition] of Object.entries($defs)) add(name, definition);
      return root;
    },
  };
}

/** What only repeats the format, and bounds that every number of JavaScript has, would be in everybody's way. */
function simplify(schema: z.core.JSONSchema.BaseSchema, io: 'input' | 'output'): void {
  if (schema.format === 'uuid' || schema.format === 'date-time') delete schema.pattern;
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  // What a text is read as when there is none is no text.
  if (schema.type === 'string' && typeof schema.default !== 'string') delete schema.default;
  // Answers may get more members one day.
  if (io === 'output' && schema.additionalProperties === false) delete schema.additionalProperties;
}

/** A copy whose references that begin with `from` begin with `to`. */
export function relocated<Schema>(schema: Schema, from: string, to: string): Schema {
  const text = JSON.stringify(schema, (key, value: unknown) => {
    return key === '$ref' && typeof value === 'string' && value.startsWith(from) ? `${to}${value.slice(from.length)}` : value;
  });
  return JSON.parse(text);
}
