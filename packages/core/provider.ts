/**
 * The contract of an upstream adapter. One file in `packages/providers` each; its default export is a {@link Provider}
 * whose `name` equals the file's. An adapter keeps nothing between calls: what it needs to find a started run again is its handle.
 */
import type { ZodType } from 'zod';
import type { Clock } from './clock.ts';
import type { JsonObject, JsonValue } from './json.ts';
import type { Limits } from './limits.ts';
import type { Model } from './model.ts';
import type { Media, Output } from './output.ts';

export interface Provider<Settings = unknown> {
  readonly name: string;
  /** The environment variables it reads, parsed once at start. A variable that is set but wrong stops the start. */
  readonly settings: ZodType<Settings>;
  /** Of the `options` that routes of this provider have in model files; without it they have none. */
  readonly routeOptions?: ZodType;
  /** Ready to run, or the reason why it is off, such as a missing key. Called once; must not do I/O. */
  open(settings: Settings): Upstream | { readonly off: string };
}

export interface Upstream {
  /** Most runs one worker holds at a time; the default is 500, for runs that mostly wait. */
  readonly concurrency?: number;
  /** For all workers together; none unless given. */
  readonly limits?: Limits;
  /** True where failures are made on purpose, so that they say nothing about its health. */
  readonly isSimulated?: boolean;
  /** True when `start` with an `idempotencyKey` it has seen finds the started run instead of making another. */
  readonly isIdempotent?: boolean;
  /**
   * Starts a run. Called again for a later attempt, with the same `idempotencyKey`, when no handle was saved.
   * Returns `finished` only when the upstream has no way to be asked later.
   * @throws TerminalError or RetryableError; any other error counts as terminal and internal.
   */
  start(run: Run): Promise<Step>;
  /**
   * Looks at a started run; also the first call of an attempt that resumes another's work. Throws like `start`, for a run that is over: after
   * a RetryableError it is started anew, and paid again. A look that failed while the run goes on returns `running` with the same handle.
   */
  check(run: Run, handle: JsonValue): Promise<Step>;
  /** Asks the upstream to stop; best effort, and harmless when the run has ended. */
  cancel?(run: Run, handle: JsonValue): Promise<void>;
  /**
   * Reads what the upstream posted to the `callbackUrl` of a run, once it has proven where it comes from. Undefined for what proves nothing,
   * or says nothing new: then polling goes on. Throws like `check` for a run that failed.
   */
  receive?(run: Run, callback: Callback): Promise<Step | undefined>;
}

/** A request that an upstream made to a run's `callbackUrl`. Hostile until it is verified. */
export interface Callback {
  /** A header by its lower-case name. */
  header(name: string): string | undefined;
  /** Byte for byte, because that is what signatures are made over. */
  readonly body: Uint8Array;
  /** The saved handle of the run, undefined while none is. */
  readonly handle: JsonValue | undefined;
}

/** Where a run stands. The engine saves the handle before it calls `check` with it. */
export type Step =
  | {
      readonly kind: 'running';
      readonly handle: JsonValue;
      /** Fraction done, 0 to 1, when the upstream tells. */
      readonly progress?: number;
      /** Everything that the run has printed so far, by lines, as far as the upstream tells. */
      readonly logs?: readonly string[];
      /** The text of the result as far as it has come. */
      readonly partialText?: string;
      /** Milliseconds until the next `check`. */
      readonly checkAfterMs: number;
    }
  | {
      readonly kind: 'finished';
      readonly output: Output;
      /** As while it was running, to the last line. */
      readonly logs?: readonly string[];
    };

/** What an adapter is given for one attempt. */
export interface Run {
  readonly jobId: string;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** The provider's own id of the model. */
  readonly model: string;
  /** What the model makes, and the output shall hold. */
  readonly produces: Model['produces'];
  /** The route's, as `routeOptions` has read them; undefined where it has none. */
  readonly options?: JsonObject;
  /**
   * What to send: the model's parameters as the route's mapping has expressed them. For `start`, files of ours stand in them as upstreams can
   * use them, as addresses or data URIs; for everything else as the client has named them.
   */
  readonly parameters: JsonObject;
  /** The same for every attempt of the job at this provider. */
  readonly idempotencyKey: string;
  /** Where the upstream may tell of the run; undefined where it cannot reach us, and for those who only poll. */
  readonly callbackUrl?: string;
  /** Aborts when the job was cancelled, its lease was lost, or the worker stops. Pass it to every wait and every call out. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /**
   * Hands on what a run tells during a call that is held until its end, where steps would come too late; everything so far, as steps do. Returns
   * at once, may be called often, and does nothing once the attempt is over.
   */
  tell(told: { readonly logs?: readonly string[]; readonly partialText?: string }): void;
  /** Keeps a produced file in the asset store for as long as the job's result lives. */
  storeFile(file: ProducedFile): Promise<Media>;
}

export interface ProducedFile {
  readonly bytes: Uint8Array;
  readonly contentType: string;
  readonly fileName: string;
  readonly width?: number;
  readonly height?: number;
}
