/** Lumenfall's own objects: quotes, the balance and the log of requests (protocols/lumenfall.md, sections 6 and 12). */
import {
  type Answer,
  type Failure,
  type Job,
  type JobFilter,
  type JobPage,
  type Quote,
  readQuery,
  type State,
  type WireRequest,
} from '@claimcheck/core';
import type { z } from 'zod';
import { failureBody } from './_openai-errors.ts';
import { costOf, metadataOf, type RequestStatus } from './_openai-facts.ts';
import { ID_PREFIXES } from './_openai-ids.ts';
import { requestsQuery } from './_openai-queries.ts';

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
} as const satisfies Record<RequestStatus, State>;

const REJECTED: ReadonlySet<Failure['code']> = new Set(['content_refused', 'invalid_input']);

function statusOf({ state, failure }: Job): RequestStatus {
  if (state === 'FAILED') return failure && REJECTED.has(failure.code) ? 'rejected' : 'upstream_failure';
  return ({ QUEUED: 'pending', PROCESSING: 'processing', COMPLETED: 'completed', CANCELLED: 'cancelled' } as const)[state];
}

export type RequestsQuery = z.output<typeof requestsQuery>;

export function requestFilter({ status, created_after: createdAfter, created_before: createdBefore }: RequestsQuery): JobFilter {
  return {
    ...(status !== undefined && { state: STATES[status] }),
    ...(createdAfter && { createdAfter }),
    ...(createdBefore && { createdBefore }),
  };
}

/** Of the two kinds of failure a page may hold fewer than asked for; the next page is told all the same. */
export function requestListAnswer({ jobs, nextCursor }: JobPage, request: WireRequest): Answer {
  const { status } = readQuery(request, requestsQuery);
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
