/** The rules of the house (README, "The map") as a function: from source files to the sentences that say where they break a rule. */
import { builtinModules } from 'node:module';
import { posix } from 'node:path';
import { readSource, type SourceText } from './source-text.ts';

export interface SourceFile {
  /** From the root of the repository, with slashes. */
  readonly path: string;
  readonly text: string;
}

export interface Manifest {
  readonly name: string;
  readonly dependencies: ReadonlySet<string>;
  /** Keys of its `exports`, such as `.` and `./testing`. */
  readonly exports: ReadonlySet<string>;
}

export interface Repository {
  readonly files: readonly SourceFile[];
  /** By folder, such as `packages/core`; the root's is ''. */
  readonly manifests: ReadonlyMap<string, Manifest>;
}

/** A file as the rules see it. */
interface Subject {
  readonly path: string;
  /** Its package's folder. */
  readonly home: string;
  /** Tests and what only tests use. They may reach for clocks, databases and the environment, but not across layers. */
  readonly isTest: boolean;
  readonly source: SourceText;
  readonly imports: readonly string[];
}

type Rule = (subject: Subject, repository: Repository) => readonly string[];

/** Every violation as `path: sentence`. */
export function checkHouseRules(repository: Repository): readonly string[] {
  const subjects = repository.files.map(toSubject);
  return subjects.flatMap((subject) => RULES.flatMap((rule) => rule(subject, repository).map((fault) => `${subject.path}: ${fault}`)));
}

function toSubject({ path, text }: SourceFile): Subject {
  const source = readSource(text);
  const home = path.split('/').slice(0, 2).join('/');
  const isTest = /\.test\.ts$|\/testing\/|\/vitest\.config\.ts$/.test(path) || home === 'apps/e2e';
  return { path, home, isTest, source, imports: importsOf(source) };
}

/** Static, dynamic and type imports, and re-exports. */
function importsOf({ code, texts }: SourceText): readonly string[] {
  const found = code.matchAll(/\bfrom\s*'(\d+)'|\bimport\s*\(?\s*'(\d+)'/g);
  return Array.from(found, ([, from, bare]) => texts[Number(from ?? bare)]?.text ?? '');
}

/** To which packages of ours the code of a package may reach. Apps may reach everything, other apps included. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  'packages/core': [],
  'packages/engine': ['packages/core'],
  'packages/catalog': ['packages/core'],
  'packages/dialects': ['packages/core'],
  'packages/providers': ['packages/core'],
};

const layers: Rule = ({ home, imports }, { manifests }) =>
  imports.flatMap((specifier) => {
    const target = homeOf(specifier, manifests);
    const allowed = LAYERS[home];
    if (!target || target === home || !allowed || allowed.includes(target)) return [];
    return [`imports ${specifier}, but ${home} may import ${allowed.join(', ') || 'no other package'} only`];
  });

const ownFolder: Rule = ({ path, home, imports }) =>
  imports
    .filter((specifier) => specifier.startsWith('.') && !posix.join(posix.dirname(path), specifier).startsWith(`${home}/`))
    .map((specifier) => `imports ${specifier} past the index of another package`);

const exportedOnly: Rule = ({ home, isTest, imports }, { manifests }) =>
  imports.flatMap((specifier) => {
    const target = homeOf(specifier, manifests);
    const manifest = manifests.get(target ?? '');
    if (!target || !manifest || target === home) return [];
    const part = `.${specifier.slice(manifest.name.length)}`;
    if (!manifest.exports.has(part)) return [`imports ${specifier}, which ${target} does not export`];
    if (part === './testing' && !isTest) return [`imports ${specifier}, which is for tests`];
    return [];
  });

/** An adapter is one file: shared parts start with an underscore. The index is the registry, and tests look at anything beside them. */
const adaptersApart: Rule = ({ path, isTest, imports }) =>
  isAdapterFolder(path) && !isTest && posix.basename(path) !== 'index.ts'
    ? imports
        .filter((specifier) => specifier.startsWith('.') && !/^\.\/_[^/]*$/.test(specifier))
        .map((specifier) => `imports ${specifier}, but an adapter imports only siblings that start with an underscore`)
    : [];

const adapterHasTest: Rule = ({ path, isTest }, { files }) => {
  const name = posix.basename(path, '.ts');
  if (!isAdapterFolder(path) || isTest || name === 'index' || name.startsWith('_')) return [];
  const test = path.replace(/\.ts$/, '.test.ts');
  return files.some((file) => file.path === test) ? [] : [`has no test beside it (${posix.basename(test)})`];
};

/** Libraries that belong to one place. */
const LIBRARIES: readonly { readonly named: RegExp; readonly allowed: RegExp; readonly place: string; readonly testsToo: boolean }[] = [
  { named: /^(hono|@hono\/.*)(\/|$)/, allowed: /^apps\//, place: 'apps', testsToo: false },
  { named: /^(bullmq|ioredis)(\/|$)/, allowed: /^packages\/engine\/queue\.ts$/, place: 'packages/engine/queue.ts', testsToo: true },
  {
    // The queue's own Postgres backend needs pg, and the embedded server needs a client before there is any storage.
    named: /^(pg|pg-.*)(\/|$)/,
    allowed: /^packages\/engine\/(storage\/|queue\.ts$|embedded-postgres[^/]*\.ts$)/,
    place: 'packages/engine/storage',
    testsToo: true,
  },
  {
    named: /^(postgres|drizzle-orm)(\/|$)/,
    allowed: /^packages\/engine\/(storage\/|embedded-postgres[^/]*\.ts$)/,
    place: 'packages/engine/storage',
    testsToo: true,
  },
];

const libraries: Rule = ({ path, isTest, imports }) =>
  imports.flatMap((specifier) =>
    LIBRARIES.filter(({ named, allowed, testsToo }) => named.test(specifier) && !allowed.test(path) && !(isTest && testsToo)).map(
      ({ place }) => `imports ${specifier}, which belongs in ${place}`,
    ),
  );

const STATEMENT =
  /^\s*(select\b.*\bfrom\b|insert\s+into\b|update\b.*\bset\b|delete\s+from\b|with\b.*\bas\s*\(|(create|alter|drop)\s+(table|index|database|type)\b)/is;

const sqlInStorage: Rule = ({ path, isTest, source }) => {
  if (isTest || /^packages\/engine\/(storage\/|embedded-postgres[^/]*\.ts$)/.test(path)) return [];
  return source.texts
    .filter(({ text }) => STATEMENT.test(text))
    .map(({ text }) => `contains SQL, which belongs in packages/engine/storage: ${text.trim().slice(0, 40)}`);
};

const environmentInConfig: Rule = ({ path, isTest, source: { code }, imports }) =>
  isTest ||
  /^apps\/[^/]+\/config\.ts$/.test(path) ||
  !(/\bprocess\s*(\?\.|\.)\s*env\b|\}\s*=\s*process\b/.test(code) || imports.includes('node:process'))
    ? []
    : ['reads the environment, which only apps/*/config.ts does'];

const CLOCKS = [/\bDate\s*\.\s*now\b/, /\bnew\s+Date\s*(\(\s*\)|[^\s(\w])/, /\bMath\s*\.\s*random\s*\(/, /\bsetTimeout\s*\(/] as const;

/** The embedded server is as far from the jobs' logic as a shell script; it still waits by the clock of core. */
const timeIsGiven: Rule = ({ path, isTest, source: { code }, imports }) => {
  if (isTest || !/^packages\/(engine|dialects|providers)\//.test(path) || /^packages\/engine\/embedded-postgres[^/]*\.ts$/.test(path))
    return [];
  const calls = CLOCKS.flatMap((clock) => clock.exec(code)?.[0] ?? []);
  const timers = imports.filter((specifier) => /^(node:)?timers(\/|$)/.test(specifier));
  return [...calls, ...timers].map((use) => `uses ${use}; take the time from the database or from a Clock, and chance from the caller`);
};

const declared: Rule = ({ home, isTest, imports }, { manifests }) =>
  imports.flatMap((specifier) => {
    if (specifier.startsWith('.') || specifier.startsWith('node:')) return [];
    if (builtinModules.includes(specifier)) return [`imports ${specifier} without node:`];
    const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
    const manifest = manifests.get(home);
    // The tools of the tests are installed once, at the root.
    const isDeclared = manifest?.name === name || manifest?.dependencies.has(name) || (isTest && manifests.get('')?.dependencies.has(name));
    return isDeclared ? [] : [`imports ${name}, which ${home}/package.json does not list`];
  });

const nothingSkipped: Rule = ({ path, source: { code } }) =>
  path.endsWith('.test.ts')
    ? Array.from(
        code.matchAll(/\b(?:test|it|describe|suite)(?:\s*\.\s*\w+)*?\s*\.\s*(only|skip|todo|skipIf|runIf|fails)\b|\.\s*(skip)\s*\(/g),
        ([, mark, call]) => `has a .${mark ?? call}; every test runs, everywhere`,
      )
    : [];

const RULES: readonly Rule[] = [
  layers,
  ownFolder,
  exportedOnly,
  adaptersApart,
  adapterHasTest,
  libraries,
  sqlInStorage,
  environmentInConfig,
  timeIsGiven,
  declared,
  nothingSkipped,
];

/** The folder of the package of ours that a bare specifier means. */
function homeOf(specifier: string, manifests: Repository['manifests']): string | undefined {
  for (const [home, { name }] of manifests) if (home !== '' && (specifier === name || specifier.startsWith(`${name}/`))) return home;
  return undefined;
}

function isAdapterFolder(path: string): boolean {
  return /^packages\/(dialects|providers)\/[^/]+\.ts$/.test(path);
}
