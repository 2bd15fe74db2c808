/** The programs on the page for receivers of webhooks, taken out of it and run: what they accept and what they refuse. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { listen } from '@claimcheck/engine/testing';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { blocksOf } from './markdown.ts';
import { pathWithCurl } from './testing/curl.ts';
import { startProgram, temporaryFolder } from './testing/processes.ts';
import { newSecret, nowSeconds, type SignedWebhook, signWebhook, withHeaders } from './testing/signed-webhook.ts';

const run = promisify(execFile);
const PAGE = await readFile(fileURLToPath(new URL('../dispatcher/README.md', import.meta.url)), 'utf8');
const SECRET = newSecret();
/** Spaces, an escape and letters outside ASCII: whoever parses it and writes it again gets other bytes. */
function bodyOf(job: string): string {
  return `{ "id": "${job}", "status": 9, "output": {"a":1.0}, "error": "\\u00e9é" }`;
}

/** The file of this name on the page, saved in `folder`. */
async function save(folder: string, name: string): Promise<string> {
  const block = blocksOf(PAGE).find(({ info }) => info.endsWith(` ${name}`));
  if (!block) throw new Error(`There is no block "${name}" on the page.`);
  const path = join(folder, name);
  await writeFile(path, `${block.text}\n`);
  return path;
}

/** Tells whether a webhook was accepted. */
type Judge = (webhook: SignedWebhook) => Promise<boolean>;

interface Judging extends AsyncDisposable {
  readonly judge: Judge;
}

/** One of the page's receivers: accepting is answering 204 and printing what the webhook says, refusing is 401 and neither. */
async function startReceiver(program: string, name: string, secret: string): Promise<Judging> {
  const folder = await temporaryFolder();
  const receiver = startProgram(program, [await save(folder.path, name)], { WEBHOOK_SECRET: secret, PORT: '0' });
  const [, url = ''] = await receiver.printed(/Listening on (http:\S+)/);
  return {
    judge: async ({ headers, body }) => {
      const { status } = await fetch(`${url}/hook`, { method: 'POST', headers, body });
      const job = String(JSON.parse(body).id);
      if (status === 204) await receiver.printed(new RegExp(`Job ${job} has ended with status 9\\.`));
      else expect([status, receiver.output()]).toEqual([401, expect.not.stringContaining(job)]);
      return status === 204;
    },
    [Symbol.asyncDispose]: async () => {
      await receiver[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** The page's script: it looks at files, and says what it found. */
async function startScript(name: string, secret: string, args: readonly string[] = []): Promise<Judging> {
  const folder = await temporaryFolder();
  const script = await save(folder.path, name);
  const [headersFile, bodyFile] = [join(folder.path, 'headers.txt'), join(folder.path, 'body.json')];
  return {
    judge: async ({ headers, body }) => {
      // As they look in a log: names in any case, lines that end as in HTTP.
      const lines = Object.entries(headers).map(([header, value]) => `${header.replace('webhook', 'Webhook')}: ${value}\r\n`);
      await writeFile(headersFile, ['POST /hook HTTP/1.1\r\n', ...lines].join(''));
      await writeFile(bodyFile, body);
      const verdict = await runScript(script, [headersFile, bodyFile, ...args], secret);
      expect(verdict.output).toMatch(verdict.code === 0 ? /^verified\n$/ : /^not verified: .+\n$/);
      return verdict.code === 0;
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

async function runScript(script: string, args: readonly string[], secret: string): Promise<{ code: number | null; output: string }> {
  await using started = startProgram('/bin/sh', [script, ...args], { WEBHOOK_SECRET: secret });
  return { code: await started.exited, output: started.output() };
}

const PROGRAMS: Readonly<Record<string, (secret: string) => Promise<Judging>>> = {
  'the receiver in Node': (secret) => startReceiver(process.execPath, 'receiver.mjs', secret),
  'the receiver in Python': (secret) => startReceiver('python3', 'receiver.py', secret),
  'the script with openssl': (secret) => startScript('verify.sh', secret),
};

/** Signed with the right secret so many seconds from now, each about another job so that its line in the output is its own. */
function signedAt(seconds: number): SignedWebhook {
  signedCount += 1;
  return signWebhook({ secret: SECRET, body: bodyOf(`job_${signedCount}`), timestamp: nowSeconds() + seconds });
}
let signedCount = 0;

/** The same webhook with another `webhook-signature`, made from its own. */
function resigned(webhook: SignedWebhook, change: (signature: string) => string): SignedWebhook {
  return withHeaders(webhook, { 'webhook-signature': change(webhook.headers['webhook-signature'] ?? '') });
}

function signatureByAnother({ body }: SignedWebhook): string {
  return signWebhook({ secret: newSecret(), body }).headers['webhook-signature'] ?? '';
}

type Cases = Readonly<Record<string, () => SignedWebhook>>;

const ACCEPTED: Cases = {
  'the right signature': () => signedAt(0),
  'a message that was under way for four minutes': () => signedAt(-240),
  'a message from a clock that is four minutes ahead': () => signedAt(240),
  'the right signature after one by another secret': () => resigned(signedAt(0), (own) => `${signatureByAnother(signedAt(0))} ${own}`),
  'the right signature before one by another secret': () => resigned(signedAt(0), (own) => `${own} ${signatureByAnother(signedAt(0))}`),
  'the right signature after one of an unknown version': () => resigned(signedAt(0), (own) => `v9,AAAA v1a,AAAA ${own}`),
};

const REFUSED: Cases = {
  'a body with one byte changed': () => changed((body) => body.replace('"status": 9', '"status": 8')),
  'a body that was parsed and written again': () => changed((body) => JSON.stringify(JSON.parse(body))),
  'another id': () => withHeaders(signedAt(0), { 'webhook-id': 'msg_2' }),
  'another timestamp, however near': () => withHeaders(signedAt(0), { 'webhook-timestamp': String(nowSeconds() - 60) }),
  'a signature by another secret': () => signWebhook({ secret: newSecret(), body: bodyOf('job_forged') }),
  'the right signature under another version': () => resigned(signedAt(0), (own) => own.replace('v1,', 'v1a,')),
  'the right signature without a version': () => resigned(signedAt(0), (own) => own.replace('v1,', '')),
  'a part of the right signature': () => resigned(signedAt(0), (own) => own.slice(0, -8)),
  'an empty signature': () => resigned(signedAt(0), () => 'v1,'),
  'a message of six minutes ago': () => signedAt(-360),
  'a message of six minutes ahead': () => signedAt(360),
  'a timestamp that is no number': () => signWebhook({ secret: SECRET, body: bodyOf('job_soon'), timestamp: Number.NaN }),
  'a message without webhook-id': () => withHeaders(signedAt(0), { 'webhook-id': undefined }),
  'a message without webhook-timestamp': () => withHeaders(signedAt(0), { 'webhook-timestamp': undefined }),
  'a message without webhook-signature': () => withHeaders(signedAt(0), { 'webhook-signature': undefined }),
};

function changed(change: (body: string) => string): SignedWebhook {
  const webhook = signedAt(0);
  return { ...webhook, body: change(webhook.body) };
}

describe.each(Object.entries(PROGRAMS))('%s', (_name, start) => {
  let program: Judging;
  beforeAll(async () => {
    program = await start(SECRET);
  });
  afterAll(() => program[Symbol.asyncDispose]());

  test.each(Object.entries(ACCEPTED))('accepts %s', async (_case, make) => {
    expect(await program.judge(make())).toBe(true);
  });

  test.each(Object.entries(REFUSED))('refuses %s', async (_case, make) => {
    expect(await program.judge(make())).toBe(false);
  });
});

/** As published with Standard Webhooks; it says nothing of when it was received. */
const VECTOR = {
  secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  timestamp: 1_614_265_330,
  body: '{"test": 2432232314}',
} as const;
const VECTOR_SIGNATURE = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=';

test('what these tests sign is what the published example has', () => {
  expect(signWebhook(VECTOR).headers['webhook-signature']).toBe(VECTOR_SIGNATURE);
});

test('the script with openssl accepts the published example when old messages may pass, and not otherwise', async () => {
  const vector = withHeaders(signWebhook(VECTOR), { 'webhook-signature': VECTOR_SIGNATURE });
  await using lenient = await startScript('verify.sh', VECTOR.secret, [String(nowSeconds())]);
  await using strict = await startScript('verify.sh', VECTOR.secret);
  expect([await lenient.judge(vector), await strict.judge(vector)]).toEqual([true, false]);
});

describe('without a secret that could be one', () => {
  test.each(['', 'whsec_', 'whsec_AAAA'])('neither receiver starts (%j)', async (secret) => {
    await using folder = await temporaryFolder();
    for (const [program, name] of [
      [process.execPath, 'receiver.mjs'],
      ['python3', 'receiver.py'],
    ] as const) {
      await using started = startProgram(program, [await save(folder.path, name)], { WEBHOOK_SECRET: secret, PORT: '0' });
      expect([await started.exited, started.output()]).toEqual([1, expect.stringContaining('Set WEBHOOK_SECRET')]);
    }
  });

  test('the script with openssl verifies nothing, not even what is signed with the empty key', async () => {
    await using script = await startScript('verify.sh', 'whsec_');
    expect(await script.judge(signWebhook({ secret: 'whsec_', body: bodyOf('job_1') }))).toBe(false);
  });
});

describe('the library that the page names', () => {
  const [call = ''] = /new Webhook\(.*\)(?=`)/.exec(PAGE) ?? [];
  /** The page's expression, with what it names given. */
  const verify = new Function('Webhook', 'process', 'body', 'request', `return ${call}`);
  const check = ({ headers, body }: SignedWebhook) => verify(Webhook, { env: { WEBHOOK_SECRET: SECRET } }, Buffer.from(body), { headers });

  test('accepts what is signed', () => {
    expect(check(signedAt(0))).toMatchObject({ status: 9 });
  });

  test('throws when it is not', () => {
    expect(() => check(changed((body) => body.replace('"status": 9', '"status": 8')))).toThrow('No matching signature found');
  });
});

test('the line that reads the secret prints it, and puts it where the programs look', async () => {
  await using folder = await temporaryFolder();
  await using service = await listen((request, response) => {
    const isAsked = request.method === 'GET' && request.url === '/v2/webhooks/secret' && request.headers['x-api-key'] === 'ck_1';
    response.end(isAsked ? JSON.stringify({ secret: SECRET, created_at: '2026-11-21T03:10:17.806Z', previous: [] }) : '{}');
  });
  const line = blocksOf(PAGE).find(({ info }) => info === 'sh secret')?.text ?? '';
  const command = `${line.replace('http://127.0.0.1:8080', service.url)}\nprintenv WEBHOOK_SECRET`;
  const env = { PATH: await pathWithCurl(folder.path, process.env.PATH ?? ''), KEY: 'ck_1' };
  expect((await run('/bin/sh', ['-c', command], { env })).stdout).toBe(`${SECRET}\n${SECRET}\n`);
});
