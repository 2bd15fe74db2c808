import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const IMPORTS = `
import { runProcess } from ${JSON.stringify(new URL('process.ts', import.meta.url).href)};
import { StartError } from ${JSON.stringify(new URL('errors.ts', import.meta.url).href)};
const stop = async () => {
  // Later than at once, so that an exit that does not wait for it is seen.
  await new Promise((resolve) => setImmediate(resolve));
  console.log('stopped');
};
// Something that keeps the process alive, as a server does.
setInterval(() => {}, 1000);
`;

/** Runs a script in a process of its own; each time it prints "ready", it gets the signal. */
async function run(script: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<{ code: number | null; output: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'claimcheck-process-'));
  try {
    await writeFile(join(folder, 'main.mts'), IMPORTS + script);
    const child = spawn(process.execPath, [join(folder, 'main.mts')]);
    let output = '';
    let sent = 0;
    const add = (chunk: Buffer) => {
      output += chunk.toString();
      // Counted, because a second signal means something else than the first.
      for (const due = output.split('ready').length - 1; sent < due; sent++) child.kill(signal);
    };
    child.stdout.on('data', add);
    child.stderr.on('data', add);
    const [code] = await once(child, 'close');
    return { code, output };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test.each(['SIGTERM', 'SIGINT'] as const)('%s stops what runs and exits with 0', async (signal) => {
  const { code, output } = await run(
    `await runProcess(async () => { setTimeout(() => console.log('ready'), 1); return { stop }; });`,
    signal,
  );
  expect({ code, output }).toEqual({ code: 0, output: 'ready\nstopped\n' });
});

test('an expected error at start is one sentence and exit code 1', async () => {
  const { code, output } = await run(`await runProcess(async () => { throw new StartError('The port is taken.'); });`);
  expect({ code, output }).toEqual({ code: 1, output: 'The port is taken.\n' });
});

test('an unexpected error at start shows its stack', async () => {
  const { code, output } = await run(`await runProcess(async () => { throw new TypeError('oops'); });`);
  expect(code).toBe(1);
  expect(output).toMatch(/TypeError: oops\n\s+at /);
});

test('a process that breaks stops the rest, says why, and exits with 1', async () => {
  const broken = `const broken = Promise.reject(new StartError('The database ended.')); broken.catch(() => {});`;
  const { code, output } = await run(`${broken} await runProcess(async () => ({ stop, broken }));`);
  expect({ code, output }).toEqual({ code: 1, output: 'stopped\nThe database ended.\n' });
});

test('a signal during the start ends it with exit code 0 and no complaint', async () => {
  const { code, output } = await run(`await runProcess((stopping) => new Promise((_, reject) => {
    stopping.addEventListener('abort', () => { console.log(stopping.reason instanceof StartError); reject(stopping.reason); });
    console.log('ready');
  }));`);
  expect({ code, output }).toEqual({ code: 0, output: 'ready\ntrue\n' });
});

test('a stop that fails says why and exits with 1', async () => {
  const { code, output } = await run(
    `await runProcess(async () => { setTimeout(() => console.log('ready'), 1); return { stop: async () => { throw new StartError('Still busy.'); } }; });`,
  );
  expect({ code, output }).toEqual({ code: 1, output: 'ready\nStill busy.\n' });
});

test('a second signal ends a stop that takes too long', async () => {
  const { code, output } = await run(
    `await runProcess(async () => { setTimeout(() => console.log('ready'), 1); return { stop: () => { setTimeout(() => console.log('ready'), 1_100); return new Promise(() => {}); } }; });`,
  );
  expect({ code, output }).toEqual({ code: 130, output: 'ready\nready\n' });
});

test('a Ctrl-C that arrives twice, from the terminal and by way of npm, stops once and in full', async () => {
  const { code, output } = await run(
    `await runProcess(async () => { setTimeout(() => console.log('ready'), 1); return { stop: async () => { console.log('ready'); await new Promise((resolve) => setTimeout(resolve, 300)); console.log('stopped'); } }; });`,
    'SIGINT',
  );
  expect({ code, output }).toEqual({ code: 0, output: 'ready\nready\nstopped\n' });
});
