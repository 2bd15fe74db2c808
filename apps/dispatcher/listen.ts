/** `npm run webhook:listen`: a receiver on this machine that checks the webhooks that are posted to it, and prints them. */
import { runProcess, StartError, systemClock } from '@claimcheck/core';
import { readListenConfig } from './config.ts';
import { HELP, type ListenOptions, readListenOptions } from './listen-options.ts';
import { askForSecret } from './service-secret.ts';
import { keyOf } from './webhook-check.ts';
import { startReceiver } from './webhook-receiver.ts';
import { formatReport } from './webhook-report.ts';

await runProcess(async (signal) => {
  const options = readListenOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(HELP);
    process.exit(0);
  }
  const variables = readListenConfig();
  const key = await findKey(options.source, variables.WEBHOOK_SECRET, signal);
  const isColoured = process.stdout.isTTY === true && variables.NO_COLOR === undefined;
  const receiver = await startReceiver({
    ...options,
    ...(key && { key }),
    clock: systemClock,
    onWebhook: (report) => console.log(formatReport(report, { isColoured })),
  });
  const checking = key ? 'Signatures are checked.' : 'Signatures are not checked, because no secret was given: --help says how.';
  console.log(`Listening for webhooks on ${receiver.url}. ${checking} Ctrl-C stops it.\n`);
  return receiver;
});

/** @throws StartError when what was given, or what the service answered, cannot be a secret. */
async function findKey(source: ListenOptions['source'], variable: string | undefined, signal: AbortSignal): Promise<Buffer | undefined> {
  const secret = source === undefined ? variable : 'secret' in source ? source.secret : await askForSecret({ ...source, signal });
  if (secret === undefined) return undefined;
  const key = keyOf(secret);
  if (!key) throw new StartError('The webhook secret cannot be one: it must be whsec_ and the base64 of 24 to 64 bytes.');
  return key;
}
