import { type JsonObject, newId, type Run, type Step, systemClock, toJsonText, type Upload, uploadedFileUrl } from '@claimcheck/core';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { HANDED_BYTES_MAX, type HandOverOptions, makeHandOver } from './hand-over.ts';
import { anUpstream, aSubmission, OUTPUT, running } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const PNG = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
const PNG_URI = `data:image/png;base64,${PNG.toString('base64')}`;
const HERE = 'http://127.0.0.1:8080';
const NOBODYS = 'A'.repeat(43);

let opened: TestEngine | undefined;
let owned: TestEngine;
// One for all tests: an engine is ready inside of a test only.
beforeEach(async () => {
  opened ??= await createTestEngine();
  owned = opened;
});
afterAll(() => opened?.[Symbol.asyncDispose]());

async function stored(bytes: Uint8Array = PNG, fileName = 'a picture.png'): Promise<Upload> {
  async function* chunks() {
    yield bytes;
  }
  return owned.engine.uploads.store(owned.callerId, { fileName, chunks: chunks() });
}

function aRun(parameters: JsonObject, signal = new AbortController().signal): Run {
  return {
    jobId: newId(systemClock),
    attempt: 1,
    model: 'x',
    produces: 'image',
    parameters,
    idempotencyKey: 'x',
    signal,
    clock: systemClock,
    tell: () => {},
    storeFile: () => Promise.reject(new Error('nothing is stored')),
  };
}

/** What the upstream would be given. */
function handed(parameters: JsonObject, publicUrl?: string, options: Partial<HandOverOptions> = {}): Promise<JsonObject> {
  const handOver = makeHandOver({ assets: owned.engine.assets }, publicUrl);
  return handOver(aRun(parameters), { baseUrl: HERE, isSimulated: false, ...options }, async (run) => run.parameters);
}

describe('a file of ours', () => {
  test.each([
    ['without PUBLIC_URL', undefined],
    ['with one on this machine', 'http://localhost:8080'],
    ['with one on this machine by its address', 'http://127.0.0.1:9000/base'],
    ['with one on this machine in its newer form', 'http://[::1]:8080'],
  ])('is handed on as itself %s', async (_when, publicUrl) => {
    const url = uploadedFileUrl(await stored(), HERE);
    const parameters = { prompt: `look at ${url}`, image: url, list: [{ url }, 7, null], ['__proto__']: { url } };
    expect(await handed(parameters, publicUrl)).toEqual({
      prompt: `look at ${url}`,
      image: PNG_URI,
      list: [{ url: PNG_URI }, 7, null],
      ['__proto__']: { url: PNG_URI },
    });
  });

  test.each(['https://queue.example', 'http://10.0.0.7:8080', 'https://example.com/claimcheck'])(
    'is handed on by its address below %s',
    async (publicUrl) => {
      const upload = await stored();
      const parameters = { image: uploadedFileUrl(upload, HERE), other: uploadedFileUrl(upload, publicUrl) };
      const address = uploadedFileUrl(upload, publicUrl);
      expect(await handed(parameters, publicUrl)).toEqual({ image: address, other: address });
    },
  );

  test('stays as it is where nothing is sent anywhere', async () => {
    const parameters = { image: uploadedFileUrl(await stored(), HERE) };
    expect(await handed(parameters, undefined, { isSimulated: true })).toEqual(parameters);
  });

  test.each([undefined, 'https://queue.example'])('that is not there fails the job, PUBLIC_URL being %s', async (publicUrl) => {
    for (const base of publicUrl === undefined ? [HERE] : [HERE, publicUrl]) {
      const image = uploadedFileUrl({ token: NOBODYS, fileName: 'x.png' }, base);
      const error = { name: 'TerminalError', code: 'invalid_input', message: expect.stringContaining(`The file at ${image} is not there`) };
      await expect(handed({ image }, publicUrl)).rejects.toMatchObject(error);
    }
  });

  test('that was removed while it was needed fails the job', async () => {
    const upload = await stored();
    const image = uploadedFileUrl(upload, HERE);
    await owned.engine.uploads.remove(owned.callerId, [upload.id]);
    await expect(handed({ image })).rejects.toMatchObject({ code: 'invalid_input' });
  });
});

test('what only looks like an address of ours is left alone', async () => {
  const { token } = await stored();
  const parameters = {
    elsewhere: `https://example.com/files/${NOBODYS}/x.png`,
    queried: `${HERE}/files/${token}/x.png?download=1`,
    short: `${HERE}/files/${token.slice(1)}/x.png`,
    scheme: `ftp://127.0.0.1:8080/files/${token}/x.png`,
    inText: `see ${HERE}/files/${token}/x.png`,
    small: PNG_URI,
  };
  expect(await handed(parameters)).toEqual(parameters);
  expect(await handed(parameters, 'https://queue.example')).toEqual(parameters);
});

test('too many bytes fail the job, counted as often as they are named; a PUBLIC_URL takes any', async () => {
  const url = uploadedFileUrl(await stored(Buffer.alloc(HANDED_BYTES_MAX / 2)), HERE);
  expect(Object.keys(await handed({ a: url, b: url }))).toEqual(['a', 'b']);
  const error = { name: 'TerminalError', code: 'invalid_input', message: expect.stringContaining('PUBLIC_URL') };
  await expect(handed({ a: url, b: url, c: url })).rejects.toMatchObject(error);
  expect(Object.keys(await handed({ a: url, b: url, c: url }, 'https://queue.example'))).toEqual(['a', 'b', 'c']);
});

test('files of many runs at once wait for each other', async () => {
  const url = uploadedFileUrl(await stored(Buffer.alloc(HANDED_BYTES_MAX)), HERE);
  const handOver = makeHandOver({ assets: owned.engine.assets }, undefined);
  const gate = Promise.withResolvers<void>();
  let [running, most] = [0, 0];
  const runs = Array.from({ length: 6 }, () =>
    handOver(aRun({ url }), { baseUrl: HERE, isSimulated: false }, async () => {
      running += 1;
      most = Math.max(most, running);
      await gate.promise;
      running -= 1;
    }),
  );
  await expect.poll(() => running, { timeout: 60_000 }).toBe(4);
  gate.resolve();
  await Promise.all(runs);
  expect(most).toBe(4);
});

test('who waits leaves when the attempt is stopped', async () => {
  const url = uploadedFileUrl(await stored(), HERE);
  const stopped = new AbortController();
  stopped.abort(new Error('stopped'));
  const handOver = makeHandOver({ assets: owned.engine.assets }, undefined);
  const used = handOver(aRun({ url }, stopped.signal), { baseUrl: HERE, isSimulated: false }, async () => 'started');
  await expect(used).rejects.toThrow('stopped');
});

test('a worker starts with the file and looks after the run without it; the job keeps the address', async () => {
  const upload = await stored();
  const image = uploadedFileUrl(upload, 'https://queue.example');
  const seen: [string, JsonObject][] = [];
  const told = (verb: string, run: Run, step: Step) => {
    seen.push([verb, run.parameters]);
    return Promise.resolve(step);
  };
  owned.startWorker(
    anUpstream({
      start: (run) => told('start', run, running({ run: 1 }, 0)),
      check: (run) => told('check', run, { kind: 'finished', output: OUTPUT }),
    }),
  );
  const { id } = await owned.engine.submit(aSubmission(owned.callerId, { input: toJsonText({ image }), baseUrl: 'https://queue.example' }));
  const job = await owned.engine.wait({ id, callerId: owned.callerId }, { until: 'end', timeoutMs: 60_000 });
  expect(job).toMatchObject({ state: 'COMPLETED', input: JSON.stringify({ image }) });
  expect(seen).toEqual([
    ['start', { image: PNG_URI }],
    ['check', { image }],
  ]);
});
