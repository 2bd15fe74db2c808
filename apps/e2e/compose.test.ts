/** The image and the compose file fit what is in the repository. There may be no Docker where tests run, so what can be is run without. */
import { execFile } from 'node:child_process';
import { access, readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { apiSettings } from '@claimcheck/api';
import { engineSettings } from '@claimcheck/engine';
import { listen } from '@claimcheck/engine/testing';
import { workerSettings } from '@claimcheck/worker';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const text = (path: string) => readFile(join(ROOT, path), 'utf8');

describe('the image', async () => {
  const instructions = (await text('Dockerfile')).split('\n').filter((line) => /^[A-Z]/.test(line));
  const copied = instructions.filter((line) => line.startsWith('COPY ')).map((line) => line.split(' ').slice(1));
  const command = z.array(z.string()).parse(JSON.parse(instructions.at(-1)?.replace(/^CMD /, '') ?? ''));

  test('everything that it copies exists, and is not kept from it', async () => {
    const ignored = (await text('.dockerignore')).split('\n');
    for (const source of copied.flatMap((paths) => paths.slice(0, -1))) {
      await access(join(ROOT, source));
      expect(ignored, source).toContain(`!${source.split('/')[0]}`);
    }
  });

  test('the manifest of every workspace that runs in it is there when npm installs', async () => {
    const foldersOf = async (parent: string) => (await readdir(join(ROOT, parent))).map((name) => `${parent}/${name}`);
    const workspaces = [...(await foldersOf('apps')), ...(await foldersOf('packages'))].filter((folder) => folder !== 'apps/e2e');
    const manifests = copied.filter(([source = '']) => source.includes('/')).map((paths) => paths.join(' '));
    expect(manifests.toSorted()).toEqual(workspaces.map((folder) => `${folder}/package.json ${folder}/`).toSorted());
  });

  test('it runs as an ordinary user, and starts a file that exists on the Node that the repository pins', async () => {
    expect(instructions).toContain('USER node');
    expect(instructions.indexOf('USER node')).toBeGreaterThan(instructions.findLastIndex((line) => /^(RUN|COPY)/.test(line)));
    const pinned = z.object({ devDependencies: z.object({ node: z.string() }) }).parse(JSON.parse(await text('package.json')));
    expect(instructions[0]).toBe(`FROM node:${pinned.devDependencies.node.split('.')[0]}-slim`);
    expect(command[0]).toBe('node');
    await access(join(ROOT, command[1] ?? ''));
  });
});

const healthcheck = z.union([
  z.strictObject({ disable: z.literal(true) }),
  z.strictObject({
    test: z.tuple([z.enum(['CMD', 'CMD-SHELL'])], z.string()),
    interval: z.string(),
    timeout: z.string(),
    retries: z.int(),
    start_period: z.string(),
  }),
]);

/** What is used of the compose file format, and no more, so that a misspelt key is found. */
const service = z.strictObject({
  build: z.string().optional(),
  image: z.string(),
  init: z.boolean().optional(),
  restart: z.enum(['unless-stopped', 'on-failure:3']),
  stop_grace_period: z.string().optional(),
  shm_size: z.string().optional(),
  cap_drop: z.array(z.string()).optional(),
  security_opt: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.string()).default({}),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  healthcheck,
  depends_on: z
    .record(z.string(), z.strictObject({ condition: z.enum(['service_healthy', 'service_completed_successfully']) }))
    .default({}),
});
type Service = z.infer<typeof service>;

const composeFile = z.looseObject({ services: z.record(z.string(), service), volumes: z.record(z.string(), z.null()) });

describe('the compose file', async () => {
  const source = await text('docker-compose.yml');
  const { services, volumes } = composeFile.parse(parse(source, { merge: true }));
  const ofClaimcheck = Object.entries(services).filter(([, { image }]) => image === 'claimcheck');

  test('it has the servers, the migration and every part, each started by a file that exists', async () => {
    expect(Object.keys(services)).toEqual(['postgres', 'redis', 'migrate', 'api', 'worker', 'dispatcher']);
    expect(ofClaimcheck.map(([name]) => name)).toEqual(['migrate', 'api', 'worker', 'dispatcher']);
    for (const [, { command = [] }] of ofClaimcheck) await access(join(ROOT, command[1] ?? ''));
  });

  test('every service that stays is looked after, and whoever is waited for is there and in the state that is waited for', () => {
    for (const [name, { depends_on }] of Object.entries(services)) {
      for (const [other, { condition }] of Object.entries(depends_on)) {
        const ends = services[other] && 'disable' in services[other].healthcheck;
        expect(condition, `${name} on ${other}`).toBe(ends ? 'service_completed_successfully' : 'service_healthy');
      }
    }
    expect(Object.keys(services).filter((name) => services[name] && 'disable' in services[name].healthcheck)).toEqual(['migrate']);
    for (const part of ['api', 'worker', 'dispatcher']) expect(services[part]?.depends_on).toHaveProperty('migrate');
  });

  test('the variables are ones that the service reads, and none is set that its part does not', () => {
    const read = (settings: object) => new Set([...Object.keys(engineSettings), ...Object.keys(settings)]);
    const known: Readonly<Record<string, ReadonlySet<string>>> = { api: read(apiSettings), worker: read(workerSettings) };
    for (const [name, { environment }] of ofClaimcheck) {
      const variables = Object.keys(environment);
      expect(
        variables.filter((variable) => !(known[name] ?? read({})).has(variable)),
        name,
      ).toEqual([]);
      expect(variables, name).toContain('DATABASE_URL');
    }
  });

  test('no password or key stands in it or has a default: without them compose refuses to start', () => {
    const secrets = Object.values(services).flatMap(({ environment }) => [
      environment.POSTGRES_PASSWORD,
      environment.BOOTSTRAP_API_KEY,
      environment.SECRET_KEY,
      environment.DATABASE_URL && /\/\/[^:]+:(.*)@/.exec(environment.DATABASE_URL)?.[1],
    ]);
    const given = secrets.filter((secret) => secret !== undefined);
    expect(given).toHaveLength(8);
    for (const secret of given) expect(secret).toMatch(/^\$\{[A-Z_]+:\?[^}]+\}$/);
  });

  test('those that sign webhooks or show their secrets have the key of these, and nobody else has', () => {
    const holders = Object.entries(services).filter(([, { environment }]) => environment.SECRET_KEY !== undefined);
    expect(holders.map(([name]) => name)).toEqual(['api', 'dispatcher']);
  });

  test('only the API can be reached from outside, and only from this machine', () => {
    const published = Object.entries(services).flatMap(([name, { ports }]) => ports.map((port) => `${name} ${port}`));
    expect(published).toEqual([`api 127.0.0.1:\${PORT:-8080}:8080`]);
  });

  test('data is kept: the database, the queue, and the files that workers write and the API serves', () => {
    const mounts = Object.fromEntries(Object.entries(services).map(([name, each]) => [name, each.volumes]));
    const data = ['data:/data'];
    expect(mounts).toEqual({
      postgres: ['postgres:/var/lib/postgresql'],
      redis: ['redis:/data'],
      migrate: [],
      api: data,
      worker: data,
      dispatcher: [],
    });
    expect(Object.keys(volumes)).toEqual(['postgres', 'redis', 'data']);
    expect(services.redis?.command).toEqual(['valkey-server', '--appendonly', 'yes', '--maxmemory-policy', 'noeviction']);
  });

  test('the API counts as healthy exactly when /readyz says so', async () => {
    let status = 200;
    await using server = await listen((request, response) => {
      response.statusCode = request.url === '/readyz' ? status : 404;
      response.end();
    });
    const look = () => exitCodeOf(services.api, {}, (code) => code.replace('http://127.0.0.1:8080', server.url));
    expect(await look()).toBe(0);
    status = 503;
    expect(await look()).toBe(1);
    await server.close();
    expect(await look()).toBe(1);
  });

  test('worker and dispatcher count as healthy exactly while there is a connection to the database', async () => {
    expect(services.dispatcher?.healthcheck).toEqual(services.worker?.healthcheck);
    // Any server on a port of its own will do: the check looks at connections, not at what is said on them.
    await using server = await listen(() => {});
    const { port } = new URL(server.url);
    const environment = { DATABASE_URL: `postgres://claimcheck:secret@127.0.0.1:${port}/claimcheck` };
    expect(await exitCodeOf(services.worker, environment)).toBe(1);
    const connection = connect(Number(port), '127.0.0.1');
    await new Promise((resolve) => connection.once('connect', resolve));
    // Only Linux, where containers run, shows its table of connections as a file.
    expect(await exitCodeOf(services.worker, environment)).toBe(process.platform === 'linux' ? 0 : 1);
    connection.destroy();
  });
});

/** Runs the check of a service as Docker would; `change` may point its code elsewhere. */
async function exitCodeOf(
  checked: Service | undefined,
  environment: Readonly<Record<string, string>>,
  change: (code: string) => string = (code) => code,
): Promise<unknown> {
  if (!checked || 'disable' in checked.healthcheck) throw new Error('The service has no health check.');
  const [, program = '', ...parameters] = checked.healthcheck.test;
  return new Promise((resolve) => {
    const options = { env: { PATH: process.env.PATH, ...environment } };
    execFile(program, parameters.map(change), options, (error) => resolve(error ? error.code : 0));
  });
}
