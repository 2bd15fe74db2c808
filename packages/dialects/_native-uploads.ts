/** The native routes about files that clients hand in: announced with JSON, or brought in a form. */
import {
  type Answer,
  AppError,
  type DialectRoute,
  isJsonObject,
  jsonPointer,
  type Operations,
  on,
  type Problem,
  type Upload,
  uploadedFileUrl,
  uploadUrl,
  type WireRequest,
} from '@claimcheck/core';
import { pathParameter, uploadQuery } from './_native-requests.ts';

const PATH = '/v2/uploads';

export const uploadRoutes: readonly DialectRoute[] = [
  on('createUpload', {
    method: 'POST',
    path: PATH,
    body: 'json or form',
    decode: (request) => (request.isForm ? { kind: 'readUpload', id: onlyFile(request).id } : announcement(request)),
    encode: (upload, { baseUrl }) => json(201, uploadBody(upload, baseUrl)),
  }),
  on('listUploads', {
    method: 'GET',
    path: PATH,
    body: 'none',
    decode: (request) => ({ kind: 'listUploads', ...uploadQuery(request) }),
    encode: ({ uploads, nextCursor }, { baseUrl }) =>
      json(200, { uploads: uploads.map((upload) => uploadBody(upload, baseUrl)), next_cursor: nextCursor ?? null }),
  }),
  on('readUpload', {
    method: 'GET',
    path: `${PATH}/:id`,
    body: 'none',
    decode: (request) => ({ kind: 'readUpload', id: pathParameter(request, 'id') }),
    encode: (upload, { baseUrl }) => json(200, uploadBody(upload, baseUrl)),
  }),
  on('deleteUpload', {
    method: 'DELETE',
    path: `${PATH}/:id`,
    body: 'none',
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

function announcement({ body }: WireRequest): Operations['createUpload']['operation'] {
  if (!isJsonObject(body?.value)) {
    const message = 'The body must be a JSON object with the file_name of what will be uploaded.';
    throw new AppError('invalid_parameters', message, { problems: [{ pointer: '', message }] });
  }
  const { file_name: fileName, content_type: contentType = null, file_size: bytes = null, ...others } = body.value;
  const problems: Problem[] = Object.keys(others).map((name) => ({
    pointer: jsonPointer([name]),
    message: 'is not known; there are file_name, content_type and file_size',
  }));
  if (typeof fileName !== 'string') problems.push({ pointer: '/file_name', message: 'must be a text' });
  if (contentType !== null && typeof contentType !== 'string') problems.push({ pointer: '/content_type', message: 'must be a text' });
  if (bytes !== null && !(Number.isSafeInteger(bytes) && Number(bytes) > 0)) {
    problems.push({ pointer: '/file_size', message: 'must be a whole number of bytes, 1 or more' });
  }
  if (typeof fileName !== 'string' || problems.length > 0) {
    const said = problems.map(({ pointer, message }) => `${pointer} ${message}`).join('; ');
    throw new AppError('invalid_parameters', `The file cannot be announced: ${said}.`, { problems });
  }
  return {
    kind: 'createUpload',
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
