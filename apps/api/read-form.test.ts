/** Forms as they come over real connections, into the native submission and out of its job. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Listening } from './server.ts';
import { connectRaw, parseAnswer } from './testing/raw-http.ts';
import { jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

const PNG = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
const BYTES_MAX = 4 * 1024 * 1024;
const ADDRESS = /^http:\/\/127\.0\.0\.1:\d+\/files\/[\w-]{43}\//;

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

async function submit(body: BodyInit, headers: Record<string, string> = {}, path = `/v2/${MODEL}`): Promise<Response> {
  return fetch(`${listening.url}${path}`, { method: 'POST', headers: { 'x-api-key': key, ...headers }, body });
}

function formOf(parts: readonly (readonly [name: string, part: string | Blob])[]): FormData {
  const form = new FormData();
  for (const [name, part] of parts) form.append(name, part);
  return form;
}

/** The parameters of the job that a request has made. */
async function inputOf(response: Response): Promise<Record<string, unknown>> {
  expect([response.status, response.status === 200 ? '' : await response.text()]).toEqual([200, '']);
  const id = String((await jsonOf(response)).request_id);
  const job = await service.engine.read({ id, callerId });
  return JSON.parse(job?.input ?? '{}');
}

async function uploadsLeft(): Promise<number> {
  return (await service.engine.uploads.list(callerId, { limit: 100 })).uploads.length;
}

/** A multipart body as it is written here, its lines ended as they must be. */
function written(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text.replaceAll('\n', '\r\n'), 'latin1'));
}
const MULTIPART = { 'content-type': 'multipart/form-data; boundary=xyz' };

describe('fields of a form', () => {
  const FIELDS: [string, string][] = [
    ['prompt', 'a "sign" & 🐼'],
    ['seed', '7'],
    ['output_quality', ' 90 '],
    ['extra[a][b]', '1'],
    ['extra[a][c]', '2'],
    ['list[]', 'one'],
    ['twice', 'x'],
    ['twice', 'y'],
    ['__proto__', 'p'],
  ];
  const EXPECTED = {
    prompt: 'a "sign" & 🐼',
    seed: 7,
    output_quality: 90,
    extra: { a: { b: '1', c: '2' } },
    list: ['one'],
    twice: ['x', 'y'],
  };

  test.each([
    ['multipart', () => formOf(FIELDS)],
    ['urlencoded', () => new URLSearchParams(FIELDS)],
  ])('become parameters of the types that the model wants: %s', async (_kind, form) => {
    const input = await inputOf(await submit(form()));
    expect(input).toMatchObject(EXPECTED);
    expect(Object.getOwnPropertyDescriptor(input, '__proto__')?.value).toBe('p');
  });

  test('are checked like those of JSON', async () => {
    const response = await submit(
      formOf([
        ['prompt', 'x'],
        ['seed', 'seven'],
      ]),
    );
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer: '/seed' }] });
  });

  test('may name the webhook', async () => {
    const response = await submit(
      formOf([
        ['prompt', 'x'],
        ['webhook', 'ftp://example.com/'],
      ]),
    );
    expect(await jsonOf(response)).toMatchObject({ errors: [{ pointer: '/webhook' }] });
  });
});

describe('a file of a form', () => {
  const picture = (name = 'p.webp') => new File([PNG], name, { type: 'image/webp' });

  test('is a parameter by its address, and the upload goes with the job', async () => {
    const response = await submit(
      formOf([
        ['prompt', 'x'],
        ['image', picture()],
        ['more[]', picture('1.png')],
        ['more[]', picture('2.png')],
      ]),
    );
    const id = String((await jsonOf(response.clone())).request_id);
    const input = await inputOf(response);
    expect(input).toMatchObject({
      image: expect.stringMatching(ADDRESS),
      more: [expect.stringMatching(/1\.png$/), expect.stringMatching(/2\.png$/)],
    });
    const file = await fetch(String(input.image));
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/png']);
    expect(Buffer.from(await file.arrayBuffer())).toEqual(PNG);
    expect(await uploadsLeft()).toBe(3);
    await fetch(`${listening.url}/v2/requests/${id}`, { method: 'DELETE', headers: { 'x-api-key': key } });
    expect((await fetch(String(input.image))).status).toBe(404);
    expect(await uploadsLeft()).toBe(0);
  });

  test('that was not chosen in a browser is no parameter', async () => {
    const body = written(
      '--xyz\nContent-Disposition: form-data; name="prompt"\n\nx\n--xyz\nContent-Disposition: form-data; name="image"; filename=""\nContent-Type: application/octet-stream\n\n\n--xyz--\n',
    );
    expect(await inputOf(await submit(body, MULTIPART))).not.toHaveProperty('image');
  });

  test('without a name is one by its type', async () => {
    const body = written(
      '--xyz\nContent-Disposition: form-data; name="prompt"\n\nx\n--xyz\nContent-Disposition: form-data; name="sound"\nContent-Type: audio/basic\n\n\x9f\xd3\x81\n--xyz--\n',
    );
    expect(await inputOf(await submit(body, MULTIPART))).toMatchObject({ sound: expect.stringMatching(ADDRESS) });
  });

  test.each([
    ['../../../etc/passwd', 'passwd'],
    ['C:\\x\\y.png', 'y.png'],
    ['a b?c#d%2f.png', encodeURIComponent('a b?c#d%2f.png')],
  ])('called %s has a plain name', async (name, expected) => {
    const body = written(
      `--xyz\nContent-Disposition: form-data; name="prompt"\n\nx\n--xyz\nContent-Disposition: form-data; name="image"; filename="${name.replaceAll('\\', '\\\\')}"\n\ndata\n--xyz--\n`,
    );
    const { image } = await inputOf(await submit(body, MULTIPART));
    expect(String(image).split('/').slice(5).join('/')).toBe(expected);
    expect((await fetch(String(image))).status).toBe(200);
  });

  test('is not kept when the request is refused', async () => {
    for (const path of [`/v2/${MODEL}`, '/v2/no-such-model']) {
      const response = await submit(formOf([['image', picture()]]), {}, path);
      expect(response.status).toBeGreaterThanOrEqual(400);
      expect(await uploadsLeft()).toBe(0);
    }
  });

  test('is the same when the request comes again under its idempotency key', async () => {
    const form = (bytes: Uint8Array<ArrayBuffer>) =>
      formOf([
        ['prompt', 'x'],
        ['image', new File([bytes], 'p.png')],
      ]);
    const send = (bytes: Buffer) => submit(form(new Uint8Array(bytes)), { 'idempotency-key': 'once' });
    const first = await send(PNG);
    const again = await send(PNG);
    expect([first.status, again.status, again.headers.get('idempotent-replayed')]).toEqual([200, 200, 'true']);
    expect((await jsonOf(again)).request_id).toBe((await jsonOf(first)).request_id);
    expect(await uploadsLeft()).toBe(1);
    const other = await send(Buffer.from('something else'));
    expect([other.status, (await jsonOf(other)).code]).toEqual([422, 'idempotency_mismatch']);
    expect(await uploadsLeft()).toBe(1);
  });
});

describe('a hostile form', () => {
  const part = (name: string, value = 'x') => `--xyz\nContent-Disposition: form-data; name="${name}"\n\n${value}\n`;
  const many = (count: number, one: (index: number) => string) => Array.from({ length: count }, (_, index) => one(index)).join('');
  const file = (name: string, content = 'data') => `--xyz\nContent-Disposition: form-data; name="${name}"; filename="f"\n\n${content}\n`;

  test.each<[what: string, body: string, headers: Record<string, string>, status: number, said: string]>([
    ['has no boundary', part('prompt'), { 'content-type': 'multipart/form-data' }, 400, 'must name the boundary'],
    ['has an empty boundary', part('prompt'), { 'content-type': 'multipart/form-data; boundary=' }, 400, 'must name the boundary'],
    ['has a long boundary', part('prompt'), { 'content-type': `multipart/form-data; boundary=${'x'.repeat(71)}` }, 400, 'boundary'],
    [
      'has another boundary than it says',
      `${part('prompt')}--xyz--\n`,
      { 'content-type': 'multipart/form-data; boundary=abc' },
      400,
      'cannot be read',
    ],
    ['ends in a field', part('prompt'), MULTIPART, 400, 'cannot be read'],
    ['ends in a file', `${part('prompt')}${file('image')}`, MULTIPART, 400, 'cannot be read'],
    ['ends in a header', '--xyz\nContent-Dispo', MULTIPART, 400, 'cannot be read'],
    ['is empty', '', MULTIPART, 400, 'cannot be read'],
    ['is no form', '{"prompt":"x"}', MULTIPART, 400, 'cannot be read'],
    ['has a part without a name', `--xyz\nContent-Disposition: form-data\n\nx\n--xyz--\n`, MULTIPART, 400, 'has no name'],
    ['has a part with an empty name', `${part('')}--xyz--\n`, MULTIPART, 400, 'has no name'],
    ['has a file without a name', `${file('')}--xyz--\n`, MULTIPART, 400, 'has no name'],
    ['has too many fields', `${many(1_001, (index) => part(`f${index}`))}--xyz--\n`, MULTIPART, 413, '1000 fields'],
    ['has too many files', `${many(65, (index) => file(`f${index}`))}--xyz--\n`, MULTIPART, 413, '64 files'],
    ['has too much text', `${part('prompt', 'x'.repeat(1024 * 1024 + 1))}--xyz--\n`, MULTIPART, 413, 'not counted'],
    ['has too much text in all', `${many(3, () => part('prompt', 'x'.repeat(400_000)))}--xyz--\n`, MULTIPART, 413, 'not counted'],
    ['has a name that is too long', `${part('x'.repeat(300))}--xyz--\n`, MULTIPART, 400, 'more than 256 characters'],
    ['is nested too deeply', `${part(`a${'[b]'.repeat(8)}`)}--xyz--\n`, MULTIPART, 400, 'nested deeper'],
    ['has a value that has members', `${part('a')}${part('a[b]')}--xyz--\n`, MULTIPART, 400, 'is a value as well'],
    ['has members that are a value', `${part('a[b]')}${part('a')}--xyz--\n`, MULTIPART, 400, 'has members as well'],
    ['has a list within a name', `${part('a[][b]')}--xyz--\n`, MULTIPART, 400, 'within its name'],
    ['has NUL in a text', `${part('prompt', '\0')}--xyz--\n`, MULTIPART, 400, 'NUL'],
    [
      'has an empty file',
      `${part('prompt')}--xyz\nContent-Disposition: form-data; name="image"; filename="f"\n\n\n--xyz--\n`,
      MULTIPART,
      400,
      '"image"',
    ],
  ])('that %s is refused, and nothing is left of it', async (_what, body, headers, status, said) => {
    const response = await submit(written(body), headers);
    expect([response.status, (await jsonOf(response)).error]).toEqual([status, expect.stringContaining(said)]);
    expect(await uploadsLeft()).toBe(0);
  });

  test.each<[string, string, number, string]>([
    ['has too many fields', many(1_001, (index) => `f${index}=1&`), 413, '1000 fields'],
    ['has a nameless field', '=x', 400, 'has no name'],
    ['has too much text', `prompt=${'x'.repeat(1024 * 1024)}`, 413, 'at most'],
  ])('in one line that %s is refused', async (_what, body, status, said) => {
    const response = await submit(body, { 'content-type': 'application/x-www-form-urlencoded' });
    expect([response.status, (await jsonOf(response)).error]).toEqual([status, expect.stringContaining(said)]);
  });

  test('with a file that is too large is cut off, and the field is named', async () => {
    const body = formOf([
      ['first', new Blob([new Uint8Array(1_000)])],
      ['my/image', new Blob([new Uint8Array(BYTES_MAX + 1)])],
    ]);
    const response = await submit(body);
    expect(response.status).toBe(413);
    expect(await jsonOf(response)).toMatchObject({ errors: [{ pointer: '/my~1image' }], error: expect.stringContaining('my/image') });
    expect(await uploadsLeft()).toBe(0);
  });

  test('with files that are too large together is cut off', async () => {
    const files = Array.from({ length: 3 }, (_, index) => [`f${index}`, new Blob([new Uint8Array(BYTES_MAX - 1_000)])] as const);
    const response = await submit(formOf(files));
    expect([response.status, (await jsonOf(response)).error]).toEqual([413, expect.stringContaining('all together')]);
    expect(await uploadsLeft()).toBe(0);
  });

  test('that never ends is cut off', async () => {
    let sent = 0;
    const body = new ReadableStream({
      pull(controller) {
        if (sent === 0) controller.enqueue(written(file('image').slice(0, -1)));
        else if (sent < 10_000) controller.enqueue(new Uint8Array(64 * 1024));
        else controller.close();
        sent += 1;
      },
    });
    const init = { method: 'POST', headers: { 'x-api-key': key, ...MULTIPART }, body, duplex: 'half' };
    const response = await service.app.request(`/v2/${MODEL}`, init as RequestInit);
    expect(response.status).toBe(413);
    expect(sent).toBeLessThan(BYTES_MAX / (64 * 1024) + 50);
    expect(await uploadsLeft()).toBe(0);
  });

  test('whose client leaves in the middle of a file leaves nothing', async () => {
    using connection = await connectRaw(listening.url);
    const body = `${part('prompt')}${file('image', 'x'.repeat(100_000))}`.replaceAll('\n', '\r\n');
    connection.send(
      `POST /v2/${MODEL} HTTP/1.1\r\nHost: x\r\nx-api-key: ${key}\r\ncontent-type: ${MULTIPART['content-type']}\r\ncontent-length: 999999\r\n\r\n${body}`,
    );
    await expect.poll(uploadsLeft, { timeout: 60_000 }).toBe(1);
    connection.socket.destroy();
    await expect.poll(uploadsLeft, { timeout: 60_000 }).toBe(0);
  });

  test('without a key is not read', async () => {
    using connection = await connectRaw(listening.url);
    connection.send(
      `POST /v2/${MODEL} HTTP/1.1\r\nHost: x\r\nconnection: close\r\ncontent-type: ${MULTIPART['content-type']}\r\ncontent-length: 9999999\r\n\r\n`,
    );
    expect(parseAnswer(await connection.closed)).toMatchObject({ status: 401 });
  });
});
