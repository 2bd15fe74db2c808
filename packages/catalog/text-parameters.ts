/** Parameters that came as text, as the parts of a form do: read as the model's schema wants them. */
import {
  type ExactJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  membersOf,
  objectFrom,
  parseExactJson,
  toJsonText,
} from '@claimcheck/core';

/**
 * Members that are text and whose schema wants a number, a boolean, an object or a list become that. What cannot be read so stays text, so that
 * checking the parameters says what is wrong with it.
 */
export function readTextParameters(schema: JsonObject, { text }: ExactJson): ExactJson {
  const properties = isJsonObject(schema.properties) ? schema.properties : {};
  const read = Array.from(membersOf(text), ([name, member]) => {
    const value: JsonValue = JSON.parse(member);
    const wanted = typesOf(properties[name]);
    if (typeof value !== 'string' || wanted.includes('string')) return [name, member] as const;
    const meant = meaningOf(value.trim(), wanted);
    return [name, meant === undefined ? member : toJsonText(meant)] as const;
  });
  return parseExactJson(objectFrom(read));
}

function meaningOf(text: string, wanted: readonly JsonValue[]): JsonValue | undefined {
  if ((wanted.includes('integer') || wanted.includes('number')) && /^-?\d{1,20}(\.\d+)?(e[+-]?\d{1,3})?$/i.test(text)) return Number(text);
  if (wanted.includes('boolean') && /^(true|false|1|0)$/i.test(text)) return /^(true|1)$/i.test(text);
  if (!wanted.includes('object') && !wanted.includes('array')) return undefined;
  try {
    const value: JsonValue = JSON.parse(text);
    return typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Types that a schema allows, of its alternatives too; text where it says nothing. */
function typesOf(schema: JsonValue | undefined): readonly JsonValue[] {
  if (!isJsonObject(schema)) return ['string'];
  const own = schema.type === undefined ? [] : [schema.type].flat();
  const enumerated = Array.isArray(schema.enum) ? schema.enum.map((value) => (Number.isInteger(value) ? 'integer' : typeof value)) : [];
  const alternatives = [schema.anyOf, schema.oneOf].flatMap((list) => (Array.isArray(list) ? list.flatMap(typesOf) : []));
  const types = [...own, ...(own.length === 0 ? enumerated : []), ...alternatives];
  return types.length === 0 ? ['string'] : types;
}
