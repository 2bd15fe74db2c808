import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CatalogError, loadCatalog } from './index.ts';
import { modelFolder, modelText } from './testing/model-folder.ts';

async function loadError(modelsDir: string): Promise<CatalogError> {
  const error = await loadCatalog({ modelsDir }).catch((reason: unknown) => reason);
  if (!(error instanceof CatalogError)) throw new Error('the catalog was loaded');
  return error;
}

/** The lines of the error for one file with this content, without the folder's name in front. */
async function linesFor(content: string | Uint8Array): Promise<string[]> {
  await using folder = await modelFolder({ 'x.yaml': content });
  const lines = (await loadError(folder.path)).message.split('\n').slice(1);
  return lines.map((line) => {
    expect(line.startsWith(`  ${folder.path}/`)).toBe(true);
    return line.slice(folder.path.length + 3);
  });
}

const valid = modelText();
const withParameters = (parameters: unknown) => modelText({ parameters });

describe('a model file', () => {
  it('is accepted when nothing is wrong with it', async () => {
    await using folder = await modelFolder({ 'x.yaml': valid });
    expect((await loadCatalog({ modelsDir: folder.path })).find('acme')).toEqual({
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
    await using folder = await modelFolder({ 'a.yaml': withParameters(parameters), 'b.yaml': modelText({ name: 'b', parameters }) });
    expect((await loadCatalog({ modelsDir: folder.path })).find('acme')?.parameters).toEqual(parameters);
  });

  it('may use __proto__ as a value, which is only a text', async () => {
    await using folder = await modelFolder({ 'x.yaml': valid.replace('title: Acme', 'title: __proto__') });
    expect((await loadCatalog({ modelsDir: folder.path })).find('acme')?.title).toBe('__proto__');
  });

  it('that is not UTF-8 is refused with the line of the first wrong byte', async () => {
    const latin1 = Buffer.from(modelText({ extra: '# caf\u00e9' }), 'latin1');
    expect(await linesFor(latin1)).toEqual(['x.yaml:3:6: is not UTF-8 text']);
  });

  it('may start with a byte order mark and contain U+FFFD', async () => {
    await using folder = await modelFolder({ 'x.yaml': `\ufeff${valid.replace('title: Acme', 'title: "\ufffd"')}` });
    expect((await loadCatalog({ modelsDir: folder.path })).find('acme')?.title).toBe('\ufffd');
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
    price: 3
retry: { attempts: 3, first_delay_ms: 100, factor: 2, delay_ms_max: 1000 }
`;
    expect(await linesFor(spread)).toEqual([
      'x.yaml:15:12: /routes/0/price is not a key that model files have',
      'x.yaml:11:16: /parameters/properties/quality/default is 101; it must be an integer of at most 100',
    ]);
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
