/**
 * Proves that the tests of the invariants mean something: in a copy of the repository, removes each guard in turn and expects the named
 * test to fail. `npm run mutations`; takes about two minutes. The README's reliability section shows the same table.
 */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface Mutation {
  /** Number and words of the invariant in the README. */
  readonly invariant: string;
  readonly file: string;
  readonly guard: string;
  /** What stands in its place; nothing when left out. */
  readonly without?: string;
  readonly test: string;
  readonly name: string;
}

const ENGINE = 'packages/engine';

export const MUTATIONS: readonly Mutation[] = [
  {
    invariant: '1 acknowledged only after the commit',
    file: `${ENGINE}/submit.ts`,
    guard: 'const insertion = await insert({ id: newId(context.clock), submission });',
    without: `const id = newId(context.clock);
    void insert({ id, submission }).catch(() => {});
    const job = { ...submission, id, state: 'QUEUED', progress: 0, attempt: 0, resubmits: 0, createdAt: new Date(0), updatedAt: new Date(0) };
    const insertion = { kind: 'created', job } as unknown as Insertion;`,
    test: `${ENGINE}/submit.test.ts`,
    name: 'is acknowledged after its commit: every other connection sees it',
  },
  {
    invariant: '2 one terminal state',
    file: `${ENGINE}/storage/transitions.ts`,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a source file
    guard: "and jobs.state || ' ' || input.state = any(${ALLOWED.map(([from, to]) => `${from} ${to}`)})",
    test: `${ENGINE}/storage/jobs-races.test.ts`,
    name: 'of two endings at once exactly one wins, and its result is what is kept',
  },
  {
    invariant: '3 the handle is saved before the first check',
    file: `${ENGINE}/run.ts`,
    guard: 'if (handle !== known) await keepHandle(attempt, handle);',
    test: `${ENGINE}/run.test.ts`,
    name: 'a handle is saved before the first check',
  },
  {
    invariant: '3 a lost run is resumed, not started twice',
    file: `${ENGINE}/run.ts`,
    guard: 'handle === undefined ? startRun',
    without: 'handle !== null ? startRun',
    test: `${ENGINE}/run-faults.test.ts`,
    name: 'a job of a worker that died is rescued when its lease is over, and resumed by its handle without a second start',
  },
  {
    invariant: '4 a lost queue loses no job',
    file: `${ENGINE}/sweep.ts`,
    guard: 'for (const job of silent) ring(doorbellOf(job));',
    test: `${ENGINE}/queue.test.ts`,
    name: 'jobs whose doorbells were lost are rung again by the sweep, and run',
  },
  {
    invariant: '5 unreadable after its time',
    file: `${ENGINE}/storage/jobs.ts`,
    guard: 'where expires_at is null or expires_at > db_now()`;\n  const jobs',
    without: '`;\n  const jobs',
    test: `${ENGINE}/sweep.test.ts`,
    name: 'is readable for as long as results are kept, then gone with its rows and files',
  },
  {
    invariant: '5 its files go with it',
    file: `${ENGINE}/cancel.ts`,
    guard: 'await assets.remove(await listAssetTokens(database, ids));',
    test: `${ENGINE}/sweep.test.ts`,
    name: 'is readable for as long as results are kept, then gone with its rows and files',
  },
  {
    invariant: '6 callers see their own jobs only',
    file: `${ENGINE}/storage/jobs.ts`,
    guard: 'and jobs.caller_id = wanted.caller_id',
    test: `${ENGINE}/read.test.ts`,
    name: 'is unknown to every verb, exactly as an id that never was',
  },
];

const run = promisify(execFile);

/** True when the named test passes in the copy. @throws when no such test ran. */
async function passes(copy: string, { test, name }: Mutation): Promise<boolean> {
  const report = join(copy, 'report.json');
  const vitest = join(copy, 'node_modules', 'vitest', 'vitest.mjs');
  const args = [vitest, 'run', '--config', 'apps/e2e/vitest.config.ts', test, '-t', name];
  const failed = await run(process.execPath, args, { cwd: copy, env: { ...process.env, CLAIMCHECK_TEST_REPORT: report } }).then(
    () => false,
    () => true,
  );
  const { numPassedTests, numFailedTests } = JSON.parse(await readFile(report, 'utf8'));
  if (numPassedTests + numFailedTests === 0) throw new Error(`No test of ${test} is named "${name}".`);
  return !failed;
}

/** Removes each guard in a copy of the repository; true when every named test noticed. */
async function main(): Promise<boolean> {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const copy = await mkdtemp(join(tmpdir(), 'claimcheck-mutations-'));
  try {
    const { stdout } = await run('git', ['ls-files'], { cwd: root });
    for (const file of stdout.trim().split('\n')) await cp(join(root, file), join(copy, file), { recursive: true });
    await symlink(join(root, 'node_modules'), join(copy, 'node_modules'));
    let isProven = true;
    for (const mutation of MUTATIONS) {
      const path = join(copy, mutation.file);
      const source = await readFile(path, 'utf8');
      if (!source.includes(mutation.guard)) throw new Error(`${mutation.file} has no "${mutation.guard}": mend this list.`);
      await writeFile(
        path,
        source.replace(mutation.guard, () => mutation.without ?? ''),
      );
      const isNoticed = !(await passes(copy, mutation));
      await writeFile(path, source);
      isProven &&= isNoticed && (await passes(copy, mutation));
      console.log(`${isNoticed ? 'noticed   ' : 'UNNOTICED '} ${mutation.invariant}: ${dirname(mutation.file)}, "${mutation.name}"`);
    }
    return isProven;
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exit((await main()) ? 0 : 1);
