/**
 * JSONata expressions over what upstreams answer. The expressions are an operator's, the answers anybody's, so an evaluation is limited in
 * time, depth and size, and sees nothing but its input: the language has no way to files, network or variables of the process.
 */
import { runInNewContext } from 'node:vm';
import { type JsonValue, TerminalError } from '@claimcheck/core';
import jsonata from 'jsonata';

/** Milliseconds; an ordinary evaluation takes less than one. */
const TIMEOUT_MS = 250;
/** Nested evaluations; one that calls itself without an end is stopped by this. */
const DEPTH_MAX = 500;
/** Members of a list that an expression makes, as `[1..n]` does. */
const LENGTH_MAX = 100_000;

export interface Expression {
  /**
   * The result as plain JSON, undefined for nothing.
   * @throws TerminalError when the expression fails or is stopped: it, not the job, has to be changed.
   */
  evaluate(input: JsonValue): Promise<JsonValue | undefined>;
}

/** What is wrong with the text of an expression, undefined when it can be compiled. */
export function faultOf(text: string): string | undefined {
  try {
    jsonata(text);
    return undefined;
  } catch (error) {
    const { message, position } = describe(error);
    return position === undefined ? message : `${message} (character ${position})`;
  }
}

/** @throws what JSONata throws when {@link faultOf} finds something. `name` is what errors call it. */
export function compile(name: string, text: string): Expression {
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
        const message = `The expression for ${name} of this route could not be evaluated: ${describe(error).message}`;
        throw new TerminalError(message.slice(0, 300), { code: 'internal', cause: error });
      }
    },
  };
}

/** A pattern can take longer than the age of the universe, in a single step that no other limit sees. */
class TimedRegExp extends RegExp {
  override exec(text: string): RegExpExecArray | null {
    const plain = new RegExp(this.source, this.flags);
    plain.lastIndex = this.lastIndex;
    const found: RegExpExecArray | null = runInNewContext('pattern.exec(text)', { pattern: plain, text }, { timeout: TIMEOUT_MS });
    this.lastIndex = plain.lastIndex;
    return found;
  }
}

/** JSONata throws plain objects. */
function describe(error: unknown): { readonly message: string; readonly position: number | undefined } {
  const fields = typeof error === 'object' && error !== null ? error : {};
  const message = 'message' in fields && typeof fields.message === 'string' ? fields.message : 'it is not valid';
  return {
    message: message.split('\n', 1)[0] ?? '',
    position: 'position' in fields && typeof fields.position === 'number' ? fields.position : undefined,
  };
}
