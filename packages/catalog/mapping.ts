/** What a route sends: the `parameters` of a route in a model file, compiled once, from the model's vocabulary to the vendor's. */
import { isDeepStrictEqual } from 'node:util';
import {
  AppError,
  compileExpression,
  ExpressionError,
  type ExpressionReads,
  expressionReads,
  fromJsonText,
  type JsonObject,
  type JsonValue,
  jsonPointer,
  type Problem,
} from '@claimcheck/core';
import { sentenceOf } from './parameter-problems.ts';
import type { ParameterSchema } from './parameter-schema.ts';
import type { RouteFile } from './route-file.ts';

export interface Mapping {
  /**
   * What is sent for parameters whose defaults are filled in. Members whose expression gives nothing are left out.
   * @throws AppError `invalid_parameters` with every parameter that would be lost and every value that an expression refuses by `$error`;
   *   `internal` for an expression that fails in any other way, with its place in the file as the cause.
   */
  express(parameters: JsonObject): Promise<JsonObject>;
}

export interface MappingSource {
  /** The name of the model, for messages. */
  readonly model: string;
  readonly provider: string;
  readonly members: NonNullable<RouteFile['parameters']>;
  /** Parameters that may be lost: those the route drops, and those that the service itself sees to. */
  readonly spared: readonly string[];
  readonly schema: ParameterSchema;
  /** Where a member stands in the file, for operators. */
  where(member: string): string;
}

/** Beyond this, a default is not worth repeating in a sentence. */
const SHOWN_LENGTH_MAX = 80;

/** The expressions must be without fault. */
export function compileMapping({ model, provider, members, spared, schema, where }: MappingSource): Mapping {
  const compiled = Object.entries(members).map(([name, value]) => compileMember(name, value));
  const lost = lostParameters(
    schema,
    spared,
    compiled.map(({ reads }) => reads),
  );

  async function evaluate(member: Member, parameters: JsonObject): Promise<Evaluated> {
    try {
      return { value: await member.evaluate(parameters) };
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      if (error.isRaised) return { problem: { pointer: pointerOf(member.reads), message: error.message } };
      const sentence = `Model ${JSON.stringify(model)} cannot be run by ${provider}: what the model's file says about that failed. The operator finds the place in the log.`;
      throw new AppError('internal', sentence, { cause: new Error(`${where(member.name)}: ${error.message}`, { cause: error }) });
    }
  }

  return {
    async express(parameters) {
      const problems = lost.filter(({ name, value }) => isGiven(parameters, name, value)).map((parameter) => lossOf(parameter, provider));
      const sent: [string, JsonValue][] = [];
      // One after the other, because each has its own time limit.
      for (const member of compiled) {
        const { value, problem } = await evaluate(member, parameters);
        if (problem && !problems.some((known) => isDeepStrictEqual(known, problem))) problems.push(problem);
        if (value !== undefined) sent.push([member.name, value]);
      }
      if (problems.length === 0) return Object.fromEntries(sent);
      const lead = `Provider ${provider} cannot run model ${JSON.stringify(model)} with these parameters`;
      throw new AppError('invalid_parameters', sentenceOf(lead, problems), { problems });
    },
  };
}

interface Evaluated {
  readonly value?: JsonValue | undefined;
  readonly problem?: Problem;
}

interface Member {
  readonly name: string;
  readonly reads: ExpressionReads;
  evaluate(parameters: JsonObject): Promise<JsonValue | undefined>;
}

function compileMember(name: string, value: string | number | boolean | null): Member {
  if (typeof value !== 'string') return { name, reads: { names: [], everything: false }, evaluate: () => Promise.resolve(value) };
  const expression = compileExpression(value);
  return { name, reads: expressionReads(value), evaluate: (parameters) => expression.evaluate(parameters) };
}

interface LostParameter {
  readonly name: string;
  /** Its default: what the route does anyway. */
  readonly value: JsonValue | undefined;
}

/** The parameters that nothing of the route looks at. */
function lostParameters(schema: ParameterSchema, spared: readonly string[], reads: readonly ExpressionReads[]): readonly LostParameter[] {
  if (reads.some(({ everything }) => everything)) return [];
  const kept = new Set([...spared, ...reads.flatMap(({ names }) => names)]);
  return [...schema.names]
    .filter((name) => !kept.has(name))
    .map((name) => {
      const text = schema.defaults.get(name);
      return { name, value: text === undefined ? undefined : fromJsonText(text) };
    });
}

/** Something else than the default was asked for. Clients say null for what they leave out, where there is no default. */
function isGiven(parameters: JsonObject, name: string, byDefault: JsonValue | undefined): boolean {
  const value = Object.hasOwn(parameters, name) ? parameters[name] : undefined;
  return value !== undefined && !isDeepStrictEqual(value, byDefault ?? null);
}

function lossOf({ name, value }: LostParameter, provider: string): Problem {
  const text = value === undefined ? undefined : JSON.stringify(value);
  const isShort = text !== undefined && text.length <= SHOWN_LENGTH_MAX;
  const way = isShort ? `send its default, ${text}` : 'choose another provider';
  return { pointer: jsonPointer([name]), message: `cannot be expressed by ${provider}: leave it out, or ${way}` };
}

/** The parameter that an expression is about: the first it reads. */
function pointerOf({ names }: ExpressionReads): string {
  const [first] = names;
  return first === undefined ? '' : jsonPointer([first]);
}
