/**
 * WaveSpeed's wire format, below `/api/v3` and, with the same shapes, below `/api/v2`. Sections in comments, also in the parts, are of the
 * protocol sheet wavespeed.md.
 *
 * - Every answer is in one envelope, whose `code` is that of HTTP (section 3); only webhooks come without it.
 * - Cancelled and timed-out jobs are `failed`: many clients know no other end (section 5).
 * - `enable_sync_mode` holds the request; `enable_base64_output` puts the files into answers about that one job. Lists and webhooks always
 *   name addresses.
 * - `Idempotency-Key` is understood, which the vendor has not.
 * - Balances, billing and usage are of the vendor's accounts, and answered as not implemented.
 */
import {
  type Answer,
  type AppError,
  absent,
  type Dialect,
  type DialectRoute,
  isTerminal,
  type Job,
  type JobPage,
  on,
  readMembers,
  type Upload,
  uploadedFileUrl,
  uploadUrl,
  type WireRequest,
} from '@claimcheck/core';
import type { z } from 'zod';
import { modelBody, priceBody, pricingBody } from './_wavespeed-models.ts';
import { encodeWebhook, prediction, predictionWithFiles, resultUrl, signWebhook } from './_wavespeed-prediction.ts';
import {
  listFilter,
  pageOf,
  pathParameter,
  quotedSubmission,
  SYNC_WAIT_SECONDS,
  sentFile,
  submission,
  wantsSync,
} from './_wavespeed-requests.ts';
import {
  addressSchema,
  answered,
  deletedManySchema,
  deletedSchema,
  deletionMembers,
  errorSchema,
  fileSchema,
  listMembers,
  listQuery,
  listSchema,
  modelsSchema,
  predictionSchema,
  priceMembers,
  priceSchema,
  pricingSchema,
  secretSchema,
  submissionHeaders,
  submissionMembers,
  submissionQuery,
  ticketMembers,
  ticketSchema,
} from './_wavespeed-schemas.ts';

const BASES = ['/api/v3', '/api/v2'];

/** Of one job, and of many. */
function predictionLines(base: string): readonly DialectRoute[] {
  const path = `${base}/predictions`;
  const list = {
    summary: 'Lists own predictions, newest first.',
    answers: answered('A page of predictions.', listSchema),
    encode: ({ jobs }: JobPage, request: WireRequest) =>
      success({ page: pageOf(request), items: jobs.map((job) => prediction(job, request.baseUrl)) }),
  };
  return [
    // In front of ids, which its path looks like.
    on('discardMany', {
      method: 'POST',
      path: `${path}/delete`,
      body: 'json',
      summary: 'Cancels the predictions that run and removes those that have ended.',
      members: deletionMembers,
      answers: answered('How many there were.', deletedManySchema),
      decode: (_request, { members }) => ({ kind: 'discardMany', ids: members.ids }),
      encode: ({ discarded }) => success({ deleted_count: discarded }),
    }),
    // Clients poll the first; newer pages of the vendor's show the second.
    ...[`${path}/:id/result`, `${path}/:id`].map((each) =>
      on('read', {
        method: 'GET',
        path: each,
        body: 'none',
        summary: 'Tells where a prediction stands, and what it made.',
        answers: answered('The prediction.', predictionSchema),
        decode: (request) => ({ kind: 'read', id: pathParameter(request, 'id') }),
        encode: (job, { baseUrl }) => success(predictionWithFiles(job, baseUrl)),
      }),
    ),
    // One word for cancelling and removing (section 1).
    on('discard', {
      method: 'DELETE',
      path: `${path}/:id`,
      body: 'none',
      summary: 'Cancels a prediction that runs, or removes one that has ended.',
      answers: answered('It is done.', deletedSchema),
      decode: (request) => ({ kind: 'discard', id: pathParameter(request, 'id') }),
      encode: ({ id }) => success({ id, status: 'deleted' }),
    }),
    on('list', {
      method: 'POST',
      path,
      body: 'optional json',
      ...list,
      members: listMembers,
      decode: (_request, { members }) => ({ kind: 'list', ...listFilter({ ...members }) }),
    }),
    on('list', {
      method: 'GET',
      path,
      body: 'none',
      ...list,
      query: listQuery,
      decode: (_request, { query }) => ({ kind: 'list', ...listFilter(query) }),
    }),
  ];
}

function mediaLines(base: string): readonly DialectRoute[] {
  const line = (path: string, schema: z.ZodType, encode: (upload: Upload, request: WireRequest) => Answer) =>
    on('readUpload', {
      method: 'POST',
      path: `${base}${path}`,
      body: 'json or form',
      summary: 'Takes a file as part of a form.',
      answers: answered('The file.', schema),
      decode: (request) => ({ kind: 'readUpload', id: sentFile(request).id }),
      encode,
    });
  return [
    on('createUpload', {
      method: 'POST',
      path: `${base}/media/uploads`,
      body: 'json',
      summary: 'Announces a file and tells where its bytes go.',
      members: ticketMembers,
      answers: answered('The ticket.', ticketSchema),
      decode: (_request, { members: { filename, size, content_type: contentType } }) => ({
        kind: 'createUpload',
        fileName: filename,
        ...(contentType && { contentType }),
        ...(size && { bytes: size }),
      }),
      encode: (upload, request) => {
        const { size } = readMembers(request, ticketMembers);
        const target = { method: 'PUT', url: uploadUrl(upload, request.baseUrl), headers: { 'Content-Type': upload.contentType } };
        return success({ ...fileBody(upload, request.baseUrl), ...(size && { size }), upload: target });
      },
    }),
    line('/media/upload/binary', fileSchema, (upload, { baseUrl }) => success(fileBody(upload, baseUrl))),
    // On older pages of the vendor's only.
    line('/upload', addressSchema, (upload, { baseUrl }) => success({ url: uploadedFileUrl(upload, baseUrl) })),
  ];
}

function fileBody(upload: Upload, baseUrl: string) {
  const { contentType, fileName, bytes } = upload;
  const type = ['image', 'video', 'audio'].find((kind) => contentType.startsWith(`${kind}/`)) ?? 'file';
  return { type, download_url: uploadedFileUrl(upload, baseUrl), filename: fileName, ...(bytes !== undefined && { size: bytes }) };
}

function modelLines(base: string): readonly DialectRoute[] {
  const priceLine = (path: string, schema: z.ZodType, body: typeof priceBody | typeof pricingBody) =>
    on('quote', {
      method: 'POST',
      path: `${base}/model/${path}`,
      body: 'json',
      summary: 'Tells what a run would cost.',
      members: priceMembers,
      answers: answered('The price, in US dollars.', schema),
      decode: (request, { members }) => ({ kind: 'quote', submission: quotedSubmission(request, members.model_id) }),
      encode: (quote) => success(body(quote)),
    });
  return [
    on('listModels', {
      method: 'GET',
      path: `${base}/models`,
      body: 'none',
      summary: 'Lists every model with the schema of its parameters.',
      answers: answered('All models.', modelsSchema),
      decode: () => ({ kind: 'listModels' }),
      encode: (listings, { baseUrl }) => success(listings.map((listing) => modelBody(listing, baseUrl))),
    }),
    priceLine('price', priceSchema, priceBody),
    priceLine('pricing', pricingSchema, pricingBody),
  ];
}

const OF_ACCOUNTS = "it is about the vendor's accounts";

function accountLines(base: string): readonly DialectRoute[] {
  return [
    on('readWebhookSecret', {
      method: 'GET',
      path: `${base}/webhook/secret`,
      body: 'none',
      summary: 'Tells what webhooks are signed with.',
      answers: answered('The secret.', secretSchema),
      decode: () => ({ kind: 'readWebhookSecret' }),
      encode: ({ secret }) => success({ secret }),
    }),
    absent('GET', `${base}/balance`, OF_ACCOUNTS),
    absent('GET', `${base}/account/balance`, OF_ACCOUNTS),
    absent('POST', `${base}/billings/search`, OF_ACCOUNTS),
    absent('POST', `${base}/user/usage_stats`, OF_ACCOUNTS),
  ];
}

/** Behind all others: where a model's name may stand, so may any path. */
function submitLine(base: string): DialectRoute {
  return on('submit', {
    method: 'POST',
    path: `${base}/:model{.+}`,
    body: 'json',
    summary: 'Hands in a job.',
    query: submissionQuery,
    headers: submissionHeaders,
    ownMembers: submissionMembers,
    answers: answered('The prediction; with `enable_sync_mode` when it has ended, or after 120 seconds.', predictionSchema),
    decode: submission,
    encode: submitAnswer,
  });
}

/** 200 and no other: some clients take 201 for a failure, and the end of a job that was waited for is told in its own words (section 6). */
function submitAnswer(job: Job, request: WireRequest): Answer {
  const body = predictionWithFiles(job, request.baseUrl);
  if (!wantsSync(request) || isTerminal(job.state)) return success(body);
  const error = `Sync mode timed out after ${SYNC_WAIT_SECONDS} seconds; the task goes on. Query the result later at: ${resultUrl(job, request.baseUrl)}`;
  return success({ ...body, status: 'processing', code: 5004, error });
}

const wavespeed: Dialect = {
  name: 'wavespeed',
  about: {
    title: 'WaveSpeed',
    description: "WaveSpeed's API v3, and v2, which has the same shapes.",
    documentationUrl: 'https://wavespeed.ai/docs',
  },
  paths: BASES,
  routes: BASES.flatMap((base) => [
    ...predictionLines(base),
    ...mediaLines(base),
    ...modelLines(base),
    ...accountLines(base),
    submitLine(base),
  ]),
  encodeError,
  errorSchema,
  encodeWebhook,
  signWebhook,
};
export default wavespeed;

/** Clients show `message` after one kind of request and `error` after another; some add `error_code` (section 3). */
function encodeError({ code, message, problems, requestId, retryAfterSeconds, status }: AppError): Answer {
  return {
    status,
    headers: {
      ...(retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(retryAfterSeconds)) }),
      ...(requestId !== undefined && { 'x-request-id': requestId }),
    },
    body: {
      kind: 'json',
      value: {
        code: status,
        message,
        error: message,
        error_code: code,
        ...(problems.length > 0 && { errors: problems.map(({ pointer, message: problem }) => ({ pointer, message: problem })) }),
      },
    },
  };
}

function success(data: object): Answer {
  return { status: 200, body: { kind: 'json', value: { code: 200, message: 'success', data } } };
}
