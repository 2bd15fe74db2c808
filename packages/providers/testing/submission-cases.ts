/** What holds when a run is handed over, and of runs as a whole. */
import type { JsonValue } from '@claimcheck/core';
import { expect } from 'vitest';
import { openProviders } from '../index.ts';
import type { Fault } from '../simulators/simulator.ts';
import { type Bench, errorOf, FOREVER_MS, leaping, reasonOf } from './bench.ts';
import { finish } from './run.ts';
import { flood, script } from './script.ts';
import type { Case, Subject } from './subject.ts';

/** Socket buffers, on both sides, beyond what an adapter reads. */
const IN_FLIGHT_BYTES = 20_000_000;
/** The most that any adapter takes. */
const READ_BYTES_MAX = 60_000_000;

export const SUBMISSION_CASES = {
  async 'without its variable the provider is off, and says which'({ provider, needs }) {
    expect(openProviders([provider], {}).off.get(provider.name)).toBe(`${needs} is not set`);
  },

  async 'a key that cannot be sent in a header is refused at the start, without being shown'({ provider, simulator, keyVariable = '' }) {
    const start = () => openProviders([provider], { ...simulator.environment('http://127.0.0.1:1'), [keyVariable]: 'secret\nline' });
    expect(start).toThrow(keyVariable);
    expect(start).not.toThrow('secret');
  },

  async 'slashes at the end of the address are dropped'(subject, bench) {
    const { vendor, environment } = await bench.simulate();
    const slashed = Object.entries(environment).map(([name, value]) => [name, name.endsWith('_BASE_URL') ? `${value}//` : value]);
    await submit(subject, bench, bench.open(Object.fromEntries(slashed)));
    expect(vendor.requests[0]?.path).toMatch(/^\/[^/]/);
    expect(vendor.submitted).toBe(1);
  },

  async 'is what the vendor documents, and only one'(subject, bench) {
    const { vendor, environment } = await bench.simulate({ runMs: 0 });
    const run = bench.run();
    await (subject.submit?.(bench.open(environment), run) ?? bench.open(environment).start(run));
    const { method, path, headers, body } = subject.sent(environment[subject.keyVariable ?? ''] ?? '', run);
    expect(vendor.requests[0]).toMatchObject({
      method,
      path: typeof path === 'string' ? path : expect.stringMatching(path),
      headers: { 'content-type': 'application/json', ...headers },
    });
    expect(vendor.requests[0]?.body).toEqual(body);
    expect(vendor.submitted).toBe(1);
  },

  async 'ends with the result'({ made }, bench) {
    const { vendor, upstream } = await bench.simulate();
    expect(await finish(upstream, bench.run())).toEqual(made(vendor.url));
    expect(vendor.submitted).toBe(1);
  },

  async 'of a run that failed ends with the words of the vendor, for good'({ words }, bench) {
    const { vendor, upstream } = await bench.simulate();
    vendor.inject('fail');
    const error = await errorOf(finish(upstream, bench.run()));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', message: words.fail, isProvidersOnly: false });
  },

  async 'of refused content ends as such, for good and everywhere'({ words, refusalCode = 'content_refused' }, bench) {
    const { vendor, upstream } = await bench.simulate();
    vendor.inject('refuse');
    const error = await errorOf(finish(upstream, bench.run()));
    expect(error).toMatchObject({ name: 'TerminalError', code: refusalCode, message: words.refuse, isProvidersOnly: false });
  },

  async 'that is one too many may be tried again when the vendor says'(subject, bench) {
    await expectRetry(subject, bench, '429', { mayHaveStarted: false, retryAfterMs: subject.rateWaitMs ?? 1000 });
  },
  async 'that is answered with 500 may be tried again'(subject, bench) {
    await expectRetry(subject, bench, '500', { mayHaveStarted: false });
  },
  async 'that is answered with a page may be tried again, and may have started a run'(subject, bench) {
    await expectRetry(subject, bench, 'html', { mayHaveStarted: true });
  },
  async 'whose answer breaks off may be tried again, and has started a run'(subject, bench) {
    const { vendor } = await expectRetry(subject, bench, 'truncated', { mayHaveStarted: true });
    expect(vendor.submitted).toBeGreaterThan(0);
  },

  async 'that is one too many, for nobody knows how long, leaves the wait to the model'(subject, bench) {
    const { upstream } = await bench.against({ status: 429, body: {} });
    expect(await errorOf(submit(subject, bench, upstream))).toMatchObject({ name: 'RetryableError', retryAfterMs: undefined });
  },

  async 'that something in front of the vendor answers may have started a run when that waited for the vendor'(subject, bench) {
    for (const [status, mayHaveStarted] of [
      [502, true],
      [503, false],
      [504, true],
    ] as const) {
      const { upstream } = await bench.against({ status, body: '<html>', headers: { 'content-type': 'text/html' } });
      expect(await errorOf(submit(subject, bench, upstream)), String(status)).toMatchObject({ name: 'RetryableError', mayHaveStarted });
    }
  },

  async 'that is redirected is not followed there, and another provider may serve it'(subject, bench) {
    const elsewhere = await script({ body: {} });
    const { upstream } = await bench.against({ status: 307, headers: { location: `${elsewhere.url}/stolen` }, body: {} });
    expect(await errorOf(submit(subject, bench, upstream))).toMatchObject({ name: 'TerminalError', isProvidersOnly: true });
    expect(elsewhere.requests).toEqual([]);
  },

  async 'that is answered with 200 MB, as announced, reads none of it'(subject, bench) {
    const flooding = await flood(true);
    expect(await errorOf(submit(subject, bench, bench.openAt(flooding.url)))).toMatchObject({ name: 'TerminalError' });
    expect(flooding.sent).toBeLessThan(IN_FLIGHT_BYTES);
  },
  async 'that is answered with 200 MB, unannounced, stops reading'(subject, bench) {
    const flooding = await flood(false);
    expect(await errorOf(submit(subject, bench, bench.openAt(flooding.url)))).toMatchObject({ name: 'TerminalError' });
    expect(flooding.sent).toBeLessThan(READ_BYTES_MAX + IN_FLIGHT_BYTES);
  },
  async 'that is answered with an error of 200 MB is that error'(subject, bench) {
    const flooding = await flood(true, 500);
    expect(await errorOf(submit(subject, bench, bench.openAt(flooding.url)))).toMatchObject({ name: 'RetryableError' });
  },

  async 'with another key may be served by another provider, and neither key is shown'(subject, bench) {
    const { vendor, environment } = await bench.simulate();
    const { keyVariable = '' } = subject;
    const other = bench.open({ ...environment, [keyVariable]: 'another-key-entirely' });
    const error = await errorOf(submit(subject, bench, other));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
    const shown = JSON.stringify(error, Object.getOwnPropertyNames(error));
    for (const key of ['another-key-entirely', environment[keyVariable] ?? '']) expect(shown).not.toContain(key);
    expect(vendor.submitted).toBe(0);
  },

  async 'of a model that is not there may be served by another provider'(subject, bench) {
    const { vendor, upstream } = await bench.simulate();
    const run = bench.run({ model: subject.unknownModel ?? '' });
    expect(await errorOf(submit(subject, bench, upstream, run))).toMatchObject({ name: 'TerminalError', isProvidersOnly: true });
    expect(vendor.submitted).toBe(0);
  },

  async 'that is refused for its parameters says why, in 300 characters without keys and tokens'(subject, bench) {
    const key = subject.simulator.environment('')[subject.keyVariable ?? ''] ?? '';
    const { upstream } = await bench.against(subject.refused(`No ${key} at https://x.test/a?token=abc ${'long '.repeat(200)}`));
    const error = await errorOf(submit(subject, bench, upstream));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'invalid_input', isProvidersOnly: false });
    expect(error.message).toMatch(/No .*at https:\/\/x\.test\/… long long/);
    expect(error.message.length).toBeLessThanOrEqual(360);
    const shown = `${error.stack} ${error.cause}`;
    if (key !== '') expect(shown).not.toContain(key);
    expect(shown).not.toContain('token=abc');
  },

  async 'that reaches nobody may be tried again, and has started nothing'(subject, bench) {
    const { vendor, upstream } = await bench.simulate();
    await vendor[Symbol.asyncDispose]();
    expect(await errorOf(submit(subject, bench, upstream))).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
  },

  async 'that is not wanted any more ends with the reason'(subject, bench) {
    const { vendor, upstream } = await bench.simulate({ slowMs: FOREVER_MS });
    const reason = new Error('the worker stops');
    expect(await reasonOf(submit(subject, bench, upstream, bench.run({ signal: AbortSignal.abort(reason) })))).toBe(reason);
    expect(vendor.requests).toEqual([]);
    vendor.inject('slow');
    const control = new AbortController();
    const ended = reasonOf(submit(subject, bench, upstream, bench.run({ signal: control.signal })));
    await expect.poll(() => vendor.requests.length, { interval: 5 }).toBe(1);
    control.abort(reason);
    expect(await ended).toBe(reason);
  },

  async 'that is not answered in time may be tried again, and may have started a run'(subject, bench) {
    const { vendor, upstream } = await bench.simulate({ slowMs: FOREVER_MS });
    vendor.inject('slow');
    const error = await errorOf(submit(subject, bench, upstream, bench.run({ clock: leaping() })));
    expect(error).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  },

  async 'at the simulator makes a real picture, whose link expires'(_subject, bench) {
    const { vendor, upstream } = await bench.simulate();
    const [media] = (await finish(upstream, bench.run())).media;
    const { location } = media ?? expect.unreachable('a file was made');
    const url = 'url' in location ? location.url : expect.unreachable('it is a link');
    const answer = await fetch(url);
    expect(answer.headers.get('content-type')).toBe('image/png');
    expect(Buffer.from(await answer.arrayBuffer()).toString('latin1', 1, 4)).toBe('PNG');
    vendor.inject('expired');
    expect([(await fetch(url)).status, (await fetch(url)).status]).toEqual([404, 200]);
  },
} satisfies Record<string, Case>;

function submit(subject: Subject, bench: Bench, upstream: ReturnType<Bench['openAt']>, run = bench.run()) {
  return subject.submit?.(upstream, run) ?? upstream.start(run);
}

/** The fault makes the submission fail, to be tried again, and the next one succeeds. */
async function expectRetry(subject: Subject, bench: Bench, fault: Fault, facts: Readonly<Record<string, JsonValue | unknown>>) {
  const simulation = await bench.simulate();
  simulation.vendor.inject(fault);
  expect(await errorOf(submit(subject, bench, simulation.upstream))).toMatchObject({ name: 'RetryableError', ...facts });
  expect(await finish(simulation.upstream, bench.run({ attempt: 2 }))).toEqual(subject.made(simulation.vendor.url));
  return simulation;
}
