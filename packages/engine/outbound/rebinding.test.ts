/**
 * DNS rebinding: the owner of a name answers with a harmless address while it is checked, and with one inside when it is called. In no test
 * may anything but loopback be what is connected, even if the guard were broken: other addresses are answered only where nothing is called.
 */
import { systemClock } from '@claimcheck/core';
import { expect, test } from 'vitest';
import { parseAllowList } from './allow-list.ts';
import { openCaller } from './call.ts';
import { type Guard, openGuard } from './guard.ts';
import { startDnsServer } from './testing/dns-server.ts';
import { startReceiver } from './testing/receiver.ts';
import { openTestCaller } from './testing/test-caller.ts';

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';
const NAME = 'rebind.example.com';

test.each(['127.0.0.1', '::ffff:127.0.0.1', '127.0.0.2', '::1'])(
  'a name that was public when checked is not called at %s later',
  async (inside) => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    await using dns = await startDnsServer((_name, before) => (before === 0 ? ['93.184.216.34'] : [inside]));
    const url = `http://${NAME}:${receiver.port}/`;
    const guard = openGuard({ resolve: dns.resolve });
    expect(guard.problemWith(url)).toBeUndefined();
    expect(await guard.addressesOf(NAME)).toEqual(['93.184.216.34']);

    await using test = openTestCaller({ guard });
    expect(await test.failureOf(url)).toMatchObject({
      code: 'blocked_address',
      isLiteral: false,
      timings: { totalMs: expect.any(Number) },
    });
    expect(dns.lookups).toHaveLength(2);
    expect(receiver.connections).toBe(0);
  },
);

test('a name that answers well and badly at once is called at the good address only', async () => {
  await using receiver = await startReceiver((socket) => socket.write(OK));
  await using dns = await startDnsServer(() => ['127.0.0.2', '127.0.0.3', '127.0.0.1', '::1']);
  await using test = openTestCaller({ resolve: dns.resolve });
  expect(await test.post(`http://${NAME}:${receiver.port}/`)).toMatchObject({ status: 200, address: '127.0.0.1' });
});

test('a connection asks once and goes to what was answered then; the next one asks again', async () => {
  await using receiver = await startReceiver((socket) => socket.end(OK));
  // 127.0.0.1 stands for the address that may be called, and 127.0.0.2 for one that may not.
  await using dns = await startDnsServer((_name, before) => [before === 0 ? '127.0.0.1' : '127.0.0.2']);
  await using test = openTestCaller({ resolve: dns.resolve });
  const url = `http://${NAME}:${receiver.port}/`;
  expect(await test.post(url)).toMatchObject({ status: 200, address: '127.0.0.1' });
  expect(dns.lookups).toHaveLength(1);
  // The receiver closes its connection after each answer.
  const error = await test.failureOf(url);
  expect(error).toMatchObject({ code: 'blocked_address', isLiteral: false });
  expect(error.address).toBeUndefined();
  expect(dns.lookups).toHaveLength(2);
  expect(receiver.connections).toBe(1);
});

test.each(['http', 'https'])(
  'an address that slipped through the lookup is refused once it is connected, before %s says a word',
  async (protocol) => {
    await using receiver = await startReceiver((socket) => socket.write(OK));
    const { allow } = parseAllowList('127.0.0.2');
    // Its lookup is broken on purpose; its judgement is not.
    const guard: Guard = { ...openGuard({ allow }), addressesOf: async () => ['127.0.0.1'] };
    const caller = openCaller({ guard, clock: systemClock });
    const call = caller.call({
      url: `${protocol}://${NAME}:${receiver.port}/`,
      method: 'POST',
      headers: {},
      body: 'secret',
      totalMs: 1_000,
      bodyBytesMax: 1_000,
    });
    await expect(call).rejects.toMatchObject({ code: 'blocked_address', isLiteral: false });
    await expect.poll(() => receiver.connections).toBe(1);
    await caller.close();
    expect(receiver.requests).toEqual([]);
  },
);
