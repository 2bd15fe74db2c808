/**
 * Files that clients hand in, in two steps (protocols/inference-sh.md, section 7): they are announced, several at once, then each is sent to the
 * address that the answer names. Its `uri` is what goes into a run's input.
 */
import {
  isJsonObject,
  type JsonValue,
  type Operations,
  type Problem,
  type Upload,
  uploadedFileUrl,
  uploadUrl,
  type WireRequest,
} from '@claimcheck/core';
import { refusal } from './_inference-sh-envelope.ts';

type Announcement = Operations['createUploads']['operation'];
type AnnouncedFile = Announcement['files'][number];

/** In one request; each is a row until its bytes come. */
const FILES_MAX = 100;
/** The vendor's client names no file that it has got as bytes. */
const NAMELESS = 'file';

/** @throws AppError that lists everything which is wrong. */
export function announcementOf({ body }: WireRequest): Announcement {
  const { files, category = null }: { readonly [name: string]: JsonValue } = isJsonObject(body?.value) ? body.value : {};
  if (!Array.isArray(files) || files.length === 0 || files.length > FILES_MAX)
    throw refusal([{ pointer: '/files', message: `must be a list of 1 to ${FILES_MAX} files` }]);
  const problems: Problem[] = [];
  if (category !== null && category !== '' && category !== 'input')
    problems.push({ pointer: '/category', message: 'must be left out, or input: files here are for the inputs of tasks' });
  const announced = files.map((file, index) => announcedFile(file, `/files/${index}`, problems));
  if (problems.length > 0) throw refusal(problems);
  return { kind: 'createUploads', files: announced };
}

function announcedFile(file: JsonValue, at: string, problems: Problem[]): AnnouncedFile {
  const refuse = (name: string, message: string) => problems.push({ pointer: `${at}${name}`, message });
  if (!isJsonObject(file)) refuse('', 'must be an object');
  const { uri, filename, content_type: contentType, path, size = null } = isJsonObject(file) ? file : {};
  if (!isUnset(uri)) refuse('/uri', 'must be empty: the answer says it');
  if (!isUnset(path)) refuse('/path', 'must be left out: there are no folders');
  if (!isUnset(filename) && typeof filename !== 'string') refuse('/filename', 'must be text');
  if (!isUnset(contentType) && typeof contentType !== 'string') refuse('/content_type', 'must be text');
  if (size !== null && !(typeof size === 'number' && Number.isSafeInteger(size) && size >= 0)) refuse('/size', 'must be a number of bytes');
  return {
    fileName: typeof filename === 'string' && filename !== '' ? filename : NAMELESS,
    ...(typeof contentType === 'string' && contentType !== '' && { contentType }),
    ...(typeof size === 'number' && size > 0 && { bytes: size }),
  };
}

function isUnset(value: JsonValue | undefined): boolean {
  return value === undefined || value === null || value === '';
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
