/** What the API serves besides dialects' routes, as the description of the API tells it. None of it needs a key. */
import { z } from 'zod';
import { partsSchema, sentPartSchema } from './receive-uploads.ts';

export interface OwnRoute {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** In Hono's syntax. */
  readonly path: string;
  readonly summary: string;
  /** Of the body, which may be of any type unless there is a schema of JSON. */
  readonly body?: string;
  readonly schema?: z.ZodType;
  readonly answers: Readonly<Record<number, { readonly description: string; readonly contentType?: string; readonly schema?: z.ZodType }>>;
}

const parts = { database: z.string(), migrations: z.string(), queue: z.string() };
const readySchema = z.object({ status: z.enum(['ok', 'degraded', 'unavailable']), ...parts }).meta({ id: 'Readiness' });
const sentFileSchema = z
  .object({
    file_url: z.url(),
    file_name: z.string(),
    content_type: z.string(),
    file_size: z.int(),
    sha256: z.string(),
    expires_at: z.iso.datetime(),
  })
  .meta({ id: 'SentFile' });

export const OWN_ROUTES: readonly OwnRoute[] = [
  {
    method: 'GET',
    path: '/healthz',
    summary: 'Tells that the process lives.',
    answers: { 200: { description: 'It does.', schema: z.object({ status: z.literal('ok') }) } },
  },
  {
    method: 'GET',
    path: '/readyz',
    summary: 'Tells whether database, schema and queue answer.',
    answers: {
      200: { description: 'Ready; `degraded` when only the queue does not answer.', schema: readySchema },
      503: { description: 'Not ready.', schema: readySchema },
    },
  },
  {
    method: 'GET',
    path: '/files/:token/:name',
    summary: 'Sends a file that was produced or handed in; its address is the permission.',
    answers: {
      200: { description: 'The file.', contentType: '*/*' },
      206: { description: 'The part that `Range` asks for.', contentType: '*/*' },
      304: { description: 'It is what `If-None-Match` names.' },
      416: { description: 'It has no such part.' },
    },
  },
  {
    method: 'PUT',
    path: '/uploads/:token',
    summary: 'Takes the bytes of an announced file; its address is the permission.',
    body: 'The bytes of the file.',
    answers: { 200: { description: 'They are kept.', schema: sentFileSchema } },
  },
  ...['/uploads/:token', '/files/:token/:name/multipart/:upload'].flatMap((file): readonly OwnRoute[] => [
    {
      method: 'PUT',
      path: `${file}/:part{[0-9]+}`,
      summary: 'Takes one part of an announced file; its address is the permission.',
      body: 'The bytes of the part.',
      answers: { 200: { description: 'They are kept.', schema: sentPartSchema } },
    },
    {
      method: 'POST',
      path: `${file}/complete`,
      summary: 'Puts the parts of an announced file together; its address is the permission.',
      body: 'What was answered to the parts.',
      schema: partsSchema,
      answers: { 200: { description: 'The file is complete.', schema: sentFileSchema } },
    },
  ]),
  {
    method: 'POST',
    path: '/callbacks/:provider/:token',
    summary: 'Takes what a provider tells of a run; for providers.',
    body: "In the provider's own form.",
    answers: { 200: { description: 'It was heard.', schema: z.object({ status: z.enum(['taken', 'ignored']) }) } },
  },
  {
    method: 'GET',
    path: '/openapi.json',
    summary: 'This description.',
    answers: { 200: { description: 'An OpenAPI 3.1 document.' }, 304: { description: 'It is what `If-None-Match` names.' } },
  },
  {
    method: 'GET',
    path: '/docs',
    summary: 'This description as a page.',
    answers: { 200: { description: 'The page.', contentType: 'text/html' } },
  },
  {
    method: 'GET',
    path: '/docs/:file',
    summary: 'Scripts and styles of that page.',
    answers: { 200: { description: 'The file.', contentType: '*/*' }, 304: { description: 'It is what `If-None-Match` names.' } },
  },
];
