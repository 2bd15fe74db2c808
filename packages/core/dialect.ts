/**
 * The contract of a client wire format. One file in `packages/dialects` each; its default export is a {@link Dialect} whose `name`
 * equals the file's. A dialect only translates: `decode` turns a request into an operation, `encode` turns the outcome into an answer.
 * It does no I/O and knows no lifecycle; the API app performs the operation in between.
 */
import type { z } from 'zod';
import type { DeliveryOperations } from './delivery.ts';
import { AppError } from './errors.ts';
import type { Job, JobEvent, JobFilter, JobPage, Priority, WebhookOptions } from './job.ts';
import type { ExactJson } from './json.ts';
import type { Model, Route } from './model.ts';
import type { Upload, UploadOperations } from './upload.ts';
import type { WebhookKey, WebhookPreferenceChanges, WebhookPreferences, WebhookSecret } from './webhook-signing.ts';
import { readMembers, readQueryAndHeaders } from './wire-schema.ts';

/** A request as dialects see it. */
export interface WireRequest {
  readonly method: string;
  /** Path as sent, without the query. */
  readonly path: string;
  /** Path parameters, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** A header by its lower-case name. */
  header(name: string): string | undefined;
  /** Present when the route says `body: 'json'` or `'json or form'`, and with `body: 'optional json'` when one was sent. */
  readonly body?: ExactJson;
  /**
   * True for a form: its body is an object of the parts. `a[b]` has become a member of an object, `a[]` and repeated names a list; files stand in
   * it as their addresses, and everything else is text, whatever the model wants: see `isText` of a submission.
   */
  readonly isForm?: boolean;
  /** Files of a form, by the names of their parts, in order; stored already. One that is the whole body has the name `''`. */
  readonly uploads?: ReadonlyMap<string, readonly Upload[]>;
  /** The body where the route says `body: 'text'`. */
  readonly text?: string;
  /**
   * Lets whoever has it follow the job without a key (`followByToken`), for clients that open streams without one; as long as the job is there.
   * Undefined where the service has no SECRET_KEY.
   */
  followToken?(job: Pick<Job, 'id' | 'callerId'>): string | undefined;
  /** Base of every URL handed out: PUBLIC_URL, else the request's own origin. No trailing slash. */
  readonly baseUrl: string;
}

/** What to wait for, and for how long at most. The outcome is the job as it is when either happens. */
export interface Wait {
  /** `change`: any change of state; `end`: a terminal state. */
  readonly until: 'change' | 'end';
  readonly seconds: number;
}

export interface SubmitOperation {
  readonly kind: 'submit';
  readonly model: string;
  /** Where the model stands in the body: what a problem with it is told of, if anywhere. */
  readonly modelPointer?: string;
  /** The provider that the client insists on; no other serves the job then. */
  readonly provider?: string;
  /** The body of the request: an object whose members are the model's parameters. */
  readonly parameters: ExactJson;
  /** Where the parameters stand in the body, unless they are all of it: in front of what a problem with one is told of. */
  readonly parametersPointer?: string;
  /** True when numbers, booleans and objects may have come as text, as in a form: they are read as the model's schema says. */
  readonly isText?: boolean;
  /**
   * For a wire with words of its own for what models call in many ways: makes the model's parameters out of the body, once the model is known and
   * before they are checked. Called without the webhook's members. Unless given, the body is the parameters.
   * @throws AppError for words that this model has nothing for.
   */
  readonly fit?: (parameters: ExactJson, model: Model) => ExactJson;
  /** A webhook named outside the body. */
  readonly webhookUrl?: string;
  /** What a problem with that is told of: `/webhook` unless given. */
  readonly webhookPointer?: string;
  /** The body's member that names a webhook, unless the model has a parameter of that name. */
  readonly webhookMember?: string;
  /** Options of the webhook that were named outside the body. */
  readonly webhookOptions?: WebhookOptions;
  /** The body's members that hold such options, under the same condition. */
  readonly webhookOptionMembers?: Readonly<Record<keyof WebhookOptions, string>>;
  readonly sessionId?: string;
  readonly wait?: Wait;
  /** The job carries what its run has printed by then. */
  readonly withLogs?: boolean;
  /** `normal` unless given. */
  readonly priority?: Priority;
  /** The model's own unless given. */
  readonly timeoutSeconds?: number;
  /** Ends FAILED when no attempt has begun so long after it could; 1 to 86,400. No such limit unless given. */
  readonly startTimeoutSeconds?: number;
  /** Attempts in all, where the model allows more; 1 or more. */
  readonly attemptsMax?: number;
  /** False where the provider that is chosen now shall serve the job, and no other when that fails. */
  readonly mayFallBack?: boolean;
  /** Refused with `rate_limited` when more jobs than these wait for the provider that would run it; 0 to 10,000. */
  readonly queueLengthMax?: number;
  readonly runAt?: Date;
  readonly delaySeconds?: number;
  /** The client's `Idempotency-Key`. The app refuses one that is empty or too long. */
  readonly idempotencyKey?: string;
}

/** A job with what happens to it from now on. */
export interface Followed {
  /** As it was when following began. */
  readonly job: Job;
  /** Up to and including the event that ends the job. Ends without it when the service stops: then the client must come again. */
  readonly events: AsyncIterable<JobEvent>;
  /** The job as it is now, with its result when it has ended; undefined when it is gone. */
  read(): Promise<Job | undefined>;
}

/** What a submission would cost, without making one. */
export interface Quote {
  readonly model: Model;
  /** Of the route that would run it. */
  readonly route: Route;
  /** US dollars; undefined where the route has no price. */
  readonly usd?: number;
}

/** Every operation with its outcome. Outcomes of a job the caller does not own do not exist: the app answers `not_found`. */
export interface Operations extends DeliveryOperations, UploadOperations {
  submit: { operation: SubmitOperation; outcome: Job };
  /** Submits and follows from the first event on. `wait` is not for it. */
  stream: { operation: { readonly kind: 'stream'; readonly submission: Omit<SubmitOperation, 'wait'> }; outcome: Followed };
  quote: { operation: { readonly kind: 'quote'; readonly submission: SubmitOperation }; outcome: Quote };
  /** `withLogs`: the job carries what its run has printed. */
  read: {
    operation: { readonly kind: 'read'; readonly id: string; readonly wait?: Wait; readonly withLogs?: boolean };
    outcome: Job;
  };
  /** The outcome is the job after the cancellation, or unchanged when it had ended already. */
  cancel: { operation: { readonly kind: 'cancel'; readonly id: string }; outcome: Job };
  /** Removes a job and all it produced, at once. A job that still runs is cancelled first. The outcome is its last state. */
  purge: { operation: { readonly kind: 'purge'; readonly id: string }; outcome: Job };
  /**
   * Cancels a job that runs, which stays readable, and purges one that has ended: what deleting means to vendors that have no other word for
   * cancelling. The outcome is the job's last state.
   */
  discard: { operation: { readonly kind: 'discard'; readonly id: string }; outcome: Job };
  /** `discard` for many: ids that the caller has no job of are passed over. */
  discardMany: {
    operation: { readonly kind: 'discardMany'; readonly ids: readonly string[] };
    outcome: { readonly discarded: number };
  };
  list: {
    operation: { readonly kind: 'list'; readonly limit: number; readonly cursor?: string } & JobFilter;
    outcome: JobPage;
  };
  /** Events after number `after`, up to and including the one that ends the job. */
  follow: {
    operation: { readonly kind: 'follow'; readonly id: string; readonly after: number };
    outcome: Followed;
  };
  /** From the first event on, for whoever has the token that `followToken` of a request has made; `not_found` for any other. */
  followByToken: { operation: { readonly kind: 'followByToken'; readonly token: string }; outcome: Followed };
  /** Nothing but who the key belongs to. */
  readCaller: { operation: { readonly kind: 'readCaller' }; outcome: { readonly callerId: string } };
  listModels: { operation: { readonly kind: 'listModels' }; outcome: readonly ModelListing[] };
  /** By name or alias, also behind a provider and a slash as in submissions; `unknown_model` for any other. */
  readModel: { operation: { readonly kind: 'readModel'; readonly name: string }; outcome: ModelListing };
  readWebhookSecret: { operation: { readonly kind: 'readWebhookSecret' }; outcome: WebhookSecret };
  /** Makes a new secret; the one before signs on for `graceSeconds`, 0 to GRACE_SECONDS_MAX, GRACE_SECONDS_DEFAULT unless given. */
  rotateWebhookSecret: { operation: { readonly kind: 'rotateWebhookSecret'; readonly graceSeconds?: number }; outcome: WebhookSecret };
  /** Public keys of any caller; `not_found` for a caller that does not exist. */
  readWebhookKeys: {
    operation: { readonly kind: 'readWebhookKeys'; readonly callerId: string };
    outcome: { readonly keys: readonly WebhookKey[] };
  };
  /**
   * Public keys of all callers, newest first and WEBHOOK_KEYS_MAX at most, for receivers that know one fixed address. No weaker than the single
   * key with which a vendor signs for all its customers: every private half is with the service alone, so a signature that any of them accepts
   * says that the service sent the message, and for whom stands in what was signed. A receiver that wants to rely on one caller's key takes
   * `readWebhookKeys`.
   */
  readAllWebhookKeys: {
    operation: { readonly kind: 'readAllWebhookKeys' };
    outcome: { readonly keys: readonly WebhookKey[] };
  };
  readWebhookPreferences: { operation: { readonly kind: 'readWebhookPreferences' }; outcome: WebhookPreferences };
  /** What is not given stays as it is. The outcome is everything that then holds. */
  changeWebhookPreferences: {
    operation: { readonly kind: 'changeWebhookPreferences'; readonly changes: WebhookPreferenceChanges };
    outcome: WebhookPreferences;
  };
}
export type OperationKind = keyof Operations;
export type Operation = Operations[OperationKind]['operation'];

/** A model as clients may see it. */
export interface ModelListing {
  readonly model: Model;
  /** Of the model's file, and the sandbox where it may serve. */
  readonly routes: readonly RouteListing[];
}

export interface RouteListing {
  readonly route: Route;
  readonly isAvailable: boolean;
  /** Why not, in words for an operator: a key that is not set, or an outage. */
  readonly reason?: string;
}

/** Operations that need no API key: what they answer is public, or asked for with a secret. Said here, so that no dialect can open another one. */
export const PUBLIC_OPERATIONS: ReadonlySet<OperationKind> = new Set<OperationKind>([
  'readWebhookKeys',
  'readAllWebhookKeys',
  'followByToken',
]);

export interface ServerSentEvent {
  readonly id?: string;
  readonly event?: string;
  /** Written as JSON, unless it is a {@link PlainText}. */
  readonly data: unknown;
}

/** Stands in an event for text that is not JSON: the app writes it as it is, each of its lines as one of the event's. */
export class PlainText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** Stands in a JSON answer for a file of the asset store: the app writes its bytes there, as base64 or as a data URI. */
export class InlineFile {
  readonly token: string;
  readonly form: 'base64' | 'data URI';

  constructor(token: string, form: 'base64' | 'data URI') {
    this.token = token;
    this.form = form;
  }
}

export type AnswerBody =
  /** May hold {@link InlineFile}s anywhere. */
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'text'; readonly text: string; readonly contentType: string }
  /** A file of the asset store, by its token: sent as its bytes with its own content type. */
  | { readonly kind: 'asset'; readonly token: string }
  /** Data of the events may hold {@link InlineFile}s. */
  | { readonly kind: 'events'; readonly events: AsyncIterable<ServerSentEvent> }
  /**
   * Newline-delimited JSON. `heartbeat` is written whenever nothing happens for a while. A stream that cannot be brought to its end, as when the
   * service stops, is broken off, so that no client takes it for complete.
   */
  | { readonly kind: 'lines'; readonly lines: AsyncIterable<unknown>; readonly heartbeat: unknown }
  | { readonly kind: 'empty' };

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: AnswerBody;
}

/** What a route says of itself: the description of the API is made of it. */
export interface RouteDescription {
  /** One sentence; what the operation does, unless given. */
  readonly summary?: string;
  /** Values of the address line. See `wire-schema.ts` for how the schemas are read. */
  readonly query?: z.ZodObject;
  readonly headers?: z.ZodObject;
  /** Members of a JSON body. A submission's are its model's parameters, which the catalog knows. */
  readonly members?: z.ZodObject;
  /**
   * Members of a JSON body that are described here and read elsewhere: of a submission by the app, which are not the model's unless it has a
   * parameter of that name; of a dialect that tells problems in its own way by `decode`.
   */
  readonly ownMembers?: z.ZodObject;
  /** What is answered, by the HTTP status; errors of the dialect's envelope go without saying. */
  readonly answers?: Readonly<Record<number, AnswerDescription>>;
}

export interface AnswerDescription {
  readonly description: string;
  /** Of JSON; of an event stream, of each event's data. */
  readonly schema?: z.ZodType;
  /** `application/json` unless given. */
  readonly contentType?: string;
  /** Other types that the same may come in where the request asks for one, with the schemas of their events or lines. */
  readonly streams?: Readonly<Partial<Record<'text/event-stream' | 'application/x-ndjson', z.ZodType>>>;
}

/** One line of a dialect's route table. Build it with {@link on}, which ties the outcome's type to the operation. */
export interface DialectRoute<Kind extends OperationKind = OperationKind> extends RouteDescription {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'QUERY';
  /** Hono's path syntax; fixed paths win over parameters, earlier lines over later ones. */
  readonly path: string;
  /**
   * `optional json`: an empty body is none, whatever its content type says. `json or form`: also multipart/form-data and urlencoded forms, whose
   * files are stored while they are read. `text`: whatever its content type says. `file`: bytes of any type, stored likewise.
   */
  readonly body: 'json' | 'optional json' | 'json or form' | 'text' | 'file' | 'none';
  /** What the client calls the file that the body is. */
  fileName?(request: Pick<WireRequest, 'header'>): string | undefined;
  /** Parts of a form that are text, also where they come as files do, with a name and a type. */
  readonly textParts?: readonly string[];
  readonly operation: Kind;
  /** @throws AppError for a request that means nothing. */
  decode(request: WireRequest): Operations[Kind]['operation'];
  /** @throws AppError for an outcome that this route answers with an error. */
  encode(outcome: Operations[Kind]['outcome'], request: WireRequest): Answer;
}

/** What is posted to a job's webhook: stored once, then sent byte for byte on every try. */
export interface WebhookMessage {
  readonly contentType: string;
  readonly body: string;
}

/** Writes what the webhook of a job tells of it. */
export interface WebhookEncoder {
  (job: Job): WebhookMessage;
  /** Whether messages of the dialect of that name repeat what runs have printed, so that `job.logs` has to be read; of none unless given. */
  readonly tellsLogs?: (dialect: string) => boolean;
}

/** What a message is signed with. */
export interface WebhookSigningKeys {
  readonly callerId: string;
  /** The caller's secret, `whsec_` and base64; the newest, then those that still sign beside it. */
  readonly secrets: readonly string[];
  /**
   * Signs with ed25519, in the caller's name; 64 bytes. A caller without a pair gets one by that, for which `signWebhook` is called a second
   * time. While a secret is being replaced the pair of the oldest one signs: receivers keep public keys for hours before they look again.
   */
  signEd25519(bytes: Uint8Array): Uint8Array;
}

/** One address for requests that belong to others: clients that send everything there say in a header where it would have gone. */
export interface DialectProxy {
  /** Any method; fixed. */
  readonly path: string;
  /** The path, with its query, that answers instead; never {@link path} itself. @throws AppError for a header that leads nowhere. */
  target(request: Pick<WireRequest, 'header'>): string;
}

/** What a dialect says of itself, for the description of the API. */
export interface DialectDescription {
  /** As people call it, such as `OpenAI and Lumenfall`. */
  readonly title: string;
  /** What to set in the vendor's clients, and what else is worth knowing. */
  readonly description: string;
  /** The vendor's own pages about it. */
  readonly documentationUrl?: string;
}

export interface Dialect {
  readonly name: string;
  readonly about?: DialectDescription;
  /**
   * Beginnings of paths that are its own, such as `/api/v3`: errors below them are told in its envelope, also those of paths that do not exist.
   * None for the native dialect, which has the rest.
   */
  readonly paths?: readonly string[];
  readonly routes: readonly DialectRoute[];
  readonly proxy?: DialectProxy;
  /** The error in the vendor's envelope. `error.message` is meant for the client. */
  encodeError(error: AppError): Answer;
  /** Of the body of {@link encodeError}; an example stands for it unless given. */
  readonly errorSchema?: z.ZodType;
  /** The message for a job that has ended, or that something else has happened to which its client asked to be told of. */
  encodeWebhook(job: Job, settings: WebhookSettings): WebhookMessage;
  /** True when that message repeats what the job's runs have printed: {@link Job.logs}, which is unset for other dialects. */
  readonly webhookTellsLogs?: boolean;
  /**
   * Headers that prove where a message comes from in the vendor's own way, for receivers that were written for it. They replace the service's own
   * of the same name. Unless given, messages are signed as Standard Webhooks only; so they are when it throws.
   */
  signWebhook?(message: SignableMessage, keys: WebhookSigningKeys): Readonly<Record<string, string>>;
}

export interface SignableMessage {
  /** The same for every send of a message. */
  readonly id: string;
  readonly jobId: string;
  /** Unix seconds of this send. */
  readonly timestamp: number;
  readonly body: string;
}

export interface WebhookSettings {
  /** Numbers of the terminal states in inference.sh's schema (design section 6): 9/10/11 or 10/11/12. */
  readonly statusNumbering: 'documented' | 'current';
}

/** What a route's schemas read; a route without one of them has nothing there. */
export interface RouteValues<Query extends z.ZodObject, Headers extends z.ZodObject, Members extends z.ZodObject> {
  readonly query: z.output<Query>;
  readonly headers: z.output<Headers>;
  /** Of `optional json`, undefined when no body was sent. */
  readonly members: z.output<Members>;
}

type Unread = z.ZodObject<Record<never, never>>;

type RouteWords<Kind extends OperationKind, Query extends z.ZodObject, Headers extends z.ZodObject, Members extends z.ZodObject> = Omit<
  DialectRoute<Kind>,
  'operation' | 'decode' | 'query' | 'headers' | 'members'
> & {
  readonly query?: Query;
  readonly headers?: Headers;
  readonly members?: Members;
  /** @throws AppError for a request that means nothing. */
  decode(request: WireRequest, values: RouteValues<Query, Headers, Members>): Operations[Kind]['operation'];
};

/**
 * Builds a line of a route table. What the line's schemas describe is read by them before `decode` is called, which gets the values. The casts
 * are sound because the app hands `encode` only the outcome of its own `decode`, and because nobody can ask for values by a schema that is not
 * there.
 */
export function on<
  Kind extends OperationKind,
  Query extends z.ZodObject = Unread,
  Headers extends z.ZodObject = Unread,
  Members extends z.ZodObject = Unread,
>(operation: Kind, route: RouteWords<Kind, Query, Headers, Members>): DialectRoute {
  const { query, headers, members, decode } = route;
  const read = (request: WireRequest) => {
    const isBodyRead = members && (route.body !== 'optional json' || request.body !== undefined) && !request.isForm;
    const values = { ...readQueryAndHeaders(request, { query, headers }), members: isBodyRead ? readMembers(request, members) : undefined };
    return decode(request, values as RouteValues<Query, Headers, Members>);
  };
  return { ...route, operation, decode: query || headers || members ? read : decode } as unknown as DialectRoute;
}

/** A line for what a vendor has and this service has not: told so to whoever has a key. `reason` completes "Not implemented:". */
export function absent(method: DialectRoute['method'], path: string, reason: string): DialectRoute {
  return on('readCaller', {
    method,
    path,
    body: 'none',
    summary: `Not implemented: ${reason}.`,
    answers: NEVER_DONE,
    decode: () => ({ kind: 'readCaller' }),
    encode: (_caller, request) => {
      throw new AppError('not_implemented', `${method} ${request.path} is not implemented by this service; the README lists what is.`);
    },
  });
}

/** What such lines answer, for those that find their own words. */
export const NEVER_DONE: RouteDescription['answers'] = { 501: { description: 'Always.' } };
