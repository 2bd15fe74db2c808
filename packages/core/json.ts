/**
 * JSON that keeps the client's exact text. A number such as 12345678901234567890 or 1.0 and the order of
 * keys do not survive JSON.parse and JSON.stringify, so documents travel and rest as text; parsed values are for looking only.
 */
import { type JSONVisitor, parseTree, visit } from 'jsonc-parser';
import { AppError } from './errors.ts';

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export type JsonObject = { readonly [key: string]: JsonValue };

/** Text that is known to be one valid JSON document within the limits of {@link parseExactJson}. */
export type JsonText = string & { readonly __brand: 'JsonText' };

export interface ExactJson {
  readonly text: JsonText;
  /** What JSON.parse makes of the text: for validation and reading, never for storing. */
  readonly value: JsonValue;
}

/** The deepest nesting accepted: deep enough for any model's input, far below what overflows a recursive parser. */
export const JSON_DEPTH_MAX = 64;

/**
 * Checks a document and returns its text with its parsed value.
 *
 * @throws AppError `invalid_json` for malformed JSON (with line and column), for nesting below {@link JSON_DEPTH_MAX},
 *   and for NUL characters or lone surrogates in strings or keys, which no JSON column can hold (with their JSON pointer).
 */
export function parseExactJson(text: string): ExactJson {
  try {
    visit(text, strictVisitor);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const where = error.pointer === '' ? 'The body' : `The text at ${JSON.stringify(error.pointer)}`;
    throw new AppError('invalid_json', `${where} ${error.message}.`, {
      problems: [{ pointer: error.pointer, message: error.message }],
    });
  }
  try {
    return { text: text as JsonText, value: JSON.parse(text) };
  } catch {
    throw new AppError('invalid_json', `The body is not valid JSON${describePosition(text)}.`);
  }
}

/** The members of an object document in the client's order, each value as its exact text. A repeated key counts once, with its last value. */
export function membersOf(object: JsonText): Map<string, JsonText> {
  const members = new Map<string, JsonText>();
  for (const property of parseTree(object)?.children ?? []) {
    const [key, value] = property.children ?? [];
    if (!key || !value) continue;
    members.set(key.value, object.slice(value.offset, value.offset + value.length) as JsonText);
  }
  return members;
}

/** The opposite of {@link membersOf}: one object document out of exact texts. */
export function objectFrom(members: Iterable<readonly [string, JsonText]>): JsonText {
  return `{${Array.from(members, ([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}` as JsonText;
}

/** A value of our own as a document; for values that came from a client, keep their text instead. */
export function toJsonText(value: JsonValue): JsonText {
  return JSON.stringify(value) as JsonText;
}

/** What JSON.parse makes of a document that was checked before. */
export function fromJsonText(text: JsonText): JsonValue {
  return JSON.parse(text);
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 6901: `~` and `/` are escaped. */
export function jsonPointer(path: readonly (string | number)[]): string {
  return path.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** Thrown by the visitor to stop the walk; never leaves this file. */
class Refusal extends Error {
  readonly pointer: string;
  constructor(message: string, path: readonly (string | number)[]) {
    super(message);
    this.pointer = jsonPointer(path);
  }
}

const refuseDepth: JSONVisitor['onObjectBegin'] = (_offset, _length, _line, _column, path) => {
  if (path().length >= JSON_DEPTH_MAX) throw new Refusal(`is nested deeper than ${JSON_DEPTH_MAX} levels`, []);
};

function refuseUnstorable(text: unknown, path: () => readonly (string | number)[]): void {
  if (typeof text !== 'string') return;
  if (text.includes('\u0000')) throw new Refusal('contains a NUL character (\\u0000)', path());
  if (!text.isWellFormed()) throw new Refusal('contains a lone surrogate, which is not Unicode text', path());
}

const strictVisitor: JSONVisitor = {
  onObjectBegin: refuseDepth,
  onArrayBegin: refuseDepth,
  onObjectProperty: (key, _offset, _length, _line, _column, path) =>
    // The key itself may be what cannot be shown, so the pointer names the object that holds it.
    refuseUnstorable(key, path),
  onLiteralValue: (value, _offset, _length, _line, _column, path) => refuseUnstorable(value, path),
};

/** Where a document, known to be no deeper than allowed, stops being JSON. V8's own messages name no position for some errors. */
function describePosition(text: string): string {
  if (text.trim() === '') return ': it is empty';
  let place: string | undefined;
  visit(
    text,
    {
      onError: (_error, offset, _length, line, column) => {
        place ??= ` at line ${line + 1}, column ${column + 1} (character ${offset + 1})`;
      },
    },
    { disallowComments: true },
  );
  return place ?? '';
}
