/** What tests of adapters share: a run like the engine's, whose stored files are kept in an array, and a way to follow it to its end. */
import { type JsonObject, type Output, type ProducedFile, type Run, systemClock, type Upstream } from '@claimcheck/core';

export interface TestRun {
  readonly run: Run;
  /** What the adapter stored, oldest first. */
  readonly files: readonly ProducedFile[];
  /** What the adapter told of during calls, oldest first. */
  readonly told: readonly Parameters<Run['tell']>[0][];
}

/** A first attempt; what a test is about is given. Files are stored as `file-1`, `file-2` and so on. */
export function aRun(parameters: JsonObject, given: Partial<Omit<Run, 'parameters' | 'storeFile'>> = {}): TestRun {
  const files: ProducedFile[] = [];
  const told: Parameters<Run['tell']>[0][] = [];
  const run: Run = {
    jobId: '0197a1b2-0000-7000-8000-000000000001',
    attempt: 1,
    model: 'any-model',
    produces: 'image',
    idempotencyKey: '0197a1b2-0000-7000-8000-000000000001-provider',
    signal: new AbortController().signal,
    clock: systemClock,
    tell: (news) => told.push(news),
    ...given,
    parameters,
    async storeFile(file) {
      files.push(file);
      const { contentType, fileName, width, height, bytes } = file;
      return { location: { asset: `file-${files.length}` }, contentType, fileName, width, height, bytes: bytes.length };
    },
  };
  return { run, files, told };
}

/** Starts a run and checks it until it has finished, without the waits that the adapter asks for: a simulator does not mind. */
export async function finish(upstream: Upstream, run: Run): Promise<Output> {
  let step = await upstream.start(run);
  while (step.kind === 'running') step = await upstream.check(run, step.handle);
  return step.output;
}
