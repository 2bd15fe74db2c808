/** What holds for runs that are started and looked at until they have ended. */
import type { JsonValue } from '@claimcheck/core';
import { expect } from 'vitest';
import type { Fault } from '../simulators/simulator.ts';
import { type Bench, errorOf, FOREVER_MS, handleOf, later, reasonOf, resume } from './bench.ts';
import { finish } from './run.ts';
import { flood, script } from './script.ts';
import type { Case, PolledSubject, Subject } from './subject.ts';

/** Milliseconds until the next look when the vendor names none. */
const AGAIN_MS = 5_000;
const READ_BYTES_MAX = 60_000_000;

export const POLLED_CASES = {
  async 'is resumed by its handle by another process, and was submitted once'({ made }, bench) {
    const { vendor, upstream, environment } = await bench.simulate();
    const handle: JsonValue = JSON.parse(JSON.stringify(handleOf(await upstream.start(bench.run()))));
    const other = bench.open(environment);
    expect((await resume(other, bench.run({ attempt: 2 }), handle)).output).toEqual(made(vendor.url));
    expect(vendor.submitted).toBe(1);
  },

  async 'may have been started when the vendor does not say which it is'(subject, bench) {
    for (const id of ['../../keys', 'a b', '', 7, null, undefined]) {
      const { upstream, requests } = await bench.against({ body: polledOf(subject).accepted(id, 'http://127.0.0.1:1') });
      expect(await errorOf(upstream.start(bench.run())), String(id)).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
      expect(requests).toHaveLength(1);
    }
  },

  async 'is looked at as often as the vendor advises, later less often'(subject, bench) {
    const { pace } = polledOf(subject);
    const { upstream } = await bench.simulate({ runMs: FOREVER_MS });
    const step = await upstream.start(bench.run());
    expect(step).toMatchObject({ kind: 'running', checkAfterMs: pace.firstMs });
    const soon = await upstream.check(bench.run(), handleOf(step));
    expect(soon).toMatchObject({ kind: 'running', checkAfterMs: pace.firstMs });
    const late = await upstream.check(bench.run({ clock: later(600_000) }), handleOf(soon));
    expect(late).toMatchObject({ kind: 'running', checkAfterMs: pace.mostMs });
  },

  async 'goes on when a look is one too many, for as long as the vendor says'(subject, bench) {
    await expectLook(subject, bench, '429', subject.rateWaitMs ?? 1000);
  },
  async 'goes on when a look is answered with 500'(subject, bench) {
    await expectLook(subject, bench, '500', AGAIN_MS);
  },
  async 'goes on when a look is answered with a page'(subject, bench) {
    await expectLook(subject, bench, 'html', AGAIN_MS);
  },
  async 'goes on when the answer to a look breaks off'(subject, bench) {
    await expectLook(subject, bench, 'truncated', AGAIN_MS);
  },

  async 'goes on when a look is refused, reaches nobody, or is answered by something in front of the vendor'(subject, bench) {
    const { handle } = polledOf(subject);
    for (const status of [429, 500, 502, 503, 504]) {
      const { upstream } = await bench.against({ status, body: '<html>', headers: { 'content-type': 'text/html' } });
      expect(await upstream.check(bench.run(), handle), String(status)).toEqual({ kind: 'running', handle, checkAfterMs: AGAIN_MS });
    }
    const { vendor, upstream } = await bench.simulate();
    await vendor[Symbol.asyncDispose]();
    expect(await upstream.check(bench.run(), handle)).toEqual({ kind: 'running', handle, checkAfterMs: AGAIN_MS });
  },

  async 'waits for slow answers to looks'({ made }, bench) {
    const { vendor, upstream } = await bench.simulate();
    const handle = handleOf(await upstream.start(bench.run()));
    vendor.inject('slow');
    expect((await resume(upstream, bench.run(), handle)).output).toEqual(made(vendor.url));
  },

  async 'that is told of with a status of before goes on'({ made }, bench) {
    const { vendor, upstream } = await bench.simulate();
    const handle = handleOf(await upstream.start(bench.run()));
    vendor.inject('backwards', 2);
    expect((await resume(upstream, bench.run(), handle)).output).toEqual(made(vendor.url));
    expect(vendor.submitted).toBe(1);
  },

  async 'that is told of with a status that nobody knows is looked at again'(subject, bench) {
    const { told, handle } = polledOf(subject);
    for (const status of ['daydreaming', 'constructor', '']) {
      const { upstream } = await bench.against({ body: told(status) });
      expect(await upstream.check(bench.run(), handle), status).toEqual({ kind: 'running', handle, checkAfterMs: AGAIN_MS });
    }
  },

  async 'that is told of with 200 MB is over, and they were not read'(subject, bench) {
    const { handle } = polledOf(subject);
    for (const isAnnounced of [true, false]) {
      const flooding = await flood(isAnnounced);
      expect(await errorOf(bench.openAt(flooding.url).check(bench.run(), handle))).toMatchObject({ name: 'TerminalError' });
      expect(flooding.sent).toBeLessThan(READ_BYTES_MAX + 20_000_000);
    }
  },

  async 'that the vendor does not know, or no longer, is over, and is no other provider’s'(subject, bench) {
    const { upstream } = await bench.simulate();
    const error = await errorOf(upstream.check(bench.run(), polledOf(subject).handle));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: false });
  },

  async 'is asked for at the configured address only, whatever addresses an answer names'(subject, bench) {
    const { accepted, ended } = polledOf(subject);
    const elsewhere = await script({ body: {} });
    const { upstream, requests } = await bench.against({ body: accepted('abc', elsewhere.url) }, ...ended(elsewhere.url));
    await finish(upstream, bench.run());
    expect(requests.length).toBeGreaterThan(1);
    expect(elsewhere.requests).toEqual([]);
  },

  async 'that is somebody else’s is an error of ours, and nothing is asked'(subject, bench) {
    const { handle } = polledOf(subject);
    const { vendor, upstream } = await bench.simulate();
    const others: readonly JsonValue[] = [{ ...handle, id: '../keys' }, { id: 'a' }, { ...handle, startedAt: 'now' }, 'a', 7, [], null];
    for (const other of others) {
      const error = await errorOf(upstream.check(bench.run(), other));
      expect(error, JSON.stringify(other)).toMatchObject({ name: 'TerminalError', code: 'internal' });
    }
    expect(vendor.requests).toEqual([]);
  },

  async 'is cancelled at the vendor, which can be done again'(subject, bench) {
    const { cancellation = expect.unreachable('there is a way to cancel') } = polledOf(subject);
    const { vendor, upstream } = await bench.simulate({ runMs: FOREVER_MS });
    const run = bench.run();
    const handle = handleOf(await upstream.start(run));
    await upstream.cancel?.(run, handle);
    const { method, path } = vendor.requests.at(-1) ?? expect.unreachable('the vendor was asked');
    expect(`${method} ${path}`).toMatch(cancellation);
    await upstream.cancel?.(run, handle);
    expect(await errorOf(upstream.check(run, handle))).toMatchObject({ name: 'TerminalError', isProvidersOnly: false });
  },

  async 'that has ended, or is not known, can be cancelled without harm'(subject, bench) {
    const { vendor, upstream } = await bench.simulate({ runMs: 0 });
    const run = bench.run();
    const handle = handleOf(await upstream.start(run));
    await resume(upstream, run, handle);
    for (const each of [handle, polledOf(subject).handle]) expect(await upstream.cancel?.(run, each)).toBeUndefined();
    expect(vendor.submitted).toBe(1);
  },

  async 'is not looked at any more when it is not wanted'(subject, bench) {
    const { vendor, upstream } = await bench.simulate({ runMs: FOREVER_MS, slowMs: FOREVER_MS });
    const handle = handleOf(await upstream.start(bench.run()));
    vendor.inject('slow', polledOf(subject).callsPerLook ?? 1);
    const control = new AbortController();
    const ended = reasonOf(upstream.check(bench.run({ signal: control.signal }), handle));
    await expect.poll(() => vendor.requests.length, { interval: 5 }).toBe(2);
    control.abort(new Error('lease lost'));
    expect(await ended).toBe(control.signal.reason);
  },

  async 'that is submitted again is recognised or not, as the adapter says'(subject, bench) {
    const { vendor, upstream, environment } = await bench.simulate({ runMs: FOREVER_MS });
    for (const [attempt, each] of [upstream, bench.open(environment)].entries()) await each.start(bench.run({ attempt: attempt + 1 }));
    expect(vendor.submitted).toBe(polledOf(subject).runsOfTwo ?? 2);
    if (vendor.submitted > 1) expect(upstream.isIdempotent ?? false).toBe(false);
  },
} satisfies Record<string, Case>;

function polledOf({ polled }: Subject): PolledSubject {
  return polled ?? expect.unreachable('this run is looked at');
}

/** The fault makes one look fail; the run is as it was, and the next look finds its end. */
async function expectLook(subject: Subject, bench: Bench, fault: Fault, checkAfterMs: unknown): Promise<void> {
  const { vendor, upstream } = await bench.simulate({ runMs: 0 });
  const run = bench.run();
  const handle = handleOf(await upstream.start(run));
  vendor.inject(fault, polledOf(subject).callsPerLook ?? 1);
  expect(await upstream.check(run, handle)).toEqual({ kind: 'running', handle, checkAfterMs });
  expect((await resume(upstream, run, handle)).output).toEqual(subject.made(vendor.url));
  expect(vendor.submitted).toBe(1);
}
