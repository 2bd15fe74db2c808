import { StartError } from '@claimcheck/core';
import { expect, test } from 'vitest';
import { HELP, readListenOptions } from './listen-options.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

/** What is said about arguments that are refused. */
function refusalOf(args: readonly string[]): string {
  try {
    readListenOptions(args);
  } catch (error) {
    if (error instanceof StartError) return error.message;
    throw error;
  }
  throw new Error('The arguments were taken.');
}

test('without arguments it listens on 127.0.0.1:9000 and answers at once', () => {
  expect(readListenOptions([])).toEqual({ host: '127.0.0.1', port: 9000, answer: { delayMs: 0 } });
});

test('every option is taken', () => {
  const args = '--port 0 --host ::1 --status 503 --retry-after 5 --delay 2000 --secret whsec_x'.split(' ');
  expect(readListenOptions(args)).toEqual({
    host: '::1',
    port: 0,
    answer: { status: 503, retryAfterSeconds: 5, delayMs: 2000 },
    source: { secret: 'whsec_x' },
  });
});

test('a service and a key together say where the secret is', () => {
  const { source } = Object(readListenOptions(['--url', 'http://127.0.0.1:8080', '--key', 'ck_1']));
  expect(source).toEqual({ url: 'http://127.0.0.1:8080', apiKey: 'ck_1' });
});

test.each(['--help', '-h'])('%s asks for help, whatever else is there', (option) => {
  expect(readListenOptions([option, '--port', 'http'])).toBe('help');
});

test('the help names every option', () => {
  const names = ['port', 'host', 'secret', 'url', 'key', 'status', 'retry-after', 'delay', 'help'];
  expect(names.filter((name) => !HELP.includes(`  --${name} `))).toEqual(['key']);
  expect(HELP).toContain('--url URL --key KEY');
});

test.each<[string, readonly string[]]>([
  ['--port must be a whole number from 0 to 65535, not "http".', ['--port', 'http']],
  ['--port must be a whole number from 0 to 65535, not "65536".', ['--port', '65536']],
  ['--status must be a whole number from 200 to 599, not "100".', ['--status', '100']],
  ['--status must be a whole number from 200 to 599, not "600".', ['--status', '600']],
  ['--retry-after must be a whole number from 0 to 86400, not "-1".', ['--retry-after=-1']],
  ['--delay must be a whole number from 0 to 600000, not "1.5".', ['--delay', '1.5']],
  ['--host must not be empty.', ['--host', '']],
  ['--url and --key need each other.', ['--url', 'http://127.0.0.1:1']],
  ['--url and --key need each other.', ['--key', 'ck_1']],
  ['--url must start with http:// or https://.', ['--url', 'ftp://127.0.0.1', '--key', 'ck_1']],
  ['--key must be an API key.', ['--url', 'http://127.0.0.1:1', '--key', 'ck_1\n']],
  ['--secret needs neither --url nor --key.', ['--secret', SECRET, '--key', 'ck_1']],
  ["Unknown option '--colour'", ['--colour']],
  ['Only options are taken, each with its name.', [SECRET]],
])('refuses with the usage, and no word of a secret: %s', (sentence, args) => {
  const message = refusalOf(args);
  expect(message.startsWith(sentence)).toBe(true);
  expect(message.endsWith(HELP)).toBe(true);
  expect(message).not.toContain(SECRET);
});
