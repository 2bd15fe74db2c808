import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, type Provider } from '@claimcheck/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { loadProviders, openProviders } from './index.ts';
import { listSimulators, loadSimulator } from './simulators/index.ts';

const providers = await loadProviders();

test('every file of the folder that is not private and not a test is a provider', async () => {
  const files = (await readdir(import.meta.dirname)).filter((file) => /^(?!index\.)[a-z0-9-]+\.ts$/.test(file));
  expect(providers.map(({ name }) => `${name}.ts`)).toEqual(files.sort());
  expect(providers.map(({ name }) => name)).toContain('sandbox');
});

describe.each(providers)('every provider: $name', (provider) => {
  test('with an empty environment it is either open or off with a reason', () => {
    const { upstreams, off } = openProviders([provider], {});
    expect(upstreams.has(provider.name)).toBe(!off.has(provider.name));
    if (off.has(provider.name)) expect(off.get(provider.name)).toMatch(/\w+ .*\w+/);
  });

  test('what it reads from the environment is named like environment variables', () => {
    const schema = z.toJSONSchema(provider.settings, { io: 'input', unrepresentable: 'any' });
    for (const variable of Object.keys(schema.properties ?? {})) expect(variable).toMatch(/^[A-Z][A-Z0-9_]*$/);
  });
});

test.each(await listSimulators())('%s is limited as its variables say', async (name) => {
  const provider = providers.find((known) => known.name === name) ?? expect.unreachable('a simulator is one of a provider');
  const environment = (await loadSimulator(name))?.environment('http://127.0.0.1:1') ?? {};
  const [prefix = ''] = Object.keys(environment)[0]?.split('_') ?? [];
  const openWith = (limits: Readonly<Record<string, string>>) =>
    openProviders([provider], { ...environment, ...limits }).upstreams.get(name)?.limits;
  expect(openWith({ [`${prefix}_CONCURRENCY`]: '12', [`${prefix}_RATE`]: '3000/min' })).toEqual({
    concurrency: 12,
    rate: { max: 3000, perMs: 60_000 },
  });
  expect(openWith({ [`${prefix}_RATE`]: '5/s' })?.rate).toEqual({ max: 5, perMs: 1000 });
  expect(openWith({})).toEqual(name === 'cog' ? { concurrency: 8 } : undefined);
  for (const concurrency of ['0', '1.5', '-3', 'many']) {
    expect(() => openWith({ [`${prefix}_CONCURRENCY`]: concurrency })).toThrow(`${prefix}_CONCURRENCY: must be a whole number`);
  }
  for (const rate of ['0/s', '5', '5/day', '1.5/s']) {
    expect(() => openWith({ [`${prefix}_RATE`]: rate })).toThrow(`${prefix}_RATE: must be a whole number per s, min or h`);
  }
});

describe('loadProviders', () => {
  test('skips itself, tests, private parts and other files, and sorts by name', async () => {
    const provider = (name: string) => `import { z } from '${import.meta.resolve('zod')}';
      export default { name: '${name}', settings: z.object({}), open: () => ({ off: 'only a test' }) };`;
    const directory = await folderOf({
      'b.ts': provider('b'),
      'a-c.ts': provider('a-c'),
      'index.ts': 'throw new Error("imported");',
      'a.test.ts': 'throw new Error("imported");',
      '_a.ts': 'throw new Error("imported");',
      'package.json': '{ "type": "module" }',
    });
    expect((await loadProviders(directory)).map(({ name }) => name)).toEqual(['a-c', 'b']);
  });

  test('refuses a provider that is not named like its file', async () => {
    const directory = await folderOf({
      'a.ts': `import { z } from '${import.meta.resolve('zod')}'; export default { name: 'b', settings: z.object({}), open: () => ({ off: '' }) };`,
    });
    await expect(loadProviders(directory)).rejects.toThrow('providers/a.ts exports a provider named "b"');
  });

  test('refuses a file without a provider', async () => {
    await expect(loadProviders(await folderOf({ 'a.ts': 'export const a = 1;' }))).rejects.toThrow('providers/a.ts has no provider');
  });
});

describe('openProviders', () => {
  const keyed = (name: string): Provider<Record<string, string | undefined>> => ({
    name,
    settings: z.object({ [`${name}_KEY`]: z.string().min(5).optional() }),
    open: (settings) =>
      settings[`${name}_KEY`] ? { start: () => Promise.reject(), check: () => Promise.reject() } : { off: `${name}_KEY is not set` },
  });

  test('opens those that can run, and lists the others with their reason', () => {
    const { upstreams, off } = openProviders([keyed('A'), keyed('B')], { A_KEY: 'secret', B_KEY: '' });
    expect([...upstreams.keys()]).toEqual(['A']);
    expect([...off]).toEqual([['B', 'B_KEY is not set']]);
  });

  test('reports the wrong settings of all providers together', () => {
    const open = () => openProviders([keyed('A'), keyed('B'), keyed('C')], { A_KEY: 'no', B_KEY: 'secret', C_KEY: 'no' });
    expect(open).toThrow(ConfigError);
    expect(open).toThrow(/A_KEY: .*\n {2}C_KEY: /);
  });
});

async function folderOf(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'providers-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
  return directory;
}
