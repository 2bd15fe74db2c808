import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { type JsonObject, type ProducedFile, RetryableError, type Run, type Step, TerminalError } from '@claimcheck/core';
import sharp from 'sharp';
import { describe, expect, onTestFinished, test } from 'vitest';
import { drawPicture } from './_sandbox-picture.ts';
import { playTone } from './_sandbox-sound.ts';
import { filmStill } from './_sandbox-video.ts';
import { openProviders } from './index.ts';
import sandbox from './sandbox.ts';

const upstream = openProviders([sandbox], {}).upstreams.get('sandbox') ?? expect.unreachable('the sandbox is always on');
const small = { prompt: 'a fox', size: '128x96', seed: 1 };

/** A run whose clock moves only when told, and whose files are collected. */
function prepareRun(parameters: JsonObject, given: Partial<Pick<Run, 'attempt' | 'signal' | 'produces'>> = {}) {
  let now = 1_700_000_000_000;
  const files: ProducedFile[] = [];
  const run: Run = {
    jobId: '0197a1b2-0000-7000-8000-000000000001',
    attempt: 1,
    model: 'any-model',
    produces: 'image',
    parameters,
    idempotencyKey: 'key',
    signal: new AbortController().signal,
    ...given,
    tell: () => expect.unreachable('The sandbox tells by steps.'),
    clock: { now: () => now, sleep: () => Promise.reject(new Error('The sandbox may not sleep.')) },
    async storeFile(file) {
      files.push(file);
      const { contentType, fileName, width, height, bytes } = file;
      return { location: { asset: `file-${files.length}` }, contentType, fileName, width, height, bytes: bytes.length };
    },
  };
  return {
    run,
    files,
    advance: (ms: number) => {
      now += ms;
    },
  };
}

/** Does what the engine does: start, wait as long as asked, check, until the run ends. */
async function complete(parameters: JsonObject, given: Parameters<typeof prepareRun>[1] = {}) {
  const { run, files, advance } = prepareRun(parameters, given);
  const progress: number[] = [];
  const texts: (string | undefined)[] = [];
  const logs: (readonly string[] | undefined)[] = [];
  let waitedMs = 0;
  let step: Step = await upstream.start(run);
  while (step.kind === 'running') {
    progress.push(step.progress ?? Number.NaN);
    texts.push(step.partialText);
    logs.push(step.logs);
    waitedMs += step.checkAfterMs;
    advance(step.checkAfterMs);
    step = await upstream.check(run, step.handle);
  }
  logs.push(step.logs);
  return { output: step.output, files, progress, texts, logs, waitedMs };
}

/** The same for a run that makes one file. */
async function draw(parameters: JsonObject, given: Parameters<typeof prepareRun>[1] = {}) {
  const { files, ...rest } = await complete(parameters, given);
  const [file] = files;
  if (!file || files.length > 1) throw new Error(`${files.length} files were stored.`);
  return { ...rest, file };
}

/** The time until the run failed, and its error. */
async function fail(parameters: JsonObject, attempt = 1) {
  const { run, advance } = prepareRun(parameters, { attempt });
  let waitedMs = 0;
  try {
    let step: Step = await upstream.start(run);
    while (step.kind === 'running') {
      waitedMs += step.checkAfterMs;
      advance(step.checkAfterMs);
      step = await upstream.check(run, step.handle);
    }
  } catch (error) {
    return { error, waitedMs };
  }
  throw new Error('The run did not fail.');
}

/** How many pixels are nearly white: the prompt is drawn in white, the background never is. */
async function countWhite(bytes: Uint8Array, levelMin = 220): Promise<number> {
  const pixels = await sharp(bytes).removeAlpha().greyscale().raw().toBuffer();
  return pixels.filter((level) => level > levelMin).length;
}

describe('the picture', () => {
  test.each([
    ['png', 'png', 'image/png', 'image.png'],
    ['jpg', 'jpeg', 'image/jpeg', 'image.jpg'],
    ['jpeg', 'jpeg', 'image/jpeg', 'image.jpg'],
    ['webp', 'webp', 'image/webp', 'image.webp'],
    ['avif', 'heif', 'image/avif', 'image.avif'],
    ['gif', 'gif', 'image/gif', 'image.gif'],
    [undefined, 'webp', 'image/webp', 'image.webp'],
  ])('with output_format %j is really %s, in the size asked for', async (asked, format, contentType, fileName) => {
    const { output, file } = await draw({ ...small, ...(asked === undefined ? {} : { output_format: asked }) });
    expect(await sharp(file.bytes).metadata()).toMatchObject({ format, width: 128, height: 96, hasAlpha: false });
    expect(output).toEqual({
      media: [{ location: { asset: 'file-1' }, contentType, fileName, width: 128, height: 96, bytes: file.bytes.length }],
      seed: 1,
    });
  });

  test('is 1024 × 1024 WebP when nothing is asked', async () => {
    const { file } = await draw({ prompt: 'a fox' });
    expect(await sharp(file.bytes).metadata()).toMatchObject({ format: 'webp', width: 1024, height: 1024 });
  });

  test.each(['jpeg', 'webp', 'avif'])('of lower quality takes fewer bytes as %s', async (format) => {
    const best = await draw({ ...small, output_format: format });
    const poor = await draw({ ...small, output_format: format, output_quality: 20 });
    expect(poor.file.bytes.length).toBeLessThan(best.file.bytes.length / 2);
  });

  test('of the same parameters is the same, byte for byte, also without a seed', async () => {
    expect((await draw(small)).file.bytes).toEqual((await draw(small)).file.bytes);
    const chosen = await draw({ prompt: 'a fox', size: '128x96' });
    expect(await draw({ size: '128x96', prompt: 'a fox', seed: -1 })).toEqual(chosen);
    // The reported seed repeats the picture.
    const repeated = await draw({ prompt: 'a fox', size: '128x96', seed: chosen.output.seed ?? Number.NaN });
    expect(repeated.file.bytes).toEqual(chosen.file.bytes);
  });

  test('of another seed has another background', async () => {
    const mean = async (seed: number) => (await sharp((await draw({ ...small, seed })).file.bytes).stats()).channels.map((c) => c.mean);
    const [one, two] = [await mean(1), await mean(2)];
    expect(Math.max(...one.map((level, channel) => Math.abs(level - (two[channel] ?? 0))))).toBeGreaterThan(10);
  });

  test('shows the prompt', async () => {
    const size = { size: '512x512', output_format: 'png', seed: 1 };
    const empty = await countWhite((await draw({ ...size, prompt: '' })).file.bytes);
    const fox = await countWhite((await draw({ ...size, prompt: 'a fox' })).file.bytes);
    expect(fox).toBeGreaterThan(empty + 1000);
  });

  test('has a caption in its corner that ends with the seed', async () => {
    const countCaption = async (seed: number, left: number, width: number) => {
      const { file } = await draw({ prompt: '', size: '512x512', output_format: 'png', seed });
      return countWhite(await sharp(file.bytes).extract({ left, top: 482, width, height: 30 }).png().toBuffer(), 200);
    };
    expect(await countCaption(1, 0, 200)).toBeGreaterThan(100);
    expect(await countCaption(1, 200, 312)).toBe(0);
    expect(await countCaption(8_888_888, 200, 312)).toBeGreaterThan(10);
  });

  test('does not show the marks', async () => {
    expect((await draw({ ...small, prompt: 'a [[slow:10]] fox' })).file.bytes).toEqual((await draw(small)).file.bytes);
    expect((await draw({ ...small, prompt: 'a [[slow:abc]] fox' })).file.bytes).not.toEqual((await draw(small)).file.bytes);
  });

  test.each([
    ['markup', '<svg> & "quotes" \'and\' ]]> <!-- -->'],
    ['emoji and scripts the font lacks', '🦊👩‍👩‍👧 你好 a fox'],
    ['control characters and lone surrogates', '\u0000\u001b\ud800 a fox'],
    ['a very long text', 'a fox in the snow, '.repeat(20_000)],
    ['one endless word', 'x'.repeat(100_000)],
  ])('can be drawn of %s', async (_what, prompt) => {
    const large = { size: '512x384', output_format: 'png', seed: 1 };
    const { file } = await draw({ ...large, prompt });
    const empty = await draw({ ...large, prompt: '' });
    expect(await countWhite(file.bytes)).toBeGreaterThan((await countWhite(empty.file.bytes)) + 200);
  });

  test.each(['64x64', '64x2048', '2048x64', '2048x2048'])('can be drawn at %s', async (size) => {
    const { file } = await draw({ prompt: 'a fox in the snow', size });
    expect(
      await sharp(file.bytes)
        .metadata()
        .then(({ width, height }) => `${width}x${height}`),
    ).toBe(size);
  });

  test('is the same on a machine without fonts or fontconfig, and nothing complains there', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'no-fonts-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const script = join(directory, 'draw.ts');
    const picture = { text: 'a fox', width: 128, height: 96, seed: 1, format: 'webp', quality: 100 };
    await writeFile(
      script,
      `import { drawPicture } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '_sandbox-picture.ts')).href)};
       process.stdout.write(Buffer.from(await drawPicture(${JSON.stringify(picture)})).toString('base64'));`,
    );
    const env = { FONTCONFIG_FILE: join(directory, 'absent.conf'), FONTCONFIG_PATH: directory };
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--disable-warning=MODULE_TYPELESS_PACKAGE_JSON', script], {
      env,
    });
    expect(stderr).toBe('');
    expect(stdout).toBe(Buffer.from((await draw(small)).file.bytes).toString('base64'));
  });
});

describe('several pictures', () => {
  test('are as many as asked, each with the seed after that of the one before', async () => {
    const { output, files } = await complete({ ...small, n: 3 });
    expect(output.media.map(({ location }) => location)).toEqual([{ asset: 'file-1' }, { asset: 'file-2' }, { asset: 'file-3' }]);
    expect(output.seed).toBe(1);
    const alone = await Promise.all([1, 2, 3].map(async (seed) => (await draw({ ...small, seed })).file));
    expect(files).toEqual(alone);
  });
});

describe('of a model that makes', () => {
  test('videos, the picture is filmed for as long as asked', async () => {
    const { output, file } = await draw({ ...small, duration: 2.5 }, { produces: 'video' });
    expect(output).toEqual({
      media: [
        {
          location: { asset: 'file-1' },
          contentType: 'video/webm',
          fileName: 'video.webm',
          width: 128,
          height: 96,
          bytes: file.bytes.length,
        },
      ],
      seed: 1,
    });
    const { file: picture } = await draw({ ...small, output_format: 'webp' });
    const webp = picture.bytes;
    expect(Buffer.from(file.bytes)).toEqual(Buffer.from(filmStill({ webp, width: 128, height: 96, seconds: 2.5 })));
  });

  test('sounds, a tone plays for as long as asked', async () => {
    const { output, file } = await draw({ prompt: 'a fox', seed: 7, seconds: '3' }, { produces: 'audio' });
    expect(output).toEqual({
      media: [{ location: { asset: 'file-1' }, contentType: 'audio/wav', fileName: 'sound.wav', bytes: file.bytes.length }],
      seed: 7,
    });
    expect(file.bytes).toEqual(playTone(7, 3));
  });

  test('texts, the prompt is said back, word by word', async () => {
    const { output, files, texts } = await complete({ prompt: '[[slow:400]]a quick  fox 🦊 runs' }, { produces: 'text' });
    expect(output).toEqual({ media: [], text: 'a quick  fox 🦊 runs' });
    expect(texts).toEqual(['', 'a ', 'a quick  ', 'a quick  fox ']);
    expect(files).toEqual([]);
  });

  test('JSON, it holds the prompt and the seed', async () => {
    expect((await complete(small, { produces: 'json' })).output).toEqual({ media: [], json: { prompt: 'a fox', seed: 1 }, seed: 1 });
  });

  test.each(['video', 'audio', 'text', 'json'] as const)('%s, marks hold as well', async (produces) => {
    await expect(complete({ prompt: '[[fail:out of paint]]' }, { produces })).rejects.toMatchObject({ message: 'out of paint' });
  });
});

describe('the course of a run', () => {
  test('takes a moment and shows progress when no mark says otherwise', async () => {
    const { progress, waitedMs } = await complete(small);
    expect(progress).toEqual([0, 0.5]);
    expect(waitedMs).toBe(200);
  });

  test('goes on in another process that has only the handle', async () => {
    const first = prepareRun(small);
    const started = await upstream.start(first.run);
    if (started.kind !== 'running') throw new Error('The run ended at once.');
    const second = prepareRun(small, { attempt: 2 });
    const handle = JSON.parse(JSON.stringify(started.handle));
    second.advance(150);
    expect(await upstream.check(second.run, handle)).toEqual({
      kind: 'running',
      handle,
      progress: 0.75,
      logs: ['The sandbox runs any-model', 'Using seed: 1', ' 25%|██      | 1/4', ' 50%|████    | 2/4', ' 75%|██████  | 3/4'],
      checkAfterMs: 50,
    });
    second.advance(50);
    expect((await upstream.check(second.run, handle)).kind).toBe('finished');
    expect(second.files).toHaveLength(1);
  });

  test('is not longer than asked when the clock of the machine that started it was ahead', async () => {
    const { run } = prepareRun(small);
    const step = await upstream.check(run, { startedAt: run.clock.now() + 60_000 });
    expect(step).toMatchObject({ kind: 'running', progress: 0, checkAfterMs: 100 });
  });

  test('refuses a handle that is not its own', async () => {
    await expect(upstream.check(prepareRun(small).run, { id: 'x' })).rejects.toMatchObject({ name: 'TerminalError', code: 'internal' });
  });

  test('stops with the reason of its signal, before anything is drawn or decided', async () => {
    const signal = AbortSignal.abort(new Error('cancelled by its caller'));
    for (const prompt of ['a fox', '[[fail:no]]', '[[hang]]']) {
      const { run, files } = prepareRun({ ...small, prompt }, { signal });
      await expect(upstream.check(run, { startedAt: 0 })).rejects.toBe(signal.reason);
      expect(files).toEqual([]);
    }
  });

  test('draws and holds few pictures at a time, however many are due', async () => {
    const { promise: stored, resolve: letStore } = Promise.withResolvers<void>();
    let storing = 0;
    const checks = Array.from({ length: 20 }, (_, seed) => {
      const { run } = prepareRun({ ...small, seed });
      const storeFile: Run['storeFile'] = async (file) => {
        storing += 1;
        await stored;
        return run.storeFile(file);
      };
      return upstream.check({ ...run, storeFile }, { startedAt: 0 });
    });
    // Drawn past the limit and behind the others, so by the time these are done all 20 would be, if nothing held them back.
    for (let picture = 0; picture < 4; picture++) {
      await drawPicture({ text: '', width: 512, height: 512, seed: picture, format: 'webp', quality: 100 });
    }
    expect(storing).toBe(3);
    letStore();
    expect((await Promise.all(checks)).every(({ kind }) => kind === 'finished')).toBe(true);
    expect(storing).toBe(20);
  });
});

describe('what a run prints', () => {
  test('grows line by line to its end, from the seed on', async () => {
    const { logs } = await complete({ ...small, prompt: '[[slow:400]]', seed: 7 });
    const first = ['The sandbox runs any-model', 'Using seed: 7'];
    const quarters = [' 25%|██      | 1/4', ' 50%|████    | 2/4', ' 75%|██████  | 3/4', '100%|████████| 4/4'];
    expect(logs).toEqual([first, ...[1, 2, 3].map((count) => [...first, ...quarters.slice(0, count)]), [...first, ...quarters, 'Done']]);
  });

  test('of a text has no seed', async () => {
    const { logs } = await complete({ prompt: '[[slow:0]]a fox' }, { produces: 'text' });
    expect(logs[0]).toEqual(['The sandbox runs any-model']);
  });

  test('is its beginning as long as it hangs', async () => {
    expect(await upstream.start(prepareRun({ ...small, prompt: '[[hang]]' }).run)).toMatchObject({
      logs: ['The sandbox runs any-model', 'Using seed: 1'],
    });
  });
});

describe('marks', () => {
  test('slow takes the time it says, with rising progress', async () => {
    const { waitedMs, progress } = await complete({ ...small, prompt: 'a fox [[slow:1500]]' });
    expect(waitedMs).toBe(1500);
    expect(progress).toEqual([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
  });

  test('slow may be an hour at most, and is not asked about all the time', async () => {
    const { waitedMs, progress } = await complete({ ...small, prompt: '[[slow:99999999]]' });
    expect(waitedMs).toBe(3_600_000);
    expect(progress).toHaveLength(1800);
    expect(progress.every((value, index) => value >= (progress[index - 1] ?? 0) && value < 1)).toBe(true);
  });

  test('slow:0 is done at the first look', async () => {
    expect(await complete({ ...small, prompt: '[[slow:0]]' })).toMatchObject({ waitedMs: 0, progress: [0] });
  });

  test('fail ends for good, with exactly the text', async () => {
    const { error } = await fail({ ...small, prompt: 'a fox [[fail:CUDA out of memory]]' });
    expect(error).toBeInstanceOf(TerminalError);
    expect(error).toMatchObject({ message: 'CUDA out of memory', code: 'provider_error' });
  });

  test('slow and fail together fail after the time', async () => {
    const { error, waitedMs } = await fail({ ...small, prompt: '[[slow:700]][[fail:late]]' });
    expect(error).toMatchObject({ message: 'late' });
    expect(waitedMs).toBe(700);
  });

  test('flaky fails the first attempts so that they are tried again, then works', async () => {
    const parameters = { ...small, prompt: 'a fox [[flaky:2]]' };
    for (const attempt of [1, 2]) expect((await fail(parameters, attempt)).error).toBeInstanceOf(RetryableError);
    expect((await complete(parameters, { attempt: 3 })).output.media).toHaveLength(1);
  });

  test('flaky and fail together are tried again, then fail for good', async () => {
    const parameters = { ...small, prompt: '[[fail:no]][[flaky:1]]' };
    expect((await fail(parameters, 1)).error).toBeInstanceOf(RetryableError);
    expect((await fail(parameters, 2)).error).toMatchObject({ name: 'TerminalError', message: 'no' });
  });

  test('hang never ends', async () => {
    const { run, advance } = prepareRun({ ...small, prompt: 'a fox [[hang]] [[slow:5]]' });
    let step = await upstream.start(run);
    for (let day = 0; day < 3; day++) {
      expect(step).toMatchObject({ kind: 'running', checkAfterMs: 1000 });
      advance(86_400_000);
      if (step.kind === 'running') step = await upstream.check(run, step.handle);
    }
    expect(step.kind).toBe('running');
  });

  test('nsfw is refused for its content', async () => {
    const { error } = await fail({ ...small, prompt: 'a fox [[nsfw]]' });
    expect(error).toBeInstanceOf(TerminalError);
    expect(error).toMatchObject({ code: 'content_refused', message: expect.stringMatching(/^The sandbox refused .*\.$/) });
  });
});
