/** What Replicate's requests ask for (replicate.md, sections 1 to 3): the submission in its body and headers, and pages of lists. */
import { type ExactJson, fromJsonText, membersOf, type Operations, type SubmitOperation, type WireRequest } from '@claimcheck/core';
import type { z } from 'zod';
import { modelNameOf } from './_replicate-prediction.ts';
import {
  type pageQuery,
  type predictionQuery,
  type SubmissionHeaders,
  type SubmissionMembers,
  submissionHeaders,
} from './_replicate-schemas.ts';

const PAGE_SIZE = 100;

/** A parameter that the route's own path promises. */
export function pathParameter(request: WireRequest, name: 'id' | 'model' | 'token' | 'version'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

export function modelInPath(request: WireRequest): string {
  return modelNameOf(pathParameter(request, 'model'));
}

/** Versions are names of models. The vendor's `owner/name:version` says twice what is meant; the version decides, as in its clients. */
export function modelOfVersion(version: string): string {
  return modelNameOf(version.slice(version.indexOf(':') + 1));
}

export interface SubmissionValues {
  readonly headers: SubmissionHeaders;
  readonly members: SubmissionMembers;
}

export function submission(request: WireRequest, { headers, members }: SubmissionValues, model: string): SubmitOperation {
  const { webhook, webhook_events_filter: events } = members;
  const { Prefer: seconds, 'Cancel-After': timeoutSeconds, 'Idempotency-Key': idempotencyKey } = headers;
  return {
    kind: 'submit',
    model,
    parameters: inputOf(request),
    ...(webhook && { webhookUrl: webhook }),
    ...(events && { webhookOptions: { events } }),
    ...(seconds !== undefined && { wait: { until: 'end', seconds } as const, withLogs: true }),
    ...(timeoutSeconds !== undefined && { timeoutSeconds }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
}

/** The exact text of the parameters. */
function inputOf({ body }: WireRequest): ExactJson {
  const text = body && membersOf(body.text).get('input');
  if (text === undefined) throw new Error('The input that was read is missing in the body.');
  return { text, value: fromJsonText(text) };
}

/** How long the request was held, if it was. */
export function waitSeconds({ header }: Pick<WireRequest, 'header'>): number | undefined {
  return submissionHeaders.shape.Prefer.parse(header('prefer'));
}

export function predictionPage(query: z.output<typeof predictionQuery>): Omit<Operations['list']['operation'], 'kind'> {
  const { created_after: createdAfter, created_before: createdBefore } = query;
  return { ...page(query), ...(createdAfter && { createdAfter }), ...(createdBefore && { createdBefore }) };
}

export function page({ cursor }: z.output<typeof pageQuery>): { readonly limit: number; readonly cursor?: string } {
  return { limit: PAGE_SIZE, ...(cursor !== undefined && { cursor }) };
}

/** A page as the vendor has it. Nobody can go back: `previous` is null, as on the vendor's first page. */
export function pageBody(results: readonly unknown[], nextCursor: string | undefined, { baseUrl, path, query }: WireRequest) {
  const next = new URLSearchParams(query);
  if (nextCursor !== undefined) next.set('cursor', nextCursor);
  return { previous: null, next: nextCursor === undefined ? null : `${baseUrl}${path}?${next}`, results };
}
