import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { BODY_BYTES_MAX } from './bodies.ts';
import { decoded, firstBytes, type InlinedFile, liftDataUris } from './data-uris.ts';
import type { Listening } from './server.ts';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

const HEAD = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
const PNG = Buffer.concat([HEAD, Buffer.alloc(2_000, 7)]);
const dataUri = (bytes: Uint8Array, type = 'image/png') => `data:${type};base64,${Buffer.from(bytes).toString('base64')}`;

describe('lifting', () => {
  /** What stands where files were, and the files. */
  async function lifted(json: string): Promise<{ readonly text: string; readonly files: readonly InlinedFile[] }> {
    const files: InlinedFile[] = [];
    const text = await liftDataUris(Buffer.from(json), async (file) => {
      files.push(file);
      return `<${files.length}>`;
    });
    return { text: text.toString(), files };
  }

  test('takes each file out of its place and nothing else', async () => {
    const [a, b] = [dataUri(PNG), dataUri(Buffer.from('hello'), 'text/plain;charset=utf-8')];
    const { text, files } = await lifted(`{"x": "${a}" ,"list":["${b}",1.0, "data: none"],"${a}":"key","say":"he said \\"${a}\\""}`);
    expect(text).toBe(`{"x": "<1>" ,"list":["<2>",1.0, "data: none"],"${a}":"key","say":"he said \\"${a}\\""}`);
    expect(files.map(({ contentType }) => contentType)).toEqual(['image/png', 'text/plain']);
    const [first] = files;
    const chunks: Uint8Array[] = [];
    for await (const chunk of decoded(first?.base64 ?? Buffer.alloc(0))) chunks.push(chunk);
    expect(Buffer.concat(chunks)).toEqual(PNG);
    expect(firstBytes(first?.base64 ?? Buffer.alloc(0), 8)).toEqual(PNG.subarray(0, 6));
  });

  test('understands escaped slashes, broken lines, missing padding and the alphabet of addresses', async () => {
    const bytes = Buffer.from([0xff, 0xef, 0xfe, 0xff]);
    const texts = ['data:image\\/png;base64,\\/+\\/+\\/w==', 'data:;base64,/+/+\\r\\n/w==', 'data:;base64,/+/+/w', 'data:;base64,_-_-_w'];
    for (const text of texts) {
      const { files } = await lifted(`["${text}"]`);
      expect(files[0]?.base64 && firstBytes(files[0].base64, 100), text).toEqual(bytes);
    }
  });

  test.each(['@@@@', '', '=', 'AAAAA', 'AA=A', 'A A A', 'AAA\\u0000', '====', 'AAAA AAAA'])(
    'knows that %j is no base64',
    async (base64) => {
      const { files } = await lifted(`["data:image/png;base64,${base64}"]`);
      expect(files).toEqual([{ contentType: 'image/png', characters: expect.any(Number), base64: undefined }]);
    },
  );

  test.each([
    '["data:image/png,abc"]',
    '["data:,x;base64,AAAA"]',
    '["xdata:image/png;base64,AAAA"]',
    '{"data:image/png;base64,AAAA" \n: 1}',
    '"data:image/png;base64,AAAA',
    `["data:${'x'.repeat(300)};base64,AAAA"]`,
    '"data:',
    '',
  ])('leaves %s as it is', async (json) => {
    expect(await lifted(json)).toEqual({ text: json, files: [] });
  });

  test('makes no valid document out of an invalid one', async () => {
    for (const json of ['["a"data:image/png;base64,AAAA"]', '{"a""data:image/png;base64,AAAA"}', '["data:image/png;base64,AAAA"']) {
      const { text } = await lifted(json);
      expect(() => JSON.parse(json), json).toThrow();
      expect(() => JSON.parse(text), text).toThrow();
    }
  });

  test('takes time in proportion to the text', async () => {
    const hostile = [
      `[${'"data:",'.repeat(500_000)}0]`,
      `["${'\\"data:'.repeat(500_000)}"]`,
      `["data:${';'.repeat(4_000_000)}"]`,
      `[${'"data:;base64,AAAA",'.repeat(200_000)}0]`,
    ];
    for (const json of hostile) {
      const startedMs = performance.now();
      await liftDataUris(Buffer.from(json), async () => undefined);
      // In proportion to its square it would be hours.
      expect(performance.now() - startedMs, json.slice(0, 20)).toBeLessThan(60_000);
    }
  });
});

describe('data URIs in parameters', () => {
  const BYTES_MAX = 2 * 1024 * 1024;
  let service: TestService;
  let listening: Listening;
  let key: string;
  let callerId: string;
  let callers = 0;
  beforeAll(async () => {
    service = await startTestService({ worker: false, uploads: { bytesMax: BYTES_MAX, ttlSeconds: 7_200 } });
    listening = await service.listen();
  });
  afterAll(() => service[Symbol.asyncDispose]());
  beforeEach(async () => {
    callers += 1;
    key = await service.newKey(`caller ${callers}`);
    callerId = (await service.engine.keys.verify(key)) ?? '';
  });

  function submit(parameters: object, headers: Record<string, string> = {}, path = `/v2/${MODEL}`): Promise<Response> {
    return fetch(`${listening.url}${path}`, jsonBody(parameters, { 'x-api-key': key, ...headers }));
  }

  async function inputOf(response: Response): Promise<Record<string, unknown>> {
    expect([response.status, response.status === 200 ? '' : await response.text()]).toEqual([200, '']);
    const id = String((await jsonOf(response)).request_id);
    return JSON.parse((await service.engine.read({ id, callerId }))?.input ?? '{}');
  }

  const uploadsLeft = async () => (await service.engine.uploads.list(callerId, { limit: 100 })).uploads.length;

  test('become files that the job names and takes with it, and are nowhere in the database', async () => {
    const image = dataUri(PNG);
    const response = await submit({ prompt: 'x', image, list: [{ url: dataUri(PNG, 'image/jpeg') }] });
    const id = String((await jsonOf(response.clone())).request_id);
    const input = await inputOf(response);
    const address = new RegExp(`^${listening.url}/files/[\\w-]{43}/file\\.png$`);
    expect(input).toMatchObject({ image: expect.stringMatching(address), list: [{ url: expect.stringMatching(address) }] });
    const file = await fetch(String(input.image));
    expect(file.headers.get('content-type')).toBe('image/png');
    expect(Buffer.from(await file.arrayBuffer())).toEqual(PNG);
    await fetch(`${listening.url}/v2/requests/${id}`, { method: 'DELETE', headers: { 'x-api-key': key } });
    expect((await fetch(String(input.image))).status).toBe(404);
  });

  test('that are small stay where they are', async () => {
    const image = dataUri(HEAD);
    expect(await inputOf(await submit({ prompt: 'x', image }))).toMatchObject({ image });
    expect(await uploadsLeft()).toBe(0);
  });

  test('may make a body as large as nothing else may', async () => {
    const large = Buffer.concat([HEAD, Buffer.alloc(BYTES_MAX - HEAD.length, 7)]);
    const list = Array.from({ length: 10 }, () => dataUri(large));
    expect(await inputOf(await submit({ prompt: 'x', list }))).toMatchObject({ list: list.map(() => expect.stringContaining('/files/')) });
    const text = await submit({ prompt: 'x'.repeat(1024 * 1024) });
    expect([text.status, (await jsonOf(text)).code]).toEqual([413, 'payload_too_large']);
    const whole = await submit({ prompt: 'x', list: 'x'.repeat(BODY_BYTES_MAX) });
    expect([whole.status, (await jsonOf(whole)).error]).toEqual([413, expect.stringContaining('upload larger files')]);
  });

  test.each<[string, string, string]>([
    ['of broken base64', `data:image/png;base64,${'@'.repeat(3_000)}`, 'is a data URI whose base64 is broken or empty'],
    ['of a little broken base64', 'data:image/png;base64,@@', 'is a data URI whose base64 is broken or empty'],
    ['of nothing', 'data:image/png;base64,', 'is a data URI whose base64 is broken or empty'],
    ['of a page', dataUri(Buffer.from('<!doctype html><html>')), 'is a data URI that says "image/png" of bytes that are something else'],
    ['of a large page', dataUri(Buffer.from(`<!doctype html>${'x'.repeat(3_000)}`)), 'says "image/png"'],
    ['of noise', dataUri(Buffer.alloc(3_000, 0x81)), 'says "image/png"'],
    ['of too many bytes', dataUri(Buffer.concat([HEAD, Buffer.alloc(BYTES_MAX)])), `has a file of more than ${BYTES_MAX} bytes`],
  ])('%s are refused by name, and nothing is left of others', async (_what, bad, message) => {
    const response = await submit({ prompt: 'x', good: dataUri(PNG), 'a/b': [0, { c: bad }] });
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({
      code: 'invalid_parameters',
      errors: [{ pointer: '/a~1b/1/c', message: expect.stringContaining(message) }],
    });
    expect(await uploadsLeft()).toBe(0);
  });

  test('are refused all at once', async () => {
    const response = await submit({ prompt: 'x', a: 'data:;base64,@', b: 'data:;base64,@' });
    expect(await jsonOf(response)).toMatchObject({ errors: [{ pointer: '/a' }, { pointer: '/b' }] });
  });

  test('of a request that is refused are not kept', async () => {
    for (const [parameters, path] of [
      [{ image: dataUri(PNG) }, `/v2/${MODEL}`],
      [{ prompt: 'x', image: dataUri(PNG) }, '/v2/no-such-model'],
    ] as const) {
      expect((await submit(parameters, {}, path)).status).toBeGreaterThanOrEqual(400);
      expect(await uploadsLeft()).toBe(0);
    }
  });

  test('are the same when the request comes again under its idempotency key', async () => {
    const send = (bytes: Uint8Array) => submit({ prompt: 'x', image: dataUri(bytes) }, { 'idempotency-key': 'once' });
    const first = await jsonOf(await send(PNG));
    const again = await send(PNG);
    expect([again.headers.get('idempotent-replayed'), (await jsonOf(again)).request_id]).toEqual(['true', first.request_id]);
    expect(await uploadsLeft()).toBe(1);
    expect((await send(Buffer.concat([PNG, PNG]))).status).toBe(422);
    expect(await uploadsLeft()).toBe(1);
  });

  test('where there is no job stay texts', async () => {
    const response = await fetch(`${listening.url}/v2/uploads`, jsonBody({ file_name: dataUri(PNG) }, { 'x-api-key': key }));
    expect(response.status).toBe(201);
    expect(await uploadsLeft()).toBe(1);
  });
});
