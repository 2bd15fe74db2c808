/** Schemas for an OpenAPI 3.1 document, whose dialect of JSON Schema is 2020-12: made from zod's, those with an id shared as components. */
import { z } from 'zod';

export type JsonSchema = Readonly<Record<string, unknown>>;

export interface SchemaComponents {
  /** A zod schema as JSON Schema; `input` is what is sent, `output` what it is read as, or what is answered. */
  of(schema: z.ZodType, io: 'input' | 'output'): JsonSchema;
  /** Adds a component and returns the reference to it. @throws Error when another has that name. */
  add(name: string, schema: JsonSchema): JsonSchema;
  /** All there are, by their names. */
  all(): Readonly<Record<string, JsonSchema>>;
}

export function openSchemaComponents(): SchemaComponents {
  const components = new Map<string, JsonSchema>();

  function add(name: string, schema: JsonSchema): JsonSchema {
    const known = components.get(name);
    if (known && JSON.stringify(known) !== JSON.stringify(schema)) throw new Error(`There are two schemas of the name ${name}`);
    components.set(name, schema);
    return { $ref: `#/components/schemas/${name}` };
  }

  return {
    add,
    all: () => Object.fromEntries([...components].sort(([a], [b]) => (a < b ? -1 : 1))),
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
