/** Performs the operations on uploads. */
import { AppError, type Operation, type Operations, type UploadOperations } from '@claimcheck/core';
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

export async function performUploads(
  _engine: Engine,
  _owner: KeyOwner,
  _operation: UploadOperation,
): Promise<Operations[keyof UploadOperations]['outcome']> {
  throw new AppError('unavailable', 'Files cannot be uploaded yet.');
}
