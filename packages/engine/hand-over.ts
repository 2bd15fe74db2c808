/**
 * Hands files of ours on to upstreams. Parameters name them by their addresses here, which an upstream may not be able to call: it is then given
 * the files themselves, as data URIs, and otherwise addresses below PUBLIC_URL, whatever host the client has called. Adapters see only that.
 */
import { type JsonObject, type JsonValue, RetryableError, type Run, TerminalError } from '@claimcheck/core';
import type { Asset, AssetStore } from './assets.ts';
import { makeTurns } from './turns.ts';

export interface HandOverOptions {
  /** Where the client has called us, without a trailing slash. */
  readonly baseUrl: string;
  /** True where nothing is sent anywhere: then addresses stay. */
  readonly isSimulated: boolean;
}

/**
 * Does something with the run in a form that its upstream can use.
 * @throws TerminalError for a file of ours that is not there, and for more of them than can be handed on; RetryableError for one that cannot be
 *   read; else what `use` throws.
 */
export type HandOver = <Result>(run: Run, options: HandOverOptions, use: (handed: Run) => Promise<Result>) => Promise<Result>;

/** Of the files of one run, where they are handed on as they are: as many as a request can bring in JSON. */
export const HANDED_BYTES_MAX = 24 * 1024 ** 2;
/** Of the files of all runs that are being started by one worker, in the unit below. Each takes its size several times over. */
const HANDED_TOGETHER = 96;
const UNIT_BYTES = 1024 ** 2;

const ADDRESS = /^(https?:\/\/[^/?#\s]+(?:\/[^?#\s]*)?)\/files\/([A-Za-z0-9_-]{43})\/([^/?#\s]+)$/;

/** `publicUrl` as the worker's; one on this machine counts as none, because no upstream can call it. */
export function makeHandOver({ assets }: { readonly assets: AssetStore }, publicUrl: string | undefined): HandOver {
  const callableUrl = publicUrl !== undefined && !isLoopback(publicUrl) ? publicUrl : undefined;
  const turns = makeTurns(HANDED_TOGETHER);

  /** Files by their addresses. Addresses that look like ours and belong to somebody else are left out. */
  async function filesIn(parameters: JsonObject, ours: readonly string[]): Promise<ReadonlyMap<string, Asset>> {
    const files = new Map<string, Asset>();
    for (const address of new Set(addressesIn(parameters))) {
      const [, base = '', token = ''] = ADDRESS.exec(address) ?? [];
      const file = await assets.find(token);
      if (file) files.set(address, file);
      else if (ours.includes(base)) {
        const message = `The file at ${address} is not there: its bytes never came, it was deleted, or it has expired.`;
        throw new TerminalError(message, { code: 'invalid_input' });
      }
    }
    return files;
  }

  async function dataUri({ token, contentType }: Asset): Promise<string> {
    try {
      const bytes = await new Response(assets.read(token)).arrayBuffer();
      return `data:${contentType};base64,${Buffer.from(bytes).toString('base64')}`;
    } catch (cause) {
      throw new RetryableError('A file of the request could not be read.', { code: 'internal', cause });
    }
  }

  return async (run, { baseUrl, isSimulated }, use) => {
    const files = await filesIn(run.parameters, [baseUrl, ...(publicUrl === undefined ? [] : [publicUrl])]);
    if (files.size === 0 || isSimulated) return use(run);
    if (callableUrl !== undefined) {
      const moved = (address: string) => (files.has(address) ? address.replace(ADDRESS, `${callableUrl}/files/$2/$3`) : address);
      return use({ ...run, parameters: withTexts(run.parameters, moved) });
    }
    // Every mention takes its place in what is sent.
    const bytes = addressesIn(run.parameters).reduce((sum, address) => sum + (files.get(address)?.bytes ?? 0), 0);
    if (bytes > HANDED_BYTES_MAX) {
      const message = `The request names files of ${bytes} bytes. ${HANDED_BYTES_MAX} at most can be handed on to the provider, unless the operator sets PUBLIC_URL, where providers can fetch them.`;
      throw new TerminalError(message, { code: 'invalid_input' });
    }
    const handOn = async () => {
      const uris = new Map<string, string>();
      for (const [address, file] of files) uris.set(address, await dataUri(file));
      run.signal.throwIfAborted();
      return use({ ...run, parameters: withTexts(run.parameters, (text) => uris.get(text) ?? text) });
    };
    return turns.take(handOn, run.signal, Math.ceil(bytes / UNIT_BYTES));
  };
}

function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return /^(.+\.)?localhost\.?$|^127\.|^0\.0\.0\.0$|^\[::1?\]$/.test(hostname);
}

function addressesIn(parameters: JsonObject): readonly string[] {
  const addresses: string[] = [];
  withTexts(parameters, (text) => {
    if (ADDRESS.test(text)) addresses.push(text);
    return text;
  });
  return addresses;
}

/** The same with each text, at any depth, replaced. */
function withTexts(object: JsonObject, replace: (text: string) => string): JsonObject {
  const replaced = (value: JsonValue): JsonValue => {
    if (typeof value === 'string') return replace(value);
    if (typeof value !== 'object' || value === null) return value;
    return Array.isArray(value) ? value.map(replaced) : membersOf(value);
  };
  const membersOf = (members: object): JsonObject =>
    Object.fromEntries(Object.entries(members).map(([name, member]) => [name, replaced(member)]));
  return membersOf(object);
}
