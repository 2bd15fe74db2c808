import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { systemClock } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { listen } from '../testing/index.ts';
import { createTestClock } from '../testing/test-clock.ts';
import { OutboundError, openDownloader, openGuard, parseAllowList, TooLargeError } from './index.ts';
import { createCertificate } from './testing/certificate.ts';
import { startDnsServer } from './testing/dns-server.ts';
import { freePort, type Receiver, startReceiver } from './testing/receiver.ts';
import { openTestDownloader, wholeOf } from './testing/test-downloader.ts';

const HEAD = 'HTTP/1.1 200 OK\r\n';

function urlOf({ port }: Receiver, protocol = 'http'): string {
  return `${protocol}://127.0.0.1:${port}/`;
}

/** A server whose paths answer as told. */
function serving(paths: Readonly<Record<string, (response: ServerResponse, request: IncomingMessage) => void>>) {
  return listen((request, response) => (paths[request.url ?? ''] ?? ((missing) => void missing.writeHead(404).end()))(response, request));
}

function redirect(location: string, status = 302) {
  return (response: ServerResponse) => void response.writeHead(status, { location }).end('elsewhere');
}

describe('a download', () => {
  test('comes byte for byte, with what the server says of it, and asks for nothing packed', async () => {
    const bytes = randomBytes(900_000);
    let asked: IncomingMessage['headers'] = {};
    await using server = await serving({
      '/a.png?b=c': (response, request) => {
        asked = request.headers;
        response.writeHead(200, { 'content-type': 'image/png', 'x-two': ['a', 'b'] }).end(bytes);
      },
    });
    await using test = openTestDownloader();
    const { status, headers, body } = await test.download(`${server.url}/a.png?b=c#d`);
    expect(status).toBe(200);
    expect(headers).toMatchObject({ 'content-type': 'image/png', 'x-two': 'a,b' });
    expect((await wholeOf(body)).equals(bytes)).toBe(true);
    expect(asked).toEqual({ host: new URL(server.url).host, connection: 'keep-alive', accept: '*/*', 'accept-encoding': 'identity' });
  });

  test.each([204, 400, 404, 410, 500, 503])('resolves with status %i', async (status) => {
    await using server = await serving({ '/': (response) => void response.writeHead(status).end('x') });
    await using test = openTestDownloader();
    using answer = await test.download(`${server.url}/`);
    expect(answer.status).toBe(status);
  });

  test('waits for a reader that takes its time, without counting that as silence and without reading ahead', async () => {
    const chunk = Buffer.alloc(65_536);
    let written = 0;
    await using server = await serving({
      '/': async (response) => {
        for (; written < 400 * chunk.length && !response.destroyed; written += chunk.length) {
          if (!response.write(chunk)) await new Promise((resolve) => response.once('drain', resolve));
        }
        response.end();
      },
    });
    const clock = createTestClock();
    await using test = openTestDownloader({ clock });
    using answer = await test.download(`${server.url}/`, { idleMs: 30, totalMs: 20_000, bytesMax: 1e9 });
    const chunks = answer.body[Symbol.asyncIterator]();
    let read = (await chunks.next()).value?.length ?? 0;
    const seen: number[] = [];
    const isStanding = () => seen.length > 1 && seen.at(-1) === seen.at(-2);
    await expect.poll(() => seen.push(written) > 0 && isStanding(), { interval: 100 }).toBe(true);
    // What the kernel holds for both ends, and the buffer.
    expect(written).toBeLessThan(15_000_000);
    for (let looks = 0; looks < 5; looks++) {
      await expect.poll(() => clock.sleeping).toContain(30);
      clock.advance(30);
    }
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) read += next.value.length;
    expect(read).toBe(400 * chunk.length);
  });

  test('that was read to its end leaves its connection to the next one', async () => {
    await using receiver = await startReceiver((socket) => socket.write(`${HEAD}content-length: 2\r\n\r\nok`));
    await using test = openTestDownloader();
    for (let call = 1; call <= 10; call++) {
      using answer = await test.download(urlOf(receiver));
      expect(String(await wholeOf(answer.body))).toBe('ok');
    }
    expect(receiver.requests).toHaveLength(10);
    // The library may open a second one while it still tidies up after the first answer.
    expect(receiver.connections).toBeLessThan(4);
  });

  test('that is not wanted any more breaks its connection', async () => {
    const closed = Promise.withResolvers<void>();
    await using receiver = await startReceiver((socket) => {
      socket.on('close', () => closed.resolve());
      socket.write(`${HEAD}content-length: 100000\r\n\r\nx`);
    });
    await using test = openTestDownloader();
    for await (const _ of (await test.download(urlOf(receiver))).body) break;
    await closed.promise;
  });

  test('ends with the reason of its signal, before the answer and in its body', async () => {
    await using receiver = await startReceiver((socket) => socket.write(`${HEAD}content-length: 5\r\n\r\nx`));
    await using silent = await startReceiver(() => {});
    await using test = openTestDownloader();
    const early = AbortSignal.timeout(30);
    await expect(test.download(urlOf(silent), { signal: early })).rejects.toBe(await reasonOf(early));
    const stop = new AbortController();
    const { body } = await test.download(urlOf(receiver), { signal: stop.signal });
    const reason = new Error('enough');
    stop.abort(reason);
    await expect(wholeOf(body)).rejects.toBe(reason);
    await expect(test.download(urlOf(receiver), { signal: stop.signal })).rejects.toBe(reason);
  });

  test('comes over TLS from a server with a certificate of its name, and from no other', async () => {
    const certificate = createCertificate('cdn.example.com');
    await using receiver = await startReceiver((socket) => socket.end(`${HEAD}content-length: 2\r\n\r\nok`), certificate);
    await using test = openTestDownloader({ ca: certificate.cert });
    expect(String(await test.read(`https://cdn.example.com:${receiver.port}/`))).toBe('ok');
    await expect(test.read(`https://other.example.com:${receiver.port}/`)).rejects.toMatchObject({ code: 'tls_error' });
  });
});

/** The reason of a signal that aborts by itself. */
async function reasonOf(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
  return signal.reason;
}

describe('a server that breaks off', () => {
  test.each([
    ['before it answers', ''],
    ['in its headers', `${HEAD}content-le`],
  ])('%s fails the download', async (_when, said) => {
    await using receiver = await startReceiver((socket) => socket.end(said));
    await using test = openTestDownloader();
    await expect(test.download(urlOf(receiver))).rejects.toMatchObject({ code: 'connection_reset' });
  });

  test.each([
    ['with a length', `${HEAD}content-length: 100\r\n\r\nonly a part`],
    ['in chunks', `${HEAD}transfer-encoding: chunked\r\n\r\n4\r\npart\r\n`],
  ])('in a body %s fails it too', async (_how, said) => {
    await using receiver = await startReceiver((socket) => socket.end(said));
    await using test = openTestDownloader();
    await expect(test.read(urlOf(receiver))).rejects.toMatchObject({ code: 'connection_reset' });
  });

  test('or was never there fails the download', async () => {
    await using test = openTestDownloader();
    await expect(test.download(`http://127.0.0.1:${await freePort()}/`)).rejects.toMatchObject({ code: 'connect_refused' });
  });

  test('or speaks something else fails the download', async () => {
    await using receiver = await startReceiver((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n'));
    await using test = openTestDownloader();
    await expect(test.download(urlOf(receiver))).rejects.toMatchObject({ code: 'response_invalid' });
  });
});

describe('a server that takes its time', () => {
  async function drip(socket: Socket): Promise<void> {
    socket.write(`${HEAD}\r\n`);
    while (!socket.destroyed) {
      socket.write('x');
      await systemClock.sleep(5);
    }
  }

  test.each<[string, string, object, (socket: Socket) => unknown]>([
    ['does not answer', 'headers_timeout', { idleMs: 50 }, () => {}],
    ['does not answer', 'headers_timeout', { totalMs: 50 }, () => {}],
    ['falls silent in its body', 'total_timeout', { idleMs: 300 }, (socket) => socket.write(`${HEAD}content-length: 5\r\n\r\nx`)],
    ['drips its body for ever', 'total_timeout', { totalMs: 200 }, drip],
  ])('and %s is given up with %s (%j)', async (_what, code, limits, answer) => {
    const closed = Promise.withResolvers<void>();
    await using receiver = await startReceiver((socket) => {
      socket.on('close', () => closed.resolve());
      answer(socket);
    });
    await using test = openTestDownloader();
    await expect(test.read(urlOf(receiver), limits)).rejects.toMatchObject({ code });
    await closed.promise;
  });
});

describe('a body that is too large', () => {
  test('is refused when it is announced', async () => {
    await using receiver = await startReceiver((socket) => socket.write(`${HEAD}content-length: 2147483648\r\n\r\n`));
    await using test = openTestDownloader();
    await expect(test.download(urlOf(receiver))).rejects.toBeInstanceOf(TooLargeError);
  });

  test('is cut off when it is not', async () => {
    const closed = Promise.withResolvers<number>();
    await using receiver = await startReceiver((socket) => {
      socket.on('close', () => closed.resolve(socket.bytesWritten));
      socket.write(`${HEAD}\r\n`);
      const flood = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536))) {}
      };
      socket.on('drain', flood);
      flood();
    });
    await using test = openTestDownloader();
    await expect(test.read(urlOf(receiver), { bytesMax: 100_000 })).rejects.toBeInstanceOf(TooLargeError);
    expect(await closed.promise).toBeLessThan(15_000_000);
  });

  test('by nothing is not', async () => {
    await using receiver = await startReceiver((socket) => socket.end(`${HEAD}content-length: 5\r\n\r\n12345`));
    await using test = openTestDownloader();
    expect(await test.read(urlOf(receiver), { bytesMax: 5 })).toHaveLength(5);
  });
});

describe('a redirect', () => {
  test.each([301, 302, 303, 307, 308])('with status %i is followed, relative or not', async (status) => {
    await using server = await serving({
      '/a': redirect('/b', status),
      '/b': (response, { headers }) => redirect(`http://${headers.host}/c`, status)(response),
      '/c': (response) => void response.end('there'),
    });
    await using test = openTestDownloader();
    expect(String(await test.read(`${server.url}/a`))).toBe('there');
  });

  test('is followed a few times only', async () => {
    let visits = 0;
    await using server = await serving({
      '/': (response) => {
        visits += 1;
        redirect('/')(response);
      },
    });
    await using test = openTestDownloader();
    await expect(test.download(`${server.url}/`)).rejects.toMatchObject({ code: 'response_invalid' });
    expect(visits).toBe(4);
  });

  test.each([
    'http://169.254.169.254/latest/meta-data/',
    'http://[::ffff:169.254.169.254]/',
    'http://127.0.0.2/',
    'http://10.0.0.1/',
    'http://localhost/',
    'http://metadata.google.internal/',
    'file:///etc/passwd',
    'data:text/plain,hello',
    'ftp://example.com/',
    'http://user:word@example.com/',
  ])('to %s is refused', async (target) => {
    await using server = await serving({ '/': redirect(target) });
    await using test = openTestDownloader();
    await expect(test.download(`${server.url}/`)).rejects.toMatchObject({ code: 'blocked_address', isLiteral: true });
  });

  test('to a name that leads inside is refused', async () => {
    await using server = await serving({ '/': redirect('http://inside.example.com/') });
    await using test = openTestDownloader({ resolve: async () => ['10.0.0.1'] });
    await expect(test.download(`${server.url}/`)).rejects.toMatchObject({ code: 'blocked_address', isLiteral: false });
  });

  test('without a target fails the download', async () => {
    await using server = await serving({ '/': (response) => void response.writeHead(302).end() });
    await using test = openTestDownloader();
    await expect(test.download(`${server.url}/`)).rejects.toMatchObject({ code: 'response_invalid' });
  });

  test('does not start the limits anew', async () => {
    await using server = await serving({
      '/': async (response) => {
        await systemClock.sleep(40);
        redirect('/')(response);
      },
    });
    await using test = openTestDownloader();
    await expect(test.download(`${server.url}/`, { totalMs: 100, redirectsMax: 50 })).rejects.toMatchObject({ code: 'total_timeout' });
  });
});

describe('what the guard refuses', () => {
  test.each([
    'file:///etc/passwd',
    'data:image/png;base64,AAAA',
    'http://169.254.169.254/',
    'http://[::1]/',
    'http://x.internal/',
    'nonsense',
  ])('is not downloaded: %s', async (url) => {
    await using test = openTestDownloader();
    await expect(test.download(url)).rejects.toMatchObject({ code: 'blocked_address' });
  });

  test('stays refused when a name that was harmless when it was judged leads inside when it is connected', async () => {
    await using receiver = await startReceiver((socket) => socket.end(`${HEAD}content-length: 2\r\n\r\nok`));
    await using dns = await startDnsServer((_name, before) => [before === 0 ? '127.0.0.1' : '127.0.0.2']);
    await using test = openTestDownloader({ resolve: dns.resolve });
    const url = `http://rebind.example.com:${receiver.port}/`;
    expect(String(await test.read(url))).toBe('ok');
    await expect(test.read(url)).rejects.toMatchObject({ code: 'blocked_address' });
    expect(receiver.connections).toBe(1);
  });

  test('is refused after it was connected, before a word is said, should the lookup have let it through', async () => {
    await using receiver = await startReceiver((socket) => socket.end(`${HEAD}content-length: 2\r\n\r\nok`));
    const guard = { ...openGuard({ allow: parseAllowList('127.0.0.2').allow }), addressesOf: async () => ['127.0.0.1'] };
    const downloader = openDownloader({ guard, clock: systemClock });
    const { signal } = new AbortController();
    const download = downloader.download({
      url: `http://rebind.example.com:${receiver.port}/`,
      totalMs: 1_000,
      idleMs: 1_000,
      bytesMax: 10,
      signal,
    });
    await expect(download).rejects.toMatchObject({ code: 'blocked_address' });
    await expect.poll(() => receiver.connections).toBe(1);
    await downloader.close();
    expect(receiver.requests).toEqual([]);
  });
});

test('closing breaks what is under way, and what comes later fails', async () => {
  await using receiver = await startReceiver((socket) => socket.write(`${HEAD}content-length: 5\r\n\r\nx`));
  await using test = openTestDownloader();
  const { body } = await test.download(urlOf(receiver));
  await test.close();
  await expect(wholeOf(body)).rejects.toBeInstanceOf(OutboundError);
  await expect(test.download(urlOf(receiver))).rejects.toBeInstanceOf(OutboundError);
});
