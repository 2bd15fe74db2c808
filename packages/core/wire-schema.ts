/**
 * Reads what a request says beside its path, by zod schemas. The schema that reads is also what the description of the API is made of, so the
 * two cannot differ.
 *
 * Messages of these schemas complete a sentence that begins with the name: "must be true or false".
 */
import { z } from 'zod';
import type { WireRequest } from './dialect.ts';
import { AppError, type Problem } from './errors.ts';
import { isJsonObject, jsonPointer } from './json.ts';

/** The address line's values as `schema` reads them. @throws AppError `invalid_parameters` that lists everything that is wrong. */
export function readQuery<Schema extends z.ZodObject>({ query }: Pick<WireRequest, 'query'>, schema: Schema): z.output<Schema> {
  const { values, problems } = queryValues(query, schema);
  return values ?? refuse(problems);
}

/** The same of headers. Keys of the schema are names as people write them; case does not matter. */
export function readHeaders<Schema extends z.ZodObject>({ header }: Pick<WireRequest, 'header'>, schema: Schema): z.output<Schema> {
  const { values, problems } = headerValues(header, schema);
  return values ?? refuse(problems);
}

/**
 * The members of a JSON body. Where `schema` is strict, members that it does not have are problems too, told first.
 * @throws AppError `invalid_parameters` that lists everything that is wrong; for anything but an object.
 */
export function readMembers<Schema extends z.ZodObject>({ body }: Pick<WireRequest, 'body'>, schema: Schema): z.output<Schema> {
  const object = body?.value;
  if (!isJsonObject(object)) throw membersRefusal([{ pointer: '', message: 'must be a JSON object' }]);
  const read = schema.safeParse(object);
  if (read.success) return read.data;
  const known = Object.keys(schema.shape).join(', ');
  const unknown: Problem[] = read.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({ pointer: jsonPointer([key]), message: `is not known here; there is ${known}` }))
      : [],
  );
  const wrong = firstIssues(read.error).map(({ name, message }) => ({
    pointer: jsonPointer([name]),
    message: object[name] === undefined ? `is missing; it ${message}` : message,
  }));
  throw membersRefusal([...unknown, ...wrong]);
}

/** Both at once, so that a client learns of everything. @throws AppError as the single ones do. */
export function readQueryAndHeaders<Query extends z.ZodObject, Headers extends z.ZodObject>(
  request: Pick<WireRequest, 'query' | 'header'>,
  schemas: { readonly query?: Query | undefined; readonly headers?: Headers | undefined },
): { readonly query: z.output<Query>; readonly headers: z.output<Headers> } {
  const query = queryValues(request.query, schemas.query ?? NOTHING);
  const headers = headerValues(request.header, schemas.headers ?? NOTHING);
  if (!query.values || !headers.values) return refuse([...query.problems, ...headers.problems]);
  // Where there is no schema, there is nothing that a reader could ask for by its type.
  return { query: query.values as z.output<Query>, headers: headers.values as z.output<Headers> };
}

const NOTHING = z.object({});

type Read<Schema extends z.ZodObject> = { readonly values?: z.output<Schema>; readonly problems: readonly Problem[] };

function queryValues<Schema extends z.ZodObject>(query: URLSearchParams, schema: Schema): Read<Schema> {
  return valuesOf(schema, 'The query parameter', (name) => query.get(name) ?? undefined);
}

function headerValues<Schema extends z.ZodObject>(header: WireRequest['header'], schema: Schema): Read<Schema> {
  return valuesOf(schema, 'The header', (name) => header(name.toLowerCase()));
}

function valuesOf<Schema extends z.ZodObject>(schema: Schema, kind: string, textOf: (name: string) => string | undefined): Read<Schema> {
  const texts = Object.fromEntries(Object.keys(schema.shape).map((name) => [name, textOf(name)]));
  const read = schema.safeParse(texts);
  if (read.success) return { values: read.data, problems: [] };
  const problems = firstIssues(read.error).map(({ name, message }) => {
    const sentence =
      texts[name] === undefined
        ? `${kind} \`${name}\` is missing; it ${message}.`
        : `${kind} \`${name}\` ${message}, not ${JSON.stringify(texts[name])}.`;
    return { pointer: `/${name}`, message: sentence };
  });
  return { problems };
}

/** What is wrong with each member; a second problem of one would only repeat its rule. */
function firstIssues({ issues }: z.ZodError): readonly { readonly name: string; readonly message: string }[] {
  const messages = new Map<string, string>();
  for (const { path, message } of issues) {
    const name = String(path[0] ?? '');
    if (path.length > 0 && !messages.has(name)) messages.set(name, message);
  }
  return Array.from(messages, ([name, message]) => ({ name, message }));
}

function refuse(problems: readonly Problem[]): never {
  throw new AppError('invalid_parameters', problems.map(({ message }) => message).join(' '), { problems });
}

function membersRefusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}

/** RFC 3339; a time without its offset would mean another instant on every machine. */
const INSTANT = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})$/;
const INSTANT_RULE = 'must be an instant such as 2030-01-31T09:00:00Z, with its offset from UTC';

/** A text that names an instant, read as a Date. */
export function instant() {
  return z
    .string({ error: INSTANT_RULE })
    .transform((text, { issues }) => {
      const at = INSTANT.test(text) ? new Date(text) : undefined;
      if (at && !Number.isNaN(at.getTime())) return at;
      issues.push({ code: 'custom', message: INSTANT_RULE, input: text });
      return z.NEVER;
    })
    .meta({ type: 'string', format: 'date-time' });
}

export interface WholeNumberBounds {
  readonly min: number;
  readonly max: number;
  /** Larger ones count as `max` instead of being refused. */
  readonly isCut?: boolean;
  /** Completes "must be". */
  readonly rule: string;
}

/** A whole number, of a text of digits. */
export function wholeNumberText({ min, max, isCut = false, rule }: WholeNumberBounds) {
  const error = `must be ${rule}`;
  return z
    .string({ error })
    .regex(/^\d+$/, { error })
    .transform((digits) => (isCut ? Math.min(Number(digits), max) : Number(digits)))
    .pipe(z.int({ error }).min(min, { error }).max(max, { error }));
}

/** Yes or no, of `true`, `1`, `false` or `0`. */
export function flagText() {
  const error = 'must be true or false';
  return z
    .enum(['true', '1', 'false', '0'], { error })
    .transform((text) => text === 'true' || text === '1')
    .pipe(z.boolean());
}

/** One of some words, however their letters are written; `values` must all be of upper case, or all of lower. */
export function wordText<const Values extends readonly [string, ...string[]]>(values: Values) {
  const error = `must be one of ${values.join(', ')}`;
  const isUpper = values[0] === values[0].toUpperCase();
  return z
    .string({ error })
    .transform((text) => (isUpper ? text.toUpperCase() : text.toLowerCase()))
    .pipe(z.enum(values, { error }));
}
