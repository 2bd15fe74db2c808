/** Performs the operations on deliveries, replays and test sends of a caller's webhooks. */
import {
  AppError,
  type DeliveryOperation,
  type DeliveryOperations,
  type DeliveryQuery,
  isId,
  type Operation,
  type WebhookOptions,
} from '@claimcheck/core';
import type { DeliveryReference, Engine } from '@claimcheck/engine';
import { checkWebhookUrl } from './webhook-url.ts';

/** Longer than a send may take, shorter than proxies wait for an answer. */
const TEST_WAIT_MS = 20_000;

const KINDS: Readonly<Record<keyof DeliveryOperations, true>> = {
  listDeliveriesOfJob: true,
  listDeliveries: true,
  readDelivery: true,
  resendDelivery: true,
  startReplay: true,
  readReplay: true,
  stopReplay: true,
  testWebhook: true,
};

export function isDeliveryOperation(operation: Operation): operation is DeliveryOperation {
  return Object.hasOwn(KINDS, operation.kind);
}

export interface DeliveryPerformer {
  readonly callerId: string;
  readonly dialect: string;
  readonly request: { readonly baseUrl: string };
  /** What the key has chosen for its webhooks. */
  readonly webhookOptions?: WebhookOptions;
  /** Aborts when the client is gone or the process drains. */
  readonly signal: AbortSignal;
}

/** @throws AppError `not_found` for what the caller does not have, and for everything else a client can do wrong. */
export async function performDeliveries(
  engine: Pick<Engine, 'deliveries' | 'problemWithWebhook'>,
  { callerId, dialect, request, webhookOptions, signal }: DeliveryPerformer,
  operation: DeliveryOperation,
): Promise<DeliveryOperations[keyof DeliveryOperations]['outcome']> {
  const { deliveries } = engine;
  /** An id that we cannot have made is answered like one that does not exist, without asking the database. */
  const find = async <Found>(
    noun: string,
    id: string,
    read: (reference: DeliveryReference) => Promise<Found | undefined>,
  ): Promise<Found> => {
    const found = isId(id) ? await read({ id, callerId }) : undefined;
    if (found === undefined) throw new AppError('not_found', `${noun} ${id} not found`);
    return found;
  };
  switch (operation.kind) {
    case 'listDeliveriesOfJob': {
      const query = queryFrom(operation);
      return find('Request', operation.jobId, (reference) => deliveries.ofJob(reference, query));
    }
    case 'listDeliveries':
      return deliveries.list(callerId, queryFrom(operation));
    case 'readDelivery':
      return find('Delivery', operation.id, deliveries.read);
    case 'resendDelivery':
      return { delivery: await find('Delivery', operation.id, deliveries.resend) };
    case 'startReplay': {
      const { since, before, states, perSecond } = operation;
      const range = { since, ...(before && { before }), ...(states && { states }), ...(perSecond !== undefined && { perSecond }) };
      return { replay: await deliveries.startReplay(callerId, range) };
    }
    case 'readReplay':
      return { replay: await find('Replay', operation.id, deliveries.readReplay) };
    case 'stopReplay':
      return { replay: await find('Replay', operation.id, deliveries.stopReplay) };
    case 'testWebhook': {
      const { url, event } = operation;
      checkWebhookUrl(engine, url, '/url');
      const { baseUrl } = request;
      // As the key's own webhooks look.
      const { format } = webhookOptions ?? {};
      const looks = { ...(event && { event }), ...(format && { format }) };
      return deliveries.test({ callerId, dialect, baseUrl, url, timeoutMs: TEST_WAIT_MS, signal, ...looks });
    }
  }
}

function queryFrom({ limit, cursor, state }: DeliveryQuery): DeliveryQuery {
  if (cursor !== undefined && !isId(cursor)) {
    throw new AppError('invalid_request', 'The cursor is not one that a list has handed out.', {
      problems: [{ pointer: '/cursor', message: 'must be the next_cursor of an earlier page' }],
    });
  }
  return { limit, ...(cursor !== undefined && { cursor }), ...(state !== undefined && { state }) };
}
