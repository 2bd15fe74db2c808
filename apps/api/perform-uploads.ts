/** Performs the operations on uploads, and takes the bytes that come to their addresses. */
import { AppError, isId, type Operation, type Operations, type Upload, type UploadOperations, uploadedFileUrl } from '@claimcheck/core';
import type { Arrival, Engine, KeyOwner } from '@claimcheck/engine';
import type { Context } from 'hono';
import type { Bodies } from './bodies.ts';

type UploadOperation = UploadOperations[keyof UploadOperations]['operation'];

const KINDS: ReadonlySet<string> = new Set<keyof UploadOperations>([
  'createUpload',
  'createUploads',
  'readUpload',
  'listUploads',
  'deleteUpload',
]);

export function isUploadOperation(operation: Operation): operation is UploadOperation {
  return KINDS.has(operation.kind);
}

/** @throws AppError `not_found` for an upload that the caller does not have, and what the engine says of announcements. */
export async function performUploads(
  { uploads }: Pick<Engine, 'uploads'>,
  { callerId }: KeyOwner,
  operation: UploadOperation,
): Promise<Operations[keyof UploadOperations]['outcome']> {
  switch (operation.kind) {
    case 'createUpload': {
      const [upload] = await uploads.announce(callerId, [operation]);
      if (!upload) throw new Error('nothing was announced');
      return upload;
    }
    case 'createUploads':
      return uploads.announce(callerId, operation.files);
    case 'readUpload':
      return find(uploads, callerId, operation.id);
    case 'listUploads': {
      const { limit, cursor } = operation;
      if (cursor !== undefined && !isId(cursor)) {
        throw new AppError('invalid_request', 'The cursor is not one that a list has handed out.', {
          problems: [{ pointer: '/cursor', message: 'must be the next_cursor of an earlier page' }],
        });
      }
      return uploads.list(callerId, { limit, ...(cursor !== undefined && { cursor }) });
    }
    case 'deleteUpload': {
      const upload = await find(uploads, callerId, operation.id);
      await uploads.remove(callerId, [upload.id]);
      return upload;
    }
  }
}

async function find(uploads: Engine['uploads'], callerId: string, id: string): Promise<Upload> {
  // An id that we cannot have made is answered like one that does not exist, without asking the database.
  const upload = isId(id) ? await uploads.read({ callerId, id }) : undefined;
  if (!upload) throw new AppError('not_found', `Upload ${id} not found`);
  return upload;
}

export interface ReceiveDeps {
  readonly uploads: Engine['uploads'];
  readonly bodies: Bodies;
  readonly publicUrl?: string;
}

/**
 * `PUT /uploads/{token}`: takes the bytes of an announced file. The token is the permission. The same bytes once more are answered as the
 * first time, for clients that lost the answer.
 * @throws AppError `not_found`, `conflict` when other bytes came before, `payload_too_large`, `invalid_request`.
 */
export async function receiveUpload(c: Context, { uploads, bodies, publicUrl }: ReceiveDeps): Promise<Response> {
  const chunks = bodies.chunks(c.req.raw, {
    bytesMax: uploads.bytesMax,
    tooLarge: () => new AppError('payload_too_large', `A file may have ${uploads.bytesMax} bytes at most.`),
  });
  const arrival = await uploads.receive(c.req.param('token') ?? '', chunks, c.req.header('content-type'));
  const { fileName, contentType, bytes, sha256, expiresAt, token } = arrivedUpload(arrival);
  return c.json({
    file_url: uploadedFileUrl({ token, fileName }, publicUrl ?? new URL(c.req.url).origin),
    file_name: fileName,
    content_type: contentType,
    file_size: bytes,
    sha256,
    expires_at: expiresAt.toISOString(),
  });
}

function arrivedUpload(arrival: Arrival): Upload {
  switch (arrival.kind) {
    case 'stored':
    case 'known':
      return arrival.upload;
    case 'different':
      throw new AppError('conflict', 'The bytes of this file have come already, and were others: announce another file.');
    case 'unknown':
      throw new AppError('not_found', 'No file is awaited here: it was never announced, was deleted, or has expired.');
  }
}
