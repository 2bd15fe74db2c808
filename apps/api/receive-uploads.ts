/** Takes the bytes that come to the addresses of announced files, as a whole or in parts. The token in the address is the permission. */
import { AppError, parseExactJson, readMembers, type Upload, uploadedFileUrl } from '@claimcheck/core';
import type { Arrival, Engine } from '@claimcheck/engine';
import type { Context } from 'hono';
import { z } from 'zod';
import { type Bodies, JSON_BYTES_MAX } from './bodies.ts';
import { decodeUtf8 } from './wire-request.ts';

export interface ReceiveDeps {
  readonly uploads: Engine['uploads'];
  readonly bodies: Bodies;
  readonly publicUrl?: string;
}

/** Room for all the parts that a file can have. */
const PARTS_BYTES_MAX = 2 * JSON_BYTES_MAX;

const PARTS = 'must be a list of {"partNumber": 1, "etag": "…"}, one for each part, as the answers to the parts told them';
const partNumber = z.int({ error: PARTS });
const etag = z.string({ error: PARTS });

/** Named as S3 and fal's clients name them. */
export const sentPartSchema = z.object({ partNumber, etag }).meta({ id: 'SentPart' });
export const partsSchema = z.object({ parts: z.array(sentPartSchema, { error: PARTS }).min(1, { error: PARTS }) }).meta({ id: 'Parts' });

/**
 * `PUT /uploads/{token}`: takes the bytes of an announced file. The same bytes once more are answered as the first time, for clients that lost
 * the answer.
 * @throws AppError `not_found`, `conflict` when other bytes came before, `payload_too_large`, `invalid_request`.
 */
export async function receiveUpload(c: Context, deps: ReceiveDeps): Promise<Response> {
  const arrival = await deps.uploads.receive(tokenOf(c), chunksOf(c, deps), c.req.header('content-type'));
  return toldFile(c, arrival, deps);
}

/**
 * `PUT /uploads/{token}/{part}`: takes one part of an announced file; again, it replaces what came for its number.
 * @throws AppError `not_found`, `conflict` when the file is complete, `payload_too_large` where all parts together are, `invalid_request`.
 */
export async function receiveUploadPart(c: Context, deps: ReceiveDeps): Promise<Response> {
  const arrival = await deps.uploads.receivePart(tokenOf(c), Number(c.req.param('part')), chunksOf(c, deps));
  if (arrival.kind === 'complete') throw new AppError('conflict', 'This file has been completed: announce another one.');
  if (arrival.kind === 'unknown') throw notAwaited();
  const { part, sha256 } = arrival.part;
  const sent = { partNumber: part, etag: `"${sha256}"` } satisfies z.infer<typeof sentPartSchema>;
  // Some clients read the header, some the body (fal.md, section 8).
  return c.json(sent, 200, { etag: sent.etag });
}

/**
 * `POST /uploads/{token}/complete`: puts parts together to the file. Again, it tells the file.
 * @throws AppError `not_found`, `invalid_json`, `invalid_parameters` that points to parts that are not there.
 */
export async function completeUpload(c: Context, deps: ReceiveDeps): Promise<Response> {
  using lease = deps.bodies.lease();
  const body = await deps.bodies.read(c.req.raw, { bytesMax: PARTS_BYTES_MAX, lease });
  const json = parseExactJson(decodeUtf8(body, 'invalid_json', 'The body'));
  const { parts } = readMembers({ body: json }, partsSchema);
  const references = parts.map((one) => ({ part: one.partNumber, sha256: one.etag.replace(/^(?:W\/)?"(.*)"$/, '$1') }));
  return toldFile(c, await deps.uploads.assemble(tokenOf(c), references), deps);
}

function tokenOf(c: Context): string {
  return c.req.param('token') ?? '';
}

function chunksOf(c: Context, { bodies, uploads }: ReceiveDeps): AsyncIterable<Uint8Array> {
  const { bytesMax } = uploads;
  const tooLarge = () => new AppError('payload_too_large', `A file may have ${bytesMax} bytes at most.`);
  return bodies.chunks(c.req.raw, { bytesMax, tooLarge });
}

function toldFile(c: Context, arrival: Arrival, { publicUrl }: ReceiveDeps): Response {
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
      throw notAwaited();
  }
}

function notAwaited(): AppError {
  return new AppError('not_found', 'No file is awaited here: it was never announced, was deleted, or has expired.');
}
