import { StartError } from '@claimcheck/core';
import { listen } from '@claimcheck/engine/testing';
import { expect, test } from 'vitest';
import { askForSecret } from './service-secret.ts';

const SIGNAL = new AbortController().signal;

test('the secret is asked for with the key, below the URL with or without its last slash', async () => {
  await using service = await listen((request, response) => {
    const isAsked = request.url === '/v2/webhooks/secret' && request.headers['x-api-key'] === 'ck_1';
    response.writeHead(isAsked ? 200 : 404).end('{"secret":"whsec_1","previous":[]}');
  });
  expect(await askForSecret({ url: service.url, apiKey: 'ck_1', signal: SIGNAL })).toBe('whsec_1');
  expect(await askForSecret({ url: `${service.url}/`, apiKey: 'ck_1', signal: SIGNAL })).toBe('whsec_1');
});

test.each<[string, number, string, string]>([
  [
    'a service that refuses the key in its own words',
    401,
    '{"error":"The API key is not valid."}',
    'answered 401: The API key is not valid.',
  ],
  ['another program that knows no such path', 404, '<html>', 'answered 404 and no secret.'],
  ['another program that answers anything', 200, '<html>', 'answered without a secret: is it this service?'],
  ['an answer without end', 200, `{"secret":"${'x'.repeat(64 * 1024)}"}`, 'answered without a secret: is it this service?'],
])('%s is an expected error', async (_case, status, body, sentence) => {
  await using service = await listen((_request, response) => response.writeHead(status).end(body));
  const asked = askForSecret({ url: service.url, apiKey: 'ck_1', signal: SIGNAL });
  await expect(asked).rejects.toThrow(new StartError(`${service.url}/v2/webhooks/secret ${sentence}`));
});

test('a redirect is not followed with the key', async () => {
  const keys: unknown[] = [];
  await using elsewhere = await listen((request, response) => {
    keys.push(request.headers['x-api-key']);
    response.end('{"secret":"whsec_1"}');
  });
  await using service = await listen((_request, response) => response.writeHead(302, { location: elsewhere.url }).end());
  await expect(askForSecret({ url: service.url, apiKey: 'ck_1', signal: SIGNAL })).rejects.toThrow('Cannot ask');
  expect(keys).toEqual([]);
});

test('a service that is not there is named', async () => {
  const gone = await listen(() => {});
  await gone.close();
  await expect(askForSecret({ url: gone.url, apiKey: 'ck_1', signal: SIGNAL })).rejects.toThrow(
    new StartError(`Cannot ask ${gone.url}/v2/webhooks/secret for the secret: is the service running there?`),
  );
});

test('a service that does not answer is waited for no longer than the signal says', async () => {
  const stopping = new AbortController();
  await using service = await listen(() => stopping.abort(new StartError('Stopped.')));
  await expect(askForSecret({ url: service.url, apiKey: 'ck_1', signal: stopping.signal })).rejects.toThrow('Stopped.');
});
