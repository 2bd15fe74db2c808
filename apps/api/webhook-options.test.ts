import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

const WEBHOOK = 'http://127.0.0.1:9/hook';
const SETTINGS = '/v2/webhooks/settings';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

const withKey = (key: string, init: RequestInit = {}): RequestInit => ({
  ...init,
  headers: { 'content-type': 'application/json', 'x-api-key': key },
});
async function optionsOf(key: string, body: object, query = ''): Promise<{ options: unknown; input: Record<string, unknown> }> {
  const sent = { prompt: 'x', webhook: WEBHOOK, ...body };
  const response = await service.request(`/v2/${MODEL}${query}`, withKey(key, { method: 'POST', body: JSON.stringify(sent) }));
  expect(response.status).toBe(200);
  const callerId = (await service.engine.keys.verify(key)) ?? '';
  const job = await service.engine.read({ id: String((await jsonOf(response)).request_id), callerId });
  return { options: job?.webhookOptions, input: JSON.parse(job?.input ?? '{}') };
}
const change = (key: string, body: object) => service.request(SETTINGS, withKey(key, { method: 'PUT', body: JSON.stringify(body) }));

describe('what a request chooses for its webhook', () => {
  test('is nothing unless it says so', async () => {
    expect((await optionsOf(service.key, {})).options).toBeUndefined();
  });

  test('may stand in its address or in its body, from where it is taken', async () => {
    const query = '?webhook_format=standard&webhook_schedule=0,30&webhook_events=started,progress';
    const options = { format: 'standard', schedule: [0, 30], events: ['started', 'progress'] };
    expect((await optionsOf(service.key, {}, query)).options).toEqual(options);
    const inBody = await optionsOf(service.key, {
      webhook_format: 'standard',
      webhook_schedule: [0, 30],
      webhook_events: ['progress', 'started'],
    });
    expect(inBody.options).toEqual(options);
    expect(Object.keys(inBody.input).filter((name) => name.startsWith('webhook'))).toEqual([]);
  });

  test('counts in the address before it does in the body', async () => {
    const { options } = await optionsOf(service.key, { webhook_format: 'dialect', webhook_events: ['queued'] }, '?webhook_format=standard');
    expect(options).toEqual({ format: 'standard', events: ['queued'] });
  });

  test('is refused when it is wrong, with everything that is, and nothing is queued', async () => {
    const count = async () => (await jsonOf(await service.request('/v2/requests?limit=100'))).requests;
    const before = await count();
    const wrong = { webhook_format: 'xml', webhook_events: 'completed', webhook_schedule: [] };
    const response = await service.request(`/v2/${MODEL}`, jsonBody({ prompt: 'x', webhook: WEBHOOK, ...wrong }));
    expect(response.status).toBe(400);
    const pointers = (await jsonOf(response)).errors as { pointer: string }[];
    expect(pointers.map(({ pointer }) => pointer)).toEqual(['/webhook_format', '/webhook_schedule', '/webhook_events']);
    expect(await count()).toEqual(before);
  });
});

describe('headers for the receiver', () => {
  test('are taken from the body and from the key, and never shown again', async () => {
    const key = await service.newKey('with headers');
    const response = await change(key, { headers: { Authorization: 'Bearer of the receiver' } });
    expect(await jsonOf(response)).toMatchObject({ headers: { authorization: '…' } });
    expect((await optionsOf(key, {})).options).toEqual({ headers: { authorization: 'Bearer of the receiver' } });
    expect((await optionsOf(key, { webhook_headers: { 'x-team': 'video' } })).options).toEqual({ headers: { 'x-team': 'video' } });
  });

  test('that belong to the message or its connection are refused', async () => {
    for (const name of ['Host', 'webhook-id', 'content-length', 'transfer-encoding', 'x\r\ny']) {
      const body = { prompt: 'x', webhook: WEBHOOK, webhook_headers: { [name]: 'z' } };
      const response = await service.request(`/v2/${MODEL}`, jsonBody(body));
      expect(response.status, name).toBe(400);
      expect(await jsonOf(response)).toMatchObject({ errors: [{ pointer: '/webhook_headers' }] });
    }
  });
});

describe('what is chosen for a key', () => {
  test('holds for requests that are made with it and say nothing, and for no other key of the caller', async () => {
    const key = await service.newKey('chooser');
    const other = await service.newKey('chooser');
    const response = await change(key, { format: 'standard', schedule: 'short', events: ['progress'] });
    const chosen = { format: 'standard', schedule: [0, 5, 30, 120, 600, 1_800, 4_500], events: ['progress'] };
    expect(await jsonOf(response)).toEqual({ signatures: ['v1'], ...chosen, headers: null });
    expect((await optionsOf(key, {})).options).toEqual(chosen);
    expect((await optionsOf(key, { webhook_events: [] })).options).toEqual({ ...chosen, events: [] });
    expect((await optionsOf(other, {})).options).toBeUndefined();
  });

  test('changes one by one, and null takes a choice back', async () => {
    const key = await service.newKey('changer');
    await change(key, { format: 'standard', events: ['queued'] });
    expect(await jsonOf(await change(key, { schedule: [0] }))).toMatchObject({ format: 'standard', schedule: [0], events: ['queued'] });
    expect(await jsonOf(await change(key, { format: null }))).toMatchObject({ format: null, schedule: [0], events: ['queued'] });
    expect(await jsonOf(await service.request(SETTINGS, withKey(key)))).toMatchObject({ format: null, schedule: [0], events: ['queued'] });
  });

  test('is not changed by a request that is wrong anywhere', async () => {
    const key = await service.newKey('mistaken');
    expect((await change(key, { format: 'standard', events: ['never'] })).status).toBe(400);
    expect(await jsonOf(await service.request(SETTINGS, withKey(key)))).toMatchObject({ format: null, events: null });
  });
});
