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
  AppError,
  type Dialect,
  type DialectRoute,
  isTerminal,
  type Job,
  on,
  type Upload,
  uploadedFileUrl,
  uploadUrl,
  type WireRequest,
} from '@claimcheck/core';
import { modelBody, priceBody, pricingBody } from './_wavespeed-models.ts';
import { encodeWebhook, prediction, predictionWithFiles, resultUrl, signWebhook } from './_wavespeed-prediction.ts';
import {
  announcedFile,
  idsIn,
  listQuery,
  pathParameter,
  quotedSubmission,
  SYNC_WAIT_SECONDS,
  sentFile,
  submission,
  wantsSync,
} from './_wavespeed-requests.ts';

const BASES = ['/api/v3', '/api/v2'];

/** Of one job, and of many. */
function predictionLines(base: string): readonly DialectRoute[] {
  const path = `${base}/predictions`;
  return [
    // In front of ids, which its path looks like.
    on('discardMany', {
      method: 'POST',
      path: `${path}/delete`,
      body: 'json',
      decode: (request) => ({ kind: 'discardMany', ids: idsIn(request) }),
      encode: ({ discarded }) => success({ deleted_count: discarded }),
    }),
    // Clients poll the first; newer pages of the vendor's show the second.
    ...[`${path}/:id/result`, `${path}/:id`].map((each) =>
      on('read', {
        method: 'GET',
        path: each,
        body: 'none',
        decode: (request) => ({ kind: 'read', id: pathParameter(request, 'id') }),
        encode: (job, { baseUrl }) => success(predictionWithFiles(job, baseUrl)),
      }),
    ),
    // One word for cancelling and removing (section 1).
    on('discard', {
      method: 'DELETE',
      path: `${path}/:id`,
      body: 'none',
      decode: (request) => ({ kind: 'discard', id: pathParameter(request, 'id') }),
      encode: ({ id }) => success({ id, status: 'deleted' }),
    }),
    ...(['POST', 'GET'] as const).map((method) =>
      on('list', {
        method,
        path,
        body: method === 'POST' ? 'optional json' : 'none',
        decode: (request) => {
          const { page: _page, ...filter } = listQuery(request);
          return { kind: 'list', ...filter };
        },
        encode: ({ jobs }, request) =>
          success({ page: listQuery(request).page, items: jobs.map((job) => prediction(job, request.baseUrl)) }),
      }),
    ),
  ];
}

function mediaLines(base: string): readonly DialectRoute[] {
  const line = (path: string, encode: (upload: Upload, request: WireRequest) => Answer) =>
    on('readUpload', {
      method: 'POST',
      path: `${base}${path}`,
      body: 'json or form',
      decode: (request) => ({ kind: 'readUpload', id: sentFile(request).id }),
      encode,
    });
  return [
    on('createUpload', {
      method: 'POST',
      path: `${base}/media/uploads`,
      body: 'json',
      decode: (request) => ({ kind: 'createUpload', ...announcedFile(request) }),
      encode: (upload, request) => {
        const { bytes } = announcedFile(request);
        const target = { method: 'PUT', url: uploadUrl(upload, request.baseUrl), headers: { 'Content-Type': upload.contentType } };
        return success({ ...fileBody({ ...upload, ...(bytes !== undefined && { bytes }) }, request.baseUrl), upload: target });
      },
    }),
    line('/media/upload/binary', (upload, { baseUrl }) => success(fileBody(upload, baseUrl))),
    // On older pages of the vendor's only.
    line('/upload', (upload, { baseUrl }) => success({ url: uploadedFileUrl(upload, baseUrl) })),
  ];
}

function fileBody(upload: Upload, baseUrl: string) {
  const { contentType, fileName, bytes } = upload;
  const type = ['image', 'video', 'audio'].find((kind) => contentType.startsWith(`${kind}/`)) ?? 'file';
  return { type, download_url: uploadedFileUrl(upload, baseUrl), filename: fileName, ...(bytes !== undefined && { size: bytes }) };
}

function modelLines(base: string): readonly DialectRoute[] {
  const priceLine = (path: string, body: typeof priceBody | typeof pricingBody) =>
    on('quote', {
      method: 'POST',
      path: `${base}/model/${path}`,
      body: 'json',
      decode: (request) => ({ kind: 'quote', submission: quotedSubmission(request) }),
      encode: (quote) => success(body(quote)),
    });
  return [
    on('listModels', {
      method: 'GET',
      path: `${base}/models`,
      body: 'none',
      decode: () => ({ kind: 'listModels' }),
      encode: (listings, { baseUrl }) => success(listings.map((listing) => modelBody(listing, baseUrl))),
    }),
    priceLine('price', priceBody),
    priceLine('pricing', pricingBody),
  ];
}

function accountLines(base: string): readonly DialectRoute[] {
  return [
    on('readWebhookSecret', {
      method: 'GET',
      path: `${base}/webhook/secret`,
      body: 'none',
      decode: () => ({ kind: 'readWebhookSecret' }),
      encode: ({ secret }) => success({ secret }),
    }),
    absent('GET', `${base}/balance`),
    absent('GET', `${base}/account/balance`),
    absent('POST', `${base}/billings/search`),
    absent('POST', `${base}/user/usage_stats`),
  ];
}

/** What belongs to accounts of the vendor: told so to whoever has a key. */
function absent(method: DialectRoute['method'], path: string): DialectRoute {
  return on('readCaller', {
    method,
    path,
    body: 'none',
    decode: () => ({ kind: 'readCaller' }),
    encode: () => {
      throw new AppError('not_implemented', `${method} ${path} is not implemented by this service; the README lists what is.`);
    },
  });
}

/** Behind all others: where a model's name may stand, so may any path. */
function submitLine(base: string): DialectRoute {
  return on('submit', {
    method: 'POST',
    path: `${base}/:model{.+}`,
    body: 'json',
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
  paths: BASES,
  routes: BASES.flatMap((base) => [
    ...predictionLines(base),
    ...mediaLines(base),
    ...modelLines(base),
    ...accountLines(base),
    submitLine(base),
  ]),
  encodeError,
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
