/** What is wrong with parameters, in words for the client: which one, what was given, what is allowed. */
import { isJsonObject, type JsonObject, type JsonText, type JsonValue, jsonPointer, type Problem } from '@claimcheck/core';
import type { ErrorObject } from 'ajv/dist/2020.js';

/** Characters of a given text that are repeated back. */
const SHOWN_LENGTH_MAX = 80;
/** Problems that the sentence of an error names; the rest is in its `problems`. */
const NAMED_PROBLEMS_MAX = 3;

/** `lead` and the first of the problems, as one text. */
export function sentenceOf(lead: string, problems: readonly Problem[]): string {
  const named = problems
    .slice(0, NAMED_PROBLEMS_MAX)
    .map(({ pointer, message }) => `${pointer === '' ? 'the body' : pointer} ${message.replace(/\.$/, '')}`);
  const rest = problems.length - named.length;
  const end = rest === 0 ? '' : `; and ${rest} more ${rest === 1 ? 'problem' : 'problems'}`;
  return `${lead}: ${named.join('. ')}${end}.`;
}

/**
 * One problem per parameter and fault. `errors` come from Ajv with `verbose`, which adds the value and the schema it broke.
 * `exactTexts` are the texts of the top-level members: a number is shown as the client wrote it, not as JSON.parse rounded it.
 */
export function problemsOf(errors: readonly ErrorObject[], exactTexts: ReadonlyMap<string, JsonText>): Problem[] {
  const exactByPointer = new Map(Array.from(exactTexts, ([name, text]) => [jsonPointer([name]), text]));
  const messagesByPointer = new Map<string, Set<string>>();
  for (const error of errors) {
    // The faults of a name are summed up by the `propertyNames` error that follows them.
    if (error.propertyName !== undefined) continue;
    const member = memberNamedBy(error);
    const pointer = member === undefined ? error.instancePath : error.instancePath + jsonPointer([member]);
    const messages = messagesByPointer.get(pointer) ?? new Set();
    messagesByPointer.set(pointer, messages);
    if (member !== undefined) messages.add(describeMember(error, member));
    else describeValue(error, exactByPointer.get(pointer), messages);
  }
  return Array.from(messagesByPointer, ([pointer, messages]) => Array.from(messages, (message) => ({ pointer, message }))).flat();
}

/** Errors of an object that are about one member, by the key under which Ajv names it. */
function memberNamedBy({ params }: ErrorObject): string | undefined {
  const name: unknown = params.missingProperty ?? params.additionalProperty ?? params.unevaluatedProperty ?? params.propertyName;
  return typeof name === 'string' ? name : undefined;
}

function describeMember(error: ErrorObject, member: string): string {
  const properties = error.parentSchema?.properties;
  const known = isJsonObject(properties) ? properties : {};
  if (error.params.missingProperty !== undefined) {
    const allowed = describeAllowed(known[member]);
    return allowed === undefined ? 'is missing' : `is missing; it must be ${allowed}`;
  }
  if (error.keyword === 'propertyNames') return 'has a name that is not allowed';
  const names = Object.keys(known);
  return `is not known; allowed ${names.length === 0 ? 'is nothing' : `are ${names.join(', ')}`}`;
}

function describeValue(error: ErrorObject, exactText: JsonText | undefined, messages: Set<string>): void {
  const given = typeof error.data === 'number' && exactText !== undefined ? shorten(exactText) : describeGiven(error.data);
  const isChoice = error.keyword === 'anyOf' || (error.keyword === 'oneOf' && error.params.passingSchemas === null);
  const allowed = DESCRIBED_KEYWORDS.has(error.keyword) || isChoice ? describeAllowed(error.parentSchema) : undefined;
  if (allowed !== undefined) {
    // A choice in words covers what each of its branches complained about just before.
    if (isChoice) messages.clear();
    messages.add(`is ${given}; it must be ${allowed}`);
  } else if (error.keyword === 'false schema') {
    messages.add('is not allowed');
  } else if (!isChoice || messages.size === 0) {
    messages.add(`is ${given}; it ${error.message}`);
  }
}

function describeGiven(value: unknown): string {
  if (typeof value === 'string') {
    const shown = JSON.stringify(shorten(value));
    return value.length > SHOWN_LENGTH_MAX ? `${shown} (${value.length} characters)` : shown;
  }
  if (Array.isArray(value)) return `an array of ${count(value.length, 'item')}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

function shorten(text: string): string {
  if (text.length <= SHOWN_LENGTH_MAX) return text;
  const start = text.slice(0, SHOWN_LENGTH_MAX);
  // The text itself is well-formed, so only a pair cut in two can make its start otherwise.
  return `${start.isWellFormed() ? start : start.slice(0, -1)}…`;
}

/** Keywords whose demand {@link describeAllowed} puts into words; for others, Ajv's own message is used. */
const DESCRIBED_KEYWORDS: ReadonlySet<string> = new Set([
  'type',
  'enum',
  'const',
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'minLength',
  'maxLength',
  'pattern',
  'minItems',
  'maxItems',
]);

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: 'a string',
  integer: 'an integer',
  number: 'a number',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
  null: 'null',
};

/** What a schema allows, in words; undefined when it says it in ways that have none. */
function describeAllowed(schema: JsonValue | undefined): string | undefined {
  if (!isJsonObject(schema)) return undefined;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (Array.isArray(schema.enum)) {
    const values = schema.enum.map((value) => JSON.stringify(value)).join(', ');
    return schema.enum.length === 1 ? values : `one of ${values}`;
  }
  const branches = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(branches)) {
    const described = branches.map(describeAllowed);
    return described.includes(undefined) ? undefined : [...new Set(described)].join(' or ');
  }
  const types = [schema.type].flat().map((type) => (typeof type === 'string' ? TYPE_NAMES[type] : undefined));
  return types.includes(undefined) ? undefined : types.join(' or ') + describeLimits(schema);
}

function describeLimits(schema: JsonObject): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, minLength, maxLength, pattern, minItems, maxItems } = schema;
  const limits = [
    describeRange(minimum, maximum, ''),
    exclusiveMinimum === undefined ? '' : ` above ${exclusiveMinimum}`,
    exclusiveMaximum === undefined ? '' : ` below ${exclusiveMaximum}`,
    multipleOf === undefined ? '' : ` that is a multiple of ${multipleOf}`,
    describeRange(minLength, maxLength, ' characters'),
    pattern === undefined ? '' : ` that matches ${pattern}`,
    describeRange(minItems, maxItems, ' items'),
  ];
  return limits.join('');
}

function describeRange(min: JsonValue | undefined, max: JsonValue | undefined, unit: string): string {
  if (min !== undefined && max !== undefined) return unit === '' ? ` from ${min} to ${max}` : ` of ${min} to ${max}${unit}`;
  if (min !== undefined) return ` of at least ${min}${unit}`;
  if (max !== undefined) return ` of at most ${max}${unit}`;
  return '';
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
