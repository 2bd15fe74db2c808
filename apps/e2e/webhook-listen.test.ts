/** `npm run webhook:listen` as a user meets it: the real process, its output and its end. */
import { createTestDatabase } from '@claimcheck/engine/testing';
import { expect, test } from 'vitest';
import { clientOf, type Environment, type StartedProcess, startProcess, startStandalone, temporaryFolder } from './testing/processes.ts';
import { newSecret, nowSeconds, type SignedWebhook, signWebhook, withHeaders } from './testing/signed-webhook.ts';

const MAIN = 'apps/dispatcher/listen.ts';
const SECRET = newSecret();
const BODY = '{"id":"job_1","status":9,"output":null,"error":""}';

interface Listener extends StartedProcess {
  readonly url: string;
  post(webhook: SignedWebhook): Promise<Response>;
}

async function startListener(args: readonly string[], environment: Environment = {}): Promise<Listener> {
  const started = startProcess(MAIN, environment, ['--port', '0', ...args]);
  const [, url = ''] = await started.printed(/Listening for webhooks on (http:\/\/[\d.:]+\d)\./);
  const post = ({ headers, body }: SignedWebhook) =>
    fetch(`${url}/hook`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
  return Object.assign(started, { url, post });
}

test('genuine webhooks are printed as verified, forged, old and bare ones with the reason, and Ctrl-C ends it with code 0', async () => {
  await using listener = await startListener(['--secret', SECRET]);
  const genuine = withHeaders(signWebhook({ secret: SECRET, body: BODY }), {
    'webhook-event': 'request.completed',
    'webhook-sequence': '7',
    'webhook-status': 'COMPLETED',
  });
  const sent = [
    genuine,
    genuine,
    signWebhook({ secret: newSecret(), body: BODY, id: 'msg_forged' }),
    { ...signWebhook({ secret: SECRET, body: BODY, id: 'msg_changed' }), body: '{}' },
    signWebhook({ secret: SECRET, body: BODY, id: 'msg_old', timestamp: nowSeconds() - 600 }),
    { headers: {}, body: BODY },
  ];
  const statuses: number[] = [];
  for (const webhook of sent) statuses.push((await listener.post(webhook)).status);
  expect(statuses).toEqual([204, 204, 401, 401, 401, 401]);
  expect(await listener.end('SIGINT')).toBe(0);

  const [greeting = '', first = '', ...others] = listener.output().split(/^(?=20\d\d-[\d-]+T[\d:.]+Z {2}POST \/hook\n)/m);
  expect(greeting).toMatch(/^Listening for webhooks on \S+\. Signatures are checked\. Ctrl-C stops it\.\n\n$/);
  expect(first.split('\n').slice(1)).toEqual([
    '  webhook-id  msg_1',
    '  event       request.completed',
    '  sequence    7',
    '  signature   ✓ verified',
    '  status      9 COMPLETED',
    '  answered    204',
    '{',
    '  "id": "job_1",',
    '  "status": 9,',
    '  "output": null,',
    '  "error": ""',
    '}',
    '',
    '',
  ]);
  expect(others).toEqual([
    expect.stringMatching(/msg_1 {2}duplicate: seen 2 times\n[\s\S]*✓ verified\n/),
    expect.stringMatching(/msg_forged\n[\s\S]*✗ not verified: wrong signature/),
    expect.stringMatching(/msg_changed\n[\s\S]*✗ not verified: wrong signature/),
    expect.stringMatching(/msg_old\n[\s\S]*✗ not verified: timestamp 60\d seconds old/),
    expect.stringMatching(/none\n[\s\S]*✗ not verified: headers missing: webhook-id, webhook-timestamp, webhook-signature\n/),
  ]);
  expect(listener.output()).not.toContain(SECRET.slice('whsec_'.length));
});

test('the secret may come from a variable, and the answer may be that of a receiver in trouble', async () => {
  await using listener = await startListener(['--status', '503', '--retry-after', '5', '--delay', '1'], { WEBHOOK_SECRET: SECRET });
  const response = await listener.post(signWebhook({ secret: SECRET, body: BODY }));
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
  await listener.printed(/✓ verified\n[\s\S]*answered {4}503, Retry-After: 5, after 1 ms\n/);
});

test('without a secret it says that nothing is checked, and SIGTERM ends it with code 0 while an answer is due', async () => {
  await using listener = await startListener(['--delay', '600000']);
  const answer = listener.post({ headers: {}, body: BODY }).catch(() => 'no answer');
  await listener.printed(/signature {3}not checked: no secret given\n/);
  expect(listener.output()).toContain('Signatures are not checked, because no secret was given');
  expect(await listener.end('SIGTERM')).toBe(0);
  expect(await answer).toBe('no answer');
});

test('the service that it is told of is asked for the secret, and what it sends is genuine', async () => {
  await using database = await createTestDatabase();
  await using folder = await temporaryFolder();
  await using service = await startStandalone(folder.path, { DATABASE_URL: database.url });
  await using listener = await startListener(['--url', service.url, '--key', service.key]);
  const { submit } = clientOf(service.url, service.key);
  const webhook = `${listener.url}/hook`;
  await submit({ prompt: 'a panda', webhook });
  await submit({ prompt: '[[fail:out of paint]]', webhook });
  await listener.printed(/request\.completed\n.*\n.*✓ verified\n {2}status {6}9 COMPLETED\n/);
  await listener.printed(/request\.failed\n.*\n.*✓ verified\n {2}status {6}10 FAILED\n/);
});

test('--help prints the usage and ends with code 0', async () => {
  await using started = startProcess(MAIN, {}, ['--help']);
  expect([await started.exited, started.output()]).toEqual([0, expect.stringMatching(/^Usage: npm run webhook:listen/)]);
});

test.each<[string, readonly string[], string]>([
  ['a wrong argument', ['--port', 'http'], '--port must be a whole number from 0 to 65535, not "http".\n\nUsage: '],
  ['a secret that cannot be one', ['--secret', 'hunter2'], 'The webhook secret cannot be one: it must be whsec_ and'],
])('%s is refused with a sentence and code 1', async (_case, args, sentence) => {
  await using started = startProcess(MAIN, {}, args);
  expect(await started.exited).toBe(1);
  expect(started.output().startsWith(sentence)).toBe(true);
  expect(started.output()).not.toContain('hunter2');
});
