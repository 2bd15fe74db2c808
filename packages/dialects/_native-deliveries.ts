/** The native routes about webhooks that were sent or are to be: looking at them, sending them again, replaying a range, trying a URL. */
import {
  type Answer,
  DELIVERY_STATES,
  type Delivery,
  type DeliveryDetail,
  type DeliveryOperations,
  type DeliveryPage,
  type DialectRoute,
  instant,
  type LoggedSend,
  on,
  REPLAY_RATE_DEFAULT,
  REPLAY_RATE_MAX,
  REPLAYED_STATES,
  REPLAYED_STATES_DEFAULT,
  type Replay,
  TESTED_EVENTS,
} from '@claimcheck/core';
import { z } from 'zod';
import { instantText } from './_native-answer-schemas.ts';
import { deliveryQuery, pathParameter } from './_native-requests.ts';

const REPLAY_PATH = '/v2/deliveries/replay';
const STATES_ERROR = { error: `must list one or more of ${REPLAYED_STATES.join(', ')}` };
const RATE_ERROR = { error: `must be a whole number from 1 to ${REPLAY_RATE_MAX}` };

/** Optional members may be null, as clients send that always send every field. */
const replayMembers = z
  .strictObject({
    since: instant().meta({ description: 'From this instant on.' }),
    before: instant().nullish().meta({ description: 'Up to this instant; now unless given.' }),
    states: z
      .array(z.enum(REPLAYED_STATES, STATES_ERROR), STATES_ERROR)
      .min(1, STATES_ERROR)
      .refine((states) => new Set(states).size === states.length, STATES_ERROR)
      .nullish()
      .meta({ description: `${REPLAYED_STATES_DEFAULT.join(' and ')} unless given.` }),
    per_second: z
      .int(RATE_ERROR)
      .min(1, RATE_ERROR)
      .max(REPLAY_RATE_MAX, RATE_ERROR)
      .nullish()
      .meta({ description: `How many are sent again per second; ${REPLAY_RATE_DEFAULT} unless given.` }),
  })
  .check(({ value: { since, before }, issues }) => {
    if (before && since >= before) issues.push({ code: 'custom', path: ['before'], message: 'must be after since', input: before });
  });

const testMembers = z.strictObject({
  url: z.string({ error: 'must be a string' }).meta({ description: 'Where to send it.' }),
  event: z
    .enum(TESTED_EVENTS, { error: `must be one of ${TESTED_EVENTS.join(', ')}` })
    .nullish()
    .meta({ description: 'What the message looks like; `request.completed` unless given.' }),
});

const trigger = z.enum(['auto', 'manual', 'replay', 'test']);

const deliveryMembers = {
  id: z.uuid(),
  request_id: z.uuid().nullable(),
  event: z.string(),
  sequence: z.int(),
  url: z.string(),
  state: z.enum(DELIVERY_STATES),
  failure_code: z.string().nullable(),
  send_count: z.int(),
  created_at: instantText(),
  finished_at: instantText().nullable(),
  next_send_at: instantText().nullable(),
  trigger: trigger.nullable().meta({ description: 'What the send to come was made for.' }),
  schedule: z.array(z.int()).meta({ description: 'Seconds to wait before each send.' }),
  endpoint: z.object({
    state: z.enum(['ok', 'failing', 'disabled']),
    reason: z.enum(['gone', 'asked', 'failing']).optional(),
    since: instantText().optional(),
  }),
};
const deliverySchema = z.object(deliveryMembers).meta({ id: 'Delivery' });
const deliveryListSchema = z
  .object({ deliveries: z.array(deliverySchema), next_cursor: z.string().nullable() })
  .meta({ id: 'DeliveryList' });

const milliseconds = z.number().nullable();
const sendSchema = z
  .object({
    number: z.int().min(1),
    trigger,
    started_at: instantText(),
    duration_ms: z.number(),
    timings: z.object({
      dns_ms: milliseconds,
      connect_ms: milliseconds,
      tls_ms: milliseconds,
      first_byte_ms: milliseconds,
      total_ms: z.number(),
    }),
    address: z.string().nullable(),
    request_headers: z.record(z.string(), z.string()).nullable(),
    status: z.int().nullable(),
    response_headers: z.record(z.string(), z.union([z.string(), z.array(z.string())])).nullable(),
    response_body: z.string().nullable(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    next_send_at: instantText().nullable(),
    next_reason: z.string().nullable(),
  })
  .meta({ id: 'Send' });
const deliveryDetailSchema = z
  .object({
    ...deliveryMembers,
    message: z.string().nullable().meta({ description: 'The body as it is sent; null once it is gone.' }),
    sends: z.array(sendSchema),
  })
  .meta({ id: 'DeliveryDetail' });

const replaySchema = z
  .object({
    replay_id: z.uuid(),
    state: z.enum(['running', 'done']),
    queued: z.int(),
    since: instantText(),
    before: instantText(),
    states: z.array(z.enum(REPLAYED_STATES)),
    per_second: z.int(),
    created_at: instantText(),
    finished_at: instantText().nullable(),
    status_url: z.url(),
  })
  .meta({ id: 'Replay' });

const PAGE = { 200: { description: 'A page of deliveries.', schema: deliveryListSchema } };
const HOW_FAR = { 200: { description: 'How far it is.', schema: replaySchema } };

/** Lines of replays stand before those with `:id`, which would take `replay` for one. */
export const deliveryRoutes: readonly DialectRoute[] = [
  on('listDeliveriesOfJob', {
    method: 'GET',
    path: '/v2/requests/:id/deliveries',
    body: 'none',
    summary: 'Lists what the webhook of a job was told, newest first.',
    query: deliveryQuery,
    answers: PAGE,
    decode: (request, { query }) => ({ kind: 'listDeliveriesOfJob', jobId: pathParameter(request, 'id'), ...pageOf(query) }),
    encode: pageAnswer,
  }),
  on('listDeliveries', {
    method: 'GET',
    path: '/v2/deliveries',
    body: 'none',
    summary: 'Lists own deliveries, newest first.',
    query: deliveryQuery,
    answers: PAGE,
    decode: (_request, { query }) => ({ kind: 'listDeliveries', ...pageOf(query) }),
    encode: pageAnswer,
  }),
  on('startReplay', {
    method: 'POST',
    path: REPLAY_PATH,
    body: 'json',
    summary: 'Sends the deliveries of a range of time again.',
    members: replayMembers,
    answers: { 202: { description: 'It has begun.', schema: replaySchema } },
    decode: (_request, { members }) => ({ kind: 'startReplay', ...replayRange(members) }),
    encode: ({ replay }, { baseUrl }) => json(202, replayBody(replay, baseUrl)),
  }),
  on('readReplay', {
    method: 'GET',
    path: `${REPLAY_PATH}/:id`,
    body: 'none',
    summary: 'Tells how far a replay is.',
    answers: HOW_FAR,
    decode: (request) => ({ kind: 'readReplay', id: pathParameter(request, 'id') }),
    encode: ({ replay }, { baseUrl }) => json(200, replayBody(replay, baseUrl)),
  }),
  on('stopReplay', {
    method: 'DELETE',
    path: `${REPLAY_PATH}/:id`,
    body: 'none',
    summary: 'Stops a replay where it is.',
    answers: HOW_FAR,
    decode: (request) => ({ kind: 'stopReplay', id: pathParameter(request, 'id') }),
    encode: ({ replay }, { baseUrl }) => json(200, replayBody(replay, baseUrl)),
  }),
  on('readDelivery', {
    method: 'GET',
    path: '/v2/deliveries/:id',
    body: 'none',
    summary: 'Tells of one delivery, with its message and every send.',
    answers: { 200: { description: 'The delivery.', schema: deliveryDetailSchema } },
    decode: (request) => ({ kind: 'readDelivery', id: pathParameter(request, 'id') }),
    encode: (detail) => json(200, detailBody(detail)),
  }),
  on('resendDelivery', {
    method: 'POST',
    path: '/v2/deliveries/:id/resend',
    body: 'none',
    summary: 'Sends a delivery again at once, whatever its state.',
    answers: { 202: { description: 'It is due now.', schema: deliverySchema } },
    decode: (request) => ({ kind: 'resendDelivery', id: pathParameter(request, 'id') }),
    encode: ({ delivery }) => json(202, deliveryBody(delivery)),
  }),
  on('testWebhook', {
    method: 'POST',
    path: '/v2/webhooks/test',
    body: 'json',
    summary: 'Sends a message about a made-up job to a URL, once, and tells what came of it.',
    members: testMembers,
    answers: {
      200: { description: 'It was sent.', schema: deliveryDetailSchema },
      202: { description: 'It will be sent, but nobody did in time.', schema: deliveryDetailSchema },
    },
    decode: (_request, { members: { url, event } }) => ({ kind: 'testWebhook', url, ...(event && { event }) }),
    // Still PENDING: it will be sent, but nobody did in time.
    encode: (detail) => json(detail.delivery.state === 'PENDING' ? 202 : 200, detailBody(detail)),
  }),
];

function pageOf({ limit, cursor, state }: z.output<typeof deliveryQuery>) {
  return { limit, ...(cursor !== undefined && { cursor }), ...(state && { state }) };
}

function pageAnswer({ deliveries, nextCursor }: DeliveryPage): Answer {
  return json(200, { deliveries: deliveries.map(deliveryBody), next_cursor: nextCursor ?? null });
}

function deliveryBody({ endpoint, next, ...delivery }: Delivery) {
  return {
    id: delivery.id,
    request_id: delivery.jobId ?? null,
    event: delivery.event,
    sequence: delivery.sequence,
    url: delivery.url,
    state: delivery.state,
    failure_code: delivery.failureCode ?? null,
    send_count: delivery.sendCount,
    created_at: delivery.createdAt.toISOString(),
    finished_at: delivery.finishedAt?.toISOString() ?? null,
    next_send_at: next?.at.toISOString() ?? null,
    trigger: next?.trigger ?? null,
    schedule: delivery.schedule,
    endpoint: {
      state: endpoint.state,
      ...(endpoint.reason && { reason: endpoint.reason }),
      ...(endpoint.since && { since: endpoint.since.toISOString() }),
    },
  };
}

function detailBody({ delivery, message, sends }: DeliveryDetail) {
  return { ...deliveryBody(delivery), message: message ?? null, sends: sends.map(sendBody) };
}

function sendBody({ timings, error, ...send }: LoggedSend) {
  const milliseconds = (step: number | undefined) => (step === undefined ? null : Math.round(step * 10) / 10);
  return {
    number: send.number,
    trigger: send.trigger,
    started_at: send.startedAt.toISOString(),
    duration_ms: timings.totalMs,
    timings: {
      dns_ms: milliseconds(timings.dnsMs),
      connect_ms: milliseconds(timings.connectMs),
      tls_ms: milliseconds(timings.tlsMs),
      first_byte_ms: milliseconds(timings.firstByteMs),
      total_ms: timings.totalMs,
    },
    address: send.address ?? null,
    request_headers: send.requestHeaders ?? null,
    status: send.status ?? null,
    response_headers: send.responseHeaders ?? null,
    response_body: send.responseBody ?? null,
    error: error ? { code: error.code, message: error.message } : null,
    next_send_at: send.nextSendAt?.toISOString() ?? null,
    next_reason: send.nextReason ?? null,
  };
}

function replayBody(replay: Replay, baseUrl: string) {
  return {
    replay_id: replay.id,
    state: replay.finishedAt ? 'done' : 'running',
    queued: replay.queued,
    since: replay.since.toISOString(),
    before: replay.before.toISOString(),
    states: replay.states,
    per_second: replay.perSecond,
    created_at: replay.createdAt.toISOString(),
    finished_at: replay.finishedAt?.toISOString() ?? null,
    status_url: `${baseUrl}${REPLAY_PATH}/${replay.id}`,
  };
}

type ReplayRange = Omit<DeliveryOperations['startReplay']['operation'], 'kind'>;

function replayRange({ since, before, states, per_second: perSecond }: z.output<typeof replayMembers>): ReplayRange {
  return {
    since,
    ...(before && { before }),
    // In one order, however they were written.
    ...(states && { states: REPLAYED_STATES.filter((state) => states.includes(state)) }),
    ...(typeof perSecond === 'number' && { perSecond }),
  };
}

function json(status: number, value: unknown): Answer {
  return { status, body: { kind: 'json', value } };
}
