import { AppError, type JsonObject, type Model, parseExactJson } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { fitChat } from './_openai-chat.ts';
import { fitEdit, fitGeneration } from './_openai-images.ts';
import { fitResponse } from './_openai-responses.ts';
import { fitVideo } from './_openai-videos.ts';

const FITS = { images: fitGeneration, edits: fitEdit, videos: fitVideo, chat: fitChat, responses: fitResponse };
type Endpoint = keyof typeof FITS;

const TEXT = { type: 'string' };
const NUMBER = { type: 'number' };

function aModel(properties: JsonObject, fields: Partial<Model> = {}): Model {
  return {
    name: 'm',
    aliases: [],
    title: 'M',
    produces: 'image',
    parameters: { type: 'object', properties },
    routes: [],
    routing: 'order',
    retry: { attempts: 1, firstDelayMs: 1, factor: 1, delayMsMax: 1 },
    timeoutSeconds: 60,
    onUnknown: 'fail',
    ...fields,
  };
}

function fit(endpoint: Endpoint, properties: JsonObject, body: JsonObject | string, fields: Partial<Model> = {}): unknown {
  const parameters = parseExactJson(typeof body === 'string' ? body : JSON.stringify(body));
  return FITS[endpoint](parameters, aModel(properties, fields)).value;
}

/** What is wrong, as `pointer message`. */
function problemsOf(endpoint: Endpoint, properties: JsonObject, body: JsonObject, fields: Partial<Model> = {}): readonly string[] {
  try {
    fit(endpoint, properties, body, fields);
  } catch (error) {
    if (error instanceof AppError && error.code === 'invalid_parameters') {
      return error.problems.map(({ pointer, message }) => `${pointer} ${message}`);
    }
    throw error;
  }
  throw new Error('The body was accepted.');
}

describe('words for pictures', () => {
  const FORMATS = { outputFormat: { format: 'format', quality: 'quality' } };
  const RESOLUTIONS = { resolution: { type: 'string', enum: ['1024 × 1024 (Square)', '768 × 1360 (Portrait)'] } };

  test.each<[what: string, properties: JsonObject, body: JsonObject, fitted: JsonObject, fields?: Partial<Model>]>([
    ['a number stands under the name that the model has for it', { num_images: NUMBER }, { n: 2 }, { num_images: 2 }],
    ['one is what every model makes', {}, { n: 1 }, {}],
    ['a size in sides', { width: NUMBER, height: NUMBER }, { size: '640x480' }, { width: 640, height: 480 }],
    ['a size in an object', { image_size: {} }, { size: '640x480' }, { image_size: { width: 640, height: 480 } }],
    ['a size in the words of a list', RESOLUTIONS, { size: '768x1360' }, { resolution: '768 × 1360 (Portrait)' }],
    ['a size with a star', { size: { type: 'string', pattern: '^\\d+\\*\\d+$' } }, { size: '640x480' }, { size: '640*480' }],
    ['a size as the model itself has it', { size: TEXT }, { size: '640x480' }, { size: '640x480' }],
    ['a shape', { aspect_ratio: TEXT }, { size: '16:9' }, { aspect_ratio: '16:9' }],
    ['automatic is what happens anyway', {}, { size: 'auto', quality: 'auto', background: 'auto', moderation: 'auto' }, {}],
    ['automatic is a word of the model too', { quality: { enum: ['auto', 'low'] } }, { quality: 'auto' }, { quality: 'auto' }],
    ['a format', { format: TEXT }, { output_format: 'png', output_compression: 80 }, { format: 'png', quality: 80 }, FORMATS],
    ['a format that the model spells jpg', { format: { enum: ['jpg'] } }, { output_format: 'jpeg' }, { format: 'jpg' }, FORMATS],
    ['a format that the model spells jpeg', { format: { enum: ['jpeg'] } }, { format: 'jpg' }, { format: 'jpeg' }, FORMATS],
    ['how the answer travels is not for the model', {}, { response_format: 'b64_json', stream: true, partial_images: 2 }, {}],
    ['labels are not either', {}, { user: 'u', safety_identifier: 's', idempotency_key: 'k', metadata: {} }, {}],
    ['what the model declares is its own', { user: TEXT, n: NUMBER }, { user: 'u', n: 3 }, { user: 'u', n: 3 }],
    ['the own word wins', { num_images: NUMBER }, { num_images: 3, n: 2 }, { num_images: 3 }],
    ['nothing stands for nothing', {}, { n: null, size: null, metadata: null, media_retention: null }, {}],
    ['unknown words are the model’s', {}, { guidance: 4, style: 'vivid' }, { guidance: 4, style: 'vivid' }],
  ])('%s', (_what, properties, body, fitted, fields) => {
    expect(fit('images', properties, body, fields)).toEqual(fitted);
  });

  test('numbers keep their exact text', () => {
    const fitted = fitGeneration(parseExactJson('{"seed":12345678901234567890,"scale":1.0,"n":1}'), aModel({}));
    expect(fitted.text).toBe('{"seed":12345678901234567890,"scale":1.0}');
  });

  test.each<[what: string, properties: JsonObject, body: JsonObject, problem: RegExp]>([
    ['more than the model makes', {}, { n: 2 }, /^\/n must be 1: model "m" makes one at a time/],
    ['a size of a model without one', { prompt: TEXT }, { size: '1x1' }, /^\/size is not a parameter of model "m", whose own are prompt/],
    ['a size that is not in the list', RESOLUTIONS, { size: '1x1' }, /^\/size must be one of the model's own sizes: 1024 × 1024/],
    ['a size that is none', { width: NUMBER, height: NUMBER }, { size: 'large' }, /^\/size must be auto, pixels such as/],
    ['a shape of a model without one', { width: NUMBER, height: NUMBER }, { size: '16:9' }, /^\/size must be auto, or pixels/],
    ['a format of a model without one', {}, { output_format: 'png' }, /^\/output_format is not a parameter/],
    ['another way to answer', {}, { response_format: 'file' }, /^\/response_format must be "url" or "b64_json"/],
    ['labels that would be lost', {}, { metadata: { a: '1' } }, /^\/metadata cannot be honoured/],
    ['how long files are kept', {}, { media_retention: '7d' }, /^\/media_retention cannot be honoured/],
    [
      'a webhook, which only videos have',
      {},
      { webhook_url: 'https://me.example' },
      /^\/webhook_url cannot be honoured here: POST \/videos/,
    ],
  ])('%s is refused by name', (_what, properties, body, problem) => {
    expect(problemsOf('images', properties, body)).toEqual([expect.stringMatching(problem)]);
  });

  test('all that is wrong is told at once', () => {
    expect(problemsOf('images', {}, { n: 2, size: '1x1', media_retention: 1 })).toHaveLength(3);
  });
});

describe('files', () => {
  const [A, B] = ['https://a.example/a.png', 'data:image/png;base64,AA=='];
  const LIST = { type: 'array', items: TEXT };

  test.each<[what: string, endpoint: Endpoint, properties: JsonObject, body: JsonObject, fitted: JsonObject]>([
    ['one', 'edits', { image: TEXT }, { image: A }, { image: A }],
    ['one for a list', 'edits', { image: LIST }, { image: A }, { image: [A] }],
    ['a list for a list of another name', 'edits', { image_urls: LIST }, { image: [A, B] }, { image_urls: [A, B] }],
    ['in objects', 'edits', { image: LIST }, { images: [{ image_url: A }, { image_url: { url: B } }] }, { image: [A, B] }],
    ['a mask', 'edits', { image: TEXT, mask_url: TEXT }, { image: A, mask: { image_url: B } }, { image: A, mask_url: B }],
    ['a reference', 'videos', { image: TEXT }, { input_reference: { image_url: A } }, { image: A }],
    ['numbered references of a form', 'videos', { images: LIST }, { input_reference: { 0: A, 1: B } }, { images: [A, B] }],
    ['none', 'edits', { prompt: TEXT }, { prompt: 'x', image: null }, { prompt: 'x' }],
  ])('%s', (_what, endpoint, properties, body, fitted) => {
    expect(fit(endpoint, properties, body)).toEqual(fitted);
  });

  test.each<[what: string, endpoint: Endpoint, properties: JsonObject, body: JsonObject, problem: RegExp]>([
    [
      'by an id',
      'edits',
      { image: TEXT },
      { images: [{ file_id: 'file_1' }] },
      /^\/images must be a file, or .* cannot be named by their ids/,
    ],
    ['two for one', 'edits', { image: TEXT }, { image: [A, B] }, /^\/image must be one file/],
    ['for a model without', 'edits', { prompt: TEXT }, { image: A }, /^\/image is not a parameter/],
    ['a reference for a model without', 'videos', {}, { input_reference: A }, /^\/input_reference is not a parameter/],
  ])('%s are refused', (_what, endpoint, properties, body, problem) => {
    expect(problemsOf(endpoint, properties, body)).toEqual([expect.stringMatching(problem)]);
  });
});

describe('words for videos', () => {
  test.each<[what: string, properties: JsonObject, body: JsonObject, fitted: JsonObject]>([
    ['seconds, which the vendor writes as text', { duration: { type: 'integer' } }, { seconds: '8' }, { duration: 8 }],
    ['seconds of a model that wants text', { duration: { type: 'string', enum: ['8'] } }, { seconds: 8 }, { duration: '8' }],
    ['a duration of a model that says seconds', { seconds: NUMBER }, { duration: 4 }, { seconds: 4 }],
    ['text that is no number stays what it is', { duration: NUMBER }, { seconds: 'long' }, { duration: 'long' }],
  ])('%s', (_what, properties, body, fitted) => {
    expect(fit('videos', properties, body)).toEqual(fitted);
  });

  test('a length that the model has no parameter for is refused', () => {
    expect(problemsOf('videos', {}, { seconds: '8' })).toEqual([expect.stringMatching(/^\/seconds is not a parameter/)]);
  });
});

describe('conversations', () => {
  const SAID = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hi.' },
    { role: 'assistant', content: 'Yes?' },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Say ' },
        { type: 'text', text: 'panda.' },
      ],
    },
  ];

  test.each<[what: string, endpoint: Endpoint, properties: JsonObject, body: JsonObject, fitted: JsonObject]>([
    ['a question', 'chat', { prompt: TEXT }, { messages: [{ role: 'user', content: 'Hi.' }] }, { prompt: 'Hi.' }],
    [
      'who said what',
      'chat',
      { prompt: TEXT, system_prompt: TEXT },
      { messages: SAID },
      { prompt: 'user: Hi.\nassistant: Yes?\nuser: Say panda.', system_prompt: 'Be brief.' },
    ],
    ['a system prompt in front', 'chat', { prompt: TEXT }, { messages: SAID.slice(0, 2) }, { prompt: 'Be brief.\n\nHi.' }],
    ['messages for a model that reads them', 'chat', { messages: {} }, { messages: SAID }, { messages: SAID }],
    ['a text alone', 'responses', { prompt: TEXT }, { input: 'Hi.', background: true }, { prompt: 'Hi.' }],
    ['instructions', 'responses', { prompt: TEXT, system: TEXT }, { input: 'Hi.', instructions: 'Be.' }, { prompt: 'Hi.', system: 'Be.' }],
    ['the longest answer', 'chat', { prompt: TEXT, max_tokens: NUMBER }, { max_completion_tokens: 5 }, { max_tokens: 5 }],
    [
      'a tool that says what the picture is like',
      'responses',
      { width: NUMBER, height: NUMBER },
      { input: 'x', tools: [{ type: 'image_generation', size: '2x3', quality: 'auto', partial_images: 1 }] },
      { prompt: 'x', width: 2, height: 3 },
    ],
    ['what asks for nothing', 'chat', {}, { tools: [], response_format: { type: 'text' }, logprobs: false, stop: [], store: true }, {}],
  ])('%s', (_what, endpoint, properties, body, fitted) => {
    expect(fit(endpoint, properties, body)).toEqual(fitted);
  });

  test.each<[endpoint: Endpoint, body: JsonObject, problem: RegExp]>([
    ['chat', { messages: [] }, /^\/messages must be a text, or a list of messages/],
    ['chat', { messages: ['x'] }, /^\/messages\/0 must be a message/],
    ['chat', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, /^\/messages\/0\/content must be text/],
    ['chat', { tools: [{ type: 'function' }] }, /^\/tools cannot be honoured/],
    ['chat', { response_format: { type: 'json_object' } }, /^\/response_format cannot be honoured/],
    ['chat', { stop: ['x'] }, /^\/stop cannot be honoured/],
    ['chat', { max_tokens: 5 }, /^\/max_tokens is not a parameter/],
    ['chat', { webhook_url: 'https://me.example' }, /^\/webhook_url cannot be honoured here/],
    ['responses', { tools: [{ type: 'web_search' }] }, /^\/tools\/0 must be \{"type": "image_generation"\}/],
    ['responses', { previous_response_id: 'resp_1' }, /^\/previous_response_id cannot be honoured/],
    ['responses', { text: { format: { type: 'json_schema' } } }, /^\/text cannot be honoured/],
  ])('in %s, %j is refused by name', (endpoint, body, problem) => {
    expect(problemsOf(endpoint, { prompt: TEXT }, body)).toEqual([expect.stringMatching(problem)]);
  });
});
