import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BODY_BYTES_MAX, JSON_BYTES_MAX } from './bodies.ts';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

const send = (body: BodyInit, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
  service.request(`/v2/${MODEL}`, { method: 'POST', headers, body });

/** The input that a submission of this text left in the database. */
async function storedInput(text: string): Promise<string | undefined> {
  const response = await service.request(`/v2/${MODEL}`, jsonBody(text));
  expect(response.status).toBe(200);
  const id = String((await jsonOf(response)).request_id);
  const callerId = (await service.engine.keys.verify(service.key)) ?? '';
  return (await service.engine.read({ id, callerId }))?.input;
}

const COMPLETE = {
  prompt: 'x',
  model_type: 'fast',
  output_format: 'webp',
  output_quality: 100,
  resolution: '1024 × 1024 (Square)',
  seed: -1,
  speed_mode: 'Lightly Juiced 🍊 (more consistent)',
};
/** A body that leaves no default to be filled in, with one more member in front. */
const bodyWith = (member: string) => `{${member},${JSON.stringify(COMPLETE).slice(1)}`;

describe('what a client sends is stored as it was written:', () => {
  test.each([
    ['a number beyond 64 bits', '"extra":12345678901234567890123'],
    ['a number with a needless fraction', '"extra":1.0'],
    ['a number with an exponent', '"extra":1E+2'],
    ['a number beyond a double', '"extra":1e999'],
    ['many digits', '"extra":0.1234567890123456789012345678901234567890'],
    ['minus zero', '"extra":-0'],
    ['an escape', '"extra":"\\u0041\\/"'],
    ['characters beyond the first plane', '"extra":"🐼 \\ud83d\\udc3c"'],
    ['its own order of keys', '"z":1,"2":2,"a":3,"1":4'],
    ['a key named __proto__', '"__proto__":{"seed": 7}'],
    ['white space in a value', '"extra":[ 1 ,\n\t2 ]'],
  ])('%s', async (_name, member) => {
    const text = bodyWith(member);
    expect(await storedInput(text)).toBe(text);
  });

  test('and defaults come behind it', async () => {
    const stored = (await storedInput('{"seed":7,"prompt":"x","extra":1.0}')) ?? '';
    expect(stored.startsWith('{"seed":7,"prompt":"x","extra":1.0,')).toBe(true);
    expect(JSON.parse(stored)).toEqual({ ...COMPLETE, seed: 7, extra: 1 });
  });

  test('and a byte order mark is not part of it', async () => {
    const text = bodyWith('"extra":1');
    expect(await storedInput(`\ufeff${text}`)).toBe(text);
  });

  test('and a member that is there twice is passed on as it is', async () => {
    const text = bodyWith('"extra":1,"extra":2');
    expect(JSON.parse((await storedInput(text)) ?? '')).toMatchObject({ extra: 2 });
  });
});

describe('a body that is no JSON object is refused with 400:', () => {
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;

  test.each<[string, BodyInit, string]>([
    ['nothing', '', 'invalid_json'],
    ['white space', ' \n', 'invalid_json'],
    ['an open brace', '{', 'invalid_json'],
    ['two documents', '{} {}', 'invalid_json'],
    ['a comment', '{/**/}', 'invalid_json'],
    ['single quotes', "{'prompt':'x'}", 'invalid_json'],
    ['a comma too many', '{"prompt":"x",}', 'invalid_json'],
    ['a bare line break in a text', '{"prompt":"a\nb"}', 'invalid_json'],
    ['NaN', '{"prompt":"x","seed":NaN}', 'invalid_json'],
    ['a leading zero', '{"prompt":"x","seed":01}', 'invalid_json'],
    ['NUL in a text', '{"prompt":"a\\u0000b"}', 'invalid_json'],
    ['NUL in a key', '{"prompt":"x","a\\u0000b":1}', 'invalid_json'],
    ['a NUL byte', '{"prompt":"a\0b"}', 'invalid_json'],
    ['half a character', '{"prompt":"\\ud800"}', 'invalid_json'],
    ['the other half of a character', '{"prompt":"\\udc00x"}', 'invalid_json'],
    ['65 levels', `{"prompt":"x","deep":${nested(64)}}`, 'invalid_json'],
    ['100,000 levels', nested(100_000), 'invalid_json'],
    ['500,000 levels that never end', '['.repeat(500_000), 'invalid_json'],
    ['bytes that are not UTF-8', new Uint8Array([0x7b, 0xff, 0xfe, 0x7d]), 'invalid_json'],
    ['an overlong encoding', new Uint8Array([0x22, 0xc0, 0xaf, 0x22]), 'invalid_json'],
    ['UTF-16', Buffer.from('\ufeff{"prompt":"x"}', 'utf16le'), 'invalid_json'],
    ['an array', '[{"prompt":"x"}]', 'invalid_parameters'],
    ['a number', '7', 'invalid_parameters'],
    ['null', 'null', 'invalid_parameters'],
    ['a text', '"prompt"', 'invalid_parameters'],
    ['an object whose prototype has the prompt', '{"__proto__":{"prompt":"x"}}', 'invalid_parameters'],
    ['an object whose constructor is one', '{"constructor":{"prototype":{"prompt":"x"}}}', 'invalid_parameters'],
  ])('%s', async (_name, body, code) => {
    const response = await send(body);
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ code, error: expect.any(String) });
  });

  test('64 levels are still accepted', async () => {
    expect((await send(`{"prompt":"x","deep":${nested(63)}}`)).status).toBe(200);
  });

  test('the error names the line and the column', async () => {
    expect(await jsonOf(await send('{\n  "prompt": x\n}'))).toMatchObject({ error: expect.stringContaining('line 2, column 13') });
  });

  test('the error names the text that cannot be stored', async () => {
    const body = await jsonOf(await send('{"prompt":"x","a/b":["\\u0000"]}'));
    expect(body).toMatchObject({ errors: [{ pointer: '/a~1b/0' }] });
  });
});

describe('the content type', () => {
  const json = '{"prompt":"x"}';

  test.each(['application/json', 'Application/JSON; charset=utf-8', 'application/json;', 'application/vnd.api+json'])(
    'may be %s',
    async (type) => {
      expect((await send(json, { 'content-type': type })).status).toBe(200);
    },
  );

  test.each(['text/plain', 'multipart/mixed; boundary=x', 'application/jsonp', 'text/json', 'application/json, application/json', ';'])(
    'may not be %s',
    async (type) => {
      const response = await send(json, { 'content-type': type });
      expect(response.status).toBe(415);
      expect(await jsonOf(response)).toMatchObject({ code: 'unsupported_media_type' });
    },
  );

  test('may not be missing', async () => {
    const response = await send(new TextEncoder().encode(json), {});
    expect(response.status).toBe(415);
    expect(await jsonOf(response)).toMatchObject({ error: expect.stringContaining('none was sent') });
  });
});

describe('a body may be large', () => {
  const ofLength = (length: number) => `{"prompt":"${'x'.repeat(length - '{"prompt":""}'.length)}"}`;

  test('up to its bound', async () => {
    expect((await send(ofLength(JSON_BYTES_MAX))).status).toBe(200);
  });

  test('but not one byte more', async () => {
    const response = await send(ofLength(JSON_BYTES_MAX + 1));
    expect(response.status).toBe(413);
    expect(await jsonOf(response)).toMatchObject({ code: 'payload_too_large' });
  });

  test('but not by its own account, which is believed before it is read', async () => {
    let pulled = 0;
    const body = new ReadableStream({ pull: () => void pulled++ }, { highWaterMark: 0 });
    const headers = { 'content-type': 'application/json', 'content-length': String(BODY_BYTES_MAX + 1) };
    const init: RequestInit & { duplex: 'half' } = { method: 'POST', headers, body, duplex: 'half' };
    expect((await service.request(`/v2/${MODEL}`, init)).status).toBe(413);
    expect(pulled).toBe(0);
  });

  test('but a stream is read no further than that', async () => {
    let pulled = 0;
    const chunk = new Uint8Array(65_536).fill(0x20);
    const pull = (controller: ReadableStreamDefaultController) => {
      pulled += chunk.byteLength;
      controller.enqueue(chunk);
    };
    const init: RequestInit & { duplex: 'half' } = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: new ReadableStream({ pull }, { highWaterMark: 0 }),
      duplex: 'half',
    };
    expect((await service.request(`/v2/${MODEL}`, init)).status).toBe(413);
    expect(pulled).toBeLessThanOrEqual(BODY_BYTES_MAX + 2 * chunk.byteLength);
  });
});

describe('a path', () => {
  test.each([
    ['%00', 400],
    ['a%00b', 400],
    ['%E0%A4%A', 404],
    ['%', 404],
    ['%zz', 404],
    ['%2F', 404],
    ['%252F', 404],
    ['..%2f..%2fetc%2fpasswd', 404],
    ['%F0%9F%90%BC', 404],
    ['__proto__', 404],
    ['constructor', 404],
    ['toString', 404],
    [`${'a'.repeat(2_000)}`, 404],
    [`${'a/'.repeat(1_000)}a`, 404],
    ['%ED%A0%80', 404],
  ])('with the model %s names none', async (name, status) => {
    const response = await service.request(`/v2/${name}`, jsonBody({ prompt: 'x' }));
    expect(response.status).toBe(status);
    expect(await jsonOf(response)).toMatchObject({ code: status === 400 ? 'invalid_request' : 'unknown_model' });
  });

  test('may name a model with escapes', async () => {
    expect((await service.request('/v2/hidream%2dl1%2Dfast', jsonBody({ prompt: 'x' }))).status).toBe(200);
  });

  test('may carry a long query that means nothing', async () => {
    const query = Array.from({ length: 1_000 }, (_, index) => `q${index}=%zz%00`).join('&');
    expect((await service.request(`/v2/${MODEL}?${query}`, jsonBody({ prompt: 'x' }))).status).toBe(200);
  });

  test.each(['abc', '-1', '1e3', '%00', '1.5', ''])('may not ask for a status with ?wait=%s', async (wait) => {
    const id = await service.submit({ prompt: 'x' });
    const response = await service.request(`/v2/requests/${id}/status?wait=${wait}`);
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer: '/wait' }] });
  });
});
