import { once } from 'node:events';
import { type Log, StartError } from '@claimcheck/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { JSON_BYTES_MAX, largestBody } from './bodies.ts';
import { type Listening, listen } from './server.ts';
import { connectRaw, exchange, parseAnswer } from './testing/raw-http.ts';
import { MODEL, startTestService, type TestService } from './testing/service.ts';

const BODY = '{"prompt":"x"}';

let service: TestService;
let listening: Listening;
/** What an operator would have been told as something to act on. */
const errors: object[] = [];
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: (fields) => void errors.push(fields) };

beforeAll(async () => {
  service = await startTestService({ worker: false, log });
  listening = await service.listen();
});
afterAll(() => service[Symbol.asyncDispose]());

/** A submission as text; `fields` are header lines, each with its line end. */
const submission = (fields: string, options: { target?: string; version?: string; body?: string } = {}) =>
  `POST ${options.target ?? `/v2/${MODEL}`} HTTP/${options.version ?? '1.1'}\r\n${fields}x-api-key: ${service.key}\r\ncontent-type: application/json\r\n` +
  `content-length: ${(options.body ?? BODY).length}\r\nconnection: close\r\n\r\n${options.body ?? BODY}`;

describe('the base of the URLs handed out is', () => {
  const baseOf = async (request: string) => {
    const { status, body } = await exchange(listening.url, request);
    expect(status, body).toBe(200);
    return String(JSON.parse(body).status_url).split('/v2/')[0];
  };

  test.each([
    ['Queue.Example', 'http://queue.example'],
    ['queue.example:80', 'http://queue.example'],
    ['my_service:8080', 'http://my_service:8080'],
    ['10.0.0.1:3000', 'http://10.0.0.1:3000'],
    ['[::1]:8080', 'http://[::1]:8080'],
    ['[0:0:0:0:0:0:0:1]:8080', 'http://[::1]:8080'],
  ])('the host %s', async (host, expected) => {
    expect(await baseOf(submission(`Host: ${host}\r\n`))).toBe(expected);
  });

  test.each([
    '',
    'a b',
    'user:secret@evil.example',
    'evil.example/path',
    'evil.example?x=',
    'evil.example#',
    'evil.example\\',
    'evil.example:99999',
    'evil.example:8080:8080',
    '"><script>',
    '[::1',
    '999.1.1.1',
    '%00',
    '\u00ff\u00fe',
    `${'a'.repeat(300)}.example`,
  ])('where the server listens, when the host is %j', async (host) => {
    expect(await baseOf(submission(`Host: ${host}\r\n`))).toBe(listening.url);
  });

  test('where the server listens, for a client that names no host', async () => {
    expect(await baseOf(submission('', { version: '1.0' }))).toBe(listening.url);
  });

  test.each([
    ['http://other.example:81', 'http://other.example:81'],
    ['http://user:secret@other.example', 'http://other.example'],
    ['HTTP://other.example', 'http://other.example'],
  ])('the one of the whole URL %s in the request line', async (origin, expected) => {
    expect(await baseOf(submission('Host: queue.example\r\n', { target: `${origin}/v2/${MODEL}` }))).toBe(expected);
  });
});

describe('a request line that means nothing is answered in the envelope:', () => {
  test.each(['OPTIONS *', 'GET http://', 'GET /a\\b'])('%s', async (line) => {
    const { status, body } = await exchange(listening.url, `${line} HTTP/1.1\r\nHost: x\r\nconnection: close\r\n\r\n`);
    expect(status).toBe(400);
    expect(JSON.parse(body)).toEqual({ code: 'invalid_request', error: expect.any(String) });
  });
});

test.each([
  ['no HTTP', 'hello\r\n\r\n', 400],
  ['two lengths', submissionWith('content-length: 1\r\ncontent-length: 2\r\n'), 400],
  ['a length and chunks', submissionWith('content-length: 3\r\ntransfer-encoding: chunked\r\n'), 400],
  ['a line break in a header', submissionWith('x-a: b\rc\r\n'), 400],
  ['headers without end', submissionWith(`x-a: ${'a'.repeat(20_000)}\r\n`), 431],
  ['no host', `GET /healthz HTTP/1.1\r\n\r\n`, 400],
])('%s is refused before it reaches anybody', async (_name, text, status) => {
  expect((await exchange(listening.url, text)).status).toBe(status);
});

function submissionWith(fields: string): string {
  return `POST /v2/${MODEL} HTTP/1.1\r\nHost: x\r\nconnection: close\r\n${fields}\r\n`;
}

describe('a body that is too large', () => {
  const head = (fields: string, path = `/v2/${MODEL}`) =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nx-api-key: ${service.key}\r\ncontent-type: application/json\r\n${fields}\r\n`;

  test('and never ends is cut off', async () => {
    using connection = await connectRaw(listening.url);
    const { socket } = connection;
    connection.send(head('transfer-encoding: chunked\r\n'));
    const chunk = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(0x10000, 0x20), Buffer.from('\r\n')]);
    // A client that takes no notice of the answer.
    const pump = () => {
      while (!socket.destroyed && socket.write(chunk));
      if (!socket.destroyed) socket.once('drain', pump);
    };
    pump();
    const answer = parseAnswer(await connection.closed);
    expect(answer).toMatchObject({ status: 413, body: expect.stringContaining('payload_too_large') });
    // Dropped as it comes: 64 MiB or half a second at most, and what lies in the buffers of two sockets.
    expect(socket.bytesWritten).toBeLessThan(80 * 1024 * 1024);
  });

  test('is answered in full to a client that sends everything before it listens', async () => {
    using connection = await connectRaw(listening.url);
    const { socket } = connection;
    const failures: Error[] = [];
    socket.on('error', (error) => failures.push(error));
    socket.pause();
    const length = 5 * JSON_BYTES_MAX;
    connection.send(head(`content-length: ${length}\r\n`, '/v2/webhooks/test'));
    await new Promise((resolve) => socket.write(Buffer.alloc(length, 0x20), resolve));
    socket.resume();
    expect(await connection.until('payload_too_large')).toMatch(/^HTTP\/1\.1 413 /);
    expect(failures).toEqual([]);
  });

  test('is refused before it is sent, where the client asks first', async () => {
    using connection = await connectRaw(listening.url);
    connection.send(head(`content-length: ${largestBody(service.engine.uploads.bytesMax) + 1}\r\nexpect: 100-continue\r\n`));
    expect(await connection.until('payload_too_large')).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('is told from one that may be sent, where the client asks first', async () => {
    using connection = await connectRaw(listening.url);
    connection.send(head(`content-length: ${BODY.length}\r\nexpect: 100-continue\r\n`));
    expect(await connection.until('\r\n\r\n')).toMatch(/^HTTP\/1\.1 100 /);
    connection.send(BODY);
    expect(await connection.until('request_id')).toContain('HTTP/1.1 200 ');
  });
});

test('a client that leaves in the middle of its body is no error of the service', async () => {
  const before = errors.length;
  using connection = await connectRaw(listening.url);
  connection.send(submission('Host: x\r\n', { body: BODY }).slice(0, -4));
  connection.socket.end();
  await connection.closed;
  expect((await fetch(`${listening.url}/healthz`)).status).toBe(200);
  expect(errors.slice(before)).toEqual([]);
});

test('a connection carries one request after another', async () => {
  using connection = await connectRaw(listening.url);
  for (let count = 1; count <= 3; count++) {
    connection.send(`GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nHEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n`);
    while (connection.received().split('HTTP/1.1 200 ').length < 1 + 2 * count) await once(connection.socket, 'data');
  }
  expect(connection.received().split('{"status":"ok"}').length).toBe(1 + 3);
});

test('a port that is taken is said to be', async () => {
  const port = Number(new URL(listening.url).port);
  const taken = listen(service.app, { host: '127.0.0.1', port });
  await expect(taken).rejects.toThrow(StartError);
  await expect(taken).rejects.toThrow(`Port ${port} on 127.0.0.1 is in use`);
});

describe('closing', () => {
  /** As the process does it: the application is told first. */
  async function close(closing: TestService, open: Listening): Promise<number> {
    const startedMs = performance.now();
    closing.startClosing();
    await open.close();
    return performance.now() - startedMs;
  }

  test('ends event streams and held requests, lets running ones finish, and does not wait for idle connections', async () => {
    await using own = await startTestService({ worker: false });
    const open = await own.listen();
    const id = await own.submit({ prompt: 'x' });
    const key = `Host: x\r\nx-api-key: ${own.key}\r\n`;
    const upload = `${key}content-type: application/json\r\ncontent-length: ${BODY.length}\r\n`;
    using idle = await connectRaw(open.url);
    idle.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await idle.until('"ok"');
    using stream = await connectRaw(open.url);
    stream.send(`GET /v2/requests/${id}/events HTTP/1.1\r\n${key}\r\n`);
    await stream.until('event: status');
    using held = await connectRaw(open.url);
    held.send(`GET /v2/requests/${id}/status?wait=60 HTTP/1.1\r\n${key}\r\n`);
    using waiting = await connectRaw(open.url);
    waiting.send(`POST /v2/${MODEL} HTTP/1.1\r\n${upload}prefer: wait=60\r\n\r\n${BODY}`);
    using running = await connectRaw(open.url);
    running.send(`POST /v2/${MODEL} HTTP/1.1\r\n${upload}\r\n${BODY.slice(0, 5)}`);
    // Connections are taken in one by one, so once this is answered all of them have been.
    await fetch(`${open.url}/healthz`, { headers: { connection: 'close' } });

    const closed = close(own, open);
    // The last chunk of a stream is empty; one that was cut off would not have it.
    expect(await stream.closed).toMatch(/\r\n0\r\n\r\n$/);
    expect(JSON.parse(parseAnswer(await held.closed).body)).toMatchObject({ status: 'QUEUED', request_id: id });
    expect(JSON.parse(parseAnswer(await waiting.closed).body)).toMatchObject({ status: 'QUEUED' });
    running.send(BODY.slice(5));
    expect(parseAnswer(await running.closed)).toMatchObject({ status: 200, headers: { connection: 'close' } });
    expect(await closed).toBeLessThan(2_900);
    await idle.closed;
  });

  test('waits three seconds for a client that does not finish, and no longer', async () => {
    await using own = await startTestService({ worker: false });
    const open = await own.listen();
    using slow = await connectRaw(open.url);
    slow.send(
      `POST /v2/${MODEL} HTTP/1.1\r\nHost: x\r\nx-api-key: ${own.key}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`,
    );
    // Answered on the same turn of the server's loop or later, so the slow one has been taken in.
    await fetch(`${open.url}/healthz`, { headers: { connection: 'close' } });
    const tookMs = await close(own, open);
    expect(tookMs).toBeGreaterThan(2_900);
    expect(tookMs).toBeLessThan(20_000);
    await slow.closed;
  });
});
