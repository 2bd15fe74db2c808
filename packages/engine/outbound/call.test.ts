import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { listen } from '../testing/index.ts';
import { createCertificate } from './testing/certificate.ts';
import { freePort, startReceiver } from './testing/receiver.ts';
import { openTestCaller } from './testing/test-caller.ts';

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

describe('a call', () => {
  test('sends what it is told and nothing besides', async () => {
    await using receiver = await startReceiver((socket) => socket.end(OK));
    await using test = openTestCaller();
    await test.post(`http://127.0.0.1:${receiver.port}/hook?a=b#c`, { headers: { 'x-custom': 'one' }, body: '{"caf\u00e9":1}' });
    const [head, ...lines] = (receiver.requests[0] ?? '').split('\r\n');
    expect(head).toBe('POST /hook?a=b HTTP/1.1');
    expect(lines.sort()).toEqual(
      [
        '',
        '{"caf\u00c3\u00a9":1}',
        'accept-encoding: identity',
        'connection: keep-alive',
        'content-length: 11',
        `host: 127.0.0.1:${receiver.port}`,
        'x-custom: one',
      ].sort(),
    );
  });

  test('sends bytes as they are', async () => {
    const body = randomBytes(200_000);
    const received: Buffer[] = [];
    await using server = await listen(async (request, response) => {
      for await (const chunk of request) received.push(chunk);
      response.end();
    });
    await using test = openTestCaller();
    await test.post(server.url, { body });
    expect(Buffer.concat(received).equals(body)).toBe(true);
  });

  test('resolves with the answer', async () => {
    await using server = await listen((_request, response) => {
      response
        .writeHead(
          201,
          [
            ['X-One', '1'],
            ['x-two', 'a'],
            ['x-two', 'b'],
          ].flat(),
        )
        .end('gr\u00fc\u00dfe');
    });
    await using test = openTestCaller();
    expect(await test.post(server.url)).toMatchObject({
      status: 201,
      headers: { 'x-one': '1', 'x-two': 'a,b' },
      bodyHead: 'gr\u00fc\u00dfe',
      isBodyCut: false,
      address: '127.0.0.1',
      timings: { isReused: false, firstByteMs: expect.any(Number), totalMs: expect.any(Number) },
    });
  });

  test.each([204, 301, 400, 404, 410, 429, 500, 503])('resolves with status %i', async (status) => {
    await using server = await listen((_request, response) => void response.writeHead(status).end());
    await using test = openTestCaller();
    expect(await test.post(server.url)).toMatchObject({ status });
  });

  test('does not follow a redirect', async () => {
    let visits = 0;
    await using inside = await listen((_request, response) => {
      visits += 1;
      response.end();
    });
    await using server = await listen((_request, response) => void response.writeHead(302, { location: inside.url }).end());
    await using test = openTestCaller();
    expect(await test.post(server.url)).toMatchObject({ status: 302, headers: { location: inside.url } });
    expect(visits).toBe(0);
  });

  test('waits for the answer behind announcements', async () => {
    const hints = 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n';
    await using receiver = await startReceiver((socket) => socket.write(`${hints}${hints}${OK}`));
    await using test = openTestCaller();
    expect(await test.post(`http://127.0.0.1:${receiver.port}/`)).toMatchObject({
      status: 200,
      bodyHead: 'ok',
      headers: { 'content-length': '2' },
    });
  });

  test('may be a GET without a body', async () => {
    await using receiver = await startReceiver((socket) => socket.end(OK));
    await using test = openTestCaller();
    await test.post(`http://127.0.0.1:${receiver.port}/`, { method: 'GET', body: undefined });
    expect(receiver.requests[0]).toMatch(/^GET \/ HTTP\/1.1\r\n/);
    expect(receiver.requests[0]).not.toMatch(/content-length|transfer-encoding/);
  });
});

describe('a body', () => {
  test.each([
    [999, false],
    [1_000, false],
    [1_001, true],
    [1_000_000, true],
  ])('of %i bytes is cut at 1,000: %s', async (bytes, isBodyCut) => {
    await using server = await listen((_request, response) => void response.end('x'.repeat(bytes)));
    await using test = openTestCaller();
    expect(await test.post(server.url)).toMatchObject({ bodyHead: 'x'.repeat(Math.min(bytes, 1_000)), isBodyCut });
  });

  test('is not cut in the middle of a character', async () => {
    await using server = await listen((_request, response) => void response.end('\u00fc'.repeat(10)));
    await using test = openTestCaller();
    expect(await test.post(server.url, { bodyBytesMax: 5 })).toMatchObject({ bodyHead: '\u00fc\u00fc', isBodyCut: true });
  });

  test('is not unpacked, though a packed answer was not asked for', async () => {
    const bomb = gzipSync(Buffer.alloc(500_000));
    expect(bomb.length).toBeLessThan(1_000);
    await using server = await listen((_request, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb));
    await using test = openTestCaller();
    const { headers, bodyHead, isBodyCut } = await test.post(server.url);
    expect(headers['content-encoding']).toBe('gzip');
    expect(isBodyCut).toBe(false);
    expect(bodyHead.length).toBeLessThan(1_000);
  });
});

describe('connections', () => {
  test('are reused, and the answer says so', async () => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    // Otherwise a call right after another may open a connection of its own.
    await using test = openTestCaller({ connectionsPerOrigin: 1 });
    const url = `http://hook.example.com:${receiver.port}/`;
    const first = await test.post(url);
    const second = await test.post(url);
    expect(first.timings).toMatchObject({ isReused: false, dnsMs: expect.any(Number), connectMs: expect.any(Number) });
    expect(second.timings).toEqual({ isReused: true, firstByteMs: expect.any(Number), totalMs: expect.any(Number) });
    expect(second.address).toBe('127.0.0.1');
    expect(receiver.connections).toBe(1);
  });

  test('are not reused when a body was cut', async () => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    await using test = openTestCaller();
    const url = `http://127.0.0.1:${receiver.port}/`;
    expect(await test.post(url, { bodyBytesMax: 1 })).toMatchObject({ bodyHead: 'o', isBodyCut: true });
    expect((await test.post(url)).timings.isReused).toBe(false);
    expect(receiver.connections).toBe(2);
  });

  test('of one origin are limited, and each call knows its own', async () => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    await using test = openTestCaller({ connectionsPerOrigin: 3 });
    const calls = Array.from({ length: 20 }, () => test.post(`http://127.0.0.1:${receiver.port}/`));
    const answers = await Promise.all(calls);
    expect(receiver.connections).toBe(3);
    expect(answers.filter(({ timings }) => !timings.isReused)).toHaveLength(3);
    expect(answers.every(({ timings }) => timings.isReused === (timings.connectMs === undefined))).toBe(true);
  });

  test('of one origin do not hold up another', async () => {
    await using hanging = await startReceiver(() => {});
    await using receiver = await startReceiver((socket) => socket.write(OK));
    await using test = openTestCaller({ connectionsPerOrigin: 1 });
    const stuck = Promise.all([1, 2].map(() => test.failureOf(`http://127.0.0.1:${hanging.port}/`, { totalMs: 300 })));
    expect(await test.post(`http://127.0.0.1:${receiver.port}/`)).toMatchObject({ status: 200 });
    expect((await stuck).map(({ code }) => code).sort()).toEqual(['headers_timeout', 'total_timeout']);
  });

  test('are encrypted for https, and their timings say so', async () => {
    const certificate = createCertificate('hook.example.com');
    await using receiver = await startReceiver((socket) => socket.write(OK), certificate);
    await using test = openTestCaller({ ca: certificate.cert, connectionsPerOrigin: 1 });
    const url = `https://hook.example.com:${receiver.port}/`;
    const { status, timings } = await test.post(url);
    expect(status).toBe(200);
    expect(timings).toMatchObject({ isReused: false, dnsMs: expect.any(Number), connectMs: expect.any(Number), tlsMs: expect.any(Number) });
    expect((await test.post(url)).timings.isReused).toBe(true);
  });

  test('try the next address when one does not answer', async () => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    await using test = openTestCaller({ allowed: '127.0.0.1,::1', resolve: async () => ['::1', '127.0.0.1'] });
    expect(await test.post(`http://hook.example.com:${receiver.port}/`)).toMatchObject({ status: 200, address: '127.0.0.1' });
  });

  test('are all broken when the caller closes, which may be done twice', async () => {
    await using receiver = await startReceiver(() => {});
    await using test = openTestCaller();
    const failing = test.failureOf(`http://127.0.0.1:${receiver.port}/`);
    await expect.poll(() => receiver.requests.length).toBe(1);
    await test.caller.close();
    await test.caller.close();
    expect((await failing).code).toBe('internal');
    expect((await test.failureOf(`http://127.0.0.1:${receiver.port}/`)).code).toBe('internal');
  });
});

describe('a signal', () => {
  test('ends a call with its reason and breaks the connection', async () => {
    const closed = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    await using receiver = await startReceiver((socket) => {
      asked.resolve();
      socket.on('close', () => closed.resolve());
    });
    await using test = openTestCaller();
    const stopping = new AbortController();
    const call = test.post(`http://127.0.0.1:${receiver.port}/`, { signal: stopping.signal });
    await asked.promise;
    stopping.abort(new Error('stopped'));
    await expect(call).rejects.toThrow('stopped');
    await closed.promise;
  });

  test('that has aborted lets nothing begin', async () => {
    await using receiver = await startReceiver(() => {});
    await using test = openTestCaller();
    await expect(test.post(`http://127.0.0.1:${receiver.port}/`, { signal: AbortSignal.abort(new Error('stopped')) })).rejects.toThrow(
      'stopped',
    );
    expect(receiver.connections).toBe(0);
  });
});

describe('a call that cannot be made', () => {
  test.each([
    ['http://127.0.0.2/', 'The URL cannot be called: it must not lead to a private or reserved address.'],
    ['http://localhost/', 'The URL cannot be called: it must not use a local or internal name.'],
    ['http://example.com:6379/', 'The URL cannot be called: it must not use port 6379, which is known for internal services.'],
    ['ftp://example.com/', 'The URL cannot be called: it must start with http:// or https://.'],
  ])('to %s is refused as it is written', async (url, message) => {
    await using test = openTestCaller();
    expect(await test.failureOf(url)).toMatchObject({ code: 'blocked_address', isLiteral: true, message });
  });

  test('to a port where nobody listens is refused', async () => {
    await using test = openTestCaller();
    const error = await test.failureOf(`http://hook.example.com:${await freePort()}/`);
    expect(error).toMatchObject({ code: 'connect_refused', timings: { dnsMs: expect.any(Number), totalMs: expect.any(Number) } });
    expect(error.address).toBeUndefined();
  });

  test('because of its headers sends nothing', async () => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    await using test = openTestCaller();
    const headers = { 'x-custom': 'a\r\nx-injected: 1' };
    expect((await test.failureOf(`http://127.0.0.1:${receiver.port}/`, { headers })).code).toBe('internal');
    expect(receiver.requests).toEqual([]);
  });
});
