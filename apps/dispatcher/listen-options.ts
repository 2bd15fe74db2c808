/** The arguments of `npm run webhook:listen`. */
import { parseArgs } from 'node:util';
import { StartError } from '@claimcheck/core';
import type { AnswerOptions } from './webhook-receiver.ts';

export const HELP = `Usage: npm run webhook:listen -- [options]

Receives webhooks on this machine, checks their signatures and prints them. Ctrl-C stops it.

  --port N          port to listen on; 0 takes any free one (default 9000)
  --host ADDRESS    address to listen on (default 127.0.0.1)

What signatures are checked with; without any of these they are not checked:
  --url URL --key KEY   asks the service at URL for the secret, with the API key
  --secret WHSEC        the secret itself
  WEBHOOK_SECRET        the same as a variable, where other users of the machine cannot see it

To play a receiver in trouble:
  --status N        answers everything with this status, 200 to 599 (default 204, or 401 when not verified)
  --retry-after N   sends Retry-After with every answer; seconds, 0 to 86400
  --delay N         waits this long before each answer; milliseconds, 0 to 600000 (default 0)

  --help            shows this`;

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  readonly answer: AnswerOptions;
  /** Where the secret is said to come from; undefined leaves it to the variable. */
  readonly source?: { readonly secret: string } | { readonly url: string; readonly apiKey: string };
}

/** Returns 'help' when that was asked for. @throws StartError with the usage; a secret or key in the arguments is not repeated. */
export function readListenOptions(args: readonly string[]): ListenOptions | 'help' {
  const { values, positionals } = parse(args);
  if (values.help) return 'help';
  // Not repeated, because it may be a secret whose option was forgotten.
  if (positionals.length > 0) throw refusal('Only options are taken, each with its name.');
  if (values.host === '') throw refusal('--host must not be empty.');
  const source = sourceOf(values);
  const status = numberOf('status', values.status, 200, 599);
  const retryAfterSeconds = numberOf('retry-after', values['retry-after'], 0, 86_400);
  return {
    host: values.host,
    port: numberOf('port', values.port, 0, 65_535) ?? 9000,
    answer: {
      delayMs: numberOf('delay', values.delay, 0, 600_000) ?? 0,
      ...(status !== undefined && { status }),
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    },
    ...(source && { source }),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        port: { type: 'string' },
        host: { type: 'string', default: '127.0.0.1' },
        secret: { type: 'string' },
        url: { type: 'string' },
        key: { type: 'string' },
        status: { type: 'string' },
        'retry-after': { type: 'string' },
        delay: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw refusal(error instanceof Error ? error.message : String(error));
  }
}

interface SourceValues {
  readonly secret?: string | undefined;
  readonly url?: string | undefined;
  readonly key?: string | undefined;
}

function sourceOf({ secret, url, key }: SourceValues): ListenOptions['source'] {
  if (secret !== undefined && (url !== undefined || key !== undefined)) throw refusal('--secret needs neither --url nor --key.');
  if (secret !== undefined) return { secret };
  if (url === undefined && key === undefined) return undefined;
  if (url === undefined || key === undefined) throw refusal('--url and --key need each other.');
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw refusal('--url must start with http:// or https://.');
  // What no header can hold would fail later, with a message that is hard to understand.
  if (!/^[\x21-\x7e]+$/.test(key)) throw refusal('--key must be an API key.');
  return { url, apiKey: key };
}

function numberOf(option: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text) || Number(text) < min || Number(text) > max) {
    throw refusal(`--${option} must be a whole number from ${min} to ${max}, not "${text}".`);
  }
  return Number(text);
}

function refusal(sentence: string): StartError {
  return new StartError(`${sentence}\n\n${HELP}`);
}
