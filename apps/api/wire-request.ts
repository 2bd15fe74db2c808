/** Reads an HTTP request into the form that dialects see, with every limit on what a stranger may send. */
import { AppError, type ExactJson, parseExactJson, type WireRequest } from '@claimcheck/core';
import type { Context } from 'hono';

/** Bytes of a request body. */
export const BODY_BYTES_MAX = 1024 * 1024;

export interface ReadOptions {
  readonly body: 'json' | 'optional json' | 'json or form' | 'none';
  readonly publicUrl?: string;
}

/** @throws AppError `payload_too_large`, `unsupported_media_type`, `invalid_json`, `invalid_request`. */
export async function readWireRequest(c: Context, options: ReadOptions): Promise<WireRequest> {
  const url = new URL(c.req.url);
  const params = decodeParams(c.req.param());
  const body = await readBody(c.req.raw, options.body);
  return {
    method: c.req.method,
    path: url.pathname,
    params,
    query: url.searchParams,
    header: (name) => c.req.header(name),
    baseUrl: options.publicUrl ?? url.origin,
    ...(body && { body }),
  };
}

/** Hono decodes parameters where it can and leaves malformed ones as they are; those, and NUL, no name can contain. */
function decodeParams(params: Readonly<Record<string, string>>): Record<string, string> {
  for (const value of Object.values(params)) {
    if (value.includes('\u0000') || !value.isWellFormed())
      throw new AppError('invalid_request', 'The path contains a character that no name has.');
  }
  return params;
}

async function readBody(request: Request, kind: ReadOptions['body']): Promise<ExactJson | undefined> {
  if (kind === 'none') return undefined;
  if (kind === 'json' || kind === 'json or form') {
    // Before the body, so that nothing is read that cannot be used.
    checkContentType(request);
    return parseExactJson(decodeUtf8(await readBytes(request)));
  }
  const bytes = await readBytes(request);
  // Many clients name a content type for a body that they do not send.
  if (bytes.byteLength === 0) return undefined;
  checkContentType(request);
  return parseExactJson(decodeUtf8(bytes));
}

function checkContentType(request: Request): void {
  const contentType = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (contentType === undefined || !/^application\/(?:[\w.-]+\+)?json$/.test(contentType)) {
    const sent = contentType === undefined || contentType === '' ? 'none was sent' : `"${contentType}" was sent`;
    throw new AppError('unsupported_media_type', `The body must be JSON with "content-type: application/json"; ${sent}.`);
  }
}

/** The whole body, or an error as soon as it is known to be too long: what follows is not read. */
export async function readBytes(request: Request, bytesMax = BODY_BYTES_MAX): Promise<Uint8Array> {
  const tooLarge = () => new AppError('payload_too_large', `The body may have ${bytesMax} bytes at most.`);
  if (Number(request.headers.get('content-length') ?? 0) > bytesMax) throw tooLarge();
  if (!request.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body) {
      length += chunk.byteLength;
      if (length > bytesMax) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    // The client is most likely gone, which is nothing that an operator has to know.
    throw new AppError('invalid_request', 'The body ended before it was complete.', { cause });
  }
  return Buffer.concat(chunks, length);
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new AppError('invalid_json', 'The body is not valid JSON: it is not UTF-8 text.');
  }
}
