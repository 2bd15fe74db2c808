/** Models: the names clients use, with the schema of their parameters and the routes that can run them. */
import type { ExactJson, JsonObject, JsonText } from './json.ts';
import type { Limits } from './limits.ts';
import type { Output } from './output.ts';

/** What a price is for: a run, a picture or other file, a million pixels, a second, a million tokens. */
export const PRICE_UNITS = ['run', 'image', 'megapixel', 'second', 'token'] as const;
export type PriceUnit = (typeof PRICE_UNITS)[number];

export interface Price {
  /** US dollars per unit; of tokens, per million that were read. */
  readonly usd: number;
  readonly per: PriceUnit;
  /** US dollars per million tokens that were written; as `usd` unless given. */
  readonly outputUsd?: number;
}

/** One way to run a model. The sandbox needs none. */
export interface Route {
  readonly provider: string;
  /** The provider's own id of the model. */
  readonly model: string;
  /** Routes with a higher weight are tried first; 1 unless given. */
  readonly weight?: number;
  readonly price?: Price;
  /** Besides those of the provider, which hold as well. */
  readonly limits?: Limits;
  /** What the provider's adapter wants to know of this route, as its `routeOptions` say. */
  readonly options?: JsonObject;
}

/**
 * Which of the routes that can serve is tried first: by weight and then as the file lists them, the cheapest for the request, or the one
 * that was fastest lately.
 */
export const ROUTINGS = ['order', 'price', 'latency'] as const;
export type Routing = (typeof ROUTINGS)[number];

/** Names of the parameters by which a client chooses the format of pictures. What a route cannot produce is converted to it. */
export interface OutputFormat {
  /** Its value is `png`, `jpg`, `jpeg`, `webp` or `avif`. */
  readonly format: string;
  /** Its value is 1 to 100. */
  readonly quality?: string;
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
  /** One per provider at most: a job remembers its route by the provider. */
  readonly routes: readonly Route[];
  readonly routing: Routing;
  readonly outputFormat?: OutputFormat;
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
  /**
   * What the route's upstream is sent for parameters that {@link fill} has completed: the route's mapping applied to them; without a mapping,
   * as they are.
   * @throws AppError `invalid_parameters` that names every parameter which the route cannot express and may not drop.
   */
  express(model: Model, route: Route, parameters: JsonObject): Promise<JsonObject>;
  /** US dollars that a run will cost at this route, to compare routes by; undefined where it has no price. */
  estimateUsd(model: Model, route: Route, parameters: JsonObject): Promise<number | undefined>;
  /** US dollars that a run has cost: what the provider says it charged, else by the route's price; undefined where neither is known. */
  costUsd(model: Model, route: Route, parameters: JsonObject, output: Output): Promise<number | undefined>;
  /** Parameters that may have come as text, as the model's schema wants them; what cannot be read so stays text. */
  readText(model: Model, parameters: ExactJson): ExactJson;
  /** True when the model itself has a parameter of this name, so that a dialect may not take it for its own. */
  declares(model: Model, parameter: string): boolean;
}

/** The route by which a provider runs a model. The sandbox runs every model, by its name where the file has no route for it. */
export function routeOf(model: Model, provider: string): Route | undefined {
  const route = model.routes.find((known) => known.provider === provider);
  return route ?? (provider === SANDBOX ? { provider, model: model.name } : undefined);
}

/** The provider that needs no key and draws by itself. */
export const SANDBOX = 'sandbox';
