/** Serves produced files at their unguessable addresses, with ETag and single ranges (RFC 9110). */
import { AppError } from '@claimcheck/core';
import type { Asset, AssetStore } from '@claimcheck/engine';
import type { Context } from 'hono';
import { matchesEtag } from './etag.ts';

/** Types that browsers show and never run. Drawings in SVG, pages and whatever else is XML can hold scripts. */
const INERT = /^((image|video|audio)\/(?!svg)[a-z0-9.-]+|text\/plain|application\/json)$/;

/** The file behind a token. No key is needed: the address is the permission. @throws AppError `not_found`. */
export async function serveFile(c: Context, assets: AssetStore, token: string): Promise<Response> {
  const asset = await assets.find(token);
  if (!asset) throw new AppError('not_found', 'There is no such file, or it has expired with its request.');
  const headers = new Headers({ 'accept-ranges': 'bytes', 'cache-control': 'private, no-cache', etag: etagOf(asset) });
  if (matchesEtag(c.req.header('if-none-match'), etagOf(asset))) return new Response(null, { status: 304, headers });
  const ifRange = c.req.header('if-range');
  const range = ifRange === undefined || ifRange === etagOf(asset) ? parseRange(c.req.header('range'), asset.bytes) : undefined;
  if (range === 'unsatisfiable') {
    headers.set('content-range', `bytes */${asset.bytes}`);
    return new Response(null, { status: 416, headers });
  }
  return fileResponse(asset, assets, c.req.raw, headers, range);
}

/** A response with the file's bytes, or part of them. */
export function fileResponse(asset: Asset, assets: AssetStore, request: Request, headers: Headers, range?: Range): Response {
  headers.set('content-type', asset.contentType);
  // A file that a model produced must never run as a page of this origin: what could is handed over to be saved, is taken for nothing
  // else, and gets no rights should it be opened all the same.
  const disposition = INERT.test(asset.contentType) ? 'inline' : 'attachment';
  headers.set('content-disposition', `${disposition}; filename*=UTF-8''${encodeFileName(asset.fileName)}`);
  headers.set('x-content-type-options', 'nosniff');
  headers.set('content-security-policy', "sandbox; default-src 'none'");
  headers.set('content-length', String(range ? range.end - range.start + 1 : asset.bytes));
  if (range) headers.set('content-range', `bytes ${range.start}-${range.end}/${asset.bytes}`);
  const body = request.method === 'HEAD' || asset.bytes === 0 ? null : assets.read(asset.token, range);
  return new Response(body, { status: range ? 206 : 200, headers });
}

/** RFC 8187 forbids four characters that encodeURIComponent leaves as they are. */
function encodeFileName(name: string): string {
  return encodeURIComponent(name).replace(/['()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

interface Range {
  readonly start: number;
  /** Inclusive. */
  readonly end: number;
}

/** A single range. Several, or a malformed one, are ignored, as RFC 9110 section 14.2 allows. */
function parseRange(header: string | undefined, bytes: number): Range | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '');
  if (!match) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return undefined;
  if (first === '') {
    const suffix = Math.min(Number(last), bytes);
    return suffix === 0 ? 'unsatisfiable' : { start: bytes - suffix, end: bytes - 1 };
  }
  const start = Number(first);
  const end = last === '' ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= bytes ? 'unsatisfiable' : { start, end };
}

function etagOf({ sha256 }: Asset): string {
  return `"${sha256}"`;
}
