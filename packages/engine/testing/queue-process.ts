/**
 * A process that rings and hears doorbells until its standard input ends: `node queue-process.ts <database url> [<redis url> <prefix>]`. A line
 * per doorbell that it hears. Tests use it to see what a process survives, and that it still answers.
 */
import type { Log } from '@claimcheck/core';
import { systemClock } from '@claimcheck/core';
import { openQueue } from '../queue.ts';

const RING_EVERY_MS = 5;

const [databaseUrl = '', redisUrl, prefix] = process.argv.slice(2);
const print = (fields: object, message: string) => console.error(message, fields);
const log: Log = { debug: () => {}, info: print, warn: print, error: print };
const queue = openQueue({ databaseUrl, log, ...(redisUrl !== undefined && { redisUrl }), ...(prefix !== undefined && { prefix }) });
const consumer = queue.consume({ provider: 'heard', concurrency: 2 }, async ({ jobId }) => {
  console.log(jobId);
  return 'answered';
});

const stopping = new AbortController();
process.stdin.on('end', () => stopping.abort()).resume();
for (let rung = 0; !stopping.signal.aborted; rung++) {
  // Opens connections all the time, as each failure makes the queue throw one away.
  await queue
    .ring([{ provider: `unheard-${rung % 3}`, model: 'm', jobId: `job-${rung}`, attempt: 0, priority: 'normal' }])
    .catch((error: unknown) => log.warn({ error }, 'not rung'));
  await systemClock.sleep(RING_EVERY_MS, stopping.signal).catch(() => {});
}
await consumer.close();
await queue.close();
