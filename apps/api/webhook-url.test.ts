import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';
import { checkWebhookUrl } from './webhook-url.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

const LONGEST = `https://example.com/${'a'.repeat(2_048 - 'https://example.com/'.length)}`;

describe('a webhook', () => {
  test.each([
    'http://example.com',
    'HTTPS://example.com:8443/a?b=c#d',
    'https://[2606:4700:4700::1111]/hook',
    'http://127.0.0.1:9000/hook',
    'https://xn--bcher-kva.example/',
    LONGEST,
  ])('may be %s', (url) => {
    expect(checkWebhookUrl(service.engine, url, '/webhook')).toBe(url);
  });

  test.each([
    ['a number', 7],
    ['an object', { url: 'https://example.com' }],
    ['true', true],
    ['an empty text', ''],
    ['no URL', 'hook'],
    ['a path', '/hook'],
    ['a URL without a host', 'http://'],
    ['another protocol', 'ftp://example.com/'],
    ['a file', 'file:///etc/passwd'],
    ['a script', 'javascript:alert(1)'],
    ['one with a user name', 'https://user@example.com/'],
    ['one with a password', 'https://:secret@example.com/'],
    ['one character too long', `${LONGEST}a`],
    ['one with a line break', 'http://example.com/\r\nx-injected: 1'],
    ['one with a tab in its host', 'http://exam\tple.com/'],
    ['one with a space', 'http://example.com/a b'],
    ['one with a NUL', 'http://example.com/\u0000'],
    ['one with half a character', 'http://example.com/\ud800'],
    ['a port that does not exist', 'http://example.com:99999/'],
    ['a private address', 'http://10.0.0.1/'],
    ['the address of cloud metadata', 'http://169.254.169.254/latest/meta-data/'],
    ['a loopback address that is not listed', 'http://127.0.0.2/'],
    ['this machine by name', 'http://localhost:9000/'],
    ['a port of a database', 'http://example.com:5432/'],
  ])('may not be %s', (_name, value) => {
    expect(() => checkWebhookUrl(service.engine, value, '/webhook')).toThrow(
      expect.objectContaining({ code: 'invalid_parameters', problems: [{ pointer: '/webhook', message: expect.any(String) }] }),
    );
  });
});

describe('a submission', () => {
  const submit = (body: object, query = '') => service.request(`/v2/${MODEL}${query}`, jsonBody({ prompt: 'x', ...body }));
  const webhookOf = async (response: Response) => {
    const id = String((await jsonOf(response)).request_id);
    const callerId = (await service.engine.keys.verify(service.key)) ?? '';
    const job = await service.engine.read({ id, callerId });
    return { webhookUrl: job?.webhookUrl, input: job && JSON.parse(job.input) };
  };

  test('takes the webhook out of the body', async () => {
    const { webhookUrl, input } = await webhookOf(await submit({ webhook: 'https://example.com/a' }));
    expect(webhookUrl).toBe('https://example.com/a');
    expect(input).not.toHaveProperty('webhook');
  });

  test('prefers the webhook in its address', async () => {
    const query = `?webhook=${encodeURIComponent('https://example.com/b')}`;
    expect(await webhookOf(await submit({ webhook: 'https://example.com/a' }, query))).toMatchObject({
      webhookUrl: 'https://example.com/b',
    });
  });

  test('without a webhook may say so with null', async () => {
    expect(await webhookOf(await submit({ webhook: null }))).toMatchObject({ webhookUrl: undefined });
  });

  test.each([
    ['in the body', { webhook: 'http://a/\r\nx: y' }, ''],
    ['in the address', {}, '?webhook=http%3A%2F%2Fa%2F%0D%0Ax%3A%20y'],
    ['of nothing in the address', {}, '?webhook='],
  ])('with an impossible webhook %s is refused', async (_name, body, query) => {
    const response = await submit(body, query);
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer: '/webhook' }] });
  });
});
