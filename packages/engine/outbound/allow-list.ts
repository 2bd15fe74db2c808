/**
 * The operator's list of what may be called besides public addresses. It has two tiers: private networks are opened by CIDR, while loopback,
 * link-local, metadata and reserved addresses are opened one by one only, so that no wide range opens them by accident.
 */
import { canonicalAddress, classifyAddress, isInside, type Network, parseNetwork } from './addresses.ts';

export interface AllowList {
  /** Private addresses inside these may be called. */
  readonly networks: readonly Network[];
  /** Exactly these addresses may be called, whatever they are, at any port. In canonical spelling. */
  readonly addresses: ReadonlySet<string>;
  /**
   * Names that may be called although they look internal, at any port, and although they lead to private addresses. A name opens no loopback,
   * metadata or reserved address, because whoever answers for the name in DNS is not always the operator who listed it. The exception is
   * `localhost` and names below it, which mean loopback and nothing else. In lower case, without a dot at the end.
   */
  readonly hosts: ReadonlySet<string>;
}

export const EMPTY_ALLOW_LIST: AllowList = { networks: [], addresses: new Set(), hosts: new Set() };

/** Each network must be able to have an effect, so that a wrong hope is noticed at the start. These are all private networks there are. */
const PRIVATE_NETWORKS: readonly Network[] = [
  { address: '10.0.0.0', bits: 8 },
  { address: '172.16.0.0', bits: 12 },
  { address: '192.168.0.0', bits: 16 },
  { address: '100.64.0.0', bits: 10 },
  { address: 'fc00::', bits: 7 },
];

const NOT_READABLE = 'is neither an address, nor a network in CIDR notation, nor a host name';
const NAME = /^(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*$/;

/**
 * Reads a comma-separated list of CIDRs, addresses and host names, such as `10.0.0.0/8, 127.0.0.1, receiver`. Empty entries do not matter.
 * What is wrong is returned as one sentence per entry, which names the entry; then the list lacks these entries and should not be used.
 */
export function parseAllowList(text: string): { readonly allow: AllowList; readonly problems: readonly string[] } {
  const networks: Network[] = [];
  const addresses = new Set<string>();
  const hosts = new Set<string>();
  const problems: string[] = [];
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry === '') continue;
    const read = readEntry(entry);
    if ('problem' in read) problems.push(`${JSON.stringify(entry)} ${read.problem}`);
    else if ('network' in read) networks.push(read.network);
    else if ('address' in read) addresses.add(read.address);
    else hosts.add(read.host);
  }
  return { allow: { networks, addresses, hosts }, problems };
}

type Entry = { readonly network: Network } | { readonly address: string } | { readonly host: string } | { readonly problem: string };

function readEntry(entry: string): Entry {
  if (entry.includes('://')) return { problem: 'is a URL: write the host alone' };
  if (entry.includes('/')) return readNetwork(entry);
  const address = canonicalAddress(entry.replace(/^\[(.*)\]$/, '$1'));
  if (address !== undefined) return { address };
  if (/^[^:]*:\d+$|^\[.*\]:\d+$/.test(entry)) return { problem: 'has a port: write the host alone, any port may be used then' };
  if (entry.includes('*')) return { problem: 'has a wildcard: write each name' };
  // The URL parser would take these for what surrounds a host, or drop them.
  if (/[\s@?#\\%]/.test(entry) || !URL.canParse(`http://${entry}/`)) return { problem: NOT_READABLE };
  const host = normalizeName(new URL(`http://${entry}/`).hostname);
  if (canonicalAddress(host.replace(/^\[(.*)\]$/, '$1')) !== undefined) return { problem: `is another spelling of ${host}: write that` };
  return NAME.test(host) ? { host } : { problem: NOT_READABLE };
}

function readNetwork(entry: string): Entry {
  const network = parseNetwork(entry);
  if (!network) return { problem: 'is not a network in CIDR notation such as 10.0.0.0/8, without bits beyond its prefix' };
  if (network.bits === (network.address.includes(':') ? 128 : 32)) return { address: network.address };
  const isUseful =
    classifyAddress(network.address) !== 'forbidden' ||
    PRIVATE_NETWORKS.some((other) => isInside(other.address, network) || isInside(network.address, other));
  return isUseful ? { network } : { problem: 'opens nothing: loopback, link-local and reserved addresses must be listed one by one' };
}

/** A host name as it is compared: lower case, without the dot that marks it as complete. */
export function normalizeName(hostname: string): string {
  return hostname.toLowerCase().replace(/\.+$/, '');
}
