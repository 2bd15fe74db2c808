/** What tests of kept outputs need: an upstream that answers as told, a place for files, and a look at what is left in it. */
import { readdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Media } from '@claimcheck/core';
import { afterAll, afterEach, beforeEach, expect } from 'vitest';
import { openGuard, parseAllowList, type Resolve } from '../outbound/index.ts';
import { type KeepRequest, makeOutputs, type OutputSettings, type Outputs } from '../outputs.ts';
import { aJob } from './fixtures.ts';
import { createHastyClock } from './hasty-clock.ts';
import { listen, type TestServer } from './index.ts';
import { type S3Server, startS3Server } from './s3-server.ts';
import { createTestEngine, type TestEngine } from './test-engine.ts';

export const PLACES = ['a folder', 'a bucket'] as const;

/** `call` counts the calls of the path, from 1. */
export type UpstreamAnswer = (response: ServerResponse, request: IncomingMessage, call: number) => unknown;

export interface OutputOptions extends Partial<OutputSettings> {
  /** How much faster than usual waits and limits are; 100 times unless given. */
  readonly haste?: number;
  readonly resolve?: Resolve;
}

export interface OutputScene {
  readonly owned: TestEngine;
  /** Of the test. */
  readonly jobId: string;
  readonly upstream: TestServer;
  /** By path; all else is answered with 404. */
  readonly answers: Record<string, UpstreamAnswer>;
  /** Paths that were asked for. */
  readonly asked: readonly string[];
  readonly logged: readonly { readonly level: string; readonly message: string; readonly fields: object }[];
  outputs(options?: OutputOptions): Outputs;
  /** The upstream's link to a path, as a PNG unless told. */
  linked(path: string, told?: Partial<Media>): Media;
  /** Keeps media and returns them. */
  keep(media: readonly Media[], request?: Partial<KeepRequest>, made?: Outputs): Promise<readonly Media[]>;
  keepOne(medium: Media, request?: Partial<KeepRequest>, made?: Outputs): Promise<Media>;
  bytesOf(medium: Media): Promise<Buffer>;
  /** As an adapter stores what came inline. */
  stored(bytes: Uint8Array, contentType: string, fileName: string): Promise<Media>;
  /** Rows of whole files of the job. */
  countStored(): Promise<number>;
  /** Everything that lies in the place, whole and begun, and beside it. */
  filesBehind(): Promise<readonly string[]>;
}

/** An answer with a file. */
export function sending(body: Uint8Array, headers: Readonly<Record<string, string>> = {}): UpstreamAnswer {
  return (response) => response.writeHead(200, headers).end(body);
}

/** Sets the scene for the tests of a `describe`. After each, the purge of its job must leave nothing behind. */
export function setOutputScene(place: (typeof PLACES)[number]): OutputScene {
  const started = new AsyncDisposableStack();
  const answers: Record<string, UpstreamAnswer> = {};
  const asked: string[] = [];
  const logged: { level: string; message: string; fields: object }[] = [];
  let s3: S3Server | undefined;
  let engine: TestEngine | undefined;
  let now: { readonly owned: TestEngine; readonly jobId: string; readonly upstream: TestServer; readonly stack: AsyncDisposableStack };

  beforeEach(async () => {
    // One engine for all tests, which each have a job of their own. It is ready inside of a test only.
    if (place === 'a bucket') s3 ??= started.use(await startS3Server());
    engine ??= started.use(await createTestEngine({ ...(s3 && { s3: s3.options }) }));
    const stack = new AsyncDisposableStack();
    for (const path of Object.keys(answers)) delete answers[path];
    asked.length = 0;
    logged.length = 0;
    const upstream = stack.use(
      await listen((request, response) => {
        const path = request.url ?? '';
        asked.push(path);
        const answer = answers[path];
        if (answer) answer(response, request, asked.filter((each) => each === path).length);
        else response.writeHead(404).end();
      }),
    );
    const jobId = await aJob(engine.sql, { callerId: engine.callerId, state: 'PROCESSING' });
    now = { owned: engine, jobId, upstream, stack };
  });
  afterEach(async () => {
    const { owned, jobId, stack } = now;
    await owned.engine.purge({ id: jobId, callerId: owned.callerId });
    await stack.disposeAsync();
    expect(await scene.filesBehind(), 'files that nobody owns').toEqual([]);
  });
  afterAll(() => started.disposeAsync());

  const scene: OutputScene = {
    get owned() {
      return now.owned;
    },
    get jobId() {
      return now.jobId;
    },
    get upstream() {
      return now.upstream;
    },
    answers,
    asked,
    logged,
    outputs({ haste = 100, resolve, ...settings } = {}) {
      const note = (level: string) => (fields: object, message: string) => void logged.push({ level, fields, message });
      const made = makeOutputs({
        assets: now.owned.engine.assets,
        guard: openGuard({ allow: parseAllowList('127.0.0.1').allow, ...(resolve && { resolve }) }),
        clock: createHastyClock(haste),
        random: () => 0.5,
        log: { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') },
        spoolFolder: `${now.owned.assetsFolder}/incoming`,
        settings: { store: 'copy', bytesMax: 50_000_000, ...settings },
      });
      now.stack.defer(made.close);
      return made;
    },
    linked: (path, told = {}) => ({
      location: { url: `${now.upstream.url}${path}` },
      contentType: 'image/png',
      fileName: path.slice(1),
      ...told,
    }),
    async keep(media, request = {}, made = scene.outputs()) {
      const { signal } = new AbortController();
      return (await made.keep({ jobId: now.jobId, output: { media }, signal, ...request })).media;
    },
    async keepOne(medium, request, made) {
      const [kept] = await scene.keep([medium], request, made);
      if (!kept) throw new Error('a medium is missing');
      return kept;
    },
    async bytesOf({ location }) {
      if (!('asset' in location)) throw new Error('the medium is not ours');
      return Buffer.from(await new Response(now.owned.engine.assets.read(location.asset)).arrayBuffer());
    },
    stored: (bytes, contentType, fileName) => now.owned.engine.assets.store(now.jobId, { bytes, contentType, fileName }),
    countStored: async () => (await now.owned.sql`select from assets where job_id = ${now.jobId} and bytes is not null`).length,
    async filesBehind() {
      const entries = await readdir(now.owned.assetsFolder, { recursive: true, withFileTypes: true });
      const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
      return s3 ? [...s3.objects, ...s3.uploads, ...files] : files;
    },
  };
  return scene;
}
