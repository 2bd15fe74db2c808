/**
 * Files that clients hand in, in two steps (protocols/inference-sh.md, section 7): they are announced, several at once, then each is sent to the
 * address that the answer names. Its `uri` is what goes into a run's input.
 */
import { type Operations, type Upload, uploadedFileUrl, uploadUrl, type WireRequest } from '@claimcheck/core';
import { announcementMembers } from './_inference-sh-request-schemas.ts';
import { readBody } from './_inference-sh-requests.ts';

/** The vendor's client names no file that it has got as bytes. */
const NAMELESS = 'file';

/** @throws AppError that lists everything which is wrong. */
export function announcementOf(request: WireRequest): Operations['createUploads']['operation'] {
  const files = readBody(request, announcementMembers).files.map(({ filename, content_type: contentType, size }) => ({
    fileName: filename || NAMELESS,
    ...(contentType && { contentType }),
    ...(size && { bytes: size }),
  }));
  return { kind: 'createUploads', files };
}

export function fileBody(upload: Upload, baseUrl: string) {
  const { id, fileName, contentType, bytes, createdAt, expiresAt } = upload;
  return {
    id,
    short_id: id.slice(-8),
    created_at: createdAt.toISOString(),
    updated_at: createdAt.toISOString(),
    uri: uploadedFileUrl(upload, baseUrl),
    // Once its bytes are here there is nothing to send.
    upload_url: bytes === undefined ? uploadUrl(upload, baseUrl) : '',
    filename: fileName,
    content_type: contentType,
    size: bytes ?? 0,
    path: '',
    remote_path: '',
    category: 'input',
    rating: 'unrated',
    metadata: null,
    expires_at: expiresAt.toISOString(),
  };
}
