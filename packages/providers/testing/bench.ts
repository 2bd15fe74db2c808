/** What a test of an adapter works with: the adapter before its simulator, or before an upstream that says what is written down. */
import {
  type Clock,
  type JsonObject,
  type JsonValue,
  type Provider,
  RetryableError,
  type Run,
  type Step,
  systemClock,
  TerminalError,
  type Upstream,
} from '@claimcheck/core';
import { expect, onTestFinished } from 'vitest';
import { openProviders } from '../index.ts';
import type { Simulated, Simulator, SimulatorOptions } from '../simulators/simulator.ts';
import { aRun, type TestRun } from './run.ts';
import { type Script, type ScriptedAnswer, script } from './script.ts';

export interface BenchOptions {
  readonly provider: Provider;
  readonly simulator: Simulator;
  /** Of a run that the simulator takes. */
  readonly model: string;
  readonly parameters: JsonObject;
  readonly options?: JsonObject;
}

export interface Simulation {
  readonly vendor: Simulated;
  readonly upstream: Upstream;
  /** Variables that lead there. */
  readonly environment: Readonly<Record<string, string>>;
}

export type RunningStep = Extract<Step, { kind: 'running' }>;

export interface Bench {
  /** The adapter with these variables. Fails the test when they leave it off. */
  open(environment: Readonly<Record<string, string>>): Upstream;
  /** A simulator of its own, for as long as the test runs. Runs take 20 ms there, what is slow or late 50 ms longer. */
  simulate(options?: Partial<SimulatorOptions>): Promise<Simulation>;
  /** The adapter, with a key, before an upstream at this address. */
  openAt(url: string): Upstream;
  /** The adapter before a vendor that answers with these in turn, the last one for ever. */
  against(...answers: Parameters<typeof script>): Promise<Script & { readonly upstream: Upstream }>;
  run(given?: Partial<Run>): Run;
  /** With what it stores. */
  testRun(given?: Partial<Run>): TestRun;
}

/** Runs that have not ended when a test looks. */
export const FOREVER_MS = 3_600_000;

export function benchOf({ provider, simulator, model, parameters, options }: BenchOptions): Bench {
  const open: Bench['open'] = (environment) =>
    openProviders([provider], environment).upstreams.get(provider.name) ?? expect.unreachable(`${provider.name} is off`);
  const openAt: Bench['openAt'] = (url) => open(simulator.environment(url));
  const testRun: Bench['testRun'] = ({ parameters: given = parameters, storeFile: _, ...rest } = {}) =>
    aRun(given, { model, ...(options && { options }), ...rest });
  return {
    open,
    openAt,
    testRun,
    run: (given) => testRun(given).run,
    async simulate(given = {}) {
      const vendor = await simulator.start({ port: 0, runMs: 20, slowMs: 50, ...given });
      onTestFinished(() => vendor[Symbol.asyncDispose]());
      const environment = simulator.environment(vendor.url);
      return { vendor, environment, upstream: open(environment) };
    },
    async against(...answers) {
      const scripted = await script(...answers);
      return { ...scripted, upstream: openAt(scripted.url) };
    },
  };
}

/** The handle of a run that goes on. */
export function handleOf(step: Step | undefined): JsonValue {
  return step?.kind === 'running' ? step.handle : expect.unreachable(`the run is not under way: ${JSON.stringify(step)}`);
}

/** Checks a run, as another worker might, until it has ended. */
export async function resume(upstream: Upstream, run: Run, handle: JsonValue): Promise<Extract<Step, { kind: 'finished' }>> {
  for (let known = handle; ; ) {
    const step = await upstream.check(run, known);
    if (step.kind === 'finished') return step;
    known = step.handle;
  }
}

/** What the promise failed with; fails the test when it did not. */
export async function reasonOf(promise: Promise<unknown> | undefined): Promise<unknown> {
  return Promise.resolve(promise).then(
    (value) => expect.unreachable(`it did not fail, but: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
}

/** Like {@link reasonOf}, for what must be an error of a provider. */
export async function errorOf(promise: Promise<unknown> | undefined): Promise<RetryableError | TerminalError> {
  const reason = await reasonOf(promise);
  if (reason instanceof RetryableError || reason instanceof TerminalError) return reason;
  throw new Error('This is no error of a provider.', { cause: reason });
}

/** The real time, and so much later. */
export function later(ms: number): Clock {
  return { ...systemClock, now: () => systemClock.now() + ms };
}

/** A clock on which every wait is over at once, once the call that it limits is under way. */
export function leaping(): Clock {
  let now = 0;
  return {
    now: () => now,
    async sleep(ms, signal) {
      await systemClock.sleep(10, signal);
      now += ms;
    },
  };
}

/** `METHOD path` of what came, with ids of the vendor's making as ID. */
export function callsOf({ requests }: Pick<Script, 'requests'>, id: RegExp): readonly string[] {
  return requests.map(({ method, path }) => `${method} ${path.replace(id, 'ID')}`);
}

export type { ScriptedAnswer };
