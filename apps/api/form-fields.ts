/** What the fields of a form mean together: one JSON object. */
import { AppError, type JsonText, jsonPointer } from '@claimcheck/core';

export interface Field {
  readonly name: string;
  readonly value: string;
}

const NAME_CHARACTERS_MAX = 256;
const DEPTH_MAX = 8;

type Value = string | string[] | Members;
/** A Map, because members may be called `__proto__`. */
type Members = Map<string, Value>;

/**
 * `a[b]` is a member of the object `a`, and so on; `a[]`, and a name that comes again, make a list. All values are texts.
 * @throws AppError `invalid_request` that names a field which cannot be read so, or which is no object and has members.
 */
export function objectOfFields(fields: Iterable<Field>): JsonText {
  const root: Members = new Map();
  for (const { name, value } of fields) add(root, name, value);
  return textOf(root) as JsonText;
}

/** The name of a list without what says that it is one. */
export function listName(name: string): string {
  return name.endsWith('[]') ? name.slice(0, -2) : name;
}

function add(root: Members, name: string, value: string): void {
  if (name.length > NAME_CHARACTERS_MAX) throw refusal(name, `has a name of more than ${NAME_CHARACTERS_MAX} characters`);
  const isList = name !== listName(name);
  const path = pathOf(listName(name));
  if (path.includes('')) throw refusal(name, 'has "[]" within its name, where only the end may have it');
  if (path.length > DEPTH_MAX) throw refusal(name, `is nested deeper than ${DEPTH_MAX} levels`);
  const leaf = path.pop() ?? '';
  let members = root;
  for (const key of path) {
    const child = members.get(key) ?? new Map<string, Value>();
    if (!(child instanceof Map)) throw refusal(name, 'has members, and is a value as well');
    members.set(key, child);
    members = child;
  }
  const known = members.get(leaf);
  if (known instanceof Map) throw refusal(name, 'is a value, and has members as well');
  if (Array.isArray(known)) known.push(value);
  else if (known !== undefined) members.set(leaf, [known, value]);
  else members.set(leaf, isList ? [value] : value);
}

/** `a[b][c]` as its three parts. A name with brackets of any other shape is one part. */
function pathOf(name: string): string[] {
  const match = /^([^[\]]+)((?:\[[^[\]]*\])+)$/.exec(name);
  const [, first = '', rest = ''] = match ?? [];
  return match ? [first, ...rest.slice(1, -1).split('][')] : [name];
}

function textOf(value: Value): string {
  if (!(value instanceof Map)) return JSON.stringify(value);
  return `{${Array.from(value, ([name, member]) => `${JSON.stringify(name)}:${textOf(member)}`).join(',')}}`;
}

function refusal(name: string, message: string): AppError {
  const shown = name.slice(0, NAME_CHARACTERS_MAX);
  return new AppError('invalid_request', `The field ${JSON.stringify(shown)} of the form ${message}.`, {
    problems: [{ pointer: jsonPointer([shown]), message }],
  });
}
