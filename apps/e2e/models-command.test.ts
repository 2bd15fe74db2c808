/** `npx claimcheck models` as a user meets it: the real command, what it prints and how it ends. */
import { access, constants, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { type Environment, type Folder, startProcess, startProgram, temporaryFolder } from './testing/processes.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MAIN = 'apps/standalone/claimcheck.ts';

const GOOD = `
name: acme/poster
aliases: [poster]
title: Poster
produces: image
parameters:
  type: object
  required: [prompt]
  properties:
    prompt: { type: string, examples: [a panda, a bear] }
    width: { type: integer, default: 1000 }
    height: { type: integer, default: 500 }
    seed: { type: integer }
    format: { type: string, enum: [png, webp], default: webp }
output_format: { format: format }
routes:
  - provider: fal
    model: acme/poster
    parameters:
      text: prompt
      image_size: '{"width": width, "height": height}'
      safe: true
    price: { usd: 0.01, per: megapixel, estimate: width * height / 1000000 }
  - provider: replicate
    model: acme/poster
    parameters:
      prompt: prompt
      aspect_ratio: 'width = 2 * height ? "2:1" : $error("must be twice the height at replicate")'
      seed: seed
    price: { usd: 0.005, per: image }
  - provider: sandbox
    model: poster
retry: { attempts: 3, first_delay_ms: 100, factor: 2, delay_ms_max: 1000 }
`;

const BAD = GOOD.replace('text: prompt', 'text: promt').replace('usd: 0.005', 'usd: free').replace('provider: sandbox', 'provider: sandbx');

let folder: Folder;
let good: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  good = join(folder.path, 'good.yaml');
  await writeFile(good, GOOD);
});
afterAll(() => folder[Symbol.asyncDispose]());

async function file(name: string, text: string): Promise<string> {
  const path = join(folder.path, name);
  await writeFile(path, text);
  return path;
}

async function models(args: readonly string[], environment: Environment = {}) {
  await using started = startProcess(MAIN, environment, ['models', ...args]);
  return { code: await started.exited, output: started.output() };
}

/** The JSON behind each heading of the output. */
function jsonBehind(output: string, heading: string): unknown {
  const block = output.split('\n\n').find((paragraph) => paragraph.startsWith(heading));
  if (block === undefined) throw new Error(`There is no "${heading}" in:\n${output}`);
  return JSON.parse(block.slice(block.indexOf('\n')));
}

test('a good file is shown with what each route would send, from its example and its defaults', async () => {
  const { code, output } = await models(['check', good]);
  expect(output).toMatch(`${good}: acme/poster can be loaded.`);
  expect(jsonBehind(output, 'Its parameters, with defaults:')).toEqual({ prompt: 'a panda', width: 1000, height: 500, format: 'webp' });
  expect(jsonBehind(output, 'fal, as acme/poster, is sent (about 0.005 USD):')).toEqual({
    text: 'a panda',
    image_size: { width: 1000, height: 500 },
    safe: true,
  });
  expect(jsonBehind(output, 'replicate, as acme/poster, is sent (about 0.005 USD):')).toEqual({ prompt: 'a panda', aspect_ratio: '2:1' });
  expect(jsonBehind(output, 'sandbox, as poster, is sent (no price):')).toEqual({
    prompt: 'a panda',
    width: 1000,
    height: 500,
    format: 'webp',
  });
  expect(code).toBe(0);
});

test('all that is wrong with bad files is told at once by file, line and column, beside what is good', async () => {
  const bad = await file('bad.yaml', BAD);
  const { code, output } = await models(['check', bad, good, join(folder.path, 'none.yaml')]);
  const at = (text: string) => {
    const lines = BAD.split('\n');
    const line = lines.findIndex((candidate) => candidate.includes(text));
    return `${bad}:${line + 1}:${(lines[line]?.indexOf(text.split(' ').at(-1) ?? '') ?? 0) + 1}: `;
  };
  for (const fault of [
    `${at('text: promt')}/routes/0/parameters/text reads "promt", which is not a parameter of this model; did you mean "prompt"?\n`,
    `${at('usd: free,')}/routes/1/price/usd Invalid input: expected number, received string\n`,
    `${at('provider: sandbx')}/routes/2/provider "sandbx" is not a provider; did you mean "sandbox"?\n`,
    `${join(folder.path, 'none.yaml')}: cannot be read: ENOENT`,
    `${good}: acme/poster can be loaded.\n`,
  ]) {
    expect(output).toContain(fault);
  }
  expect(output).not.toContain(`${bad}: `);
  expect(code).toBe(1);
});

test('models are listed with their providers, those of MODELS_DIR too', async () => {
  await using own = await temporaryFolder();
  await writeFile(join(own.path, 'poster.yaml'), GOOD);
  const { code, output } = await models(['list'], { MODELS_DIR: own.path });
  expect(output).toMatch(/^acme\/poster, poster +image +fal, replicate, sandbox$/m);
  expect(output).toMatch(/^hidream-l1-fast +image +\w/m);
  expect(code).toBe(0);
});

test('a route of a provider that does not exist stops the start, before anything else is started', async () => {
  await using own = await temporaryFolder();
  await writeFile(join(own.path, 'bad.yaml'), BAD);
  await using started = startProcess('apps/standalone/main.ts', { MODELS_DIR: own.path, DATA_DIR: join(own.path, 'data') });
  expect(await started.exited).toBe(1);
  expect(started.output()).toContain('/routes/2/provider "sandbx" is not a provider; did you mean "sandbox"?');
  expect(await readdir(own.path)).toEqual(['bad.yaml']);
});

test('it is a program of the workspace, which npx runs, and helps with 0', async () => {
  const { bin } = z
    .object({ bin: z.object({ claimcheck: z.string() }) })
    .parse(JSON.parse(await readFile(join(ROOT, 'apps/standalone/package.json'), 'utf8')));
  const program = join(ROOT, 'apps/standalone', bin.claimcheck);
  await access(program, constants.X_OK);
  // Its first line names Node, which npx has first on the PATH.
  const path = `${join(ROOT, 'node_modules/.bin')}:${process.env.PATH}`;
  await using started = startProgram(program, ['models', '--help'], { PATH: path });
  expect([await started.exited, started.output()]).toEqual([0, expect.stringMatching(/^Usage: npx claimcheck models/)]);
});

test('a wrong command line ends with 2', async () => {
  const { code, output } = await models(['check']);
  expect(output).toMatch(/^The file is missing\.\n\nUsage: /);
  expect(code).toBe(2);
});
