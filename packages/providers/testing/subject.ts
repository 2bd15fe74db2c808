/** What the shared cases have to know of an adapter and of its vendor's wire. */
import type { FailureCode, JsonObject, JsonValue, Run, Step, Upstream } from '@claimcheck/core';
import type { SimulatedRequest } from '../simulators/simulator.ts';
import type { Bench, BenchOptions } from './bench.ts';
import type { ScriptedAnswer } from './script.ts';

/** Rejects when it does not hold. */
export type Case = (subject: Subject, bench: Bench) => Promise<void>;

export interface Subject extends BenchOptions {
  /** Where an adapter has several kinds of runs. */
  readonly title?: string;
  /** The variable without which it is off. */
  readonly needs: string;
  /** The variable of its key; absent where the vendor asks for none. */
  readonly keyVariable?: string;
  /** How a run is handed over; `start` unless given. */
  submit?(upstream: Upstream, run: Run): Promise<Step>;
  /** Exactly what a submission sends, but for headers, of which these must be there. */
  sent(
    key: string,
    run: Run,
  ): {
    readonly method: string;
    readonly path: string | RegExp;
    readonly headers: JsonObject;
    readonly body: unknown;
  };
  /** Exactly the output of the run at a simulator with this address. */
  made(url: string): object;
  /** What the vendor says of a run that failed, and of one that was refused. */
  readonly words: Readonly<Record<'fail' | 'refuse', string>>;
  /** `content_refused` unless the vendor marks refused content in no way. */
  readonly refusalCode?: FailureCode;
  /** What the simulator's 429 asks for, in milliseconds; 1,000 unless given. */
  readonly rateWaitMs?: unknown;
  /** How the vendor refuses parameters, in these words. */
  refused(words: string): ScriptedAnswer;
  /** A model that neither the vendor nor its simulator knows. */
  readonly unknownModel?: string;
  readonly polled?: PolledSubject;
  readonly callback?: CallbackSubject;
}

export interface PolledSubject {
  /** The vendor's answer to a submission, with this id, and with addresses below `elsewhere` where it names any. */
  accepted(id: JsonValue | undefined, elsewhere: string): JsonValue;
  /** What it answers from the first look on to the end, likewise. */
  ended(elsewhere: string): readonly [ScriptedAnswer, ...ScriptedAnswer[]];
  /** An answer to a look with a status of this name. */
  told(status: string): JsonValue;
  /** A handle with an id that the vendor does not know. */
  readonly handle: JsonObject;
  /** Milliseconds between looks at first, and in the end. */
  readonly pace: { readonly firstMs: number; readonly mostMs: number };
  /** Calls of one look at a run that goes on; 1 unless given. */
  readonly callsPerLook?: number;
  /** `METHOD path` of what cancels; absent where the vendor has no way to. */
  readonly cancellation?: RegExp;
  /** Runs at the vendor after the same request was submitted twice; 2 unless it recognises the second. */
  readonly runsOfTwo?: number;
}

export interface CallbackSubject {
  /** Whether a submission asks for calls to this address. */
  isAskedFor(request: SimulatedRequest, callbackUrl: string): boolean;
  /** `METHOD path` of all calls that it takes from a submission to the result, with ids as ID. */
  readonly calls: readonly string[];
  /** How ids of the vendor look. */
  readonly id: RegExp;
  /** Absent where callbacks are not signed. */
  readonly signature?: Signature;
}

export interface Signature {
  /** Headers that are signed, or hold the signature, each with another value that is well-formed. */
  readonly signed: Readonly<Record<string, string>>;
  /** The header with the time of sending, in seconds. */
  readonly timestamp: string;
  /** The path of the keys or the secret, and how those of somebody else would be told. */
  readonly keys: { readonly path: string; readonly ofSomebody: JsonValue };
}
