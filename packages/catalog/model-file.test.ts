import { symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Model } from '@claimcheck/core';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CatalogError, describeProblem, type KnownProvider, loadCatalog } from './index.ts';
import { type ReadModelFile, readModelFile } from './model-file.ts';
import { modelFolder, modelText } from './testing/model-folder.ts';

async function loadError(modelsDir: string): Promise<CatalogError> {
  const error = await loadCatalog({ modelsDir }).catch((reason: unknown) => reason);
  if (!(error instanceof CatalogError)) throw new Error('the catalog was loaded');
  return error;
}

async function read(content: string | Uint8Array, providers?: readonly KnownProvider[]): Promise<ReadModelFile> {
  await using folder = await modelFolder({ 'x.yaml': content });
  // Read before the folder goes.
  return await readModelFile(join(folder.path, 'x.yaml'), providers);
}

/** What is said about a file with this content, without the folder's name in front. */
async function linesFor(content: string | Uint8Array, providers?: readonly KnownProvider[]): Promise<string[]> {
  const result = await read(content, providers);
  return result.kind === 'ready' ? [] : result.problems.map((problem) => describeProblem({ ...problem, file: basename(problem.file) }));
}

/** The model of a file with this content. */
async function loaded(content: string, providers?: readonly KnownProvider[]): Promise<Model> {
  const result = await read(content, providers);
  if (result.kind === 'broken') throw new CatalogError(result.problems);
  return result.modelFile.model;
}

const valid = modelText();
const withParameters = (parameters: unknown) => modelText({ parameters });

describe('a model file', () => {
  it('is accepted when nothing is wrong with it', async () => {
    expect(await loaded(valid)).toEqual({
      name: 'acme',
      aliases: [],
      routing: 'order',
      title: 'Acme',
      produces: 'image',
      parameters: { type: 'object' },
      routes: [{ provider: 'sandbox', model: 'acme' }],
      retry: { attempts: 3, firstDelayMs: 100, factor: 2, delayMsMax: 1000 },
      timeoutSeconds: 900,
      onUnknown: 'resubmit',
    });
  });

  it.each<[string, string, string | RegExp]>([
    ['a bracket that is not closed', 'name: acme\ntitle: [a\nproduces: image\n', /^x\.yaml:3:1: YAML: /],
    ['a tab as indentation', 'name: acme\nretry:\n\tattempts: 3\n', /^x\.yaml:3:1: YAML: .*[Tt]abs?/],
    ['a repeated key', `${valid}name: again\n`, 'x.yaml:7:1: YAML: Map keys must be unique'],
    ['a second document', `${valid}---\nname: b\n`, /^x\.yaml:7:1: YAML: /],
    ['a YAML tag that JSON has no value for', modelText({ extra: 'aliases: !!set { a }' }), /^x\.yaml:3:10: YAML: /],
    ['an alias', `${valid}a: &a 1\nb: *a\n`, 'x.yaml:8:4: YAML aliases are not supported; in "parameters", use "$defs" and "$ref"'],
    ['the name __proto__', `${valid}__proto__: {}\n`, 'x.yaml:7:1: the name "__proto__" is not supported'],
    ['infinity', valid.replace('factor: 2', 'factor: .inf'), 'x.yaml:6:52: .inf is not a number that JSON can hold'],
    [
      'a number JSON.parse would round',
      `${valid}n: 12345678901234567890\n`,
      'x.yaml:7:4: 12345678901234567890 is too large to be kept exactly',
    ],
    ['a NUL character', valid.replace('title: Acme', 'title: "a\\0"'), 'x.yaml:3:8: the text contains a NUL character or a lone surrogate'],
    [
      'a lone surrogate',
      valid.replace('title: Acme', 'title: "\\ud800"'),
      'x.yaml:3:8: the text contains a NUL character or a lone surrogate',
    ],
  ])('with %s is refused with its line', async (_fault, content, expected) => {
    const [line] = await linesFor(content);
    if (typeof expected === 'string') expect(line).toBe(expected);
    else expect(line).toMatch(expected);
  });

  it.each<[string, string, string]>([
    ['an unknown key', modelText({ extra: 'colour: red' }), 'x.yaml:3:9: /colour is not a key that model files have'],
    [
      'an unknown key inside',
      valid.replace('factor: 2', 'factor: 2, jitter: 1'),
      'x.yaml:6:63: /retry/jitter is not a key that model files have',
    ],
    ['an unknown key that YAML reads as a number', modelText({ extra: '7: red' }), 'x.yaml:3:4: /7 is not a key that model files have'],
    ['a missing key', valid.replace('title: Acme\n', ''), 'x.yaml:1:1: /title is required'],
    ['no parameters', valid.replace(/^.*\n/, ''), 'x.yaml:1:1: /parameters is required'],
    ['a name with a space', modelText({ name: 'a b' }), 'x.yaml:2:7: /name must be letters, digits and . _ : - in parts joined by "/"'],
    ['a missing key in a list', valid.replace(', model: acme', ''), 'x.yaml:5:10: /routes/0/model is required'],
    [
      'two routes of one provider',
      valid.replace('acme }]', 'acme }, { provider: sandbox, model: b }]'),
      'x.yaml:5:58: /routes/1/provider "sandbox" has a route already',
    ],
    [
      'delays out of order',
      valid.replace('delay_ms_max: 1000', 'delay_ms_max: 99'),
      'x.yaml:6:69: /retry/delay_ms_max must not be below first_delay_ms',
    ],
  ])('with %s is refused with its line', async (_fault, content, expected) => {
    expect(await linesFor(content)).toEqual([expected]);
  });

  it.each<[string, string, RegExp]>([
    ['no content', '', /^x\.yaml:1:1: .*expected object/],
    ['a list instead of keys', '- a\n', /^x\.yaml:1:1: .*expected object/],
    ['an unknown kind of product', valid.replace('image', 'smell'), /^x\.yaml:4:11: \/produces .*"image"/],
    ['no route', valid.replace(/routes: .*/, 'routes: []'), /^x\.yaml:5:1: \/routes .*1/],
    ['a name that is too long', modelText({ name: 'a'.repeat(201) }), /^x\.yaml:2:7: \/name .*200/],
    ['an empty title', valid.replace('title: Acme', 'title: ""'), /^x\.yaml:3:8: \/title .*1/],
    ['a negative delay', valid.replace('first_delay_ms: 100', 'first_delay_ms: -1'), /^x\.yaml:6:39: \/retry\/first_delay_ms .*0/],
    ['half a millisecond', valid.replace('first_delay_ms: 100', 'first_delay_ms: 0.5'), /^x\.yaml:6:39: \/retry\/first_delay_ms .*int/],
    ['no attempt', valid.replace('attempts: 3', 'attempts: 0'), /^x\.yaml:6:20: \/retry\/attempts .*1/],
    ['too many attempts', valid.replace('attempts: 3', 'attempts: 21'), /^x\.yaml:6:20: \/retry\/attempts .*20/],
    ['a factor below 1', valid.replace('factor: 2', 'factor: 0.5'), /^x\.yaml:6:52: \/retry\/factor .*1/],
    ['a text where a list belongs', modelText({ extra: 'aliases: b' }), /^x\.yaml:3:10: \/aliases .*expected array/],
  ])('with %s is refused with its line', async (_fault, content, expected) => {
    const lines = await linesFor(content);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(expected);
  });

  // Each with the text that starts at the column the error must name.
  it.each<[string, unknown, string, string]>([
    ['another root type', { type: 'string' }, '"string"', '/type must be "object": parameters have names'],
    ['an asynchronous schema', { $async: true, type: 'object' }, 'true', '/$async is not supported'],
    [
      'a wrong value of a keyword',
      { type: 'object', properties: { a: { type: 'integer', minimum: '1' } } },
      '"1"',
      '/properties/a/minimum is "1"; it must be a number',
    ],
    [
      'an unknown keyword',
      { type: 'object', properties: { a: {}, b: { maximun: 3 } } },
      '"b":',
      '/properties/b strict mode: unknown keyword: "maximun"',
    ],
    [
      'a required parameter that does not exist',
      { type: 'object', properties: { prompt: {} }, required: ['promt'] },
      'parameters:',
      ' strict mode: required property "promt" is not defined at "#" (strictRequired)',
    ],
    [
      'a keyword that does not fit the type',
      { type: 'object', properties: { a: { type: 'string', minimum: 3 } } },
      '"a":',
      '/properties/a strict mode: missing type "number" for keyword "minimum" at "#/properties/a" (strictTypes)',
    ],
    [
      'a reference to nothing',
      { type: 'object', properties: { a: { $ref: '#/$defs/b' } } },
      '"a":',
      "/properties/a can't resolve reference #/$defs/b from id #",
    ],
    [
      'a default outside the range',
      { type: 'object', properties: { a: { type: 'integer', maximum: 3, default: 4 } } },
      '4',
      '/properties/a/default is 4; it must be an integer of at most 3',
    ],
    [
      'a default with a wrong part',
      { type: 'object', properties: { a: { type: 'array', items: { type: 'string' }, default: ['x', 4] } } },
      '4',
      '/properties/a/default/1 is 4; it must be a string',
    ],
    [
      'uniqueItems over objects',
      { type: 'object', properties: { a: { type: 'array', items: { type: 'object' }, uniqueItems: true } } },
      'true',
      '/properties/a/uniqueItems is only supported for items of a type other than object and array',
    ],
  ])('whose parameters have %s is refused with its line', async (_fault, parameters, culprit, reason) => {
    const text = withParameters(parameters);
    expect(await linesFor(text)).toEqual([`x.yaml:1:${text.indexOf(culprit) + 1}: /parameters${reason}`]);
  });

  it('of an older JSON Schema is refused', async () => {
    const lines = await linesFor(withParameters({ $schema: 'http://json-schema.org/draft-07/schema#', type: 'object' }));
    expect(lines[0]).toBe('x.yaml:1:24: /parameters/$schema must be "https://json-schema.org/draft/2020-12/schema" or absent');
  });

  it('may use all of JSON Schema 2020-12: references, unions, formats and uniqueItems over scalars', async () => {
    const parameters = {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'object',
      properties: {
        image: { $ref: '#/$defs/url' },
        size: { type: ['integer', 'null'], default: null },
        width: { type: ['integer', 'string'] },
        tags: { type: 'array', items: { type: 'string' }, uniqueItems: true },
        pair: { type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false, minItems: 2 },
      },
      required: ['image'],
      $defs: { url: { type: 'string', format: 'uri' } },
    };
    expect((await loaded(withParameters(parameters))).parameters).toEqual(parameters);
  });

  it('may use __proto__ as a value, which is only a text', async () => {
    expect((await loaded(valid.replace('title: Acme', 'title: __proto__'))).title).toBe('__proto__');
  });

  it('that is not UTF-8 is refused with the line of the first wrong byte', async () => {
    const latin1 = Buffer.from(modelText({ extra: '# caf\u00e9' }), 'latin1');
    expect(await linesFor(latin1)).toEqual(['x.yaml:3:6: is not UTF-8 text']);
  });

  it('may start with a byte order mark and contain U+FFFD', async () => {
    expect((await loaded(`\ufeff${valid.replace('title: Acme', 'title: "\ufffd"')}`)).title).toBe('\ufffd');
  });

  it('names the line of the value when YAML spreads over many', async () => {
    const spread = `name: acme
title: Acme
produces: image
parameters:
  type: object
  properties:
    quality:
      type: integer
      maximum: 100
      # Too much.
      default: 101
routes:
  - provider: sandbox
    model: acme
    prize: 3
retry: { attempts: 3, first_delay_ms: 100, factor: 2, delay_ms_max: 1000 }
`;
    expect(await linesFor(spread)).toEqual([
      'x.yaml:15:12: /routes/0/prize is not a key that model files have',
      'x.yaml:11:16: /parameters/properties/quality/default is 101; it must be an integer of at most 100',
    ]);
  });
});

/** What a mistake in a route gets; the parameters are `prompt`, `width` and `height`. */
describe('a route', () => {
  const parameters = {
    type: 'object',
    properties: { prompt: { type: 'string' }, width: { type: 'integer' }, height: { type: 'integer' } },
  };
  const fileWith = (route: object, extra = '') => modelText({ parameters, extra, routes: [{ provider: 'fal', model: 'm', ...route }] });
  it('is read with all that it may have', async () => {
    const model = await loaded(
      fileWith(
        {
          weight: 0.5,
          parameters: { prompt: 'prompt', size: 'width & "x" & height', safe: true, steps: 16, seed: null },
          drops: ['height'],
          price: { usd: 0.15, per: 'token', output_usd: 0.6, estimate: '$length(prompt)' },
          limits: { concurrency: 10, rate: '3000/min' },
          options: { version: 'abc', nested: [1, { a: null }] },
        },
        'output_format: { format: prompt, quality: width }',
      ),
    );
    expect(model).toMatchObject({
      outputFormat: { format: 'prompt', quality: 'width' },
      routes: [
        {
          provider: 'fal',
          model: 'm',
          weight: 0.5,
          price: { usd: 0.15, per: 'token', outputUsd: 0.6 },
          limits: { concurrency: 10, rate: { max: 3000, perMs: 60_000 } },
          options: { version: 'abc', nested: [1, { a: null }] },
        },
      ],
    });
  });

  it('has nothing that is not written', async () => {
    const model = await loaded(fileWith({ price: { usd: 0, per: 'run' }, limits: { rate: '1/s' } }));
    expect(model.routes).toStrictEqual([
      { provider: 'fal', model: 'm', price: { usd: 0, per: 'run' }, limits: { rate: { max: 1, perMs: 1000 } } },
    ]);
    expect(model).not.toHaveProperty('outputFormat');
  });

  // Each with the text that starts at the column the error must name.
  it.each<[string, object, string, string]>([
    ['a weight of 0', { weight: 0 }, '0', '/weight Too small: expected number to be >0'],
    ['an unknown key', { colour: 'red' }, '"red"', '/colour is not a key that model files have'],
    [
      'a broken expression',
      { parameters: { prompt: 'prompt', size: 'width &' } },
      '"width &"',
      '/parameters/size is not valid JSONata: Unexpected end of expression (character 7)',
    ],
    [
      'no expression',
      { parameters: { size: '' } },
      '""',
      '/parameters/size is not valid JSONata: Unexpected end of expression (character 0)',
    ],
    [
      'an expression of many pages',
      { parameters: { size: `"${'a'.repeat(10_000)}"` } },
      '"\\"aaa',
      '/parameters/size Too big: expected string to have <=10000 characters',
    ],
    [
      'a list for what is sent',
      { parameters: { size: ['width'] } },
      '"size":',
      '/parameters/size must be text (JSONata), a number, true, false or null',
    ],
    [
      'a misspelt parameter in an expression',
      { parameters: { size: 'wdth * height' } },
      '"wdth',
      '/parameters/size reads "wdth", which is not a parameter of this model; did you mean "width"?',
    ],
    [
      'a parameter that is nothing like one',
      { parameters: { size: 'zzz' } },
      '"zzz"',
      '/parameters/size reads "zzz", which is not a parameter of this model; there are prompt, width, height',
    ],
    [
      'a dropped parameter that does not exist',
      { parameters: {}, drops: ['prompt', 'heigth'] },
      '"heigth"',
      '/drops/1 "heigth" is not a parameter of this model; did you mean "height"?',
    ],
    [
      'something to drop and no mapping',
      { drops: ['prompt'] },
      '"drops":',
      '/drops needs "parameters": without them everything is sent as it is',
    ],
    ['an unknown unit', { price: { usd: 1, per: 'hour' } }, '"hour"', '/price/per Invalid option: expected one of "run"|"image"|'],
    ['a negative price', { price: { usd: -1, per: 'run' } }, '-1', '/price/usd Too small: expected number to be >=0'],
    ['a price of nothing', { price: { usd: 1 } }, '"price":', '/price/per is required'],
    [
      'a price of output that is not counted',
      { price: { usd: 1, per: 'image', output_usd: 2 } },
      '2}',
      '/price/output_usd is for prices per token',
    ],
    [
      'a broken estimate',
      { price: { usd: 1, per: 'image', estimate: 'width *' } },
      '"width *"',
      '/price/estimate is not valid JSONata: Unexpected end of expression (character 7)',
    ],
    [
      'an estimate over what does not exist',
      { price: { usd: 1, per: 'image', estimate: 'n' } },
      '"n"',
      '/price/estimate reads "n", which is not a parameter of this model; there are prompt, width, height',
    ],
    ['no concurrency', { limits: { concurrency: 0 } }, '0', '/limits/concurrency Too small: expected number to be >=1'],
    [
      'a rate that is not one',
      { limits: { rate: '50/day' } },
      '"50/day"',
      '/limits/rate must be a whole number per s, min or h, such as 50/s or 3000/min',
    ],
    [
      'a rate without a unit',
      { limits: { rate: 50 } },
      '50',
      '/limits/rate must be a whole number per s, min or h, such as 50/s or 3000/min',
    ],
    ['options that are a text', { options: 'fast' }, '"fast"', '/options Invalid input: expected record, received string'],
  ])('with %s is refused with its line', async (_fault, route, culprit, reason) => {
    const [, , , , line = ''] = fileWith(route).split('\n');
    const lines = await linesFor(fileWith(route));
    expect(lines).toHaveLength(1);
    const expected = `x.yaml:5:${line.indexOf(culprit, line.indexOf('"m"')) + 1}: /routes/0${reason}`;
    expect(lines[0]?.slice(0, expected.length)).toBe(expected);
  });

  it('may read whatever the schema lets through with `$` only', async () => {
    expect(await loaded(fileWith({ parameters: { input: '$' } }))).toBeDefined();
  });

  it('is looked at even when the rest of the file is wrong', async () => {
    const text = fileWith({ parameters: { size: 'wdth', text: 'prompt &' } }).replace('title: Acme\n', '');
    expect(await linesFor(text)).toEqual([
      'x.yaml:1:1: /title is required',
      expect.stringContaining('/routes/0/parameters/text is not valid JSONata'),
      expect.stringContaining('/routes/0/parameters/size reads "wdth"'),
    ]);
  });

  it('is not blamed for names while nothing says which there are', async () => {
    const text = fileWith({ parameters: { size: 'width' } }).replace(/^.*\n/, '');
    expect(await linesFor(text)).toEqual(['x.yaml:1:1: /parameters is required']);
  });
});

describe('the output format of a model file', () => {
  it.each([
    ['format: fromat', 'x.yaml:3:26: /output_format/format "fromat" is not a parameter of this model; did you mean "format"?'],
    [
      'format: format, quality: qualty',
      'x.yaml:3:43: /output_format/quality "qualty" is not a parameter of this model; did you mean "quality"?',
    ],
    ['quality: quality', 'x.yaml:3:1: /output_format/format is required'],
    ['format: 7', 'x.yaml:3:26: /output_format/format Invalid input: expected string, received number'],
  ])('{ %s } is refused with its line', async (members, expected) => {
    const parameters = { type: 'object', properties: { format: { type: 'string' }, quality: { type: 'integer' } } };
    expect(await linesFor(modelText({ parameters, extra: `output_format: { ${members} }` }))).toEqual([expected]);
  });
});

/** What the file asks of providers is only looked at when it is known which there are. */
describe('the provider of a route', () => {
  const options = z.strictObject({
    version: z.string().min(3),
    mode: z.enum(['a', 'b']).default('a'),
    deep: z.strictObject({ n: z.int() }).optional(),
  });
  const providers = [{ name: 'fal' }, { name: 'sandbox' }, { name: 'replicate', routeOptions: options }];
  const fileWith = (route: object) => modelText({ routes: [{ model: 'm', ...route }] });
  it('gets its options as its own schema reads them', async () => {
    const model = await loaded(fileWith({ provider: 'replicate', options: { version: 'abc' } }), providers);
    expect(model.routes).toEqual([{ provider: 'replicate', model: 'm', options: { version: 'abc', mode: 'a' } }]);
  });

  it.each<[string, object, readonly string[]]>([
    ['an unknown one', { provider: 'fall' }, ['/routes/0/provider "fall" is not a provider; did you mean "fal"?']],
    ['one like no other', { provider: 'xyzzy' }, ['/routes/0/provider "xyzzy" is not a provider; there are fal, sandbox, replicate']],
    ['one without options', { provider: 'fal', options: {} }, ['/routes/0/options are not for routes of fal, which has none']],
    [
      'one that does not know them',
      { provider: 'replicate', options: { version: 'abc', colour: 1, deep: { m: 1, n: 2.5 } } },
      [
        '/routes/0/options/deep/n Invalid input: expected int, received number',
        '/routes/0/options/deep/m is not an option of replicate',
        '/routes/0/options/colour is not an option of replicate',
      ],
    ],
    ['one that needs them', { provider: 'replicate' }, ['/routes/0/options/version is required']],
  ])('%s is refused', async (_case, route, expected) => {
    expect((await linesFor(fileWith(route), providers)).map((line) => line.replace(/^x\.yaml:5:\d+: /, ''))).toEqual(expected);
  });

  it('is anyone while nobody says who there is, and its options are as written', async () => {
    const model = await loaded(fileWith({ provider: 'fall', options: { any: 1 } }));
    expect(model.routes).toEqual([{ provider: 'fall', model: 'm', options: { any: 1 } }]);
  });
});

describe('a folder of model files', () => {
  it('that does not exist is refused by its name', async () => {
    await using folder = await modelFolder({});
    const error = await loadError(join(folder.path, 'nowhere'));
    expect(error.problems).toMatchObject([{ file: join(folder.path, 'nowhere'), reason: expect.stringContaining('ENOENT') }]);
    expect(error.message).toContain(`${folder.path}/nowhere: cannot be read: ENOENT`);
  });

  it('with a file that cannot be read is refused with the reason', async () => {
    await using folder = await modelFolder({ 'folder.yaml': undefined });
    await symlink(join(folder.path, 'gone'), join(folder.path, 'link.yaml'));
    expect((await loadError(folder.path)).message.split('\n').slice(1)).toEqual([
      expect.stringContaining(`${folder.path}/folder.yaml: cannot be read: EISDIR`),
      expect.stringContaining(`${folder.path}/link.yaml: cannot be read: ENOENT`),
    ]);
  });

  it('reports all problems of all files together', async () => {
    await using folder = await modelFolder({
      'a.yaml': 'name: [\n',
      'b.yaml': modelText({ name: 'b b', extra: 'colour: red', parameters: { type: 'object', properties: { a: { type: 'int' } } } }),
      'c.yml': modelText({ name: 'ok' }),
      'd.yml': modelText({ name: 'ok' }),
    });
    const { problems } = await loadError(folder.path);
    expect(problems.map(({ file, line }) => [file.slice(folder.path.length + 1), line])).toEqual(
      expect.arrayContaining([
        ['a.yaml', 2],
        ['b.yaml', 1],
        ['b.yaml', 2],
        ['b.yaml', 3],
        ['d.yml', 2],
      ]),
    );
  });
});
