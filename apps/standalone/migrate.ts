/** `npm run migrate`: brings the database to the newest schema. */
import { runProcess } from '@claimcheck/core';
import { DATABASE_WAIT_MS, migrateDatabase, openLog, waitForDatabase } from '@claimcheck/engine';
import { readToolConfig } from './config.ts';
import { openToolDatabase } from './tool-database.ts';

await runProcess(async (signal) => {
  const log = openLog({ level: 'warn', app: 'migrate', stream: 'stderr' });
  const database = await openToolDatabase(readToolConfig(), log);
  const onWait = () => console.log('Waiting for the database …');
  await waitForDatabase({ databaseUrl: database.url, timeoutMs: DATABASE_WAIT_MS, signal, onWait });
  const applied = await migrateDatabase(database.url);
  console.log(applied.length === 0 ? 'The database is up to date.' : `Applied: ${applied.join(', ')}.`);
  await database.stop();
  process.exit(0);
});
