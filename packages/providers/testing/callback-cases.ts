/** What holds for runs that the vendor tells of, by calls that it signs. */
import type { Run, Upstream } from '@claimcheck/core';
import { expect, onTestFinished } from 'vitest';
import type { Fault, Simulated } from '../simulators/simulator.ts';
import { type Bench, callsOf, errorOf, FOREVER_MS, handleOf, later, resume } from './bench.ts';
import { asCallback, type CallbackReceiver, type ReceivedCallback, receiveCallbacks } from './callbacks.ts';
import { finish } from './run.ts';
import { scriptFor } from './script.ts';
import type { CallbackSubject, Case, Signature, Subject } from './subject.ts';

/** Keys are fetched again after this, not before. */
const FETCH_AGAIN_MS = 31_000;

export const CALLBACK_CASES = {
  async 'is asked for, and slows looking down'(subject, bench) {
    const { vendor, upstream, run } = await callable(bench, FOREVER_MS);
    const step = await upstream.start(run);
    expect(step).toMatchObject({ kind: 'running', checkAfterMs: 30_000 });
    const request = vendor.requests[0] ?? expect.unreachable('the vendor was asked');
    expect(callbackOf(subject).isAskedFor(request, run.callbackUrl ?? '')).toBe(true);
    expect(await upstream.check(run, handleOf(step))).toMatchObject({ kind: 'running', checkAfterMs: 30_000 });
  },

  async 'that is genuine ends the run with what a look finds'(subject, bench) {
    const { vendor, upstream, run, handle, first } = await called(bench);
    const step = await upstream.receive?.(run, asCallback(first, handle));
    expect(callsOf(vendor, callbackOf(subject).id)).toEqual(callbackOf(subject).calls);
    const { media, seed } = (await resume(upstream, run, handle)).output;
    expect(step).toMatchObject({ kind: 'finished', output: { media, ...(seed !== undefined && { seed }) } });
  },

  async 'about a run that failed throws what a look throws'({ words, refusalCode = 'content_refused' }, bench) {
    for (const [fault, code, message] of [
      ['fail', 'provider_error', words.fail],
      ['refuse', refusalCode, words.refuse],
    ] as const) {
      const { upstream, run, handle, first } = await called(bench, fault);
      const error = await errorOf(upstream.receive?.(run, asCallback(first, handle)));
      expect(error, fault).toMatchObject({ name: 'TerminalError', code, message });
    }
  },

  async 'that comes twice, or is played again, says the same each time, and what it is verified by is fetched once'(subject, bench) {
    const { vendor, upstream, receiver, run, handle, first } = await called(bench, 'double-callback');
    const second = await receiver.arrival(2);
    const steps = [];
    for (const each of [first, second, first]) steps.push(await upstream.receive?.(run, asCallback(each, handle)));
    expect(steps[0]).toMatchObject({ kind: 'finished' });
    expect(steps).toEqual([steps[0], steps[0], steps[0]]);
    const keysPath = callbackOf(subject).signature?.keys.path;
    if (keysPath !== undefined) expect(vendor.requests.filter(({ path }) => path === keysPath)).toHaveLength(1);
    expect(vendor.submitted).toBe(1);
  },

  async 'with one changed byte proves nothing'(_subject, bench) {
    const { upstream, run, handle, first } = await called(bench);
    for (const at of [first.body.length - 2, Math.floor(first.body.length / 2), first.body.length - 3]) {
      const body = Buffer.from(first.body);
      body[at] = (body[at] ?? 0) ^ 1;
      expect(await upstream.receive?.(run, asCallback({ ...first, body }, handle)), String(at)).toBeUndefined();
    }
    expect(await upstream.receive?.(run, asCallback(first, handle))).toMatchObject({ kind: 'finished' });
  },

  async 'with another value, or none, of what is signed proves nothing'(subject, bench) {
    const { upstream, run, handle, first } = await called(bench);
    const { signed, timestamp } = signatureOf(subject);
    const moved = String(Number(first.headers[timestamp]) + 1);
    for (const [name, value] of Object.entries({ ...signed, [timestamp]: moved })) {
      expect(first.headers, name).toHaveProperty(name);
      for (const changed of [value, undefined, '', 'x']) {
        const forged = asCallback(first, handle, { [name]: changed });
        expect(await upstream.receive?.(run, forged), `${name}: ${changed}`).toBeUndefined();
      }
    }
    expect(await upstream.receive?.(run, asCallback(first, handle))).toMatchObject({ kind: 'finished' });
  },

  async 'that is more than five minutes old, or ahead, proves nothing, and costs no call'(subject, bench) {
    const { vendor, upstream, run, handle, first } = await called(bench);
    const sentAt = Number(first.headers[signatureOf(subject).timestamp]) * 1000;
    const at = (ms: number) => upstream.receive?.({ ...run, clock: { ...run.clock, now: () => sentAt + ms } }, asCallback(first, handle));
    const before = vendor.requests.length;
    expect([await at(301_000), await at(-301_000)]).toEqual([undefined, undefined]);
    expect(vendor.requests).toHaveLength(before);
    expect([await at(299_000), await at(-299_000)]).toMatchObject([{ kind: 'finished' }, { kind: 'finished' }]);
  },

  async 'of another run, or before there is a handle, proves nothing'(subject, bench) {
    const { upstream, run, handle, first } = await called(bench);
    const others = [handleOf(await upstream.start(run)), subject.polled?.handle, undefined];
    for (const other of others) expect(await upstream.receive?.(run, asCallback(first, other)), JSON.stringify(other)).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(first, handle))).toMatchObject({ kind: 'finished' });
  },

  async 'that has no body, or none of the kind, proves nothing'(_subject, bench) {
    const { upstream, run, handle, first } = await called(bench);
    for (const text of ['', 'not json', '[]', '{"id":7}', 'null']) {
      expect(await upstream.receive?.(run, asCallback({ ...first, body: Buffer.from(text) }, handle)), text).toBeUndefined();
    }
  },

  async 'proves nothing while it cannot be verified, and forgeries have that asked for once in half a minute'(subject, bench) {
    const { vendor, environment, run, handle, first } = await called(bench);
    const { keys } = signatureOf(subject);
    let [asked, isAway] = [0, true];
    const proxy = await scriptFor(({ path }) => {
      if (path !== keys.path) return undefined;
      asked += 1;
      return isAway ? { status: 500, body: {} } : { body: keys.ofSomebody };
    });
    const moved = Object.entries(environment).map(([name, value]) => [name, value.replace(vendor.url, proxy.url)]);
    const upstream = bench.open(Object.fromEntries(moved));
    for (let time = 0; time < 3; time += 1) expect(await upstream.receive?.(run, asCallback(first, handle))).toBeUndefined();
    expect(asked).toBe(1);
    isAway = false;
    const [soon, late] = [FETCH_AGAIN_MS, 2 * FETCH_AGAIN_MS].map((ms) => ({ ...run, clock: later(ms) }));
    for (let time = 0; time < 3; time += 1) expect(await upstream.receive?.(soon ?? run, asCallback(first, handle))).toBeUndefined();
    expect(asked).toBe(2);
    expect(await upstream.receive?.(late ?? run, asCallback(first, handle))).toBeUndefined();
    expect(asked).toBe(3);
  },

  async 'that is signed with a new secret is believed once that was fetched'(subject, bench) {
    const { vendor, environment, run, handle, first } = await called(bench);
    const { keys } = signatureOf(subject);
    let isOld = true;
    const proxy = await scriptFor(async (request) => {
      if (request.path === keys.path && isOld) return { body: keys.ofSomebody };
      const { authorization = '' } = request.headers;
      const answer = await fetch(`${vendor.url}${request.path}`, { method: request.method, headers: { authorization } });
      return { status: answer.status, body: await answer.text() };
    });
    const moved = Object.entries(environment).map(([name, value]) => [name, value.replace(vendor.url, proxy.url)]);
    const upstream = bench.open(Object.fromEntries(moved));
    expect(await upstream.receive?.(run, asCallback(first, handle))).toBeUndefined();
    isOld = false;
    expect(await upstream.receive?.(run, asCallback(first, handle))).toBeUndefined();
    const [soon] = [{ ...run, clock: later(FETCH_AGAIN_MS) }];
    expect(await upstream.receive?.(soon, asCallback(first, handle))).toMatchObject({ kind: 'finished' });
  },

  async 'that is lost leaves the run to looks'({ made }, bench) {
    const { vendor, upstream, receiver, run } = await callable(bench);
    vendor.inject('lost-callback');
    expect(await finish(upstream, run)).toEqual(made(vendor.url));
    expect(receiver.received).toEqual([]);
  },

  async 'that is late comes after a look has found the end, and is good all the same'({ made }, bench) {
    const { vendor, upstream, receiver, run } = await callable(bench, 0);
    vendor.inject('late-callback');
    const handle = handleOf(await upstream.start(run));
    expect((await resume(upstream, run, handle)).output).toEqual(made(vendor.url));
    const step = await upstream.receive?.(run, asCallback(await receiver.arrival(1), handle));
    expect(step).toMatchObject({ kind: 'finished' });
    expect(vendor.submitted).toBe(1);
  },

  async 'is made by the simulator to this machine only'(_subject, bench) {
    const { vendor, upstream } = await bench.simulate();
    const run = bench.run({ callbackUrl: 'https://example.com/hook' });
    expect(await errorOf(upstream.start(run))).toMatchObject({ name: 'TerminalError', code: 'invalid_input' });
    expect(vendor.submitted).toBe(0);
  },
} satisfies Record<string, Case>;

function callbackOf({ callback }: Subject): CallbackSubject {
  return callback ?? expect.unreachable('this run is told of');
}

function signatureOf(subject: Subject): Signature {
  return callbackOf(subject).signature ?? expect.unreachable('this callback is signed');
}

interface Callable {
  readonly vendor: Simulated;
  readonly upstream: Upstream;
  readonly environment: Readonly<Record<string, string>>;
  readonly receiver: CallbackReceiver;
  readonly run: Run;
}

/** A run that may be told of. */
async function callable(bench: Bench, runMs?: number): Promise<Callable> {
  const simulation = await bench.simulate(runMs === undefined ? {} : { runMs });
  const receiver = await receiveCallbacks();
  onTestFinished(() => receiver[Symbol.asyncDispose]());
  return { ...simulation, receiver, run: bench.run({ callbackUrl: receiver.url }) };
}

/** A run that has been told of. */
async function called(
  bench: Bench,
  fault?: Fault,
): Promise<Callable & { readonly handle: ReturnType<typeof handleOf>; readonly first: ReceivedCallback }> {
  const all = await callable(bench);
  if (fault) all.vendor.inject(fault);
  const handle = handleOf(await all.upstream.start(all.run));
  return { ...all, handle, first: await all.receiver.arrival(1) };
}
