/** Models: the names clients use, with the schema of their parameters and the routes that can run them. */
import type { ExactJson, JsonObject, JsonText } from './json.ts';

/** One way to run a model. Routes are tried in the order of the file; the sandbox, where allowed, comes last. */
export interface Route {
  readonly provider: string;
  /** The provider's own id of the model. */
  readonly model: string;
}

/** When a failed attempt is tried again. The wait before retry n is `firstDelayMs × factor^(n-1)`, at most `delayMsMax`. */
export interface RetryPolicy {
  /** Attempts in all, the first included; 1 to 20. */
  readonly attempts: number;
  readonly firstDelayMs: number;
  readonly factor: number;
  readonly delayMsMax: number;
}

export interface Model {
  readonly name: string;
  /** Other names that mean the same model. */
  readonly aliases: readonly string[];
  readonly title: string;
  readonly produces: 'image' | 'video' | 'audio' | 'text' | 'json';
  /** JSON Schema 2020-12 of the parameters, an object schema. */
  readonly parameters: JsonObject;
  readonly routes: readonly Route[];
  readonly retry: RetryPolicy;
  /** Seconds from the moment a job may start until it must have ended, unless the client says otherwise; 1 to 86,400. */
  readonly timeoutSeconds: number;
  /**
   * What to do when a worker died between asking the upstream and saving its handle, and the upstream has no way to tell:
   * start anew, which may pay twice, or fail, which may lose a paid result.
   */
  readonly onUnknown: 'resubmit' | 'fail';
}

export interface Catalog {
  /** By name or alias, case-sensitive. */
  find(name: string): Model | undefined;
  /** Up to three names close to `name`, the closest first; for error messages. */
  nearest(name: string): readonly string[];
  list(): readonly Model[];
  /**
   * Checks parameters and fills in defaults. Returns the client's exact text, with the defaults of absent parameters behind it.
   * @throws AppError `invalid_parameters` that lists every problem: JSON pointer, the value, what is allowed.
   */
  fill(model: Model, parameters: ExactJson): JsonText;
  /** True when the model itself has a parameter of this name, so that a dialect may not take it for its own. */
  declares(model: Model, parameter: string): boolean;
}
