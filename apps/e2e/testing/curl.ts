/**
 * A stand-in for curl with the options that our examples use, because the tests must run where there is nothing but Node and npm.
 * It comes last on the PATH, so that a real curl is used where there is one.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { argv, execPath, stdout } from 'node:process';
import { parseArgs } from 'node:util';

/** Puts the stand-in below `folder`, and returns a PATH that ends with it. */
export async function pathWithCurl(folder: string, path: string): Promise<string> {
  const bin = join(folder, 'bin');
  await mkdir(bin, { recursive: true });
  await writeFile(join(bin, 'curl'), `#!/bin/sh\nexec '${execPath}' '${import.meta.filename}' "$@"\n`);
  await chmod(join(bin, 'curl'), 0o755);
  return `${path}${delimiter}${bin}`;
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      silent: { type: 'boolean', short: 's' },
      header: { type: 'string', short: 'H', multiple: true },
      data: { type: 'string', short: 'd' },
      output: { type: 'string', short: 'o' },
      'write-out': { type: 'string', short: 'w' },
    },
  });
  const headers = new Headers(
    (values.header ?? []).map((header): [string, string] => [header.split(':', 1).join(), header.replace(/^[^:]*:/, '')]),
  );
  const response = await fetch(positionals.join(), { headers, ...(values.data !== undefined && { method: 'POST', body: values.data }) });
  const body = new Uint8Array(await response.arrayBuffer());
  if (values.output === undefined) stdout.write(body);
  else await writeFile(values.output, body);
  const after = values['write-out'] ?? '';
  stdout.write(after.replace('%{content_type}', response.headers.get('content-type') ?? '').replaceAll('\\n', '\n'));
}

if (argv[1] === import.meta.filename) await main(argv.slice(2));
