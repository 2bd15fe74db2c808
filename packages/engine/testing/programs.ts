/** Programs that tests run and that npm cannot bring. As root on Debian or Ubuntu, what is missing is installed; elsewhere the run fails. */
import { execFile } from 'node:child_process';
import { access, constants, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Asked by Debian's packages before they start a service. */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

export interface Program {
  /** Names of executables that will do, the best first. */
  readonly names: readonly string[];
  /** The Debian package that has the first of them. */
  readonly debianPackage: string;
  /** The sentence that says what is needed and how to get it. */
  readonly advice: string;
}

/**
 * Returns the path of each program, in the order asked for. All that are missing are installed at once, which needs the network.
 * Called twice, the second finds what the first installed; calls at the same time wait for each other at apt's lock.
 * @throws Error with the advice of every program that is missing and cannot be installed.
 */
export async function providePrograms(programs: readonly Program[]): Promise<readonly string[]> {
  const found = await Promise.all(programs.map(findProgram));
  const missing = programs.filter((_program, at) => found[at] === undefined);
  if (missing.length > 0) await install(missing);
  return Promise.all(programs.map(async (program) => (await findProgram(program)) ?? refuse([program])));
}

async function findProgram({ names }: Program): Promise<string | undefined> {
  for (const name of names) {
    // The environment is read here and not in a config.ts, because there is no app around a test run.
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const path = join(folder, name);
      if (await isExecutable(path)) return path;
    }
  }
  return undefined;
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function install(missing: readonly Program[]): Promise<void> {
  if (!(await isExecutable('/usr/bin/apt-get')) || process.getuid?.() !== 0) refuse(missing);
  const packages = missing.map(({ debianPackage }) => debianPackage);
  console.info(`The tests need ${packages.join(' and ')}: installing with apt-get.`);
  await using undo = new AsyncDisposableStack();
  // A package may start a server on the usual port. Another policy than ours is left as it is.
  const isPolicyOurs = await writeFile(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { flag: 'wx', mode: 0o755 }).then(
    () => true,
    () => false,
  );
  if (isPolicyOurs) undo.defer(() => rm(SERVICE_POLICY, { force: true }));
  try {
    const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, maxBuffer: 64 * 1024 * 1024 };
    await run('apt-get', ['-q', 'update'], options);
    await run('apt-get', ['-q', '-y', '-o', 'DPkg::Lock::Timeout=120', 'install', '--no-install-recommends', ...packages], options);
  } catch (cause) {
    throw new Error(`${adviceOf(missing)} (apt-get could not install it.)`, { cause });
  }
}

function refuse(missing: readonly Program[]): never {
  throw new Error(adviceOf(missing));
}

function adviceOf(programs: readonly Program[]): string {
  return programs.map(({ advice }) => advice).join(' ');
}
