/** The nouns of the queue: what a client hands in, the durable job it becomes, and what is told about it. */
import type { Failure } from './errors.ts';
import type { JsonObject, JsonText } from './json.ts';
import type { Output } from './output.ts';
import type { State } from './states.ts';

/** A decoded request, dialect-neutral, checked against its model and ready to become a job. */
export interface Submission {
  readonly callerId: string;
  /** Name of the dialect it came through; that dialect writes the job's webhook. */
  readonly dialect: string;
  /** The catalog's name of the model, not the alias the client may have used. */
  readonly model: string;
  /** The provider of the route the job is queued for. */
  readonly provider: string;
  /** True when the client insists on that provider: no other serves the job. */
  readonly isPinned?: boolean;
  /** The model's parameters as one JSON object: the client's exact text, defaults filled in. */
  readonly input: JsonText;
  readonly webhookUrl?: string;
  /** How the webhook is to be told; the ordinary way unless given. */
  readonly webhookOptions?: WebhookOptions;
  readonly priority: Priority;
  /** Seconds from the moment it may start until it must have ended; 1 to 86,400. */
  readonly timeoutSeconds: number;
  /** True when the client chose that time, and not the model. */
  readonly hasOwnDeadline?: boolean;
  /** Seconds from the moment it may start until its first attempt must have begun; 1 to 86,400. */
  readonly startTimeoutSeconds?: number;
  /** Attempts in all, where the model allows more. */
  readonly attemptsMax?: number;
  /** Not to be started before. At most one of the two is given. */
  readonly runAt?: Date;
  readonly delaySeconds?: number;
  /** Makes handing in the same request again answer as the first time. */
  readonly idempotency?: Idempotency;
  /** Base of every URL handed out for this job, without a trailing slash. */
  readonly baseUrl: string;
  readonly sessionId?: string;
}

/** What a webhook can be told besides the end of its job, which it is always told. */
export const WEBHOOK_EVENTS = ['queued', 'started', 'progress'] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

/** `dialect`: the body of the dialect that the request came through. `standard`: that body as `data` in the envelope of Standard Webhooks. */
export const WEBHOOK_FORMATS = ['dialect', 'standard'] as const;
export type WebhookFormat = (typeof WEBHOOK_FORMATS)[number];

/** What a client may choose about a webhook, for a request or for all that are made with its key. */
export interface WebhookOptions {
  readonly format?: WebhookFormat;
  /** Seconds to wait before each send of the end; 1 to 20 entries of 0 to 86,400. */
  readonly schedule?: readonly number[];
  readonly events?: readonly WebhookEvent[];
  /** Sent along, as for a receiver that wants a key of its own. Values are shown to nobody. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** What tells one request from another; see the IETF draft on the Idempotency-Key header. */
export interface Idempotency {
  /** Digest of method, path and key; unique within a caller. */
  readonly keyHash: string;
  /** Digest of everything else in the request. */
  readonly requestHash: string;
}

/** Which jobs of a provider's queue go first. Within a priority the oldest does. */
export const PRIORITIES = ['high', 'normal', 'low'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** A job as its caller may see it. Instants are the database's. */
export interface Job {
  readonly id: string;
  readonly callerId: string;
  readonly dialect: string;
  readonly model: string;
  /** Of the newest attempt, or of the next one while QUEUED. */
  readonly provider: string;
  readonly isPinned: boolean;
  readonly input: JsonText;
  readonly state: State;
  /** Fraction done, 0 to 1, as far as the provider tells. */
  readonly progress: number;
  /** Number of the newest attempt, 0 before the first. It is also the fencing number: only its owner may write. */
  readonly attempt: number;
  readonly priority: Priority;
  /** Attempts in all, where the client wanted fewer than the model allows. */
  readonly attemptsMax?: number;
  /** It ends FAILED unless its first attempt has begun by then. */
  readonly startBy?: Date;
  /** It must have ended by then; only where the client said so, and not the model. */
  readonly deadline?: Date;
  /** Attempts that started a run anew without knowing whether a lost one had done so already: each may have been paid twice. */
  readonly resubmits: number;
  readonly output?: Output;
  /** Why it ended FAILED or CANCELLED. */
  readonly failure?: Failure;
  readonly webhookUrl?: string;
  readonly webhookOptions?: WebhookOptions;
  /** Number of its newest event. */
  readonly sequence: number;
  readonly baseUrl: string;
  readonly sessionId?: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** When the first attempt started. */
  readonly startedAt?: Date;
  /** When the newest attempt started. */
  readonly attemptStartedAt?: Date;
  readonly finishedAt?: Date;
  /** Those that have ended, oldest first; read together with a job that has ended, or of which one has failed. */
  readonly attempts?: readonly Attempt[];
  /** What its run has printed, oldest first; only where it was asked for. */
  readonly logs?: readonly LogLine[];
  /** Jobs ahead of it in the queue of its provider, 0 is next; only while QUEUED. Counted up to 10,000. */
  readonly queuePosition?: number;
}

export const ATTEMPT_OUTCOMES = ['succeeded', 'failed', 'cancelled', 'released', 'lost'] as const;
/** `released` and `lost`: its worker stopped or vanished, and the next attempt went on with the same run. */
export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number];

/** One try of a job at one provider. */
export interface Attempt {
  readonly number: number;
  readonly provider: string;
  /** The provider's own id of the model. */
  readonly model?: string;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  readonly outcome: AttemptOutcome;
  readonly failure?: Failure;
  /** US dollars. */
  readonly costUsd?: number;
}

export interface LogLine {
  readonly text: string;
  readonly at: Date;
}

/** `log`: data is `{lines: string[]}`. `partial`: data is `{text: string}`, what was added to the text of the result since. */
export const JOB_EVENT_TYPES = ['status', 'progress', 'log', 'partial'] as const;
export type JobEventType = (typeof JOB_EVENT_TYPES)[number];

/** One thing that happened to a job. `sequence` rises by one per event of the job, from 1. */
export interface JobEvent {
  readonly jobId: string;
  readonly sequence: number;
  readonly type: JobEventType;
  readonly state: State;
  readonly progress: number;
  readonly data?: JsonObject;
  readonly at: Date;
}

/** Which jobs a list shall have; all of the caller's unless given. */
export interface JobFilter {
  /** One state, or any of several. */
  readonly state?: State | readonly State[];
  /** By name or alias. */
  readonly model?: string;
  readonly sessionId?: string;
  /** Both inclusive. */
  readonly createdAfter?: Date;
  readonly createdBefore?: Date;
  /** For wires that number their pages: how many are passed over, 0 to {@link SKIP_MAX}. A cursor is cheaper, and misses none. */
  readonly skip?: number;
}

/** They are read all the same, so there is an end to it. */
export const SKIP_MAX = 10_000;

/** One page of a caller's jobs, newest first. */
export interface JobPage {
  readonly jobs: readonly Job[];
  /** Hand it back to get the next page; undefined on the last one. */
  readonly nextCursor?: string;
}
