/** Holds what dialects answer in tests against what they say of it in the description of the API. */
import { isDeepStrictEqual } from 'node:util';
import {
  type Answer,
  type AnswerDescription,
  type Dialect,
  type DialectRoute,
  InlineFile,
  PlainText,
  type ServerSentEvent,
} from '@claimcheck/core';

/** The same dialect, every answer of which fails that its route does not describe, or describes otherwise, to the last member. */
export function describedDialect(dialect: Dialect): Dialect {
  return { ...dialect, routes: dialect.routes.map(describedRoute) };
}

export function describedRoute(route: DialectRoute): DialectRoute {
  return { ...route, encode: (outcome, request) => held(route, route.encode(outcome, request)) };
}

function held(route: DialectRoute, answer: Answer): Answer {
  const line = `${route.method} ${route.path} with ${answer.status}`;
  // Of errors, those of the dialect's envelope go without saying, and some vendors tell the end of a job as one.
  const description = route.answers?.[answer.status];
  if (!description) {
    if (route.answers && answer.status < 400) throw new Error(`${line} is not described.`);
    return answer;
  }
  const { body } = answer;
  switch (body.kind) {
    case 'json':
      hold(line, description, body.value);
      return answer;
    case 'events':
      return { ...answer, body: { ...body, events: heldEvents(line, streamed(description, 'text/event-stream'), body.events) } };
    case 'lines': {
      const ofLines = streamed(description, 'application/x-ndjson');
      hold(line, ofLines, body.heartbeat);
      return { ...answer, body: { ...body, lines: heldLines(line, ofLines, body.lines) } };
    }
    default:
      if (description.schema) throw new Error(`${line} is described as JSON, and is not.`);
      return answer;
  }
}

function streamed({ description, schema, contentType, streams }: AnswerDescription, type: keyof NonNullable<AnswerDescription['streams']>) {
  const own = streams?.[type] ?? (contentType === type ? schema : undefined);
  return { description, ...(own && { schema: own }) };
}

async function* heldEvents(
  line: string,
  description: AnswerDescription,
  events: AsyncIterable<ServerSentEvent>,
): AsyncIterable<ServerSentEvent> {
  for await (const event of events) {
    if (!(event.data instanceof PlainText)) hold(line, description, event.data);
    yield event;
  }
}

async function* heldLines(line: string, description: AnswerDescription, lines: AsyncIterable<unknown>): AsyncIterable<unknown> {
  for await (const value of lines) {
    hold(line, description, value);
    yield value;
  }
}

function hold(line: string, { schema, contentType }: AnswerDescription, value: unknown): void {
  if (!schema) {
    // Who names another type may answer with anything.
    if (contentType === undefined) throw new Error(`${line} is JSON, of which no schema says anything.`);
    return;
  }
  const body: unknown = JSON.parse(JSON.stringify(value, written));
  const read = schema.safeParse(body);
  if (!read.success) throw new Error(`${line} is not what its description says: ${read.error.message} in ${JSON.stringify(body)}`);
  // Members that a schema does not have are dropped by reading.
  if (!isDeepStrictEqual(read.data, body)) throw new Error(`${line} has more than its description says: ${JSON.stringify(body)}`);
}

/** As the app writes it, with some bytes for each file. */
function written(_key: string, value: unknown): unknown {
  if (value instanceof InlineFile) return value.form === 'base64' ? 'AAAA' : 'data:application/octet-stream;base64,AAAA';
  return value;
}
