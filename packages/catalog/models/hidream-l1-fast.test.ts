import { AppError, type Catalog, type JsonValue, type Model, parseExactJson } from '@claimcheck/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadCatalog } from '../index.ts';
import { type BuiltInModel, builtInModel, PRUNA_SIZES } from '../testing/built-in.ts';

const RESOLUTIONS = [
  '1024 \u00d7 1024 (Square)',
  '768 \u00d7 1360 (Portrait)',
  '1360 \u00d7 768 (Landscape)',
  '880 \u00d7 1168 (Portrait)',
  '1168 \u00d7 880 (Landscape)',
  '1248 \u00d7 832 (Landscape)',
  '832 \u00d7 1248 (Portrait)',
];
const SPEED_MODES = [
  'Unsqueezed \u{1f34b} (highest quality)',
  'Lightly Juiced \u{1f34a} (more consistent)',
  'Juiced \u{1f525} (more speed)',
  'Extra Juiced \u{1f680} (even more speed)',
];

let catalog: Catalog;
let model: Model;
beforeAll(async () => {
  catalog = await loadCatalog();
  const found = catalog.find('hidream-l1-fast');
  if (!found) throw new Error('hidream-l1-fast is not in the catalog');
  model = found;
});

const fill = (parameters: JsonValue) => catalog.fill(model, parseExactJson(JSON.stringify(parameters)));
const refusal = (parameters: JsonValue): AppError => {
  try {
    fill(parameters);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('was accepted');
};

describe('hidream-l1-fast', () => {
  it("has the vendor's parameters, types, defaults, ranges and descriptions in the vendor's order", () => {
    expect(model.parameters).toEqual({
      type: 'object',
      required: ['prompt'],
      properties: {
        prompt: {
          type: 'string',
          description: 'Prompt',
          examples: ['a cute panda holding a sign that says "Keep Calm and Keep Building"'],
        },
        model_type: { type: 'string', description: 'An enumeration.', enum: ['fast'], default: 'fast' },
        output_format: { type: 'string', description: 'Output format.', enum: ['png', 'jpg', 'webp'], default: 'webp' },
        output_quality: {
          type: 'integer',
          description: 'Output image quality (for jpg and webp)',
          minimum: 1,
          maximum: 100,
          default: 100,
        },
        resolution: { type: 'string', description: 'Image resolution', enum: RESOLUTIONS, default: RESOLUTIONS[0] },
        seed: { type: 'integer', description: 'Seed (-1 for random)', default: -1 },
        speed_mode: { type: 'string', description: 'Quality vs Speed', enum: SPEED_MODES, default: SPEED_MODES[1] },
      },
    });
    expect(Object.keys(model.parameters.properties ?? {})).toEqual([
      'prompt',
      'model_type',
      'output_format',
      'output_quality',
      'resolution',
      'seed',
      'speed_mode',
    ]);
  });

  it("produces an image, at Segmind first, and in the client's format", () => {
    expect(model).toMatchObject({
      title: 'HiDream-I1 (Fast)',
      produces: 'image',
      routing: 'order',
      outputFormat: { format: 'output_format', quality: 'output_quality' },
      routes: [
        { provider: 'segmind', model: 'hidream-l1-fast' },
        { provider: 'replicate', model: 'prunaai/hidream-l1-fast' },
        { provider: 'lumenfall', model: 'hidream-i1-fast' },
        { provider: 'fal', model: 'fal-ai/hidream-i1-fast' },
        { provider: 'inference-sh', model: 'infsh/hidream-i1-fast' },
      ],
      retry: { attempts: 5, firstDelayMs: 1000, factor: 2, delayMsMax: 30_000 },
    });
  });

  it("accepts the request of the vendor's page unchanged", () => {
    const request = {
      seed: -1,
      prompt: 'a cute panda holding a sign that says "Keep Calm and Keep Building"',
      model_type: 'fast',
      resolution: '1024 × 1024 (Square)',
      speed_mode: 'Lightly Juiced 🍊 (more consistent)',
      output_format: 'webp',
      output_quality: 100,
    };
    expect(fill(request)).toBe(JSON.stringify(request));
  });

  it('fills in every default behind a prompt', () => {
    expect(fill({ prompt: 'a panda' })).toBe(
      `{"prompt":"a panda","model_type":"fast","output_format":"webp","output_quality":100,"resolution":"${RESOLUTIONS[0]}","seed":-1,"speed_mode":"${SPEED_MODES[1]}"}`,
    );
  });

  it.each([
    ...RESOLUTIONS.map((value) => ['resolution', value]),
    ...SPEED_MODES.map((value) => ['speed_mode', value]),
    ...['png', 'jpg', 'webp'].map((value) => ['output_format', value]),
    ['model_type', 'fast'],
  ] as [string, string][])('accepts %s %s', (name, value) => {
    expect(JSON.parse(fill({ prompt: 'a panda', [name]: value }))).toMatchObject({ [name]: value });
  });

  it.each([1, 100])('accepts output_quality %i', (value) => {
    expect(JSON.parse(fill({ prompt: 'a panda', output_quality: value }))).toMatchObject({ output_quality: value });
  });

  it.each([0, 101])('refuses output_quality %i and says the range', (value) => {
    expect(refusal({ prompt: 'a panda', output_quality: value }).problems).toEqual([
      { pointer: '/output_quality', message: `is ${value}; it must be an integer from 1 to 100` },
    ]);
  });

  it('requires a prompt, whatever sample the vendor shows', () => {
    expect(refusal({}).problems).toEqual([{ pointer: '/prompt', message: 'is missing; it must be a string' }]);
  });

  it.each(['1024 Γ— 1024 (Square)', '1024 x 1024 (Square)', '1024×1024 (Square)'])('does not guess what resolution %s means', (value) => {
    const [problem, ...others] = refusal({ prompt: 'a panda', resolution: value }).problems;
    expect(others).toEqual([]);
    expect(problem?.pointer).toBe('/resolution');
    expect(problem?.message).toBe(`is "${value}"; it must be one of ${RESOLUTIONS.map((allowed) => `"${allowed}"`).join(', ')}`);
  });

  it('lets through parameters the vendor would ignore, with their exact text', () => {
    const parameters = parseExactJson('{"prompt":"a panda","timeout":5.0,"interval":{"a": 1}}');
    expect(catalog.fill(model, parameters)).toMatch(/^\{"prompt":"a panda","timeout":5\.0,"interval":\{"a": 1\},"model_type":/);
  });
});

describe('the routes of hidream-l1-fast', () => {
  const EVERYTHING = {
    prompt: 'a fox',
    model_type: 'fast',
    output_format: 'jpg',
    output_quality: 80,
    resolution: '1360 × 768 (Landscape)',
    seed: 7,
    speed_mode: 'Extra Juiced 🚀 (even more speed)',
  };
  let built: BuiltInModel;
  beforeAll(async () => {
    built = await builtInModel('hidream-l1-fast');
  });

  it.each(['segmind', 'replicate'])('%s is sent the parameters in the same words', async (provider) => {
    expect(await built.sent(provider, EVERYTHING)).toEqual(EVERYTHING);
    expect(await built.sent(provider, { prompt: 'a fox' })).toEqual({
      prompt: 'a fox',
      model_type: 'fast',
      output_format: 'webp',
      output_quality: 100,
      resolution: '1024 × 1024 (Square)',
      seed: -1,
      speed_mode: 'Lightly Juiced 🍊 (more consistent)',
    });
  });

  it('only Segmind is sent what the model does not declare', async () => {
    const given = { prompt: 'a fox', negative_prompt: 'dogs' };
    expect(await built.sent('segmind', given)).toMatchObject({ negative_prompt: 'dogs' });
    for (const provider of ['replicate', 'lumenfall', 'fal', 'inference-sh']) {
      expect(await built.sent(provider, given)).not.toHaveProperty('negative_prompt');
    }
  });

  it.each([
    [
      'lumenfall',
      { prompt: 'a fox' },
      {
        prompt: 'a fox',
        size: '1024x1024',
        output_format: 'png',
        speed_mode: 'Lightly Juiced 🍊 (more consistent)',
        model_type: 'fast',
      },
    ],
    [
      'lumenfall',
      EVERYTHING,
      {
        prompt: 'a fox',
        size: '1360x768',
        seed: 7,
        output_format: 'png',
        speed_mode: 'Extra Juiced 🚀 (even more speed)',
        model_type: 'fast',
      },
    ],
    ['fal', { prompt: 'a fox' }, { prompt: 'a fox', image_size: { width: 1024, height: 1024 }, output_format: 'png' }],
    ['fal', EVERYTHING, { prompt: 'a fox', image_size: { width: 1360, height: 768 }, seed: 7, output_format: 'png' }],
    ['inference-sh', { prompt: 'a fox' }, { prompt: 'a fox', width: 1024, height: 1024, seed: -1 }],
    ['inference-sh', EVERYTHING, { prompt: 'a fox', width: 1360, height: 768, seed: 7 }],
  ])('%s is sent %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each(PRUNA_SIZES)('the resolution %s is %i by %i pixels everywhere', async (resolution, width, height) => {
    const given = { prompt: 'a fox', resolution };
    expect(await built.sent('replicate', given)).toMatchObject({ resolution });
    expect(await built.sent('lumenfall', given)).toMatchObject({ size: `${width}x${height}` });
    expect(await built.sent('fal', given)).toMatchObject({ image_size: { width, height } });
    expect(await built.sent('inference-sh', given)).toMatchObject({ width, height });
  });

  it.each(['png', 'jpg', 'webp'])('asks for PNG where %s is made of it, whatever the quality', async (output_format) => {
    const given = { prompt: 'a fox', output_format, output_quality: 1 };
    for (const provider of ['lumenfall', 'fal']) expect(await built.sent(provider, given)).toMatchObject({ output_format: 'png' });
    expect(await built.sent('inference-sh', given)).not.toHaveProperty('output_format');
  });

  it('sends the seed 0 as it is', async () => {
    for (const { provider } of built.model.routes)
      expect(await built.sent(provider, { prompt: 'a fox', seed: 0 })).toMatchObject({ seed: 0 });
  });

  it.each([
    ['segmind', 0.015],
    ['replicate', 0.005],
    ['lumenfall', 0.005],
    ['fal', 0.0104448],
    ['inference-sh', undefined],
  ])('costs at %s %f dollars', async (provider, usd) => {
    expect(await built.estimateUsd(provider, EVERYTHING)).toBe(usd);
    const [width, height] = [1360, 768];
    const media = [{ location: { url: 'https://media.example/a.png' }, contentType: 'image/png', fileName: 'a.png', width, height }];
    expect(await built.costUsd(provider, EVERYTHING, { media })).toBe(usd);
  });
});
