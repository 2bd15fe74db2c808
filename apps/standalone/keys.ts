/** `npm run keys -- create | list | revoke`: makes, lists and revokes API keys. */
import { parseArgs } from 'node:util';
import { runProcess, StartError } from '@claimcheck/core';
import { DATABASE_WAIT_MS, DEFAULT_CALLER, type Keys, migrateDatabase, openKeys, openLog, waitForDatabase } from '@claimcheck/engine';
import { readToolConfig } from './config.ts';
import { openToolDatabase } from './tool-database.ts';

const USAGE = `Usage: npm run keys -- <command>

  create [--caller NAME] [--name TEXT]  makes a key and prints it, this once
  list                                  shows all keys, without their secrets
  revoke ID                             ends a key at once

A caller sees only its own jobs; keys of one caller share them. The default caller is "${DEFAULT_CALLER}".
The database is DATABASE_URL, or the embedded one in DATA_DIR.`;

await runProcess(async (signal) => {
  const command = parseCommand(process.argv.slice(2));
  if (command === undefined) {
    console.log(USAGE);
    process.exit(0);
  }
  const database = await openToolDatabase(readToolConfig(), openLog({ level: 'warn', app: 'keys', stream: 'stderr' }));
  try {
    await waitForDatabase({ databaseUrl: database.url, timeoutMs: DATABASE_WAIT_MS, signal });
    await migrateDatabase(database.url);
    const keys = openKeys(database.url);
    console.log(await command(keys));
    await keys.close();
  } finally {
    await database.stop();
  }
  process.exit(0);
});

type Command = (keys: Keys) => Promise<string>;

/** What to do, or undefined when help was asked for. @throws StartError with the usage. */
function parseCommand(args: readonly string[]): Command | undefined {
  const { values, positionals } = parse(args);
  const [verb, id, ...rest] = positionals;
  if (values.help || verb === undefined) return undefined;
  if (verb === 'create' && id === undefined) return (keys) => create(keys, values.caller ?? DEFAULT_CALLER, values.name ?? 'unnamed');
  if (verb === 'list' && id === undefined) return list;
  if (verb === 'revoke' && id !== undefined && rest.length === 0) return (keys) => revoke(keys, id);
  throw new StartError(`"${args.join(' ')}" is not a command.\n\n${USAGE}`);
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { caller: { type: 'string' }, name: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    });
  } catch (error) {
    throw new StartError(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
  }
}

async function create(keys: Keys, caller: string, name: string): Promise<string> {
  if (caller.trim() === '') throw new StartError('The caller must have a name.');
  const { id, key } = await keys.create({ caller, name });
  return `Made key ${id} for caller ${caller}. It is shown this once:\n\n  ${key}`;
}

async function list(keys: Keys): Promise<string> {
  const stored = await keys.list();
  if (stored.length === 0) return 'There are no keys yet; "npm run keys -- create" makes one.';
  const rows = stored.map(({ id, caller, name, hint, createdAt, revokedAt }) =>
    [id, `${hint}…`, caller, createdAt.toISOString(), revokedAt ? `revoked ${revokedAt.toISOString()}` : 'live', name].join('  '),
  );
  return rows.join('\n');
}

async function revoke(keys: Keys, id: string): Promise<string> {
  if (!/^[0-9a-f-]{36}$/i.test(id) || !(await keys.revoke(id))) {
    throw new StartError(`There is no live key with the id ${id}; "npm run keys -- list" shows all.`);
  }
  return `Key ${id} is revoked.`;
}
