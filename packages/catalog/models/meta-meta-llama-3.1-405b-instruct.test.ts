import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('meta/meta-llama-3.1-405b-instruct');
});

const DEFAULTS = {
  prompt: '',
  system_prompt: 'You are a helpful assistant.',
  min_tokens: 0,
  max_tokens: 512,
  temperature: 0.6,
  top_p: 0.9,
  top_k: 50,
  presence_penalty: 0,
  frequency_penalty: 0,
};
const EVERYTHING = {
  prompt: 'Write a limerick about llamas',
  system_prompt: 'You are a poet.',
  min_tokens: 1,
  max_tokens: 100,
  temperature: 1,
  top_p: 0.5,
  top_k: 10,
  presence_penalty: 0.1,
  frequency_penalty: 0.2,
  stop_sequences: '<end>',
  prompt_template: '{prompt}',
};

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order, and makes text', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual(Object.keys(EVERYTHING));
    expect(built.model).toMatchObject({ produces: 'text', routing: 'order' });
  });

  it('needs nothing, and fills in the defaults of the vendor', () => {
    expect(built.fill({})).toEqual(DEFAULTS);
  });

  it.each([
    [{ prompt: ['a'] }, '/prompt', 'is an array of 1 item; it must be a string'],
    [{ max_tokens: 0.5 }, '/max_tokens', 'is 0.5; it must be an integer of at least 0'],
    [{ min_tokens: -1 }, '/min_tokens', 'is -1; it must be an integer of at least 0'],
    [{ temperature: 'hot' }, '/temperature', 'is "hot"; it must be a number'],
    [{ top_k: 1.5 }, '/top_k', 'is 1.5; it must be an integer'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });
});

describe('what is sent', () => {
  it('goes to Replicate as it is, the unknown included', async () => {
    expect(await built.sent('replicate', { ...EVERYTHING, other: 1 })).toEqual({ ...EVERYTHING, other: 1 });
    expect(await built.sent('replicate', {})).toEqual(DEFAULTS);
  });

  it('goes to Segmind as the message of a user', async () => {
    expect(await built.sent('segmind', { prompt: 'Hello "you"\n' })).toEqual({ messages: [{ role: 'user', content: 'Hello "you"\n' }] });
    expect(await built.sent('segmind', {})).toEqual({ messages: [{ role: 'user', content: '' }] });
  });

  const { prompt: _prompt, ...UNSAID } = EVERYTHING;
  it.each(Object.entries(UNSAID))('is refused for Segmind where it has no word for %s', async (name, value) => {
    expect(await built.problemsAt('segmind', { prompt: 'x', [name]: value })).toEqual([
      { pointer: `/${name}`, message: expect.stringMatching(/^cannot be expressed by segmind: leave it out, or /) },
    ]);
  });
});

describe('what it costs', () => {
  it('is what the vendor bills for its example', async () => {
    const usage = { inputTokens: 8, outputTokens: 43 };
    expect(await built.costUsd('replicate', EVERYTHING, { text: 'There once was a llama named Sue', usage })).toBe(0.0004845);
  });

  it('is guessed from all that may be read and written', async () => {
    // 15 and 29 characters are 11 tokens, and 100 may be written.
    expect(await built.estimateUsd('replicate', EVERYTHING)).toBe(0.0010545);
    expect(await built.estimateUsd('segmind', { prompt: 'x' })).toBeUndefined();
  });
});
