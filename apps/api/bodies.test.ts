import type { Clock } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { BODY_BYTES_MAX, type Bodies, JSON_BYTES_MAX, largestBody, openBodies } from './bodies.ts';

const MEBIBYTE = 1024 * 1024;

/** A clock that goes on when it is told to, and wakes whoever sleeps. */
function handClock(): Clock & { advance(ms: number): Promise<void> } {
  let now = 0;
  const sleepers = new Set<() => void>();
  return {
    now: () => now,
    sleep: () => new Promise((resolve) => void sleepers.add(resolve)),
    async advance(ms) {
      now += ms;
      for (const wake of sleepers) wake();
      sleepers.clear();
      // Whoever was woken acts first.
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

interface Sender {
  readonly request: Request;
  /** Nobody hears it once the body was given up. */
  send(bytes: number): void;
  end(): void;
  readonly isCancelled: () => boolean;
}

function aSender(headers: Record<string, string> = {}): Sender {
  let isCancelled = false;
  const held: { controller?: ReadableStreamDefaultController<Uint8Array> } = {};
  const readable = new ReadableStream<Uint8Array>({
    start(controller) {
      held.controller = controller;
    },
    cancel() {
      isCancelled = true;
    },
  });
  const init: RequestInit & { duplex: 'half' } = { method: 'POST', headers, body: readable, duplex: 'half' };
  return {
    request: new Request('http://localhost/', init),
    send: (bytes) => (isCancelled ? undefined : held.controller?.enqueue(new Uint8Array(bytes))),
    end: () => held.controller?.close(),
    isCancelled: () => isCancelled,
  };
}

function open(clock = handClock()): { readonly bodies: Bodies; readonly clock: ReturnType<typeof handClock> } {
  return { bodies: openBodies({ clock, closing: new AbortController().signal }), clock };
}

const whole = (bytes: number) => new Request('http://localhost/', { method: 'POST', body: new Uint8Array(bytes) });

describe('a body', () => {
  test('is read whole, and may be missing', async () => {
    const { bodies } = open();
    expect(await bodies.read(whole(100), { bytesMax: 100 })).toHaveLength(100);
    expect(await bodies.read(new Request('http://localhost/'), { bytesMax: 100 })).toHaveLength(0);
  });

  test('that is too large by its own account is not asked for', async () => {
    const { bodies } = open();
    const sender = aSender({ 'content-length': '101' });
    await expect(bodies.read(sender.request, { bytesMax: 100 })).rejects.toMatchObject({ code: 'payload_too_large' });
    expect(sender.request.bodyUsed).toBe(false);
  });

  test('that turns out to be too large is given up', async () => {
    const { bodies } = open();
    const sender = aSender();
    sender.send(60);
    sender.send(60);
    await expect(bodies.read(sender.request, { bytesMax: 100 })).rejects.toMatchObject({ code: 'payload_too_large' });
    expect(sender.isCancelled()).toBe(true);
  });

  test('is given up when nobody reads on', async () => {
    const { bodies } = open();
    const sender = aSender();
    sender.send(10);
    for await (const _chunk of bodies.chunks(sender.request, { bytesMax: 100 })) break;
    expect(sender.isCancelled()).toBe(true);
  });
});

describe('a client that is slow', () => {
  test('is given up after half a minute without a byte', async () => {
    const { bodies, clock } = open();
    const sender = aSender();
    const read = bodies.read(sender.request, { bytesMax: 100 });
    read.catch(() => {});
    await clock.advance(29_000);
    expect(sender.isCancelled()).toBe(false);
    await clock.advance(2_000);
    await expect(read).rejects.toMatchObject({ code: 'invalid_request', message: expect.stringContaining('too slowly') });
  });

  test('gains time by what it sends, in all and not for each byte', async () => {
    const { bodies, clock } = open();
    const [steady, trickling] = [aSender(), aSender()];
    const bytesMax = 10 * MEBIBYTE;
    const read = bodies.read(steady.request, { bytesMax });
    const trickle = bodies.read(trickling.request, { bytesMax });
    trickle.catch(() => {});
    for (let second = 0; second < 60; second += 5) {
      steady.send(5 * 64_000);
      trickling.send(1);
      await clock.advance(0);
      await clock.advance(5_000);
    }
    await expect(trickle).rejects.toMatchObject({ code: 'invalid_request' });
    steady.end();
    expect(await read).toHaveLength(60 * 64_000);
  });

  test('is not blamed for the time that the reader takes', async () => {
    const { bodies, clock } = open();
    const sender = aSender();
    sender.send(10);
    sender.send(10);
    sender.end();
    let bytes = 0;
    for await (const chunk of bodies.chunks(sender.request, { bytesMax: 100 })) {
      bytes += chunk.byteLength;
      await clock.advance(60_000);
    }
    expect(bytes).toBe(20);
  });
});

describe('large bodies', () => {
  test('share what there is for all of them, and small ones are free', async () => {
    const { bodies } = open();
    const leases = Array.from({ length: 2 }, () => bodies.lease());
    for (const lease of leases) lease.grow(BODY_BYTES_MAX + JSON_BYTES_MAX);
    const late = bodies.lease();
    late.grow(JSON_BYTES_MAX);
    expect(() => late.grow(1)).toThrowError(expect.objectContaining({ code: 'unavailable', retryAfterSeconds: 2 }));
    await expect(bodies.read(whole(JSON_BYTES_MAX + 1), { bytesMax: BODY_BYTES_MAX, lease: bodies.lease() })).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect(await bodies.read(whole(JSON_BYTES_MAX), { bytesMax: BODY_BYTES_MAX, lease: bodies.lease() })).toHaveLength(JSON_BYTES_MAX);
    leases[0]?.[Symbol.dispose]();
    // Given back once, however often it is asked for.
    leases[0]?.[Symbol.dispose]();
    late.grow(BODY_BYTES_MAX);
    expect(() => late.grow(1)).toThrowError(expect.objectContaining({ code: 'unavailable' }));
  });

  test('may be as large as the largest file in a form', () => {
    expect(largestBody(1)).toBe(BODY_BYTES_MAX);
    expect(largestBody(200 * MEBIBYTE)).toBeGreaterThan(200 * MEBIBYTE + JSON_BYTES_MAX);
  });
});
