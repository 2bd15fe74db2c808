import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fileResponse } from './files.ts';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
let path: string;
let whole: Buffer;
let etag: string;

beforeAll(async () => {
  service = await startTestService();
  const run = await service.request(`/v2/${MODEL}`, jsonBody({ prompt: '[[slow:0]] files' }, { prefer: 'wait=20' }));
  path = new URL(String((await jsonOf(run)).output)).pathname;
  const response = await service.app.request(path);
  whole = Buffer.from(await response.arrayBuffer());
  etag = response.headers.get('etag') ?? '';
});
afterAll(() => service[Symbol.asyncDispose]());

const get = (headers: Record<string, string> = {}, method = 'GET') => service.app.request(path, { method, headers });
const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer());

test('a file comes whole, named, and unable to run as a page', async () => {
  const { status, headers } = await get();
  expect(status).toBe(200);
  expect(Object.fromEntries(headers)).toMatchObject({
    'content-type': 'image/webp',
    'content-length': String(whole.length),
    'content-disposition': "inline; filename*=UTF-8''image.webp",
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
    'x-content-type-options': 'nosniff',
    'content-security-policy': "sandbox; default-src 'none'",
  });
  expect(etag).toBe(`"${createHash('sha256').update(whole).digest('hex')}"`);
});

test('a name that a header could not carry is escaped', () => {
  const asset = { token: '', contentType: 'image/png', fileName: 'it\'s (*) a\r\n"panda" 🐼.png', bytes: 0, sha256: '' };
  const { headers } = fileResponse(asset, service.engine.assets, new Request('http://x/'), new Headers());
  expect(headers.get('content-disposition')).toBe("inline; filename*=UTF-8''it%27s%20%28%2A%29%20a%0D%0A%22panda%22%20%F0%9F%90%BC.png");
});

test.each([
  ...['image/png', 'image/avif', 'image/vnd.microsoft.icon', 'video/mp4', 'audio/mpeg', 'text/plain', 'application/json'].map((type) => [
    type,
    'inline',
  ]),
  ...['image/svg+xml', 'image/SVG+XML', 'text/html', 'application/xhtml+xml', 'text/xml', 'application/xml', 'application/pdf'].map(
    (type) => [type, 'attachment'],
  ),
  ...['text/javascript', 'application/octet-stream', 'model/gltf+json', 'image/x+xml', 'text/html;charset=utf-8', ''].map((type) => [
    type,
    'attachment',
  ]),
])('a file of type %j is served as %s, and may do nothing', (contentType, disposition) => {
  const asset = { token: '', contentType, fileName: 'x', bytes: 0, sha256: '' };
  const { headers } = fileResponse(asset, service.engine.assets, new Request('http://x/'), new Headers());
  expect(headers.get('content-disposition')).toBe(`${disposition}; filename*=UTF-8''x`);
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('content-security-policy')).toBe("sandbox; default-src 'none'");
});

test('HEAD tells the same without the bytes', async () => {
  const response = await get({}, 'HEAD');
  expect(response.status).toBe(200);
  expect(response.headers.get('content-length')).toBe(String(whole.length));
  expect(response.headers.get('etag')).toBe(etag);
  expect(await response.text()).toBe('');
});

test.each([
  ['the same tag', (tag: string) => tag],
  ['the same tag as a weak one', (tag: string) => `W/${tag}`],
  ['one of several', (tag: string) => `"x", ${tag}`],
  ['anything', () => '*'],
])('a client that has %s is not sent the file again', async (_name, header) => {
  const response = await get({ 'if-none-match': header(etag), range: 'bytes=0-9' });
  expect(response.status).toBe(304);
  expect(response.headers.get('etag')).toBe(etag);
  expect(await response.text()).toBe('');
});

test('a client that has another version is sent the file', async () => {
  expect((await get({ 'if-none-match': '"x"' })).status).toBe(200);
});

describe('a range', () => {
  test.each([
    ['the first bytes', 'bytes=0-99', 0, 99],
    ['one byte', 'bytes=5-5', 5, 5],
    ['an open end', 'bytes=100-', 100, -1],
    ['more than there is', 'bytes=100-99999999', 100, -1],
    ['the last bytes', 'bytes=-10', -10, -1],
    ['a suffix longer than the file', 'bytes=-99999999', 0, -1],
  ])('of %s is cut out', async (_name, range, first, last) => {
    const start = first < 0 ? whole.length + first : first;
    const end = last < 0 ? whole.length + last : last;
    const response = await get({ range });
    expect(response.status).toBe(206);
    expect(response.headers.get('content-range')).toBe(`bytes ${start}-${end}/${whole.length}`);
    expect(response.headers.get('content-length')).toBe(String(end - start + 1));
    expect(await bytesOf(response)).toEqual(whole.subarray(start, end + 1));
  });

  test.each(['bytes=99999999-', 'bytes=99999999-999999999', 'bytes=-0'])('like %s is not satisfiable', async (range) => {
    const response = await get({ range });
    expect(response.status).toBe(416);
    expect(response.headers.get('content-range')).toBe(`bytes */${whole.length}`);
    expect(await response.text()).toBe('');
  });

  test.each(['bytes=', 'bytes=-', 'bytes=a-b', 'bytes=9-1', 'lines=1-2', 'bytes=0-1,5-6', 'bytes=1', '0-5', `bytes=${'9'.repeat(40)}-`])(
    'like %s is ignored',
    async (range) => {
      const response = await get({ range });
      expect(response.status).toBe(200);
      expect(await bytesOf(response)).toEqual(whole);
    },
  );

  test('is cut out for a client that names the version it has begun, and for no other', async () => {
    expect((await get({ range: 'bytes=0-9', 'if-range': etag })).status).toBe(206);
    expect((await get({ range: 'bytes=0-9', 'if-range': '"x"' })).status).toBe(200);
  });
});

test.each([`/files/${'a'.repeat(43)}/image.webp`, '/files/x/image.webp', '/files/..%2f..%2fetc%2fpasswd/x', '/files/%00/x'])(
  'at %s there is no file',
  async (unknown) => {
    const response = await service.app.request(unknown);
    expect(response.status).toBe(404);
    expect(await jsonOf(response)).toMatchObject({ code: 'not_found' });
  },
);
