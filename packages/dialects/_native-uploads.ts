/** The native routes about files that clients hand in: announced with JSON, or brought in a form. */
import { type Answer, AppError, type DialectRoute, on, type Upload, uploadedFileUrl, uploadUrl, type WireRequest } from '@claimcheck/core';
import { z } from 'zod';
import { instantText } from './_native-answer-schemas.ts';
import { pathParameter, uploadQuery } from './_native-requests.ts';

const PATH = '/v2/uploads';

const TEXT_ERROR = { error: 'must be a text' };
const BYTES_ERROR = { error: 'must be a whole number of bytes, 1 or more' };

/** What comes before the bytes. */
const announcement = z.strictObject({
  file_name: z.string(TEXT_ERROR),
  content_type: z.string(TEXT_ERROR).nullish(),
  file_size: z.int(BYTES_ERROR).min(1, BYTES_ERROR).nullish().meta({ description: 'In bytes.' }),
});

const uploadSchema = z
  .object({
    id: z.uuid(),
    upload_url: z.url().nullable().meta({ description: 'Where the bytes are to be sent with PUT, without a key; null once they came.' }),
    file_url: z.url().meta({ description: 'What parameters name.' }),
    file_name: z.string(),
    content_type: z.string(),
    file_size: z.int().nullable(),
    created_at: instantText(),
    expires_at: instantText(),
  })
  .meta({ id: 'Upload' });
const uploadListSchema = z.object({ uploads: z.array(uploadSchema), next_cursor: z.string().nullable() }).meta({ id: 'UploadList' });

export const uploadRoutes: readonly DialectRoute[] = [
  on('createUpload', {
    method: 'POST',
    path: PATH,
    body: 'json or form',
    summary: 'Announces a file, or takes it out of a form.',
    members: announcement,
    answers: { 201: { description: 'The upload.', schema: uploadSchema } },
    decode: (request, { members }) => (request.isForm ? { kind: 'readUpload', id: onlyFile(request).id } : announced(members)),
    encode: (upload, { baseUrl }) => json(201, uploadBody(upload, baseUrl)),
  }),
  on('listUploads', {
    method: 'GET',
    path: PATH,
    body: 'none',
    summary: 'Lists own uploads, newest first.',
    query: uploadQuery,
    answers: { 200: { description: 'A page of uploads.', schema: uploadListSchema } },
    decode: (_request, { query: { limit, cursor } }) => ({ kind: 'listUploads', limit, ...(cursor !== undefined && { cursor }) }),
    encode: ({ uploads, nextCursor }, { baseUrl }) =>
      json(200, { uploads: uploads.map((upload) => uploadBody(upload, baseUrl)), next_cursor: nextCursor ?? null }),
  }),
  on('readUpload', {
    method: 'GET',
    path: `${PATH}/:id`,
    body: 'none',
    summary: 'Tells of one upload.',
    answers: { 200: { description: 'The upload.', schema: uploadSchema } },
    decode: (request) => ({ kind: 'readUpload', id: pathParameter(request, 'id') }),
    encode: (upload, { baseUrl }) => json(200, uploadBody(upload, baseUrl)),
  }),
  on('deleteUpload', {
    method: 'DELETE',
    path: `${PATH}/:id`,
    body: 'none',
    summary: 'Removes an upload with its bytes.',
    answers: { 200: { description: 'It is gone.', schema: z.object({ id: z.uuid(), deleted: z.literal(true) }) } },
    decode: (request) => ({ kind: 'deleteUpload', id: pathParameter(request, 'id') }),
    encode: ({ id }) => json(200, { id, deleted: true }),
  }),
];

/** @throws AppError for a form that does not bring exactly one file. */
function onlyFile({ uploads }: WireRequest): Upload {
  const [file, ...others] = [...(uploads?.values() ?? [])].flat();
  if (!file || others.length > 0) {
    const message = 'must bring one file, as a part of any name';
    throw new AppError('invalid_request', `The form ${message}.`, { problems: [{ pointer: '', message }] });
  }
  return file;
}

function announced({ file_name: fileName, content_type: contentType, file_size: bytes }: z.output<typeof announcement>) {
  return {
    kind: 'createUpload' as const,
    fileName,
    ...(typeof contentType === 'string' && { contentType }),
    ...(typeof bytes === 'number' && { bytes }),
  };
}

function uploadBody(upload: Upload, baseUrl: string) {
  const { id, fileName, contentType, bytes, createdAt, expiresAt } = upload;
  return {
    id,
    // Its bytes come once.
    upload_url: bytes === undefined ? uploadUrl(upload, baseUrl) : null,
    file_url: uploadedFileUrl(upload, baseUrl),
    file_name: fileName,
    content_type: contentType,
    file_size: bytes ?? null,
    created_at: createdAt.toISOString(),
    expires_at: expiresAt.toISOString(),
  };
}

function json(status: number, value: unknown): Answer {
  return { status, body: { kind: 'json', value } };
}
