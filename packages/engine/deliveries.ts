/** What callers do with deliveries: look at them and their sends, send them again, one or a range, and try a URL. */
import {
  AppError,
  type Delivery,
  type DeliveryDetail,
  type DeliveryPage,
  type DeliveryQuery,
  newId,
  REPLAY_RATE_DEFAULT,
  REPLAYED_STATES_DEFAULT,
  type Replay,
  type ReplayedState,
  SHOWN_SENDS_MAX,
  TEST_EVENT,
  type TestedEvent,
  type WebhookFormat,
} from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import { inEnvelope } from './owe.ts';
import { sampleJob } from './sample-job.ts';
import { insertDeliveries } from './storage/deliveries.ts';
import {
  type DeliveryReference,
  knowsJob,
  listDeliveryIds,
  listDeliveryIdsOfJob,
  readDeliveries,
  readMessage,
  readSends,
} from './storage/delivery-log.ts';
import { finishReplay, insertReplay, readDeliveryState, readReplay, resendDelivery } from './storage/resends.ts';

/** References to deliveries and replays of another caller answer undefined, exactly as unknown ones. */
export interface Deliveries {
  /** What a job owed, for as long as the job or one of its deliveries is kept; undefined when neither is. */
  ofJob(job: DeliveryReference, query: DeliveryQuery): Promise<DeliveryPage | undefined>;
  list(callerId: string, query: DeliveryQuery): Promise<DeliveryPage>;
  read(reference: DeliveryReference): Promise<DeliveryDetail | undefined>;
  /**
   * Makes a delivery due now, whatever its state, also when its endpoint is disabled. Instead of the next send of one that is PENDING, whose
   * schedule then goes on; an ended one returns to its state when this send fails. Called again before it was sent, nothing more happens.
   * @throws AppError `conflict` when its message is gone.
   */
  resend(reference: DeliveryReference): Promise<Delivery | undefined>;
  /**
   * Starts sending a range again, at a rate; a dispatcher does the work. Test sends are left out, and so is what has lost its message.
   * @throws AppError `invalid_parameters` for a range in which nothing can be, `conflict` when the caller has REPLAYS_MAX at work.
   */
  startReplay(callerId: string, range: ReplayRange): Promise<Replay>;
  readReplay(reference: DeliveryReference): Promise<Replay | undefined>;
  /** Ends a replay where it is. What it made due is sent. One that has ended stays as it is. */
  stopReplay(reference: DeliveryReference): Promise<Replay | undefined>;
  /** Sends a message about a made-up job once, and waits for what comes of it: PENDING when no dispatcher took it in time. */
  test(test: WebhookTest): Promise<DeliveryDetail>;
}

export interface ReplayRange {
  /** Of the deliveries' making. */
  readonly since: Date;
  /** Not itself in the range. Now unless given, and never later. */
  readonly before?: Date;
  /** REPLAYED_STATES_DEFAULT unless given. */
  readonly states?: readonly ReplayedState[];
  /** 1 to REPLAY_RATE_MAX; REPLAY_RATE_DEFAULT unless given. */
  readonly perSecond?: number;
}

export interface WebhookTest {
  readonly callerId: string;
  /** Writes the message, and signs it where it has a way of its own. */
  readonly dialect: string;
  readonly baseUrl: string;
  readonly url: string;
  /** What the message looks like, `request.completed` unless given. The event that is sent is TEST_EVENT. */
  readonly event?: TestedEvent;
  /** `dialect` unless given. */
  readonly format?: WebhookFormat;
  readonly timeoutMs: number;
  /** Ends the wait early, as when the client has gone. */
  readonly signal: AbortSignal;
}

/** Replays of one caller at a time: each looks through its whole log. */
const REPLAYS_MAX = 10;
const LOOK_AGAIN_MS = 250;

export function makeDeliveries(context: Pick<EngineContext, 'clock' | 'database' | 'encodeWebhook' | 'log' | 'settings'>): Deliveries {
  const { clock, database, encodeWebhook, log, settings } = context;
  const { sql } = database;

  const pageFrom = async (callerId: string, limit: number, ids: readonly string[]): Promise<DeliveryPage> => {
    const shown = ids.slice(0, limit);
    const last = shown.at(-1);
    const deliveries = await readDeliveries(sql, callerId, shown);
    return { deliveries, ...(ids.length > limit && last !== undefined && { nextCursor: last }) };
  };
  // One more than asked for tells whether there is another page.
  const filterFrom = (callerId: string, { limit, cursor, state }: DeliveryQuery) => ({
    callerId,
    limit: limit + 1,
    ...(cursor !== undefined && { before: cursor }),
    ...(state !== undefined && { state }),
  });

  const readOne = async ({ id, callerId }: DeliveryReference): Promise<Delivery | undefined> =>
    (await readDeliveries(sql, callerId, [id]))[0];
  const read = async (reference: DeliveryReference): Promise<DeliveryDetail | undefined> => {
    const [delivery, message, sends] = await Promise.all([
      readOne(reference),
      readMessage(sql, reference),
      readSends(sql, reference, SHOWN_SENDS_MAX),
    ]);
    return delivery && { delivery, ...(message !== undefined && { message }), sends };
  };

  return {
    async ofJob(job, query) {
      const ids = await listDeliveryIdsOfJob(sql, job.id, filterFrom(job.callerId, query));
      if (ids.length === 0 && !(await knowsJob(sql, job))) return undefined;
      return pageFrom(job.callerId, query.limit, ids);
    },
    list: async (callerId, query) => pageFrom(callerId, query.limit, await listDeliveryIds(sql, filterFrom(callerId, query))),
    read,
    async resend(reference) {
      const outcome = await resendDelivery(sql, reference);
      if (outcome === 'erased') {
        const message = `Delivery ${reference.id} cannot be sent again: its message is gone, as the job that it told of is.`;
        throw new AppError('conflict', message);
      }
      return outcome && readOne(reference);
    },
    async startReplay(callerId, { since, before, states = REPLAYED_STATES_DEFAULT, perSecond = REPLAY_RATE_DEFAULT }) {
      const started = await insertReplay(
        sql,
        { id: newId(clock), callerId, since, states, perSecond, ...(before && { before }) },
        { unfinishedMax: REPLAYS_MAX, keepSeconds: settings.webhookLogSeconds },
      );
      if (started === 'empty range') throw emptyRange();
      if (started === 'too many') {
        throw new AppError('conflict', `There are ${REPLAYS_MAX} replays at work already: wait for one to end, or stop one.`);
      }
      log.info({ replayId: started.id, callerId, states, perSecond }, 'replay started');
      return started;
    },
    readReplay: (reference) => readReplay(sql, reference),
    async stopReplay(reference) {
      await finishReplay(sql, reference);
      return readReplay(sql, reference);
    },
    async test({ url, event = 'request.completed', format, timeoutMs, signal, ...sample }) {
      const reference = { id: newId(clock), callerId: sample.callerId };
      const job = sampleJob({ ...sample, event, webhookUrl: url }, clock);
      const plain = encodeWebhook(job);
      const delivery = {
        ...reference,
        ...(format === 'standard' ? inEnvelope(TEST_EVENT, job.updatedAt, plain) : { ...plain, dialect: job.dialect }),
        url,
        // Sent once: whoever tests wants to hear of the first failure.
        schedule: [0],
        event: TEST_EVENT,
        sequence: 0,
        trigger: 'test',
        ...(event === 'request.progress' && { progress: job.progress }),
      } as const;
      await insertDeliveries(sql, [delivery]);
      // No signal tells of the end of a send, and nobody tests so often that looking would be noticed.
      const over = AbortSignal.any([AbortSignal.timeout(timeoutMs), signal]);
      while (!over.aborted && (await readDeliveryState(sql, reference)) === 'PENDING') {
        await clock.sleep(LOOK_AGAIN_MS, over).catch(() => {});
      }
      const tested = await read(reference);
      if (!tested) throw new Error(`Test delivery ${reference.id} is gone.`);
      return tested;
    },
  };
}

function emptyRange(): AppError {
  const message = 'must be before the end of the range, which is now at the latest';
  return new AppError('invalid_parameters', `/since ${message}.`, { problems: [{ pointer: '/since', message }] });
}
