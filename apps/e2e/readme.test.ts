/** What the README says is true: its tables list what there is, and its examples are run. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { apiSettings, OWN_ROUTES } from '@claimcheck/api';
import { loadCatalog } from '@claimcheck/catalog';
import { type Dialect, SANDBOX, TRANSITIONS } from '@claimcheck/core';
import { loadDialects } from '@claimcheck/dialects';
import { engineSettings } from '@claimcheck/engine';
import { createTestDatabase, type TestDatabase } from '@claimcheck/engine/testing';
import { loadProviders } from '@claimcheck/providers';
import { workerSettings } from '@claimcheck/worker';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { blocksOf, codeIn, rowsOf, sectionOf } from './markdown.ts';
import { pathWithCurl } from './testing/curl.ts';
import { type Client, clientOf, type Folder, startStandalone, temporaryFolder } from './testing/processes.ts';
import { type Receiver, startReceiver } from './testing/receiver.ts';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const README = await readFile(join(ROOT, 'README.md'), 'utf8');
const POLL = { timeout: 60_000, interval: 50 };
const DIALECTS = await loadDialects();
/** Those of other services' clients. */
const FOREIGN = DIALECTS.filter(({ name }) => name !== 'native');

/** Of a variable's schema. */
const DEFAULT = z.object({ default: z.string().optional() });

describe('the tables', () => {
  test('the state diagram has every transition of the code and no other', () => {
    const diagram = blocksOf(sectionOf(README, 'States')).find(({ info }) => info === 'mermaid')?.text ?? '';
    const drawn = Array.from(diagram.matchAll(/^\s*(\S+) --> ([^\s:]+)/gm), ([, from, to]) => `${from} ${to}`);
    const ofCode = Object.entries(TRANSITIONS).flatMap(([from, next]) =>
      next.length === 0 ? [`${from} [*]`] : next.map((to) => `${from} ${to}`),
    );
    expect(drawn.toSorted()).toEqual(['[*] QUEUED', ...ofCode].toSorted());
  });

  test('the variables are those that the parts read, with their defaults', () => {
    const schema = z.object({ ...engineSettings, ...apiSettings, ...workerSettings });
    const defaults = new Map(Object.entries(schema.parse({})));
    const ofCode = Object.keys(schema.shape).map((name) => [name, String(defaults.get(name) ?? 'unset')]);
    const written = rowsOf(sectionOf(README, 'Variables'), ['variable', 'default', 'meaning']).map(([name = '', value = '']) => {
      const [variable = ''] = codeIn(name);
      const [code = value] = codeIn(value);
      return [variable, variable === 'DATA_DIR' ? resolve(code) : code];
    });
    expect(written.toSorted()).toEqual(ofCode.toSorted());
  });

  test('the providers are those that there are, with their variables and defaults', async () => {
    const rows = rowsOf(sectionOf(README, 'Providers'), ['provider', 'off without', 'calls', 'sends its key as', 'is told of the end']);
    const written = rows.map((row) => codeIn(row.join(' ')));
    const providers = (await loadProviders()).filter(({ name }) => name !== SANDBOX);
    expect(written.map(([name]) => name).toSorted()).toEqual(providers.map(({ name }) => name).toSorted());
    for (const { name, settings } of providers) {
      const [, ...codes] = written.find(([provider]) => provider === name) ?? [];
      const { properties = {} } = z.toJSONSchema(settings, { io: 'input', unrepresentable: 'any' });
      const variables = Object.keys(properties).filter((variable) => !/_(CONCURRENCY|RATE)$/.test(variable));
      const facts = variables.flatMap((variable) => [variable, ...Object.values(DEFAULT.parse(properties[variable]))]);
      expect(codes, name).toEqual(expect.arrayContaining(facts));
      // And no other: what looks like a variable of it is one.
      const [prefix = ''] = variables[0]?.split('_') ?? [];
      const known = new Set(facts);
      expect(
        codes.filter((code) => code.startsWith(`${prefix}_`) && !known.has(code)),
        name,
      ).toEqual([]);
    }
  });

  test('the endpoints are those of the native format and of the service itself', async () => {
    const native = DIALECTS.find(({ name }) => name === 'native');
    const ofCode = native ? endpointsOf(native) : [];
    const ofService = OWN_ROUTES.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)(\{[^}]*\})?/g, '{$1}')}`);
    expect(endpointsIn(sectionOf(README, 'Endpoints')).toSorted()).toEqual([...ofCode, ...ofService].toSorted());
  });

  test.each(FOREIGN)('the endpoints of $name are those of the dialect', (dialect) => {
    expect(endpointsIn(subsectionOf('Dialects', dialect.name)).toSorted()).toEqual(endpointsOf(dialect).toSorted());
  });

  test('every script of the root is explained, and no other is', async () => {
    const manifest = z.object({ scripts: z.record(z.string(), z.string()) });
    const { scripts } = manifest.parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')));
    const named = Array.from(README.matchAll(/[`&\n] ?npm (?:run (?:-s )?)?([a-z:-]+)/g), ([, name = '']) => name);
    // The first is npm's own; the two at the end are the parts of `check`.
    expect(new Set(named)).toEqual(new Set(['ci', ...Object.keys(scripts).filter((name) => name !== 'types' && name !== 'lint')]));
  });

  test('the map has every app, every package and the migrations', async () => {
    const foldersOf = async (parent: string) => (await readdir(join(ROOT, parent))).map((name) => `${parent}/${name}`);
    const rows = rowsOf(sectionOf(README, 'The map'), ['folder', 'what is there', 'may import']);
    const folders = [...(await foldersOf('apps')), ...(await foldersOf('packages')), 'migrations'];
    expect(rows.flatMap(([folder = '']) => codeIn(folder)).toSorted()).toEqual(folders.toSorted());
  });
});

/** As the README writes them. */
function endpointsOf({ routes, proxy }: Dialect): readonly string[] {
  const lines = routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}')}`);
  return proxy ? [...lines, `ANY ${proxy.path}`] : lines;
}

function endpointsIn(section: string): readonly string[] {
  return rowsOf(section, ['method', 'path', 'answer']).flatMap(([methods = '', path = '']) =>
    codeIn(methods).flatMap((method) => codeIn(path).map((path) => `${method} ${path}`)),
  );
}

function subsectionOf(heading: string, name: string): string {
  const subsection = sectionOf(README, heading)
    .split(/^### /m)
    // Headings are as the vendors write their names.
    .find((part) =>
      part
        .toLowerCase()
        .replace(/[^a-z]/, '-')
        .startsWith(name),
    );
  if (subsection === undefined) throw new Error(`There is no section "${name}" in "${heading}".`);
  return subsection;
}

describe('the examples', () => {
  let database: TestDatabase;
  let folder: Folder;
  let receiver: Receiver;
  let client: Client;
  let path: string;
  const started = new AsyncDisposableStack();

  beforeAll(async () => {
    database = started.use(await createTestDatabase());
    folder = started.use(await temporaryFolder());
    receiver = started.use(await startReceiver());
    path = await pathWithCurl(folder.path, process.env.PATH ?? '');
    const modelsDir = join(folder.path, 'models');
    await mkdir(modelsDir);
    const [model] = blocksOf(sectionOf(README, 'Models of your own'));
    await writeFile(join(modelsDir, 'poster.yaml'), model?.text ?? '');
    const service = started.use(await startStandalone(folder.path, { DATABASE_URL: database.url, MODELS_DIR: modelsDir }));
    client = clientOf(service.url, service.key);
  });
  afterAll(() => started.disposeAsync());

  /** The block of this name, and the one that follows it. */
  function example(heading: string, name: string): { readonly command: string; readonly answer: string } {
    const blocks = blocksOf(sectionOf(README, heading));
    const at = blocks.findIndex(({ info }) => info === name);
    const [command, answer] = [blocks[at]?.text, blocks[at + 1]?.text];
    if (command === undefined) throw new Error(`There is no block "${name}" in "${heading}".`);
    return { command, answer: answer ?? '' };
  }

  /** Runs a command as pasted into a shell, but against this test's service, receiver and database. */
  async function paste(command: string, environment: Readonly<Record<string, string>> = {}): Promise<string> {
    const here = command.replaceAll('http://127.0.0.1:8080', client.url).replaceAll('http://127.0.0.1:9000', receiver.url);
    const cwd = here.startsWith('npm ') ? ROOT : folder.path;
    const env = { ...process.env, PATH: path, KEY: client.key, DATABASE_URL: database.url, ...environment };
    return (await run('/bin/sh', ['-c', here], { cwd, env })).stdout.trim();
  }

  test('the first job goes as written, from the claim check to the webhook', async () => {
    const submit = example('The first job', 'sh submit');
    const claimCheck = await paste(submit.command);
    expect(shapeOf(claimCheck)).toEqual(shapeOf(submit.answer));
    const ID = String(JSON.parse(claimCheck).request_id);

    await client.ended(ID);
    const status = example('The first job', 'sh status');
    expect(shapeOf(await paste(status.command, { ID }))).toEqual(shapeOf(status.answer));
    const result = example('The first job', 'sh result');
    const resultBody = await paste(result.command, { ID });
    expect(shapeOf(resultBody)).toEqual(shapeOf(result.answer));

    const file = example('The first job', 'sh file');
    const fetchFile = file.command.replace(/http:\S+/, JSON.parse(resultBody).output);
    expect(await paste(fetchFile)).toBe(file.answer);
    expect((await readFile(join(folder.path, 'panda.webp'))).subarray(8, 12).toString()).toBe('WEBP');

    await expect.poll(() => receiver.received.find(({ body }) => body.id === ID), POLL).toBeDefined();
    const webhook = receiver.received.find(({ body }) => body.id === ID);
    expect(shapeOf(JSON.stringify(webhook?.body))).toEqual(shapeOf(example('The first job', 'json webhook').command));
    const headers = example('Webhooks', 'http')
      .command.split('\n')
      .map((line) => line.split(': '));
    const received = headers.map(([name = '']) => [name, webhook?.headers[name]]);
    // How many events a job has depends on how fast its run goes.
    const counted = (pairs: typeof received) =>
      pairs.map(([name = '', value = '']) => [name, name === 'webhook-sequence' ? String(value).replace(/^\d+$/, 'COUNT') : value]);
    expect(shapeOf(JSON.stringify(counted(received)))).toEqual(shapeOf(JSON.stringify(counted(headers))));
  });

  test.each(blocksOf(sectionOf(README, 'Dialects')).filter(({ info }) => info === 'js'))(
    'a client that is pointed here as written prints the address of what was made: $text',
    async ({ text }) => {
      const here = text.replaceAll('http://127.0.0.1:8080', client.url);
      const options = { cwd: ROOT, env: { ...process.env, KEY: client.key } };
      const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', here], options);
      const file = await fetch(stdout.trim());
      expect([file.status, file.headers.get('content-type')]).toEqual([200, expect.stringMatching(/^(image|video)\//)]);
    },
  );

  test('the examples work with the stand-in for curl too', async () => {
    const { command, answer } = example('The first job', 'sh submit');
    const claimCheck = await paste(command, { PATH: join(folder.path, 'bin') });
    expect(shapeOf(claimCheck)).toEqual(shapeOf(answer));
    await client.ended(String(JSON.parse(claimCheck).request_id));
  });

  test('the example of trying a webhook is what is answered', async () => {
    const { command, answer } = example('Looking at webhooks', 'sh try');
    const shown = (text: string) => {
      const { message, sends, ...delivery } = TRIED.parse(shapeOf(text));
      // Which steps a send takes, and for how long, is up to the connection.
      const steps = sends.map(({ timings, duration_ms: _, ...send }) => ({ ...send, timings: Object.keys(timings) }));
      return { ...delivery, message: shapeOf(message), steps };
    };
    expect(shown(await paste(command))).toEqual(shown(answer));
  });

  test('the example of a refusal is what is answered', async () => {
    const { command, answer } = example('What bad input gets', 'sh error');
    expect(JSON.parse(await paste(command))).toEqual(JSON.parse(answer));
  });

  test('bad input gets what the table says', async () => {
    const rows = rowsOf(sectionOf(README, 'What bad input gets'), ['what is sent', 'status', 'code', 'sentence']);
    const answers = rows.map(async ([sent = '']) => {
      const response = await send(sent);
      const { code, error } = z.object({ code: z.string(), error: z.string() }).parse(await response.json());
      return [sent, String(response.status), `\`${code}\``, error];
    });
    const written = rows.map(([sent, status, code, sentence]) => [sent, status, code, sentence?.replaceAll('&lt;', '<')]);
    expect(await Promise.all(answers)).toEqual(written);
  });

  /** The request that a cell of the table describes: what it does not say is as in a good submission. */
  function send(sent: string): Promise<Response> {
    const code = codeIn(sent);
    const [method = 'POST', path = '/v2/hidream-l1-fast'] = code.find((text) => /^[A-Z]+ \//.test(text))?.split(' ') ?? [];
    const body = code.find((text) => /^[[{]/.test(text)) ?? DESCRIBED_BODIES[sent] ?? '{"prompt":"x"}';
    const key = sent.startsWith('the key ') ? code[0] : client.key;
    const headers = {
      'content-type': code.find((text) => text.startsWith('content-type: '))?.slice('content-type: '.length) ?? 'application/json',
      ...(sent !== 'no key' && { 'x-api-key': key ?? '' }),
    };
    return fetch(`${client.url}${path}`, { method, headers, ...(method === 'POST' && { body }) });
  }

  test('each mark in a sandbox prompt does what the table says', async () => {
    const rows = rowsOf(sectionOf(README, 'Sandbox prompts'), ['mark', 'what happens', 'how it ends']);
    const ends = rows.map(async ([mark = '', , end]) => {
      const id = await client.submit({ prompt: `a sign ${codeIn(mark).join()}` });
      if (end === 'PROCESSING') {
        const stateOf = async () => (await client.get(`/v2/requests/${id}/status`)).body.status;
        await expect.poll(stateOf, POLL).toBe('PROCESSING');
        await client.post(`/v2/requests/${id}/cancel`);
        return [mark, end];
      }
      const { status, error } = await client.ended(id);
      const failure = /fail:(.*)\]\]/.exec(mark)?.[1];
      if (failure !== undefined) expect(error).toBe(failure);
      return [mark, status];
    });
    expect(await Promise.all(ends)).toEqual(rows.map(([mark, , end]) => [mark, end]));
  });

  test('the example of a model is one that can be loaded and run', async () => {
    const catalog = await loadCatalog({ modelsDir: join(folder.path, 'models') });
    expect(catalog.find('poster')?.name).toBe('acme/poster');
    const { status, body } = await client.post('/v2/acme/poster', { prompt: 'a poster' });
    expect(status).toBe(200);
    await client.ended(String(body.request_id));
    const result = await client.get(`/v2/requests/${body.request_id}`);
    expect(result.body).toMatchObject({ status: 'COMPLETED', images: [{ width: 512, height: 768 }] });
  });

  test('the check of a model prints what is written', async () => {
    const { command, answer } = example('Models of your own', 'sh check');
    const file = join(folder.path, 'models', 'poster.yaml');
    const printed = await paste(command.replace('my-models/poster.yaml', file));
    expect(printed).toBe(answer.replace('my-models/poster.yaml', file));
  });

  test('keys are made, listed and revoked as written', async () => {
    const create = example('API keys', 'sh create');
    const made = await paste(create.command);
    expect(textShapeOf(made)).toBe(textShapeOf(create.answer));
    const list = example('API keys', 'sh list');
    expect(textShapeOf(await paste(list.command))).toBe(textShapeOf(list.answer));

    const [id = ''] = UUID.exec(made) ?? [];
    const [key = ''] = KEY.exec(made) ?? [];
    expect((await clientOf(client.url, key).get('/v2/requests')).status).toBe(200);
    const revoke = example('API keys', 'sh revoke');
    expect(textShapeOf(await paste(revoke.command.replace(UUID, id)))).toBe(textShapeOf(revoke.answer));
    expect((await clientOf(client.url, key).get('/v2/requests')).status).toBe(401);
  });
});

/** The parts of a delivery that differ from run to run. */
const TRIED = z.looseObject({
  message: z.string(),
  sends: z.array(z.looseObject({ timings: z.record(z.string(), z.number().nullable()), duration_ms: z.number() })),
});

/** Bodies that are too large for a table. */
const DESCRIBED_BODIES: Readonly<Record<string, string>> = {
  '65 nested arrays': '['.repeat(65) + ']'.repeat(65),
  'more than 1 MB, files not counted': JSON.stringify({ prompt: 'x'.repeat(1024 * 1024) }),
};

const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
const KEY = /ck_[\w-]{43}[0-9a-z]{6}/;

/** A JSON document with everything that differs from run to run replaced: its members and what the client sent stay. */
function shapeOf(json: string): unknown {
  return JSON.parse(json, (name, value: unknown) => {
    if (typeof value === 'string') return textShapeOf(value);
    return ['inference_time', 'queue_time', 'total_time', 'seconds', 'file_size', 'queue_position'].includes(name) ? typeof value : value;
  });
}

function textShapeOf(text: string): string {
  return text
    .replaceAll(new RegExp(UUID, 'g'), 'ID')
    .replaceAll(new RegExp(KEY, 'g'), 'KEY')
    .replaceAll(/ck_[\w-]{4}…/g, 'HINT')
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, 'ORIGIN')
    .replaceAll(/\/files\/[\w-]+/g, '/files/TOKEN')
    .replaceAll(/\d{4}-\d{2}-\d{2}T[\d:.]+Z/g, 'INSTANT')
    .replaceAll(/\w{3}, \d{2} \w{3} \d{4} [\d:]{8} GMT/g, 'DATE')
    .replaceAll(/v1,[\w+/]{43}=/g, 'SIGNATURE')
    .replaceAll(/^\d{10}$/g, 'SECONDS');
}
