/** The one test run of the repository: every test beside its file, plus the journeys in this app, on the services of the global setup. */
import { statfsSync } from 'node:fs';
import { availableParallelism, freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** Where a machine-readable report goes, for a script that counts. */
const reportFile = process.env.CLAIMCHECK_TEST_REPORT;

/** Far more than a run has ever needed at once. */
const MEMORY_BYTES = 4 * 2 ** 30;
/** Postgres makes the hundreds of files of a database for nearly every test: in memory it needs a tenth of the time it needs on a disk. */
if (hasRoomInMemory()) process.env.TMPDIR = '/dev/shm';
// Hundreds of processes load the same modules: a quarter of what each start costs is compiling them. Test processes inherit it. Processes write
// what they have compiled when they end, so that a slow disk would hold up their ends.
process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'claimcheck-compile-cache');

function hasRoomInMemory(): boolean {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return Math.min(bavail * bsize, freemem()) >= MEMORY_BYTES;
  } catch {
    return false;
  }
}

/** Files that take a minute, most of it waiting. Were they begun last, all others would be done and they would wait alone. */
const LONGEST = ['apps/e2e/chaos', 'apps/e2e/standalone', 'apps/e2e/parts', 'packages/engine/queue'].map(
  (name) => `${root}${name}.test.ts`,
);

/** The longest first, then the other journeys, which take seconds each, and the small tests last; within each as vitest has them. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rankOf = ({ moduleId }: TestSpecification) => (LONGEST.includes(moduleId) ? 0 : moduleId.startsWith(`${root}apps/e2e/`) ? 1 : 2);
    return (await super.sort(files)).toSorted((one, other) => rankOf(one) - rankOf(other));
  }
}

export default defineConfig({
  root,
  test: {
    include: ['{apps,packages}/**/*.test.ts'],
    globalSetup: [`${root}packages/engine/testing/global-setup.ts`],
    // Real servers start, recover and drain within these, on a busy machine too.
    expect: { poll: { timeout: 30_000 } },
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Its modules name one another without endings, which Node does not resolve.
    server: { deps: { inline: ['@inferencesh/sdk'] } },
    // Processes, because tests signal them and workers load native code.
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    // Most of the time tests wait for processes and servers, so there may be more of them at once than cores.
    maxWorkers: Math.max(3, availableParallelism()),
    reporters: reportFile ? ['default', ['json', { outputFile: reportFile }]] : ['default'],
  },
});
