/** Performs the operations on uploads. */
import { AppError, isId, type Operation, type Operations, type Upload, type UploadOperations } from '@claimcheck/core';
import type { Engine, KeyOwner } from '@claimcheck/engine';

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
