/**
 * What fal has on its REST host: uploads (fal.md, section 8), the public keys of webhooks (section 7), and tokens for browsers, which there
 * are none of here.
 */
import {
  type Answer,
  AppError,
  type DialectRoute,
  NEVER_DONE,
  on,
  readHeaders,
  type Upload,
  uploadedFileUrl,
  uploadUrl,
  type WebhookKey,
  type WireRequest,
} from '@claimcheck/core';
import type { z } from 'zod';
import { accessSchema, addressesSchema, answered, keysSchema, partsSchema, tokenSchema } from './_fal-answer-schemas.ts';
import { refuseAccessRules } from './_fal-requests.ts';
import { announcedFile, fileHeaders, lifecycleHeaders } from './_fal-schemas.ts';

const REST = '/fal/rest';
/** Receivers may keep the keys for this long. Short, because a key that was replaced without grace must be noticed. */
const KEYS_SECONDS = 60;
/** An API key ends when it is revoked, and with it this. The vendor's client compares it with its clock and wants an offset. */
const NEVER = '9999-12-31T23:59:59+00:00';

export const restRoutes: readonly DialectRoute[] = [
  on('readAllWebhookKeys', {
    method: 'GET',
    path: `${REST}/.well-known/jwks.json`,
    body: 'none',
    summary: 'Tells the public keys that webhooks are signed with.',
    answers: answered('The keys, newest first.', keysSchema),
    decode: () => ({ kind: 'readAllWebhookKeys' }),
    encode: ({ keys }) => ({ ...json({ keys: keys.map(jwk) }), headers: { 'cache-control': `public, max-age=${KEYS_SECONDS}` } }),
  }),
  // One address takes the file as a whole, and below it in parts, as the client for JavaScript sends what is larger than 90 MiB.
  ...['initiate', 'initiate-multipart'].map((name) =>
    on('createUpload', {
      method: 'POST',
      path: `${REST}/storage/upload/${name}`,
      body: 'json',
      summary: 'Announces a file: where its bytes are to be sent, and where they will be.',
      headers: lifecycleHeaders,
      members: announcedFile,
      answers: answered('The addresses.', addressesSchema),
      decode: (_request, { headers, members: { file_name: fileName, content_type: contentType } }) =>
        announcement(headers, { fileName, contentType }),
      encode: (upload, { baseUrl }) => json(addressesOf(upload, baseUrl)),
    }),
  ),
  // The client for Python asks for a token first, and uploads with it for as long as it is good.
  on('readCaller', {
    method: 'POST',
    path: `${REST}/storage/auth/token`,
    body: 'optional json',
    summary: 'Tells with what to send files, and where.',
    answers: answered('The API key, which is good until it is revoked.', tokenSchema),
    decode: () => ({ kind: 'readCaller' }),
    encode: (_caller, request) =>
      json({ token: keyOf(request), token_type: 'Key', base_url: `${request.baseUrl}${REST}`, expires_at: NEVER }),
  }),
  on('createUpload', {
    method: 'POST',
    path: `${REST}/files/upload`,
    body: 'file',
    summary: 'Takes a file, which the header X-Fal-File-Name names.',
    headers: fileHeaders,
    answers: answered('The file.', accessSchema),
    fileName: (request) => readHeaders(request, fileHeaders)['X-Fal-File-Name'],
    decode: (request, { headers }) => arrivedFile(request, headers),
    encode: (upload, { baseUrl }) => json({ access_url: uploadedFileUrl(upload, baseUrl) }),
  }),
  // The client for Python sends more than 100 MB in parts, to addresses that it makes of the file's own.
  on('createUpload', {
    method: 'POST',
    path: `${REST}/files/upload/multipart`,
    body: 'none',
    summary: 'Announces a file that comes in parts, which the header X-Fal-File-Name names.',
    headers: fileHeaders,
    answers: answered('The file, and what its parts are known by.', partsSchema),
    decode: (request, { headers }) =>
      announcement(headers, { fileName: headers['X-Fal-File-Name'], contentType: request.header('content-type') }),
    encode: (upload, { baseUrl }) => json({ access_url: uploadedFileUrl(upload, baseUrl), uploadId: upload.id }),
  }),
  ...['tokens', 'tokens/realtime'].map((path) =>
    notOffered('POST', `${REST}/${path}`, 'Tokens for browsers are not offered: keep the API key on your server and use its proxy.'),
  ),
];

/** A line for what the vendor has and this service has not. */
export function notOffered(method: DialectRoute['method'], path: string, message: string): DialectRoute {
  return on('readCaller', {
    method,
    path,
    body: 'none',
    summary: message,
    answers: NEVER_DONE,
    decode: () => {
      throw new AppError('not_implemented', message);
    },
    encode: () => ({ status: 200, body: { kind: 'empty' } }),
  });
}

/** RFC 8037; padded as the vendor's is, because receivers were written that decode no other (section 7). */
function jwk({ id, publicKey }: WebhookKey) {
  return { kty: 'OKP', crv: 'Ed25519', x: publicKey.padEnd(Math.ceil(publicKey.length / 4) * 4, '='), kid: id, use: 'sig', alg: 'EdDSA' };
}

type LifecycleHeaders = z.output<typeof lifecycleHeaders>;

function announcement(
  headers: LifecycleHeaders,
  { fileName = '', contentType = '' }: { fileName?: string | undefined; contentType?: string | undefined },
) {
  refuseAccessRules(headers);
  return { kind: 'createUpload' as const, fileName, ...(contentType !== '' && { contentType }) };
}

function arrivedFile(request: WireRequest, headers: LifecycleHeaders): { readonly kind: 'readUpload'; readonly id: string } {
  refuseAccessRules(headers);
  const [upload] = request.uploads?.get('') ?? [];
  if (!upload) throw new Error('The file of the request is missing.');
  return { kind: 'readUpload', id: upload.id };
}

function addressesOf(upload: Upload, baseUrl: string) {
  return { upload_url: uploadUrl(upload, baseUrl), file_url: uploadedFileUrl(upload, baseUrl) };
}

/** What the client has just proven to know. */
function keyOf({ header }: WireRequest): string {
  return header('x-api-key') || (header('authorization') ?? '').replace(/^\S+\s+/, '');
}

function json(value: unknown): Answer {
  return { status: 200, body: { kind: 'json', value } };
}
