/**
 * `/docs`: the description of the API as a page, drawn by Swagger UI. All of it comes from this service, so the page works where the internet
 * does not, and tells nobody who reads it.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { AppError } from '@claimcheck/core';
import type { Context } from 'hono';
import { matchesEtag } from './etag.ts';

/** Nothing from elsewhere and nothing inline. Pictures may stand in styles as data. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** `folder` is where the page's files are from its own address: it may be asked for with a slash behind it. */
const pageIn = (folder: string) => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>claimcheck API</title>
    <link rel="icon" href="${folder}favicon-32x32.png">
    <link rel="stylesheet" href="${folder}swagger-ui.css">
    <link rel="service-desc" href="${folder}../openapi.json">
  </head>
  <body>
    <div id="page"></div>
    <script src="${folder}swagger-ui-bundle.js"></script>
    <script src="${folder}start.js"></script>
  </body>
</html>
`;

/** The validator that it would show a badge of is on another host. */
const START = `SwaggerUIBundle({
  url: document.querySelector('link[rel=service-desc]').href,
  dom_id: '#page',
  validatorUrl: null,
  deepLinking: true,
  filter: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});
`;

const LIBRARY_FILES: ReadonlyMap<string, string> = new Map([
  ['swagger-ui.css', 'text/css; charset=utf-8'],
  ['swagger-ui-bundle.js', 'text/javascript; charset=utf-8'],
  ['favicon-32x32.png', 'image/png'],
]);

interface PageFile {
  readonly contentType: string;
  readonly etag: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly gzipped: Uint8Array<ArrayBuffer>;
}

export function docsPage(c: Context): Response {
  const isFolder = new URL(c.req.url).pathname.endsWith('/');
  const headers = { 'content-security-policy': POLICY, 'referrer-policy': 'no-referrer', 'cache-control': 'no-cache' };
  return c.html(pageIn(isFolder ? './' : 'docs/'), 200, headers);
}

/** Files are read when they are first asked for, and kept. */
export function docsFiles(): (c: Context) => Promise<Response> {
  const files = new Map<string, Promise<PageFile>>();
  return async (c) => {
    const name = c.req.param('file') ?? '';
    const file = files.get(name) ?? readPageFile(name);
    if (!file) throw new AppError('not_found', 'The page has no such file.');
    files.set(name, file);
    const { contentType, etag, bytes, gzipped } = await file;
    const headers = { etag, 'cache-control': 'no-cache', vary: 'accept-encoding', 'content-type': contentType };
    if (matchesEtag(c.req.header('if-none-match'), etag)) return new Response(null, { status: 304, headers });
    const takesGzip = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|\s|$))/i.test(c.req.header('accept-encoding') ?? '');
    return takesGzip ? new Response(gzipped, { headers: { ...headers, 'content-encoding': 'gzip' } }) : new Response(bytes, { headers });
  };
}

function readPageFile(name: string): Promise<PageFile> | undefined {
  if (name === 'start.js') return pageFile('text/javascript; charset=utf-8', Promise.resolve(Buffer.from(START)));
  const contentType = LIBRARY_FILES.get(name);
  return contentType === undefined
    ? undefined
    : pageFile(contentType, readFile(fileURLToPath(import.meta.resolve(`swagger-ui-dist/${name}`))));
}

async function pageFile(contentType: string, read: Promise<Buffer>): Promise<PageFile> {
  const bytes = Uint8Array.from(await read);
  const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`;
  return { contentType, etag, bytes, gzipped: Uint8Array.from(await promisify(gzip)(bytes)) };
}
