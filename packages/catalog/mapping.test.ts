import { AppError, type JsonObject } from '@claimcheck/core';
import { describe, expect, it } from 'vitest';
import { catalogOfText } from './testing/catalog-of-text.ts';
import { modelText } from './testing/model-folder.ts';

const PARAMETERS = {
  type: 'object',
  properties: {
    prompt: { type: 'string' },
    width: { type: 'integer', default: 1024 },
    height: { type: 'integer', default: 768 },
    size: { type: 'string' },
    images: { type: 'array', default: ['a'] },
    negative_prompt: { type: ['string', 'null'] },
    'a/b': { type: 'integer' },
    format: { type: 'string', default: 'webp' },
  },
};
const ALL = Object.keys(PARAMETERS.properties);

/** What is sent for these parameters by a route of fal that is written so. */
async function express(route: object, parameters: JsonObject, extra = ''): Promise<JsonObject> {
  const { catalog, model } = await catalogOfText(
    modelText({ parameters: PARAMETERS, extra, routes: [{ provider: 'fal', model: 'm', ...route }] }),
  );
  return catalog.express(model, { provider: 'fal', model: 'm' }, parameters);
}

/** The same where nothing counts as lost. */
const send = (parameters: object, given: JsonObject) => express({ parameters, drops: ALL }, given);

async function refusalOf(expressing: Promise<unknown>): Promise<AppError> {
  const error = await expressing.catch((reason: unknown) => reason);
  if (error instanceof AppError) return error;
  throw new Error('was expressed', { cause: error });
}

describe('what a route sends', () => {
  it('is the parameters as they are where the route has no mapping, unknown ones too', async () => {
    const parameters = { prompt: 'a', unknown: [1, null] };
    expect(await express({}, parameters)).toBe(parameters);
  });

  it('is the parameters as they are for the sandbox, which needs no route', async () => {
    const { catalog, model } = await catalogOfText(modelText({ routes: [{ provider: 'fal', model: 'm', parameters: { a: 1 } }] }));
    expect(await catalog.express(model, { provider: 'sandbox', model: 'acme' }, { prompt: 'a' })).toEqual({ prompt: 'a' });
  });

  it.each<[string, object, JsonObject, JsonObject]>([
    ['a parameter under another name', { text: 'prompt' }, { prompt: 'a "b"' }, { text: 'a "b"' }],
    [
      'constants',
      { safe: true, fast: false, steps: 16, scale: 0.5, seed: null },
      {},
      { safe: true, fast: false, steps: 16, scale: 0.5, seed: null },
    ],
    ['a text', { mode: '"fast"' }, {}, { mode: 'fast' }],
    ['an object', { image_size: '{"width": width, "height": height}' }, { width: 1, height: 2 }, { image_size: { width: 1, height: 2 } }],
    ['text of two numbers', { size: 'width & "*" & height' }, { width: 1, height: 2 }, { size: '1*2' }],
    [
      'numbers out of text',
      { width: '$number($split(size, "x")[0])', height: '$number($split(size, "x")[1])' },
      { size: '640x480' },
      { width: 640, height: 480 },
    ],
    ['one of a table', { ratio: '$lookup({"1024x1024": "1:1", "1360x768": "16:9"}, size)' }, { size: '1360x768' }, { ratio: '16:9' }],
    ['nothing for what is not given', { text: 'prompt', size: 'size' }, { prompt: 'a' }, { text: 'a' }],
    ['nothing where an expression gives nothing', { seed: 'width >= 0 ? width' }, { width: -1 }, {}],
    ['null for null', { negative: 'negative_prompt' }, { negative_prompt: null }, { negative: null }],
    ['false and 0 and empty text', { a: 'width', b: 'prompt', c: 'width = 1' }, { width: 0, prompt: '' }, { a: 0, b: '', c: false }],
    ['a list of one as a list', { image_urls: 'images' }, { images: ['a'] }, { image_urls: ['a'] }],
    ['an empty list as a list', { image_urls: 'images' }, { images: [] }, { image_urls: [] }],
    ['members in the order of the file', { z: 'prompt', a: 1 }, { prompt: 'x' }, { z: 'x', a: 1 }],
    ['nothing of what the schema lets through', { text: 'prompt' }, { prompt: 'a', unknown: 1 }, { text: 'a' }],
    ['all of it where the file says so', { input: '$' }, { prompt: 'a', unknown: 1 }, { input: { prompt: 'a', unknown: 1 } }],
    ['nothing inherited', { a: '$lookup($, "constructor")', b: '$lookup($, "__proto__")' }, {}, {}],
  ])('can be %s', async (_what, mapping, given, expected) => {
    const sent = await send(mapping, given);
    expect(sent).toStrictEqual(expected);
    expect(Object.keys(sent)).toEqual(Object.keys(expected));
  });

  it('leaves the parameters as they were', async () => {
    const given = { prompt: 'a', images: ['b'] };
    await send({ x: '$ ~> |$|{"prompt": "c"}|', y: '$append(images, "d")' }, given);
    expect(given).toEqual({ prompt: 'a', images: ['b'] });
  });

  it('is never mixed up with what others ask at the same time', async () => {
    const { catalog, model } = await catalogOfText(
      modelText({
        parameters: PARAMETERS,
        routes: [{ provider: 'fal', model: 'm', parameters: { text: '$map([1..20], function($n) { $$.prompt })' }, drops: ALL }],
      }),
    );
    const prompts = Array.from({ length: 50 }, (_, index) => `prompt ${index}`);
    const sent = await Promise.all(prompts.map((prompt) => catalog.express(model, { provider: 'fal', model: 'm' }, { prompt })));
    expect(sent).toEqual(prompts.map((prompt) => ({ text: Array(20).fill(prompt) })));
  });
});

describe('a parameter that a route does not look at', () => {
  const parameters = { text: 'prompt' };
  const lost = (given: JsonObject, route: object = {}, extra = '') => express({ parameters, ...route }, { prompt: 'a', ...given }, extra);

  it('is refused, with the way out', async () => {
    const error = await refusalOf(lost({ width: 512, height: 768, size: 'x' }));
    expect(error.code).toBe('invalid_parameters');
    expect(error.problems).toEqual([
      { pointer: '/width', message: 'cannot be expressed by fal: leave it out, or send its default, 1024' },
      { pointer: '/size', message: 'cannot be expressed by fal: leave it out, or choose another provider' },
    ]);
    expect(error.message).toBe(
      'Provider fal cannot run model "acme" with these parameters: /width cannot be expressed by fal: leave it out, or send its default, ' +
        '1024. /size cannot be expressed by fal: leave it out, or choose another provider.',
    );
  });

  it.each<[string, JsonObject]>([
    ['its default', { width: 1024, height: 768, images: ['a'], format: 'webp' }],
    ['nothing', {}],
    ['null, where there is no default', { negative_prompt: null }],
  ])('does no harm with %s', async (_what, given) => {
    expect(await lost(given)).toEqual({ text: 'a' });
  });

  it.each<[string, JsonObject, string]>([
    ['null instead of a default', { width: null }, '/width'],
    ['a list that is not the default', { images: ['a', 'a'] }, '/images'],
    ['a name that must be escaped', { 'a/b': 1 }, '/a~1b'],
    ['a value that is empty', { size: '' }, '/size'],
  ])('is refused with %s', async (_what, given, pointer) => {
    expect((await refusalOf(lost(given))).problems).toMatchObject([{ pointer }]);
  });

  it('is ignored where the file drops it', async () => {
    expect(await lost({ width: 1, size: 'x' }, { drops: ['width', 'size'] })).toEqual({ text: 'a' });
  });

  it('is ignored where it chooses the format, which results are converted to', async () => {
    const extra = 'output_format: { format: format, quality: width }';
    expect(await lost({ format: 'png', width: 1 }, {}, extra)).toEqual({ text: 'a' });
    expect((await refusalOf(lost({ format: 'png', height: 1 }, {}, extra))).problems).toMatchObject([{ pointer: '/height' }]);
  });

  it('is not there when an expression looks at all of them', async () => {
    expect(await lost({ width: 1 }, { parameters: { all: '$' } })).toEqual({ all: { prompt: 'a', width: 1 } });
  });

  it('is refused by a route that sends constants alone', async () => {
    expect((await refusalOf(express({ parameters: {} }, { prompt: 'a' }))).problems).toMatchObject([{ pointer: '/prompt' }]);
  });

  it('is not confused with what objects inherit', async () => {
    const { catalog, model } = await catalogOfText(
      modelText({
        parameters: { type: 'object', properties: { toString: { type: 'string' }, constructor: { type: 'string' } } },
        routes: [{ provider: 'fal', model: 'm', parameters: { a: 1 } }],
      }),
    );
    expect(await catalog.express(model, { provider: 'fal', model: 'm' }, {})).toEqual({ a: 1 });
  });
});

describe('a value that a mapping refuses', () => {
  const refuse = 'size in ["1:1", "16:9"] ? size : $error("is " & size & "; fal takes 1:1 and 16:9 only.")';

  it('is told in the words of the file, at the first parameter that the expression reads', async () => {
    const error = await refusalOf(send({ ratio: refuse }, { size: '4:3' }));
    expect(error.problems).toEqual([{ pointer: '/size', message: 'is 4:3; fal takes 1:1 and 16:9 only.' }]);
    expect(error.message).toBe('Provider fal cannot run model "acme" with these parameters: /size is 4:3; fal takes 1:1 and 16:9 only.');
  });

  it('is told together with all the others, each once', async () => {
    const mapping = { ratio: refuse, aspect: refuse, text: 'width > 2000 ? $error("is too wide")', none: '$error("is never served")' };
    const error = await refusalOf(express({ parameters: mapping }, { size: '4:3', width: 4000, height: 1 }));
    expect(error.problems).toEqual([
      { pointer: '/height', message: 'cannot be expressed by fal: leave it out, or send its default, 768' },
      { pointer: '/size', message: 'is 4:3; fal takes 1:1 and 16:9 only.' },
      { pointer: '/width', message: 'is too wide' },
      { pointer: '', message: 'is never served' },
    ]);
  });

  it.each([
    ['that fails by itself', '$number(prompt)', 'Unable to cast value to a number'],
    ['that never ends', '($f := function() { $f() }; $f(); prompt)', ''],
    ['that gives no JSON', 'function($x) { prompt }', ''],
  ])('is not what an expression %s is about: that is a fault of the file, with its place in the log', async (_what, text, reason) => {
    const error = await refusalOf(send({ fine: '1', steps: text }, { prompt: 'a' }));
    expect(error.code).toBe('internal');
    expect(error.message).toBe(
      'Model "acme" cannot be run by fal: what the model\'s file says about that failed. The operator finds the place in the log.',
    );
    expect(error.problems).toEqual([]);
    const { message } = error.cause as Error;
    expect(message).toMatch(/\/x\.yaml:5:\d+: \/routes\/0\/parameters\/steps: ./);
    expect(message).toContain(reason);
  });
});
