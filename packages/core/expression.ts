/**
 * JSONata expressions: over parameters of models, and over what upstreams answer. The expressions are an operator's, their input anybody's, so
 * an evaluation is limited in time, depth and size, and sees nothing but its input: the language has no way to files, network or variables
 * of the process.
 */
import { createContext, Script } from 'node:vm';
import jsonata from 'jsonata';
import type { JsonValue } from './json.ts';

/** Milliseconds; an ordinary evaluation takes less than one. */
const TIMEOUT_MS = 250;
/** Nested evaluations; one that calls itself without an end is stopped by this. */
const DEPTH_MAX = 500;
/** Members of a list that an expression makes, as `[1..n]` does. */
const LENGTH_MAX = 100_000;

export interface Expression {
  /** The result as plain JSON, undefined for nothing. @throws ExpressionError. */
  evaluate(input: JsonValue): Promise<JsonValue | undefined>;
}

/** An evaluation failed or was stopped. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError';
  /** True for what the expression itself raised, with `$error(…)`: then the message is its author's, for whoever gave the input. */
  readonly isRaised: boolean;

  constructor(message: string, details: { readonly isRaised: boolean; readonly cause?: unknown }) {
    super(message, { cause: details.cause });
    this.isRaised = details.isRaised;
  }
}

/** What JSONata calls an error that `$error` raised. */
const RAISED = 'D3137';

/** What is wrong with the text of an expression, undefined when it can be compiled. */
export function expressionFault(text: string): string | undefined {
  try {
    jsonata(text);
    return undefined;
  } catch (error) {
    const { message, position } = describe(error);
    return position === undefined ? message : `${message} (character ${position})`;
  }
}

/** @throws what JSONata throws when {@link expressionFault} finds something. */
export function compileExpression(text: string): Expression {
  // The library's type asks for the constructor itself, which can be called without `new`; it only ever constructs.
  const RegexEngine = TimedRegExp as RegExpConstructor;
  const compiled = jsonata(text, { timeout: TIMEOUT_MS, stack: DEPTH_MAX, sequence: LENGTH_MAX, RegexEngine });
  return {
    async evaluate(input) {
      try {
        const result: unknown = await compiled.evaluate(input);
        const json: string | undefined = JSON.stringify(result);
        return json === undefined ? undefined : JSON.parse(json);
      } catch (error) {
        const { message, code } = describe(error);
        throw new ExpressionError(message.slice(0, 300), { isRaised: code === RAISED, cause: error });
      }
    },
  };
}

/** Shared, as making one costs most of a millisecond; nothing stays in it, and no two matches are made at once. */
const matching = createContext(Object.create(null));
const match = new Script('pattern.exec(text)');

/** A pattern can take longer than the age of the universe, in a single step that no other limit sees. */
class TimedRegExp extends RegExp {
  override exec(text: string): RegExpExecArray | null {
    const plain = new RegExp(this.source, this.flags);
    plain.lastIndex = this.lastIndex;
    if (stepsMax(this.source, text) <= UNTIMED_STEPS_MAX) {
      const found = plain.exec(text);
      this.lastIndex = plain.lastIndex;
      return found;
    }
    Object.assign(matching, { pattern: plain, text });
    try {
      const found: RegExpExecArray | null = match.runInContext(matching, { timeout: TIMEOUT_MS });
      this.lastIndex = plain.lastIndex;
      return found;
    } finally {
      Object.assign(matching, { pattern: undefined, text: undefined });
    }
  }
}

/** A timed match takes a thread of its own, a third of a millisecond; so many steps take less than a few. */
const UNTIMED_STEPS_MAX = 1_000_000;

/**
 * More steps than a match can take. Without repeated groups and references back, each place to start, each repetition and each alternative
 * multiplies the ways to try by what it has to choose from; characters that only look like them make it more, never less.
 */
function stepsMax(pattern: string, text: string): number {
  if (/\)[*+?{]|\\[1-9k]/.test(pattern)) return Number.POSITIVE_INFINITY;
  const repetitions = pattern.match(/[*+?{]/g)?.length ?? 0;
  const alternatives = pattern.match(/\|/g)?.length ?? 0;
  return pattern.length * (text.length + 1) ** (repetitions + 1) * 2 ** alternatives;
}

/** JSONata throws plain objects. */
function describe(error: unknown): { readonly message: string; readonly code: unknown; readonly position: number | undefined } {
  const fields = typeof error === 'object' && error !== null ? error : {};
  const message = 'message' in fields && typeof fields.message === 'string' ? fields.message : 'it is not valid';
  return {
    message: message.split('\n', 1)[0] ?? '',
    code: 'code' in fields ? fields.code : undefined,
    position: 'position' in fields && typeof fields.position === 'number' ? fields.position : undefined,
  };
}
