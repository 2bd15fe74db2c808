/** One dispatcher in a process of its own, for `webhooks.ts`. Tells its memory when it is asked. */
import { tmpdir } from 'node:os';
import type { Log } from '@claimcheck/core';
import { openEngine, parseAllowList, parseSecretKeys } from '../index.ts';

const [databaseUrl = '', secretKey = ''] = process.argv.slice(2);
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: (fields, message) => console.error(message, fields) };
const engine = openEngine({
  databaseUrl,
  assetsFolder: tmpdir(),
  settings: { resultTtlSeconds: 3600, webhookSchedule: [0], webhookLogSeconds: 86_400 },
  secretKeys: parseSecretKeys(secretKey) ?? [],
  webhookAllow: parseAllowList('127.0.0.1').allow,
  encodeWebhook: () => ({ contentType: 'application/json', body: '{}' }),
  log,
});
const dispatcher = engine.startDispatcher();
process.on('message', () => process.send?.(process.memoryUsage.rss()));
process.on('SIGTERM', () => {
  void dispatcher.stop().then(() => process.exit());
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
