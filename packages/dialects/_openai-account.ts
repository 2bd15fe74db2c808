/** Lumenfall's own objects: quotes, the balance and the log of requests (protocols/lumenfall.md, sections 6 and 12). */
import type { Answer, Failure, Job, JobFilter, JobPage, Quote, State, WireRequest } from '@claimcheck/core';
import { failureBody } from './_openai-errors.ts';
import { costOf, metadataOf } from './_openai-facts.ts';
import { ID_PREFIXES, type PageQuery, pageQuery, queryFlag, refusal } from './_openai-requests.ts';

/** @throws AppError for anything but true and false: a request that was meant as a question must not cost money. */
export function isDryRun(request: WireRequest): boolean {
  return queryFlag(request, 'dryRun');
}

/** Nobody knows the price of a model whose route has none: then nothing is estimated. */
export function quoteAnswer({ model, route, usd }: Quote): Answer {
  const micros = usd === undefined ? null : Math.round(usd * 1e6);
  // Of tokens, prices are for a million.
  const unitUsd = route.price && (route.price.per === 'token' ? route.price.usd / 1e6 : route.price.usd);
  const quantity = usd === undefined || !unitUsd ? 1 : Number((usd / unitUsd).toFixed(6));
  const component = {
    type: 'output',
    metric: route.price?.per,
    quantity,
    billable_quantity: quantity,
    unit_price: unitUsd,
    total_cost: micros,
  };
  const value = {
    estimated: micros !== null,
    model: model.name,
    provider: route.provider,
    total_cost_micros: micros,
    currency: 'USD',
    components: micros === null ? [] : [component],
    metadata: { model: model.name, executed_model: `${route.provider}/${route.model}`, provider: route.provider, cost: usd ?? null },
  };
  return json(value);
}

/** There is no money here: providers charge their accounts, and nothing is paid in advance. */
export function balanceAnswer(): Answer {
  return json({ object: 'balance', billing_type: 'postpaid', available: { amount: null, currency: 'usd' } });
}

/** The vendor tells by the status whose fault a failure was. */
const STATES = {
  pending: 'QUEUED',
  processing: 'PROCESSING',
  completed: 'COMPLETED',
  upstream_failure: 'FAILED',
  rejected: 'FAILED',
  cancelled: 'CANCELLED',
} as const satisfies Record<string, State>;
type Status = keyof typeof STATES;

const REJECTED: ReadonlySet<Failure['code']> = new Set(['content_refused', 'invalid_input']);

function statusOf({ state, failure }: Job): Status {
  if (state === 'FAILED') return failure && REJECTED.has(failure.code) ? 'rejected' : 'upstream_failure';
  return ({ QUEUED: 'pending', PROCESSING: 'processing', COMPLETED: 'completed', CANCELLED: 'cancelled' } as const)[state];
}

/** @throws AppError that names what a list cannot be narrowed by here. */
export function requestListQuery(request: WireRequest): PageQuery & JobFilter {
  const page = pageQuery(request, {
    after: 'starting_after',
    refused: { ending_before: undefined, key_id: undefined, summary: 'false' },
  });
  const status = wantedStatus(request);
  const [createdAfter, createdBefore] = [instantIn(request, 'created_after'), instantIn(request, 'created_before')];
  return {
    ...page,
    ...(status !== undefined && { state: STATES[status] }),
    ...(createdAfter && { createdAfter }),
    ...(createdBefore && { createdBefore }),
  };
}

/** Of days and instants as the list itself writes them. A day begins in UTC. @throws AppError for anything else. */
function instantIn({ query }: WireRequest, name: string): Date | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const instant = new Date(/^\d{4}-\d\d-\d\d(T[\d:.]{5,12}(Z|[+-]\d\d:\d\d))?$/.test(text) ? text : Number.NaN);
  if (!Number.isNaN(instant.getTime())) return instant;
  throw refusal([{ pointer: `/${name}`, message: 'must be a day or an instant in UTC, such as 2026-01-31 or 2026-01-31T12:00:00Z' }]);
}

/** @throws AppError for a status that there is not. */
function wantedStatus({ query }: WireRequest): Status | undefined {
  const text = query.get('status');
  if (text === null) return undefined;
  const status = (Object.keys(STATES) as Status[]).find((known) => known === text);
  if (status === undefined) throw refusal([{ pointer: '/status', message: `must be one of ${Object.keys(STATES).join(', ')}` }]);
  return status;
}

/** Of the two kinds of failure a page may hold fewer than asked for; the next page is told all the same. */
export function requestListAnswer({ jobs, nextCursor }: JobPage, request: WireRequest): Answer {
  const status = wantedStatus(request);
  const data = jobs.filter((job) => status === undefined || statusOf(job) === status).map(requestBody);
  return json({
    object: 'list',
    data,
    next_page_url: nextCursor === undefined ? null : nextPageUrl(request, nextCursor),
    previous_page_url: null,
  });
}

function nextPageUrl({ baseUrl, path, query }: WireRequest, cursor: string): string {
  const next = new URLSearchParams(query);
  next.set('starting_after', `${ID_PREFIXES.request}${cursor}`);
  return `${baseUrl}${path}?${next}`;
}

export function requestBody(job: Job) {
  const hasFailed = job.state === 'FAILED' || job.state === 'CANCELLED';
  const { error_code: code, message } = failureBody(job);
  return {
    id: `${ID_PREFIXES.request}${job.id}`,
    object: 'request',
    created_at: job.createdAt.toISOString(),
    model: job.model,
    modality: modalityOf(job),
    endpoint: null,
    status: statusOf(job),
    cost: costOf(job) ?? null,
    currency: 'usd',
    duration_ms: job.finishedAt ? job.finishedAt.getTime() - job.createdAt.getTime() : null,
    key_id: null,
    error_code: hasFailed ? code : null,
    error_message: hasFailed ? message : null,
    session_id: job.sessionId ?? null,
    trace_id: null,
    user: null,
    ...(job.finishedAt && { metadata: metadataOf(job) }),
  };
}

/** As far as the result tells: a job does not know what its model makes. */
function modalityOf({ output }: Job): string | null {
  const [first] = output?.media ?? [];
  if (first) return first.contentType.slice(0, first.contentType.indexOf('/'));
  return output?.text === undefined ? null : 'text';
}

function json(value: unknown): Answer {
  return { status: 200, body: { kind: 'json', value } };
}
