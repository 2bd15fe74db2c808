import { newId, systemClock } from '@claimcheck/core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Listening } from './server.ts';
import { connectRaw, parseAnswer } from './testing/raw-http.ts';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

const PNG = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
const NOISE = Buffer.from([0x9f, 0xd3, 0x00, 0x81, 0xfe]);
const BYTES_MAX = 3 * 1024 * 1024;

let service: TestService;
let listening: Listening;
/** Keys of a new caller for each test. */
let key: string;
let callers = 0;
beforeAll(async () => {
  service = await startTestService({ worker: false, uploads: { bytesMax: BYTES_MAX, ttlSeconds: 7_200 } });
  listening = await service.listen();
});
afterAll(() => service[Symbol.asyncDispose]());
beforeEach(async () => {
  callers += 1;
  key = await service.newKey(`caller ${callers}`);
});

const UPLOAD = z.object({
  id: z.string(),
  upload_url: z.string().nullable(),
  file_url: z.string(),
  file_name: z.string(),
  content_type: z.string(),
  file_size: z.number().nullable(),
  created_at: z.iso.datetime(),
  expires_at: z.iso.datetime(),
});

async function call(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${listening.url}${path}`, { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), 'x-api-key': key } });
}

async function announced(file: object = { file_name: 'a picture.png' }) {
  const response = await call('/v2/uploads', jsonBody(file));
  expect(response.status).toBe(201);
  const upload = UPLOAD.parse(await response.json());
  return { ...upload, upload_url: upload.upload_url ?? '' };
}

function put(url: string, body: BodyInit, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, { method: 'PUT', body, headers });
}

function formOf(parts: Readonly<Record<string, string | Blob>>): FormData {
  const form = new FormData();
  for (const [name, part] of Object.entries(parts)) form.append(name, part);
  return form;
}

describe('a file in two steps', () => {
  test('is announced, sent without a key, and read without a key', async () => {
    const upload = await announced({ file_name: 'dir/a picture.png', content_type: 'image/webp', file_size: PNG.length });
    expect(upload).toMatchObject({ file_name: 'a picture.png', content_type: 'image/webp', file_size: null });
    expect(upload.upload_url).toMatch(new RegExp(`^${listening.url}/uploads/[\\w-]{43}$`));
    expect((await fetch(upload.file_url)).status).toBe(404);

    const sent = await put(upload.upload_url, PNG, { 'content-type': 'application/octet-stream' });
    expect(sent.status).toBe(200);
    expect(await jsonOf(sent)).toMatchObject({ file_url: upload.file_url, content_type: 'image/png', file_size: PNG.length });

    const file = await fetch(upload.file_url);
    expect(file.status).toBe(200);
    expect(file.headers.get('content-type')).toBe('image/png');
    expect(Buffer.from(await file.arrayBuffer())).toEqual(PNG);
    const known = UPLOAD.parse(await (await call(`/v2/uploads/${upload.id}`)).json());
    expect(known).toMatchObject({ id: upload.id, upload_url: null, file_url: upload.file_url, file_size: PNG.length });
  });

  test('is sent once: the same bytes again change nothing, others are a conflict', async () => {
    const { upload_url: url, file_url: fileUrl } = await announced();
    const first = await jsonOf(await put(url, PNG));
    const again = await put(url, PNG);
    expect([again.status, await jsonOf(again)]).toEqual([200, first]);
    const other = await put(url, NOISE);
    expect(other.status).toBe(409);
    expect(await jsonOf(other)).toMatchObject({ code: 'conflict', error: expect.stringContaining('have come already') });
    expect(Buffer.from(await (await fetch(fileUrl)).arrayBuffer())).toEqual(PNG);
  });

  test('is refused as soon as it is too large, announced or not', async () => {
    const refused = await call('/v2/uploads', jsonBody({ file_name: 'x', file_size: BYTES_MAX + 1 }));
    expect(refused.status).toBe(413);
    const { upload_url: url } = await announced();
    const whole = await put(url, Buffer.alloc(BYTES_MAX + 1));
    expect([whole.status, (await jsonOf(whole)).code]).toEqual([413, 'payload_too_large']);
    let pulled = 0;
    const endless = new ReadableStream({
      pull(controller) {
        pulled += 1;
        if (pulled > 1_000) controller.close();
        else controller.enqueue(new Uint8Array(64 * 1024));
      },
    });
    const streamed = await service.app.request(new URL(url).pathname, { method: 'PUT', body: endless, duplex: 'half' } as RequestInit);
    expect(streamed.status).toBe(413);
    expect(pulled).toBeLessThan(BYTES_MAX / (64 * 1024) + 5);
    expect((await put(url, PNG)).status).toBe(200);
  });

  test('may come again when it broke off', async () => {
    const { upload_url: url, file_url: fileUrl } = await announced();
    using connection = await connectRaw(listening.url);
    connection.send(`PUT ${new URL(url).pathname} HTTP/1.1\r\nHost: x\r\ncontent-length: 1000\r\n\r\nhalf of it`);
    connection.socket.end();
    await connection.closed;
    expect((await fetch(fileUrl)).status).toBe(404);
    expect((await put(url, PNG)).status).toBe(200);
  });

  test('with no bytes is refused', async () => {
    const response = await put((await announced()).upload_url, '');
    expect([response.status, (await jsonOf(response)).error]).toEqual([400, expect.stringContaining('empty')]);
  });

  test.each(['A'.repeat(43), 'x', '%00', '..%2f..%2fetc'])('at the unknown address %s is refused', async (token) => {
    const response = await put(`${listening.url}/uploads/${token}`, PNG);
    expect([response.status, (await jsonOf(response)).code]).toEqual([404, 'not_found']);
  });

  test('is sent with PUT and nothing else', async () => {
    const { upload_url: url } = await announced();
    for (const method of ['GET', 'POST', 'DELETE']) {
      const response = await fetch(url, { method, ...(method === 'POST' && { body: PNG }) });
      expect([response.status, response.headers.get('allow')]).toEqual([405, 'PUT']);
    }
  });

  test('is asked for, where the client asks first', async () => {
    const { upload_url: url } = await announced();
    const path = new URL(url).pathname;
    using connection = await connectRaw(listening.url);
    connection.send(`PUT ${path} HTTP/1.1\r\nHost: x\r\ncontent-length: ${PNG.length}\r\nexpect: 100-continue\r\n\r\n`);
    expect(await connection.until('\r\n\r\n')).toMatch(/^HTTP\/1\.1 100 /);
    connection.socket.write(PNG);
    expect(await connection.until('file_url')).toContain('HTTP/1.1 200 ');
    using late = await connectRaw(listening.url);
    late.send(`PUT ${path} HTTP/1.1\r\nHost: x\r\nconnection: close\r\ncontent-length: ${10 ** 9}\r\nexpect: 100-continue\r\n\r\n`);
    expect(parseAnswer(await late.closed)).toMatchObject({ status: 413 });
  });

  test.each([
    [{}, '/file_name'],
    [{ file_name: 7 }, '/file_name'],
    [{ file_name: 'x', content_type: 7 }, '/content_type'],
    [{ file_name: 'x', file_size: 0 }, '/file_size'],
    [{ file_name: 'x', file_size: 1.5 }, '/file_size'],
    [{ file_name: 'x', lifetime: 7 }, '/lifetime'],
    [[], ''],
  ])('announced as %j is refused', async (body, pointer) => {
    const response = await call('/v2/uploads', jsonBody(body));
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer }] });
  });
});

describe('a file in parts', () => {
  const PART = z.object({ partNumber: z.number(), etag: z.string() });
  const HEAD = PNG.subarray(0, 8);
  const REST = PNG.subarray(8);
  const complete = (url: string, parts: unknown) => fetch(`${url}/complete`, jsonBody({ parts }));

  async function sent(url: string, part: number, bytes: Uint8Array<ArrayBuffer>) {
    const response = await put(`${url}/${part}`, bytes);
    expect(response.status).toBe(200);
    const told = PART.parse(await response.json());
    expect(response.headers.get('etag')).toBe(told.etag);
    return told;
  }

  test('is sent without a key, completed, and read as one', async () => {
    const { upload_url: url, file_url: fileUrl } = await announced();
    const last = await sent(url, 2, REST);
    const parts = [last, await sent(url, 1, HEAD)];
    expect((await fetch(fileUrl)).status).toBe(404);
    const completed = await complete(url, parts);
    expect(completed.status).toBe(200);
    const told = await jsonOf(completed);
    expect(told).toMatchObject({ file_url: fileUrl, content_type: 'image/png', file_size: PNG.length });
    expect(Buffer.from(await (await fetch(fileUrl)).arrayBuffer())).toEqual(PNG);
    // For clients that lost the answer.
    expect(await jsonOf(await complete(url, parts))).toEqual(told);
    expect((await put(`${url}/3`, PNG)).status).toBe(409);
  });

  test('is sent to addresses below its own as well, as the client of fal for Python makes them, in the forms that HTTP has for a tag', async () => {
    const { file_url: fileUrl, id } = await announced();
    const first = await sent(`${fileUrl}/multipart/${id}`, 1, PNG);
    const completed = await complete(`${fileUrl}/multipart/${id}`, [{ ...first, etag: `W/${first.etag}` }]);
    expect(completed.status).toBe(200);
    expect(Buffer.from(await (await fetch(fileUrl)).arrayBuffer())).toEqual(PNG);
  });

  test('is told which parts are not there', async () => {
    const { upload_url: url } = await announced();
    const first = await sent(url, 1, HEAD);
    const refused = await complete(url, [first, { partNumber: 2, etag: first.etag }]);
    expect(refused.status).toBe(400);
    expect(await jsonOf(refused)).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer: '/parts/1' }] });
  });

  test.each([
    ['[]', '', 'object'],
    ['{}', '/parts', 'is missing'],
    ['{"parts":[]}', '/parts', 'one for each part'],
    ['{"parts":[{"partNumber":"1","etag":"x"}]}', '/parts', 'partNumber'],
  ])('with %s as its parts is told what is wrong', async (body, pointer, message) => {
    const { upload_url: url } = await announced();
    const refused = await fetch(`${url}/complete`, { method: 'POST', body });
    expect(refused.status).toBe(400);
    expect(await jsonOf(refused)).toMatchObject({
      code: 'invalid_parameters',
      errors: [{ pointer, message: expect.stringContaining(message) }],
    });
  });

  test.each(['{', '\xff'])('with %j as its parts is told that this is no JSON', async (text) => {
    const { upload_url: url } = await announced();
    const refused = await fetch(`${url}/complete`, { method: 'POST', body: Buffer.from(text, 'latin1') });
    expect([refused.status, await jsonOf(refused)]).toMatchObject([400, { code: 'invalid_json' }]);
  });

  test('is refused where all parts together are too large, or a number is', async () => {
    const { upload_url: url } = await announced();
    await sent(url, 1, Buffer.alloc(BYTES_MAX - 1, 1));
    expect((await put(`${url}/2`, 'ab')).status).toBe(413);
    expect((await put(`${url}/10001`, 'a')).status).toBe(400);
    expect((await put(`${url}/x`, 'a')).status).toBe(404);
    expect((await put(`${listening.url}/uploads/${'a'.repeat(43)}/1`, 'a')).status).toBe(404);
    expect((await complete(`${listening.url}/uploads/${'a'.repeat(43)}`, [{ partNumber: 1, etag: 'a' }])).status).toBe(404);
    expect((await fetch(`${url}/1`)).headers.get('allow')).toBe('PUT');
    expect((await fetch(`${url}/complete`)).headers.get('allow')).toBe('POST');
  });
});

describe('a file in a form', () => {
  test('is stored with the form', async () => {
    const response = await call('/v2/uploads', {
      method: 'POST',
      body: formOf({ any: new File([PNG], 'p.webp', { type: 'image/webp' }) }),
    });
    expect(response.status).toBe(201);
    const upload = UPLOAD.parse(await response.json());
    expect(upload).toMatchObject({ upload_url: null, file_name: 'p.webp', content_type: 'image/png', file_size: PNG.length });
    expect(Buffer.from(await (await fetch(upload.file_url)).arrayBuffer())).toEqual(PNG);
    expect(await jsonOf(await call('/v2/uploads'))).toMatchObject({ uploads: [{ id: upload.id }] });
  });

  test.each<[string, Readonly<Record<string, string | Blob>>]>([
    ['without one', { name: 'x' }],
    ['with two', { a: new Blob([PNG]), b: new Blob([NOISE]) }],
  ])('%s is refused, and nothing is left of it', async (_what, parts) => {
    const response = await call('/v2/uploads', { method: 'POST', body: formOf(parts) });
    expect([response.status, (await jsonOf(response)).error]).toEqual([400, 'The form must bring one file, as a part of any name.']);
    expect(await jsonOf(await call('/v2/uploads'))).toEqual({ uploads: [], next_cursor: null });
  });

  test('that is too large is refused by the name of its field, and nothing is left of it', async () => {
    const response = await call('/v2/uploads', { method: 'POST', body: formOf({ 'my file': new Blob([Buffer.alloc(BYTES_MAX + 1)]) }) });
    expect(response.status).toBe(413);
    expect(await jsonOf(response)).toMatchObject({
      error: `The field "my file" of the form: A file may have ${BYTES_MAX} bytes at most.`,
      errors: [{ pointer: '/my file' }],
    });
    expect(await jsonOf(await call('/v2/uploads'))).toEqual({ uploads: [], next_cursor: null });
  });
});

describe('uploads of a caller', () => {
  test('are listed from the newest to the oldest, page by page', async () => {
    const ids: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      ids.unshift((await announced({ file_name: name })).id);
      // Ids of one millisecond are in no promised order.
      await systemClock.sleep(2);
    }
    const page = z.object({ uploads: z.array(UPLOAD), next_cursor: z.string().nullable() });
    const first = page.parse(await (await call('/v2/uploads?limit=2')).json());
    const second = page.parse(await (await call(`/v2/uploads?limit=2&cursor=${first.next_cursor}`)).json());
    expect([...first.uploads, ...second.uploads].map(({ id }) => id)).toEqual(ids);
    expect(second.next_cursor).toBeNull();
  });

  test.each(['?limit=0', '?limit=1000', '?cursor=x'])('are not listed with %s', async (query) => {
    expect((await call(`/v2/uploads${query}`)).status).toBe(400);
  });

  test('go when they are deleted', async () => {
    const { id, upload_url: url, file_url: fileUrl } = await announced();
    await put(url, PNG);
    const deleted = await call(`/v2/uploads/${id}`, { method: 'DELETE' });
    expect([deleted.status, await jsonOf(deleted)]).toEqual([200, { id, deleted: true }]);
    expect((await fetch(fileUrl)).status).toBe(404);
    expect((await put(url, PNG)).status).toBe(404);
    expect((await call(`/v2/uploads/${id}`, { method: 'DELETE' })).status).toBe(404);
  });

  test('are unknown to every other', async () => {
    const { id, file_url: fileUrl, upload_url: url } = await announced();
    await put(url, PNG);
    key = await service.newKey(`another beside ${callers}`);
    const unknown = newId(systemClock);
    const answers = async (at: string) => {
      const responses = [await call(`/v2/uploads/${at}`), await call(`/v2/uploads/${at}`, { method: 'DELETE' })];
      return Promise.all(responses.map(async (each) => [each.status, (await each.text()).replaceAll(at, 'ID')]));
    };
    expect(await answers(id)).toEqual(await answers(unknown));
    expect(await answers('x')).toEqual(await answers(unknown));
    expect(await jsonOf(await call('/v2/uploads'))).toEqual({ uploads: [], next_cursor: null });
    expect((await fetch(fileUrl)).status).toBe(200);
  });

  test('need a key', async () => {
    for (const init of [{}, jsonBody({ file_name: 'x' })]) {
      expect((await fetch(`${listening.url}/v2/uploads`, init)).status).toBe(401);
    }
  });

  test('outlive their time for a job that names them, until its deadline', async () => {
    const [named, other] = [await announced(), await announced()];
    await put(named.upload_url, PNG);
    await put(other.upload_url, PNG);
    const parameters = { prompt: 'x', extra: [{ image: named.file_url }] };
    expect((await call(`/v2/${MODEL}?delay_seconds=86400&timeout_seconds=60`, jsonBody(parameters))).status).toBe(200);
    try {
      await service.database.setClockAhead(86_400);
      expect((await fetch(other.file_url)).status).toBe(404);
      expect((await fetch(named.file_url)).status).toBe(200);
      await service.database.setClockAhead(86_500);
      expect((await fetch(named.file_url)).status).toBe(404);
    } finally {
      await service.database.setClockAhead(0);
    }
  });

  test('expire', async () => {
    const awaited = await announced();
    const whole = await announced();
    await put(whole.upload_url, PNG);
    try {
      await service.database.setClockAhead(3_601);
      expect((await put(awaited.upload_url, PNG)).status).toBe(404);
      expect((await fetch(whole.file_url)).status).toBe(200);
      await service.database.setClockAhead(7_210);
      expect((await fetch(whole.file_url)).status).toBe(404);
      expect((await call(`/v2/uploads/${whole.id}`)).status).toBe(404);
    } finally {
      await service.database.setClockAhead(0);
    }
  });
});
