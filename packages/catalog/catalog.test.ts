import { AppError, parseExactJson } from '@claimcheck/core';
import { describe, expect, it } from 'vitest';
import { CatalogError, loadCatalog } from './index.ts';
import { catalogOfText } from './testing/catalog-of-text.ts';
import { modelFolder, modelText } from './testing/model-folder.ts';

/** A model with these parameters, alone in its catalog. */
async function catalogWith(parameters: unknown) {
  const { catalog, model } = await catalogOfText(modelText({ parameters }));
  return { catalog, model, fill: (text: string) => catalog.fill(model, parseExactJson(text)) };
}

function thrownBy(act: () => unknown): AppError {
  try {
    act();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

async function refusalOf(files: Record<string, string>): Promise<CatalogError & { readonly folder: string }> {
  await using folder = await modelFolder(files);
  const error = await loadCatalog({ modelsDir: folder.path }).catch((reason: unknown) => reason);
  if (!(error instanceof CatalogError)) throw new Error('the catalog was loaded');
  return Object.assign(error, { folder: folder.path });
}

describe('loading', () => {
  it('adds user models, in .yaml and .yml files, to the built-in ones and lists all by name', async () => {
    await using folder = await modelFolder({
      'b.yaml': modelText({ name: 'zebra' }),
      'a.yml': modelText({ name: 'acme/one' }),
      'notes.txt': 'not a model',
      '._a.yaml': 'not a model either: {',
    });
    const catalog = await loadCatalog({ modelsDir: folder.path });
    const names = catalog.list().map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['acme/one', 'hidream-l1-fast', 'zebra']));
    expect(names).toEqual(names.toSorted());
  });

  it("lets a user model replace the built-in one of its name, and only that file's parameters count", async () => {
    const parameters = { type: 'object', properties: { size: { type: 'integer' } } };
    await using folder = await modelFolder({ 'acme.yaml': modelText({ name: 'hidream-l1-fast', parameters }) });
    const catalog = await loadCatalog({ modelsDir: folder.path });
    const [model, ...others] = catalog.list().filter(({ name }) => name === 'hidream-l1-fast');
    if (!model) throw new Error('the model was not loaded');
    expect([model.title, others]).toEqual(['Acme', []]);
    expect(catalog.fill(model, parseExactJson('{"size":3}'))).toBe('{"size":3}');
  });

  it('keeps the routes in the order of the file', async () => {
    const text = modelText().replace(
      'routes: [{ provider: sandbox, model: acme }]',
      'routes: [{ provider: one, model: a }, { provider: two, model: b }]',
    );
    await using folder = await modelFolder({ 'acme.yaml': text });
    expect((await loadCatalog({ modelsDir: folder.path })).find('acme')?.routes).toEqual([
      { provider: 'one', model: 'a' },
      { provider: 'two', model: 'b' },
    ]);
  });

  it('refuses two user models of one name', async () => {
    const error = await refusalOf({ 'a.yaml': modelText(), 'b.yaml': modelText() });
    expect(error.message).toContain(`${error.folder}/b.yaml:2:7: "acme" is taken already, by ${error.folder}/a.yaml`);
  });

  it('refuses two user models of a built-in name, for only one can replace it', async () => {
    const error = await refusalOf({
      'a.yaml': modelText({ name: 'hidream-l1-fast' }),
      'b.yaml': modelText({ name: 'hidream-l1-fast' }),
    });
    expect(error.problems).toHaveLength(1);
    expect(error.message).toContain(`${error.folder}/b.yaml:2:7: "hidream-l1-fast" is taken already, by ${error.folder}/a.yaml`);
  });

  it("refuses an alias that is another user model's name or alias", async () => {
    const error = await refusalOf({
      'a.yaml': modelText({ name: 'one', extra: 'aliases: [uno]' }),
      'b.yaml': modelText({ name: 'two', extra: 'aliases: [one, uno]' }),
    });
    expect(error.problems.map(({ line, column, reason }) => [line, column, reason])).toEqual([
      [3, 11, `"one" is taken already, by ${error.folder}/a.yaml`],
      [3, 16, `"uno" is taken already, by ${error.folder}/a.yaml`],
    ]);
  });

  it('refuses an alias that is the name of a built-in model', async () => {
    const error = await refusalOf({ 'a.yaml': modelText({ extra: 'aliases: [hidream-l1-fast]' }) });
    expect(error.problems).toMatchObject([{ file: `${error.folder}/a.yaml`, line: 3, column: 11 }]);
  });

  it('refuses an alias that repeats its own model', async () => {
    const error = await refusalOf({ 'a.yaml': modelText({ extra: 'aliases: [acme]' }) });
    expect(error.problems).toMatchObject([{ line: 3, reason: '"acme" is taken already, by this model itself' }]);
  });
});

describe('finding', () => {
  it('finds a model by its name and its aliases, case-sensitively', async () => {
    await using folder = await modelFolder({ 'a.yaml': modelText({ name: 'acme/one', extra: 'aliases: [uno, acme-1]' }) });
    const catalog = await loadCatalog({ modelsDir: folder.path });
    const model = catalog.find('acme/one');
    expect(model?.aliases).toEqual(['uno', 'acme-1']);
    expect([catalog.find('uno'), catalog.find('acme-1')]).toEqual([model, model]);
    expect([catalog.find('Acme/one'), catalog.find('UNO'), catalog.find('toString')]).toEqual([undefined, undefined, undefined]);
  });

  it('suggests names and aliases for a misspelt name', async () => {
    await using folder = await modelFolder({ 'a.yaml': modelText({ name: 'acme-one', extra: 'aliases: [uno-fast]' }) });
    const catalog = await loadCatalog({ modelsDir: folder.path });
    expect(catalog.nearest('acme-oen')[0]).toBe('acme-one');
    expect(catalog.nearest('uno-fsat')[0]).toBe('uno-fast');
  });

  it('declares the top-level parameters of the model and nothing else', async () => {
    const { catalog, model } = await catalogWith({
      type: 'object',
      properties: { webhook: { type: 'object', properties: { inner: { type: 'string' } } } },
    });
    expect(['webhook', 'inner', 'toString', 'type'].map((name) => catalog.declares(model, name))).toEqual([true, false, false, false]);
  });
});

describe('filling', () => {
  const properties = { seed: { type: 'integer', default: -1 }, size: { type: 'number', default: 0.5 }, note: { type: 'string' } };

  it("keeps the client's numbers, keys and order and appends the defaults of what is absent", async () => {
    const { fill } = await catalogWith({ type: 'object', properties });
    expect(fill('{"z":1e2,"10":1.0,"2":{"b":1,"a": 1},"__proto__":{"seed":5},"seed":12345678901234567890}')).toBe(
      '{"z":1e2,"10":1.0,"2":{"b":1,"a": 1},"__proto__":{"seed":5},"seed":12345678901234567890,"size":0.5}',
    );
  });

  it('does not replace what the client gave, even when it means nothing', async () => {
    const { fill } = await catalogWith({ type: 'object', properties: { seed: { type: ['integer', 'null'], default: -1 } } });
    expect(fill('{"seed":null}')).toBe('{"seed":null}');
    expect(fill('{"seed":0}')).toBe('{"seed":0}');
  });

  it('sends on one value of a repeated parameter: the one that was checked', async () => {
    const { fill } = await catalogWith({ type: 'object', properties });
    expect(fill('{"seed":"no","size":1,"seed":7}')).toBe('{"seed":7,"size":1}');
    expect(thrownBy(() => fill('{"seed":7,"seed":"no"}')).problems).toMatchObject([{ pointer: '/seed' }]);
  });

  it('fills an object default of its own and leaves the parsed input as it was', async () => {
    const { catalog, model } = await catalogWith({
      type: 'object',
      properties: { box: { type: 'object', properties: { w: { type: 'integer', default: 9 } }, default: { w: 1 } } },
    });
    const given = parseExactJson('{"box":{}}');
    expect(catalog.fill(model, given)).toBe('{"box":{}}');
    expect(given.value).toEqual({ box: {} });
    expect(catalog.fill(model, parseExactJson('{}'))).toBe('{"box":{"w":1}}');
  });

  it.each(['[1]', '"text"', '3', 'null', 'true'])('refuses the body %s as a whole', async (body) => {
    const { fill } = await catalogWith({ type: 'object', properties });
    const error = thrownBy(() => fill(body));
    expect(error.code).toBe('invalid_parameters');
    expect(error.problems).toHaveLength(1);
    expect(error.problems).toMatchObject([{ pointer: '', message: expect.stringMatching(/; it must be an object$/) }]);
    expect(error.message).toMatch(/^The parameters of model "acme" are not valid: the body is .*; it must be an object\.$/);
  });

  it('names the model and the first three problems in a sentence, and lists all of them', async () => {
    const flags = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [name, { type: 'boolean' }]));
    const { fill } = await catalogWith({ type: 'object', properties: flags });
    const error = thrownBy(() => fill('{"a":1,"b":2,"c":3,"d":4,"e":5}'));
    expect(error.message).toBe(
      'The parameters of model "acme" are not valid: /a is 1; it must be true or false. /b is 2; it must be true or false. ' +
        '/c is 3; it must be true or false; and 2 more problems.',
    );
    expect(error.problems.map(({ pointer }) => pointer)).toEqual(['/a', '/b', '/c', '/d', '/e']);
  });

  it('refuses to fill for a model that it does not have', async () => {
    const { catalog, model } = await catalogWith({ type: 'object' });
    expect(() => catalog.fill({ ...model, name: 'other' }, parseExactJson('{}'))).toThrow('Model "other" is not of this catalog');
  });
});
