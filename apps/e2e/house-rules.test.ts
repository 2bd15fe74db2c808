import { glob, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkHouseRules, type Manifest, type Repository, type SourceFile } from './house-rules.ts';
import { readSource } from './source-text.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

async function readManifest(path: string): Promise<Manifest> {
  const { name, dependencies, devDependencies, exports } = JSON.parse(await readFile(`${root}${path}`, 'utf8'));
  return {
    name,
    dependencies: new Set(Object.keys({ ...dependencies, ...devDependencies })),
    exports: new Set(Object.keys(exports ?? {})),
  };
}

async function readRepository(): Promise<Repository> {
  const files: SourceFile[] = [];
  const manifests = new Map<string, Manifest>();
  const options = { cwd: root, exclude: (name: string) => name.endsWith('node_modules') };
  for await (const found of glob(['{apps,packages}/**/*.ts', '{apps,packages}/*/package.json', 'package.json'], options)) {
    const path = found.replaceAll('\\', '/');
    if (path.endsWith('.ts')) files.push({ path, text: await readFile(`${root}${path}`, 'utf8') });
    else manifests.set(path.split('/').slice(0, -1).join('/'), await readManifest(path));
  }
  return { files, manifests };
}

let repository: Repository;
beforeAll(async () => {
  repository = await readRepository();
});

/** What the rules say about one file beside the real manifests. */
function faultsOf(path: string, text: string, others: readonly SourceFile[] = []): readonly string[] {
  return checkHouseRules({ ...repository, files: [{ path, text }, ...others] });
}

test('the whole repository keeps the rules', () => {
  expect(repository.files.length).toBeGreaterThan(40);
  expect([...repository.manifests.keys()]).toEqual(expect.arrayContaining(['', 'packages/core', 'packages/engine', 'apps/e2e']));
  expect(checkHouseRules(repository)).toEqual([]);
});

/** Rule, file, source, and a part of what must be said about it. */
const VIOLATIONS = [
  [
    'core imports no other package',
    'packages/core/x.ts',
    `import { submit } from '@claimcheck/engine';`,
    'packages/core may import no other package only',
  ],
  ['types count as imports', 'packages/core/x.ts', `import type { Engine } from '@claimcheck/engine';`, 'may import no other package'],
  [
    'imports written as an expression count',
    'packages/core/x.ts',
    `const engine = await import('@claimcheck/engine');`,
    'may import no other package',
  ],
  ['bare imports count', 'packages/core/x.ts', `import '@claimcheck/engine';`, 'may import no other package'],
  ['re-exports count', 'packages/core/x.ts', `export * from '@claimcheck/engine';`, 'may import no other package'],
  [
    'imports over several lines count',
    'packages/core/x.ts',
    `import {\n  submit,\n  // with a comment\n} from "@claimcheck/engine";`,
    'may import no other package',
  ],
  [
    'the engine does not know the catalog',
    'packages/engine/x.ts',
    `import { c } from '@claimcheck/catalog';`,
    'may import packages/core only',
  ],
  [
    'the catalog does not know the engine',
    'packages/catalog/x.ts',
    `import { c } from '@claimcheck/engine';`,
    'may import packages/core only',
  ],
  [
    'dialects do not know the engine',
    'packages/dialects/_x.ts',
    `import { c } from '@claimcheck/engine';`,
    'may import packages/core only',
  ],
  [
    'providers do not know the catalog',
    'packages/providers/_x.ts',
    `import { c } from '@claimcheck/catalog';`,
    'may import packages/core only',
  ],
  ['no package knows an app', 'packages/engine/x.ts', `import { app } from '@claimcheck/api';`, 'may import packages/core only'],
  [
    'tests keep to the layers too',
    'packages/dialects/x.test.ts',
    `import { listen } from '@claimcheck/engine/testing';`,
    'may import packages/core only',
  ],
  ['nobody reaches into another folder', 'apps/api/x.ts', `import { q } from '../../packages/engine/queue.ts';`, 'past the index'],
  ['nobody imports what is not exported', 'apps/api/x.ts', `import { q } from '@claimcheck/engine/queue.ts';`, 'does not export'],
  ['test services are for tests', 'apps/api/x.ts', `import { listen } from '@claimcheck/engine/testing';`, 'is for tests'],
  [
    'dialects do not know each other',
    'packages/dialects/_x.ts',
    `import native from './native.ts';`,
    'only siblings that start with an underscore',
  ],
  [
    'providers do not know each other',
    'packages/providers/_x.ts',
    `import sandbox from './sandbox.ts';`,
    'only siblings that start with an underscore',
  ],
  ['a dialect has a test beside it', 'packages/dialects/x.ts', '', 'has no test beside it (x.test.ts)'],
  ['a provider has a test beside it', 'packages/providers/x.ts', '', 'has no test beside it (x.test.ts)'],
  ['Hono stays in apps', 'packages/engine/x.ts', `import { Hono } from 'hono';`, 'hono, which belongs in apps'],
  ['parts of Hono stay in apps', 'packages/dialects/x.test.ts', `import { serve } from '@hono/node-server';`, 'belongs in apps'],
  ['BullMQ stays in the queue', 'packages/engine/submit.ts', `import { Queue } from 'bullmq';`, 'belongs in packages/engine/queue.ts'],
  ['ioredis stays in the queue', 'apps/worker/x.ts', `import { Redis } from 'ioredis';`, 'belongs in packages/engine/queue.ts'],
  ['pg stays in storage', 'packages/engine/submit.ts', `import pg from 'pg';`, 'belongs in packages/engine/storage'],
  ['postgres.js stays in storage', 'packages/engine/queue.ts', `import postgres from 'postgres';`, 'belongs in packages/engine/storage'],
  [
    'Drizzle stays in storage',
    'packages/engine/submit.ts',
    `import { sql } from 'drizzle-orm/pg-core';`,
    'belongs in packages/engine/storage',
  ],
  ['SQL stays in storage', 'packages/engine/submit.ts', 'await sql`select id from jobs`;', 'contains SQL'],
  ['SQL over several lines stays in storage', 'apps/api/x.ts', `await sql\`\n  update jobs\n  set state = \${state}\`;`, 'contains SQL'],
  ['SQL in a plain string stays in storage', 'apps/api/x.ts', `await sql.unsafe('delete from jobs');`, 'contains SQL'],
  ['the environment is read in config.ts', 'apps/api/main.ts', 'const port = process.env.PORT;', 'reads the environment'],
  ['the environment is not read in packages', 'packages/engine/config.ts', 'const { env } = process;', 'reads the environment'],
  ['the environment is not imported', 'packages/engine/x.ts', `import { env } from 'node:process';`, 'reads the environment'],
  ['logic does not ask for the time', 'packages/engine/sweep.ts', 'const now = Date.now();', 'uses Date.now'],
  ['logic does not make the present', 'packages/dialects/_x.ts', 'const now = new Date();', 'uses new Date()'],
  ['logic does not roll dice', 'packages/engine/retry.ts', 'const jitter = Math.random() * 10;', 'uses Math.random('],
  ['logic does not set timers', 'packages/providers/_x.ts', 'setTimeout(poll, 100);', 'uses setTimeout('],
  [
    'logic does not import timers',
    'packages/engine/run.ts',
    `import { setTimeout as sleep } from 'node:timers/promises';`,
    'uses node:timers/promises',
  ],
  ['an expression in a template is code', 'packages/engine/run.ts', `const name = \`at \${Date.now()}\`;`, 'uses Date.now'],
  [
    'imports are declared',
    'packages/dialects/_x.ts',
    `import { z } from 'left-pad/sub';`,
    'imports left-pad, which packages/dialects/package.json does not list',
  ],
  ['scoped imports are declared', 'apps/api/x.ts', `import { z } from '@aws-sdk/client-s3';`, 'imports @aws-sdk/client-s3, which'],
  ['the tools of the tests are for tests', 'apps/api/x.ts', `import { test } from 'vitest';`, 'imports vitest, which'],
  ['built-in modules are marked', 'packages/core/x.ts', `import { join } from 'path';`, 'without node:'],
  ['no test is skipped', 'packages/core/x.test.ts', `test.skip('x', () => {});`, 'has a .skip'],
  ['no test runs alone', 'packages/core/x.test.ts', `describe.only('x', () => {});`, 'has a .only'],
  ['no test is left to do', 'packages/core/x.test.ts', `it.todo('x');`, 'has a .todo'],
  ['no test depends on the machine', 'packages/core/x.test.ts', `test.skipIf(isRoot)('x', () => {});`, 'has a .skipIf'],
  ['no parallel test is skipped', 'packages/core/x.test.ts', `test.concurrent.skip('x', () => {});`, 'has a .skip'],
  ['no test skips itself', 'packages/core/x.test.ts', `test('x', (context) => context.skip());`, 'has a .skip'],
] as const;

describe('a violation is reported', () => {
  test.each(VIOLATIONS)('%s', (_rule, path, text, fault) => {
    const faults = faultsOf(path, text);
    expect(faults).toContainEqual(expect.stringContaining(fault));
    expect(faults.every((line) => line.startsWith(`${path}: `))).toBe(true);
  });
});

const PERMITTED = [
  [
    'apps import every package',
    'apps/standalone/x.ts',
    `import { a } from '@claimcheck/core'; import { b } from '@claimcheck/engine'; import { c } from '@claimcheck/api';`,
  ],
  [
    'apps start the embedded Postgres',
    'apps/standalone/x.ts',
    `import { startEmbeddedPostgres } from '@claimcheck/engine/embedded-postgres';`,
  ],
  [
    'a file imports its own package',
    'packages/engine/x.ts',
    `import { q } from './storage/jobs.ts'; import type { Job } from '@claimcheck/core';`,
  ],
  ['adapters share underscored files', 'packages/dialects/_x.ts', `import { answer } from './_native-answers.ts';`],
  [
    'words in strings and comments are no code',
    'packages/engine/x.ts',
    `// import 'hono'; Date.now()\n/* process.env */ const text = "import { Hono } from 'hono'; Date.now()";`,
  ],
  ['a sentence that selects from something is no SQL', 'apps/api/x.ts', `const text = \`You can select a model from \${list}.\`;`],
  ['an instant may be read from data', 'packages/engine/x.ts', 'const at = new Date(row.at);'],
  ['tests use the tools of the root', 'packages/core/x.test.ts', `import { test } from 'vitest'; test('x', () => {});`],
  [
    'tests use the database',
    'packages/engine/x.test.ts',
    "import postgres from 'postgres'; await sql`select id from jobs`; const now = Date.now();",
  ],
  ['the config of an app reads the environment', 'apps/api/config.ts', 'export const config = read(process.env);'],
  [
    'quotes in a regular expression open no string',
    'packages/engine/x.ts',
    `const quote = /['"\`]/; const half = a / b; const text = 'Date.now()';`,
  ],
] as const;

describe('what the rules allow is not reported', () => {
  test.each(PERMITTED)('%s', (_rule, path, text) => {
    expect(faultsOf(path, text)).toEqual([]);
  });

  test('an adapter with its test beside it', () => {
    expect(faultsOf('packages/providers/x.ts', '', [{ path: 'packages/providers/x.test.ts', text: '' }])).toEqual([]);
  });
});

test('templates within templates are told apart from code', () => {
  const { code, texts } = readSource(`const a = \`one \${b ? \`two \${c}\` : "three"} four\`; d();`);
  expect(texts.map(({ text }) => text)).toEqual(['two ?', 'three', 'one ? four']);
  expect(code).toBe("const a = '2'(b ? '0'(c) : '1'); d();");
});
