/** The native routes about webhooks that were sent or are to be: looking at them, sending them again, replaying a range, trying a URL. */
import {
  type Answer,
  AppError,
  type Delivery,
  type DeliveryDetail,
  type DeliveryOperations,
  type DeliveryPage,
  type DialectRoute,
  isJsonObject,
  type JsonValue,
  jsonPointer,
  type LoggedSend,
  on,
  type Problem,
  REPLAY_RATE_MAX,
  REPLAYED_STATES,
  type Replay,
  type ReplayedState,
  TESTED_EVENTS,
  type WireRequest,
} from '@claimcheck/core';
import { deliveryQuery, instantFrom, pathParameter } from './_native-requests.ts';

const REPLAY_PATH = '/v2/deliveries/replay';

/** Lines of replays stand before those with `:id`, which would take `replay` for one. */
export const deliveryRoutes: readonly DialectRoute[] = [
  on('listDeliveriesOfJob', {
    method: 'GET',
    path: '/v2/requests/:id/deliveries',
    body: 'none',
    decode: (request) => ({ kind: 'listDeliveriesOfJob', jobId: pathParameter(request, 'id'), ...deliveryQuery(request) }),
    encode: pageAnswer,
  }),
  on('listDeliveries', {
    method: 'GET',
    path: '/v2/deliveries',
    body: 'none',
    decode: (request) => ({ kind: 'listDeliveries', ...deliveryQuery(request) }),
    encode: pageAnswer,
  }),
  on('startReplay', {
    method: 'POST',
    path: REPLAY_PATH,
    body: 'json',
    decode: (request) => ({ kind: 'startReplay', ...replayRange(request) }),
    encode: ({ replay }, { baseUrl }) => json(202, replayBody(replay, baseUrl)),
  }),
  on('readReplay', {
    method: 'GET',
    path: `${REPLAY_PATH}/:id`,
    body: 'none',
    decode: (request) => ({ kind: 'readReplay', id: pathParameter(request, 'id') }),
    encode: ({ replay }, { baseUrl }) => json(200, replayBody(replay, baseUrl)),
  }),
  on('stopReplay', {
    method: 'DELETE',
    path: `${REPLAY_PATH}/:id`,
    body: 'none',
    decode: (request) => ({ kind: 'stopReplay', id: pathParameter(request, 'id') }),
    encode: ({ replay }, { baseUrl }) => json(200, replayBody(replay, baseUrl)),
  }),
  on('readDelivery', {
    method: 'GET',
    path: '/v2/deliveries/:id',
    body: 'none',
    decode: (request) => ({ kind: 'readDelivery', id: pathParameter(request, 'id') }),
    encode: (detail) => json(200, detailBody(detail)),
  }),
  on('resendDelivery', {
    method: 'POST',
    path: '/v2/deliveries/:id/resend',
    body: 'none',
    decode: (request) => ({ kind: 'resendDelivery', id: pathParameter(request, 'id') }),
    encode: ({ delivery }) => json(202, deliveryBody(delivery)),
  }),
  on('testWebhook', {
    method: 'POST',
    path: '/v2/webhooks/test',
    body: 'json',
    decode: (request) => ({ kind: 'testWebhook', ...webhookTest(request) }),
    // Still PENDING: it will be sent, but nobody did in time.
    encode: (detail) => json(detail.delivery.state === 'PENDING' ? 202 : 200, detailBody(detail)),
  }),
];

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

function replayRange(request: WireRequest): ReplayRange {
  const { values, problems } = membersOf(request, ['since', 'before', 'states', 'per_second']);

  const instant = (name: 'since' | 'before') => {
    const value = values[name];
    const at = typeof value === 'string' ? instantFrom(value) : undefined;
    if (value !== undefined && !at)
      problems.push({ pointer: `/${name}`, message: 'must be an instant such as 2030-01-31T09:00:00Z, with its offset from UTC' });
    return at;
  };
  const since = instant('since');
  if (values.since === undefined)
    problems.push({ pointer: '/since', message: 'is missing; it must be an instant such as 2030-01-31T09:00:00Z' });
  const before = instant('before');
  if (since && before && since >= before) problems.push({ pointer: '/before', message: 'must be after since' });

  const states = values.states === undefined ? undefined : replayedStates(values.states);
  if (values.states !== undefined && !states)
    problems.push({ pointer: '/states', message: `must list one or more of ${REPLAYED_STATES.join(', ')}` });

  const { per_second: rate } = values;
  const perSecond = typeof rate === 'number' && Number.isInteger(rate) && rate >= 1 && rate <= REPLAY_RATE_MAX ? rate : undefined;
  if (rate !== undefined && perSecond === undefined)
    problems.push({ pointer: '/per_second', message: `must be a whole number from 1 to ${REPLAY_RATE_MAX}` });

  if (!since || problems.length > 0) throw refusal(problems);
  return { since, ...(before && { before }), ...(states && { states }), ...(perSecond !== undefined && { perSecond }) };
}

/** Undefined for anything but a list of such states, each once. */
function replayedStates(value: JsonValue): readonly ReplayedState[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const states = REPLAYED_STATES.filter((state) => value.includes(state));
  return states.length === value.length ? states : undefined;
}

type WebhookTest = Omit<DeliveryOperations['testWebhook']['operation'], 'kind'>;

function webhookTest(request: WireRequest): WebhookTest {
  const { values, problems } = membersOf(request, ['url', 'event']);
  const url = typeof values.url === 'string' ? values.url : undefined;
  if (url === undefined)
    problems.push({ pointer: '/url', message: `${values.url === undefined ? 'is missing; it ' : ''}must be a string` });
  const event = TESTED_EVENTS.find((known) => known === values.event);
  if (values.event !== undefined && event === undefined)
    problems.push({ pointer: '/event', message: `must be one of ${TESTED_EVENTS.join(', ')}` });
  if (url === undefined || problems.length > 0) throw refusal(problems);
  return { url, ...(event && { event }) };
}

/**
 * The body's members that are `known`, and a problem for each other one. Optional members may be null, as clients send that always send
 * every field. @throws AppError for a body that is no object.
 */
function membersOf<Name extends string>({ body }: WireRequest, known: readonly Name[]) {
  const object = body?.value;
  if (!isJsonObject(object)) throw refusal([{ pointer: '', message: 'must be a JSON object' }]);
  const problems: Problem[] = Object.keys(object)
    .filter((name) => !known.some((one) => one === name))
    .map((name) => ({ pointer: jsonPointer([name]), message: `is not known here; there is ${known.join(', ')}` }));
  const values: { [Member in Name]?: JsonValue } = {};
  for (const name of known) values[name] = object[name] ?? undefined;
  return { values, problems };
}

function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}

function json(status: number, value: unknown): Answer {
  return { status, body: { kind: 'json', value } };
}
