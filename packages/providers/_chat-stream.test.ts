import { expect, test } from 'vitest';
import { openChatStream } from './_chat-stream.ts';

const piece = (delta: object, more: object = {}) =>
  `data: ${JSON.stringify({ id: 'c1', usage: null, choices: [{ index: 0, delta, ...more }] })}\n\n`;
const WHOLE = [
  ': a comment\n\n',
  piece({ role: 'assistant', content: '' }),
  piece({ content: 'grün' }),
  piece({ content: ' 🦊' }),
  piece({}, { finish_reason: 'stop' }),
  'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":3}}\r\n\r\n',
  'data: [DONE]\n\n',
].join('');

test('pieces make the answer that would have come at once, wherever their bytes are cut', () => {
  const bytes = Buffer.from(WHOLE);
  for (const size of [1, 2, 3, 7, 1000]) {
    const stream = openChatStream();
    for (let from = 0; from < bytes.length; from += size) stream.read(bytes.subarray(from, from + size));
    expect(stream.answer(), `in pieces of ${size}`).toEqual({
      id: 'c1',
      usage: { prompt_tokens: 3 },
      choices: [{ message: { role: 'assistant', content: 'grün 🦊' }, finish_reason: 'stop' }],
    });
  }
});

test('the words that have come can be read before the end, which makes no answer yet', () => {
  const stream = openChatStream();
  stream.read(Buffer.from(piece({ content: 'Once' }) + piece({ content: ' upon' })));
  expect([stream.text, stream.answer()]).toEqual(['Once upon', undefined]);
});

test('words of a refusal and an error in the middle are part of the answer', () => {
  const refused = openChatStream();
  refused.read(Buffer.from(piece({ refusal: 'I ' }) + piece({ refusal: 'cannot.' }) + piece({}, { finish_reason: 'stop' })));
  expect(refused.answer()).toMatchObject({ choices: [{ message: { content: '', refusal: 'I cannot.' } }] });
  const failed = openChatStream();
  failed.read(Buffer.from(`${piece({ content: 'Once' })}data: {"error":{"message":"It broke"}}\n\n`));
  expect(failed.answer()).toMatchObject({ error: { message: 'It broke' } });
});

test('what is no piece is passed over', () => {
  const stream = openChatStream();
  stream.read(Buffer.from('event: ping\ndata: {"half\ndata: 7\ndata: {"choices":[7]}\ndata: {"choices":"x"}\ndata: [DONE]\n'));
  expect(stream.answer()).toMatchObject({ choices: [{ message: { content: '' } }] });
});
