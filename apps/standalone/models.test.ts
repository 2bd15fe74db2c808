import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CatalogError } from '@claimcheck/catalog';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkModels, listModels } from './models.ts';
import { readModelsOptions } from './models-options.ts';

const BUILT_IN = fileURLToPath(new URL('../../packages/catalog/models', import.meta.url));

const POSTER = `
name: acme/poster
title: Poster
produces: image
parameters:
  type: object
  required: [prompt]
  properties:
    prompt: { type: string, examples: [a panda] }
    width: { type: integer, default: 1000 }
    seed: { type: integer }
    n: { type: integer }
routes:
  - provider: fal
    model: acme/poster
    parameters: { text: prompt, width: 'width > 2000 ? $error("must be 2000 at most at fal") : width' }
    drops: [n]
    price: { usd: 0.0000005, per: image, estimate: n }
  - provider: sandbox
    model: poster
retry: { attempts: 3, first_delay_ms: 100, factor: 2, delay_ms_max: 1000 }
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'models-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** What is said about a file with this text. */
async function check(text: string, ...args: string[]) {
  const path = join(folder, 'x.yaml');
  await writeFile(path, text);
  const command = readModelsOptions(['models', 'check', path, ...args]);
  if (command === 'help' || command.verb !== 'check') throw new Error('The arguments are not those of a check.');
  const { faults, findings } = await checkModels(command);
  return {
    faults: faults.map((fault) => fault.replace(`${folder}/`, '')),
    findings: findings.map((text) => text.replace(`${folder}/`, '')),
  };
}

test('shows the parameters and what each route would send', async () => {
  expect(await check(POSTER, '--set', 'n=3')).toEqual({
    faults: [],
    findings: [
      'x.yaml: acme/poster can be loaded.',
      'Its parameters, with defaults:\n{\n  "prompt": "a panda",\n  "n": 3,\n  "width": 1000\n}',
      'fal, as acme/poster, is sent (about 0.0000015 USD):\n{\n  "text": "a panda",\n  "width": 1000\n}',
      'sandbox, as poster, is sent (no price):\n{\n  "prompt": "a panda",\n  "n": 3,\n  "width": 1000\n}',
    ],
  });
});

test('tells when an estimate gives none', async () => {
  const { findings } = await check(POSTER);
  expect(findings[2]).toMatch(/^fal, as acme\/poster, is sent \(the estimate gives no number of 0 or more\):\n/);
});

test('tells everything that a route cannot express, which is no fault', async () => {
  const text = POSTER.replace('estimate: n', 'estimate: width');
  const { faults, findings } = await check(text, '--parameters', '{"prompt":"a fox","width":3000,"seed":1}');
  expect(faults).toEqual([]);
  expect(findings[2]).toBe(
    'fal, as acme/poster, cannot run it with these:\n' +
      '  /seed cannot be expressed by fal: leave it out, or choose another provider\n  /width must be 2000 at most at fal',
  );
  expect(findings[3]).toContain('"prompt": "a fox"');
});

test('blames parameters that were given and that the model refuses', async () => {
  const sentence = 'x.yaml: The parameters of model "acme/poster" are not valid: /prompt is missing; it must be a string.';
  expect((await check(POSTER, '--parameters', '{}')).faults).toEqual([sentence]);
  expect((await check(POSTER, '--parameters', '{}', '--set', 'prompt=a fox')).faults).toEqual([]);
  expect((await check(POSTER, '--set', 'width=wide')).faults).toEqual([
    'x.yaml: The parameters of model "acme/poster" are not valid: /width is "wide"; it must be an integer.',
  ]);
});

test('asks for parameters where a model has no examples, which is no fault', async () => {
  expect(await check(POSTER.replace(', examples: [a panda]', ''))).toEqual({
    faults: [],
    findings: [
      'x.yaml: acme/poster can be loaded.',
      'What its routes send can be shown with --set NAME=VALUE: /prompt is missing; it must be a string.',
    ],
  });
});

test('blames an expression that fails, by its place', async () => {
  const { faults } = await check(POSTER.replace('text: prompt', 'text: $number(prompt)'));
  expect(faults).toEqual([expect.stringMatching(/^x\.yaml:16:25: \/routes\/0\/parameters\/text: Unable to cast value to a number/)]);
});

test('blames an alias that is the name of a built-in model', async () => {
  const { faults, findings } = await check(`aliases: [hidream-l1-fast]${POSTER}`);
  expect(faults).toEqual([expect.stringMatching(/^x\.yaml:1:11: "hidream-l1-fast" is taken already, by .*hidream-l1-fast\.yaml$/)]);
  expect(findings).toEqual([]);
});

test('lets a file take the place of a built-in model', async () => {
  expect((await check(POSTER.replace('acme/poster', 'hidream-l1-fast'))).faults).toEqual([]);
});

test('finds nothing wrong with the built-in models', async () => {
  const files = (await readdir(BUILT_IN)).filter((name) => name.endsWith('.yaml')).map((name) => join(BUILT_IN, name));
  const { faults, findings } = await checkModels({ verb: 'check', files, set: new Map() });
  expect(faults).toEqual([]);
  expect(findings.filter((finding) => finding.endsWith(' can be loaded.'))).toHaveLength(files.length);
});

test('does not list what cannot be loaded', async () => {
  await expect(listModels(join(folder, 'nowhere'))).rejects.toThrow(CatalogError);
});
