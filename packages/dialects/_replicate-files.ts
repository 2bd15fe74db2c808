/** Replicate's files (replicate.md, section 9): uploads that predictions name by their addresses. */
import {
  type Answer,
  AppError,
  type DialectRoute,
  isJsonObject,
  on,
  parseExactJson,
  type Upload,
  uploadedFileUrl,
  type WireRequest,
} from '@claimcheck/core';
import { refusal } from './_refusal.ts';
import { answered, fileSchema, pageSchema } from './_replicate-answer-schemas.ts';
import { BASE } from './_replicate-prediction.ts';
import { page, pageBody, pathParameter } from './_replicate-requests.ts';
import { pageQuery } from './_replicate-schemas.ts';

export const fileRoutes: readonly DialectRoute[] = [
  on('readUpload', {
    method: 'POST',
    path: `${BASE}/files`,
    body: 'json or form',
    summary: 'Takes a file.',
    // The vendor's clients send it as a part with a type and a file name.
    textParts: ['metadata'],
    answers: answered('The file.', fileSchema, 201),
    decode: (request) => ({ kind: 'readUpload', id: uploadIn(request).id }),
    encode: (upload, { baseUrl }) => json(201, fileBody(upload, baseUrl)),
  }),
  on('listUploads', {
    method: 'GET',
    path: `${BASE}/files`,
    body: 'none',
    summary: 'Lists own files, newest first.',
    query: pageQuery,
    answers: answered('A page of files.', pageSchema(fileSchema)),
    decode: (_request, { query }) => ({ kind: 'listUploads', ...page(query) }),
    encode: ({ uploads, nextCursor }, request) => {
      const files = uploads.map((upload) => fileBody(upload, request.baseUrl));
      return json(200, pageBody(files, nextCursor, request));
    },
  }),
  on('readUpload', {
    method: 'GET',
    path: `${BASE}/files/:id`,
    body: 'none',
    answers: answered('The file.', fileSchema),
    decode: (request) => ({ kind: 'readUpload', id: pathParameter(request, 'id') }),
    encode: (upload, { baseUrl }) => json(200, fileBody(upload, baseUrl)),
  }),
  // The signature of the vendor's links is not needed: whoever has no key has the file's own address.
  on('readUpload', {
    method: 'GET',
    path: `${BASE}/files/:id/download`,
    body: 'none',
    summary: 'Sends the bytes of a file.',
    answers: { 200: { description: 'The bytes.', contentType: '*/*' } },
    decode: (request) => ({ kind: 'readUpload', id: pathParameter(request, 'id') }),
    encode: ({ token, bytes }) => {
      if (bytes === undefined) throw new AppError('not_found', 'The file was announced, but its bytes have not come yet.');
      return { status: 200, body: { kind: 'asset', token } };
    },
  }),
  on('deleteUpload', {
    method: 'DELETE',
    path: `${BASE}/files/:id`,
    body: 'none',
    answers: { 204: { description: 'It is gone.' } },
    decode: (request) => ({ kind: 'deleteUpload', id: pathParameter(request, 'id') }),
    encode: () => ({ status: 204, body: { kind: 'empty' } }),
  }),
];

/** @throws AppError for a form without the file, and for metadata, which there is no place for. */
function uploadIn({ uploads, body }: WireRequest): Upload {
  const [upload] = uploads?.get('content') ?? [];
  if (!upload) throw refusal([{ pointer: '/content', message: 'must be the file, as a part of a form (multipart/form-data)' }]);
  const metadata = isJsonObject(body?.value) ? body.value.metadata : undefined;
  if (!isNothing(metadata)) throw refusal([{ pointer: '/metadata', message: 'must be empty: no metadata is kept with a file here' }]);
  return upload;
}

/** Clients send an empty object for none. */
function isNothing(metadata: unknown): boolean {
  if (metadata === undefined || metadata === '') return true;
  if (typeof metadata !== 'string') return false;
  const { value } = parseExactJson(metadata);
  return value === null || (isJsonObject(value) && Object.keys(value).length === 0);
}

/** `urls.get` is what clients put into the input: the bytes themselves, at an address that needs no key. */
function fileBody(upload: Upload, baseUrl: string) {
  const { id, fileName, contentType, bytes, sha256, createdAt, expiresAt } = upload;
  return {
    id,
    name: fileName,
    content_type: contentType,
    ...(bytes !== undefined && { size: bytes }),
    ...(sha256 !== undefined && { etag: sha256, checksums: { sha256 } }),
    metadata: {},
    created_at: createdAt.toISOString(),
    expires_at: expiresAt.toISOString(),
    urls: { get: uploadedFileUrl(upload, baseUrl) },
  };
}

function json(status: number, value: unknown): Answer {
  return { status, body: { kind: 'json', value } };
}
