/** What callers can see of webhooks: deliveries, every send of them, endpoints that are not well, and replays. */

export const DELIVERY_STATES = ['PENDING', 'DELIVERED', 'FAILED', 'HELD'] as const;
/**
 * PENDING: sends are to come. DELIVERED: a 2xx came. FAILED: given up. HELD: its endpoint is disabled; nothing was lost, and a resend or
 * a replay sends it.
 */
export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** What a send was made for: the schedule, a resend of one delivery, a replay of many, or a test of a URL. */
export type SendTrigger = 'auto' | 'manual' | 'replay' | 'test';

/** How an endpoint does, which is the URL without its query. */
export interface EndpointHealth {
  /** `disabled`: nothing is sent to it by itself any more; a send that is asked for and succeeds ends that. */
  readonly state: 'ok' | 'failing' | 'disabled';
  /** Why it is disabled: it answered 410, it asked for no more, or it failed for too long. */
  readonly reason?: 'gone' | 'asked' | 'failing';
  /** Of a state other than `ok`. */
  readonly since?: Date;
}

/** One fact that is owed to one webhook. Instants are the database's. */
export interface Delivery {
  /** The `webhook-id` of every send of it. */
  readonly id: string;
  readonly callerId: string;
  /** Undefined for a test send. */
  readonly jobId?: string;
  readonly event: string;
  /** Number of the job's event; 0 for a test send. */
  readonly sequence: number;
  readonly url: string;
  readonly state: DeliveryState;
  /** Stable code of why it is FAILED or HELD. */
  readonly failureCode?: string;
  /** Sends recorded so far. */
  readonly sendCount: number;
  /** Seconds to wait before each send. */
  readonly schedule: readonly number[];
  readonly createdAt: Date;
  readonly finishedAt?: Date;
  /** The send to come; only while PENDING. While it is under way, when it would be made again if its dispatcher died. */
  readonly next?: { readonly at: Date; readonly trigger: SendTrigger };
  readonly endpoint: EndpointHealth;
}

/** Milliseconds of the steps of a send, undefined where one was not taken, as on a connection that was used before. */
export interface SendTimings {
  readonly dnsMs?: number;
  readonly connectMs?: number;
  readonly tlsMs?: number;
  /** From the start of the send. */
  readonly firstByteMs?: number;
  readonly totalMs: number;
}

/** One try to hand a delivery over. */
export interface LoggedSend {
  /** From 1, without gaps. */
  readonly number: number;
  readonly trigger: SendTrigger;
  readonly startedAt: Date;
  readonly timings: SendTimings;
  /** The address that the name led to. */
  readonly address?: string;
  /** Without anything secret. */
  readonly requestHeaders?: Readonly<Record<string, string>>;
  readonly status?: number;
  readonly responseHeaders?: Readonly<Record<string, string | readonly string[]>>;
  /** The first 16 kB at most. */
  readonly responseBody?: string;
  readonly error?: { readonly code: string; readonly message: string };
  /** When the next one was due, as decided after this one. */
  readonly nextSendAt?: Date;
  readonly nextReason?: string;
}

/** Sends that are shown of one delivery, the newest: who asks for one resend after the other must not make an answer without bounds. */
export const SHOWN_SENDS_MAX = 100;

export interface DeliveryDetail {
  readonly delivery: Delivery;
  /** The body, byte for byte as it is sent; undefined once it is gone with its job. */
  readonly message?: string;
  /** In the order they were made; of more than SHOWN_SENDS_MAX the newest. */
  readonly sends: readonly LoggedSend[];
}

/** One page of a caller's deliveries, newest first. */
export interface DeliveryPage {
  readonly deliveries: readonly Delivery[];
  /** Hand it back to get the next page; undefined on the last one. */
  readonly nextCursor?: string;
}

/** States that a replay may send again. What is PENDING is sent anyway. */
export const REPLAYED_STATES = ['FAILED', 'HELD', 'DELIVERED'] as const satisfies readonly DeliveryState[];
export type ReplayedState = (typeof REPLAYED_STATES)[number];
export const REPLAYED_STATES_DEFAULT: readonly ReplayedState[] = ['FAILED', 'HELD'];

/** Deliveries per second that a replay makes due. */
export const REPLAY_RATE_DEFAULT = 50;
export const REPLAY_RATE_MAX = 1_000;

/** Sending again what was made in [since, before) and is in one of `states` when the replay comes to it. */
export interface Replay {
  readonly id: string;
  readonly callerId: string;
  readonly since: Date;
  readonly before: Date;
  readonly states: readonly ReplayedState[];
  readonly perSecond: number;
  /** Deliveries made due so far. */
  readonly queued: number;
  readonly createdAt: Date;
  /** When it had come to the end of its range, or was stopped; undefined while it runs. */
  readonly finishedAt?: Date;
}

/** The event of a test send. */
export const TEST_EVENT = 'webhook.test';

/** What a test send can look like. */
export const TESTED_EVENTS = [
  'request.queued',
  'request.started',
  'request.progress',
  'request.completed',
  'request.failed',
  'request.cancelled',
] as const;
export type TestedEvent = (typeof TESTED_EVENTS)[number];

/** A page of a list of deliveries. */
export interface DeliveryQuery {
  readonly limit: number;
  readonly cursor?: string;
  readonly state?: DeliveryState;
}

/** Operations on deliveries with their outcomes. What the caller does not own does not exist: the app answers `not_found`. */
export interface DeliveryOperations {
  /** Answers for as long as the job or one of its deliveries is kept. */
  listDeliveriesOfJob: {
    operation: DeliveryQuery & { readonly kind: 'listDeliveriesOfJob'; readonly jobId: string };
    outcome: DeliveryPage;
  };
  listDeliveries: { operation: DeliveryQuery & { readonly kind: 'listDeliveries' }; outcome: DeliveryPage };
  readDelivery: { operation: { readonly kind: 'readDelivery'; readonly id: string }; outcome: DeliveryDetail };
  /** Makes it due now, whatever its state. `conflict` when its message is gone. */
  resendDelivery: { operation: { readonly kind: 'resendDelivery'; readonly id: string }; outcome: { readonly delivery: Delivery } };
  startReplay: {
    operation: {
      readonly kind: 'startReplay';
      readonly since: Date;
      /** Now unless given, and never later. */
      readonly before?: Date;
      /** REPLAYED_STATES_DEFAULT unless given. */
      readonly states?: readonly ReplayedState[];
      /** 1 to REPLAY_RATE_MAX; REPLAY_RATE_DEFAULT unless given. */
      readonly perSecond?: number;
    };
    outcome: { readonly replay: Replay };
  };
  readReplay: { operation: { readonly kind: 'readReplay'; readonly id: string }; outcome: { readonly replay: Replay } };
  /** What was made due is sent. One that has ended stays as it is. */
  stopReplay: { operation: { readonly kind: 'stopReplay'; readonly id: string }; outcome: { readonly replay: Replay } };
  /** Sends a message with a made-up job and waits for what comes of it, some seconds at most. */
  testWebhook: {
    operation: { readonly kind: 'testWebhook'; readonly url: string; readonly event?: TestedEvent };
    outcome: DeliveryDetail;
  };
}
export type DeliveryOperation = DeliveryOperations[keyof DeliveryOperations]['operation'];
