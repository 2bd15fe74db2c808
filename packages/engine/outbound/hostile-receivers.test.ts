import type { Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { systemClock } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { createCertificate } from './testing/certificate.ts';
import { startDnsServer } from './testing/dns-server.ts';
import { type Receiver, startReceiver } from './testing/receiver.ts';
import { openTestCaller } from './testing/test-caller.ts';

const HEAD = 'HTTP/1.1 200 OK\r\n';

function urlOf({ port }: Receiver): string {
  return `http://127.0.0.1:${port}/`;
}

/** Writes again and again until the connection breaks. */
async function drip(socket: Socket, text: string, beginning = ''): Promise<void> {
  socket.write(beginning);
  while (!socket.destroyed) {
    socket.write(text);
    await systemClock.sleep(5);
  }
}

describe('a receiver that takes its time', () => {
  test.each<[string, string, (socket: Socket) => unknown]>([
    ['does not answer', 'headers_timeout', () => {}],
    ['drips headers', 'headers_timeout', (socket) => drip(socket, 'x: y\r\n', HEAD)],
    ['announces for ever', 'headers_timeout', (socket) => drip(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n')],
    ['stops after its headers', 'total_timeout', (socket) => socket.write(`${HEAD}content-length: 5\r\n\r\n`)],
    ['stops in its body', 'total_timeout', (socket) => socket.write(`${HEAD}content-length: 5\r\n\r\nx`)],
    ['drips its body', 'total_timeout', (socket) => drip(socket, 'x', `${HEAD}\r\n`)],
  ])('and %s is given up with %s at the deadline', async (_what, code, answer) => {
    const closed = Promise.withResolvers<void>();
    await using receiver = await startReceiver((socket) => {
      socket.on('close', () => closed.resolve());
      answer(socket);
    });
    await using test = openTestCaller();
    const error = await test.failureOf(urlOf(receiver), { totalMs: 100 });
    expect(error).toMatchObject({ code, address: '127.0.0.1', status: code === 'total_timeout' ? 200 : undefined });
    expect(error.timings.totalMs).toBeGreaterThanOrEqual(95);
    expect(error.timings.totalMs).toBeLessThan(5_000);
    await closed.promise;
  });

  test('to agree on encryption is given up when connecting takes too long', async () => {
    await using receiver = await startReceiver(() => {});
    await using test = openTestCaller({ connectMsMax: 50 });
    const error = await test.failureOf(`https://hook.example.com:${receiver.port}/`);
    expect(error).toMatchObject({ code: 'connect_timeout', timings: { dnsMs: expect.any(Number), connectMs: expect.any(Number) } });
  });

  test('to be looked up is given up when that takes too long', async () => {
    await using test = openTestCaller({ dnsMsMax: 50, resolve: () => new Promise(() => {}) });
    expect(await test.failureOf('http://hook.example.com/')).toMatchObject({
      code: 'dns_error',
      message: 'The name of the receiver was not looked up in time.',
      timings: { totalMs: expect.any(Number) },
    });
  });

  test('to be looked up is given up at the deadline of the call', async () => {
    await using test = openTestCaller({ resolve: () => new Promise(() => {}) });
    expect(await test.failureOf('http://hook.example.com/', { totalMs: 50 })).toMatchObject({ code: 'total_timeout' });
  });
});

describe('a receiver that sends too much', () => {
  test('in its body is read as far as allowed, then cut off', async () => {
    const sent = Promise.withResolvers<number>();
    await using receiver = await startReceiver((socket) => {
      socket.on('close', () => sent.resolve(socket.bytesWritten));
      socket.write(`${HEAD}\r\n`);
      const chunk = Buffer.alloc(65_536, 'x');
      const flood = () => {
        while (!socket.destroyed && socket.write(chunk)) {}
      };
      socket.on('drain', flood);
      flood();
    });
    await using test = openTestCaller();
    expect(await test.post(urlOf(receiver))).toMatchObject({ status: 200, bodyHead: 'x'.repeat(1_000), isBodyCut: true });
    // What the buffers of both ends hold, and no more.
    expect(await sent.promise).toBeLessThan(20_000_000);
  });

  test.each([
    ['one header of 64 kB', `x-large: ${'x'.repeat(65_536)}\r\n`],
    ['headers of 64 kB', 'x-small: y\r\n'.repeat(7_000)],
    ['a header without an end', `x-${'x'.repeat(65_536)}`],
  ])('in %s is not listened to', async (_what, headers) => {
    await using receiver = await startReceiver((socket) => socket.write(`${HEAD}${headers}content-length: 0\r\n\r\n`));
    await using test = openTestCaller();
    expect(await test.failureOf(urlOf(receiver))).toMatchObject({ code: 'response_invalid', address: '127.0.0.1' });
  });

  test('in trailers is not listened to', async () => {
    const trailers = 'x-small: y\r\n'.repeat(7_000);
    await using receiver = await startReceiver((socket) => socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n0\r\n${trailers}\r\n`));
    await using test = openTestCaller();
    expect((await test.failureOf(urlOf(receiver))).code).toBe('response_invalid');
  });

  test('in headers below the limit is fine', async () => {
    await using receiver = await startReceiver((socket) =>
      socket.write(`${HEAD}x-large: ${'x'.repeat(16_000)}\r\ncontent-length: 0\r\n\r\n`),
    );
    await using test = openTestCaller();
    expect((await test.post(urlOf(receiver))).headers['x-large']).toHaveLength(16_000);
  });

  test('200 times leaves nothing of it in memory', async () => {
    const chunk = Buffer.alloc(65_536, 'x');
    let sent = 0;
    await using receiver = await startReceiver((socket) => {
      socket.write(`${HEAD}\r\n`);
      const flood = () => {
        while (!socket.destroyed && socket.write(chunk)) {}
      };
      socket.on('drain', flood);
      socket.on('close', () => {
        sent += socket.bytesWritten;
      });
      flood();
    });
    await using test = openTestCaller();
    const kept: unknown[] = [];
    const callTogether = async (count: number) => {
      const answers = await Promise.all(
        Array.from({ length: count }, () => test.post(urlOf(receiver), { totalMs: 10_000, bodyBytesMax: 1_000 })),
      );
      kept.push(...answers);
    };
    // The first calls fill caches that stay.
    for (let round = 0; round < 2; round += 1) await callTogether(20);
    const before = bytesInUse();
    for (let round = 0; round < 10; round += 1) await callTogether(20);
    const grown = bytesInUse() - before;
    expect(kept).toHaveLength(240);
    expect(sent).toBeGreaterThan(200 * chunk.length);
    // One chunk for each call would be 13 MB.
    expect(grown).toBeLessThan(4_000_000);
  });
});

function bytesInUse(): number {
  setFlagsFromString('--expose-gc');
  const collectGarbage: () => void = runInNewContext('gc');
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe('a receiver that breaks off', () => {
  test.each<[string, number | undefined, (socket: Socket) => void]>([
    ['before it answers', undefined, (socket) => socket.end()],
    ['with a reset before it answers', undefined, (socket) => socket.resetAndDestroy()],
    ['in its headers', undefined, (socket) => socket.end(`${HEAD}x-a`)],
    ['in its last body', 200, (socket) => socket.end(`${HEAD}connection: close\r\ncontent-length: 5\r\n\r\nx`)],
    ['in its body', 200, (socket) => socket.end(`${HEAD}content-length: 5\r\n\r\nx`)],
    ['in a chunked body', 200, (socket) => socket.end(`${HEAD}transfer-encoding: chunked\r\n\r\n5\r\nx`)],
    [
      'with a reset in its body',
      200,
      (socket) => socket.write(`${HEAD}content-length: 5\r\n\r\nx`, () => setImmediate(() => socket.resetAndDestroy())),
    ],
  ])('%s has reset the connection', async (_when, status, answer) => {
    await using receiver = await startReceiver(answer);
    await using test = openTestCaller();
    expect(await test.failureOf(urlOf(receiver))).toMatchObject({ code: 'connection_reset', status, address: '127.0.0.1' });
  });
});

describe('a receiver that does not speak HTTP', () => {
  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['nonsense', '\u0000\u0001\u0002\u0003\r\n\r\n'],
    ['two lengths', `${HEAD}content-length: 1\r\ncontent-length: 2\r\n\r\nxx`],
    ['a status below 100', 'HTTP/1.1 099 x\r\ncontent-length: 0\r\n\r\n'],
    ['a status above 599', 'HTTP/1.1 600 x\r\ncontent-length: 0\r\n\r\n'],
    ['a length that is none', `${HEAD}content-length: x\r\n\r\n`],
    ['a line break in a header', `${HEAD}x-a: b\rc\r\n\r\n`],
    ['a chunk of impossible size', `${HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n`],
  ])('but %s is not understood', async (_what, text) => {
    await using receiver = await startReceiver((socket) => socket.write(text, 'latin1'));
    await using test = openTestCaller();
    expect((await test.failureOf(urlOf(receiver))).code).toBe('response_invalid');
  });

  test('and sends more answers than there were calls poisons no later call', async () => {
    const answer = (text: string) => `${HEAD}content-length: ${text.length}\r\n\r\n${text}`;
    let answered = 0;
    await using receiver = await startReceiver((socket) => {
      answered += 1;
      socket.write(answered === 1 ? `${answer('one')}${answer('stale')}` : answer('two'));
    });
    await using test = openTestCaller();
    expect((await test.post(urlOf(receiver))).bodyHead).toBe('one');
    expect((await test.post(urlOf(receiver))).bodyHead).toBe('two');
  });
});

describe('a receiver with a bad certificate', () => {
  test.each([
    ['that nobody signed', createCertificate('hook.example.com'), undefined],
    ['for another name', createCertificate('other.example.com'), 'itself'],
    ['that is over', createCertificate('hook.example.com', { isExpired: true }), 'itself'],
  ])('%s is not trusted', async (_what, certificate, trusted) => {
    await using receiver = await startReceiver((socket) => socket.end(`${HEAD}\r\n`), certificate);
    await using test = openTestCaller(trusted ? { ca: certificate.cert } : {});
    const error = await test.failureOf(`https://hook.example.com:${receiver.port}/`);
    expect(error).toMatchObject({ code: 'tls_error', timings: { connectMs: expect.any(Number) } });
    expect(receiver.requests).toEqual([]);
  });

  test('or none at all is not trusted', async () => {
    await using receiver = await startReceiver((socket) => socket.end(`${HEAD}\r\n`));
    await using test = openTestCaller();
    expect((await test.failureOf(`https://hook.example.com:${receiver.port}/`)).code).toBe('tls_error');
  });
});

describe('a name', () => {
  test.each([
    ['NXDOMAIN', 'dns_not_found'],
    ['SERVFAIL', 'dns_error'],
  ] as const)('that its server answers with %s fails with %s', async (answer, code) => {
    await using dns = await startDnsServer(() => answer);
    await using test = openTestCaller({ resolve: dns.resolve });
    expect(await test.failureOf('http://hook.example.com/')).toMatchObject({ code, isLiteral: false });
    expect(dns.lookups).toEqual(['hook.example.com']);
  });
});
