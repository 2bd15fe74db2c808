/** What kind of network an IP address belongs to. Everything that is not plainly public or private counts as forbidden. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/**
 * `public`: anybody may call it. `private`: networks of an organisation (RFC 1918, carrier-grade NAT, fc00::/7), which an operator may open
 * as a whole. `forbidden`: loopback, link-local, metadata services, multicast, reserved and translated addresses, and what is no address.
 */
export type AddressKind = 'public' | 'private' | 'forbidden';

/** An IPv4 or IPv6 network: its first address and the length of its prefix in bits. */
export interface Network {
  readonly address: string;
  readonly bits: number;
}

type Address = ipaddr.IPv4 | ipaddr.IPv6;

const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3');

const PRIVATE_RANGES: ReadonlySet<string> = new Set(['private', 'carrierGradeNat', 'uniqueLocal']);

/** Addresses at which clouds hand out credentials, in ranges that look public or private. Those in 169.254.0.0/16 are link-local anyway. */
const METADATA_ADDRESSES: ReadonlySet<string> = new Set(['168.63.129.16', '100.100.100.200', 'fd00:ec2::254', 'fd20:ce::254']);

/** Text that is not an address in its usual notation, such as `127.1`, is forbidden: whoever reads it as an address must do so before. */
export function classifyAddress(text: string): AddressKind {
  const address = parse(text);
  if (!address || METADATA_ADDRESSES.has(address.toString())) return 'forbidden';
  // The library names the class by RFC; its table includes all ranges of the IANA registries of special addresses.
  const range = address.range();
  if (PRIVATE_RANGES.has(range)) return 'private';
  if (range !== 'unicast') return 'forbidden';
  // It calls addresses that are not allocated yet unicast too.
  return address instanceof ipaddr.IPv6 && !address.match(GLOBAL_UNICAST) ? 'forbidden' : 'public';
}

/** The one spelling by which addresses can be compared: shortest form, and IPv4 without its mapping into IPv6. Undefined: no address. */
export function canonicalAddress(text: string): string | undefined {
  return parse(text)?.toString();
}

/** Whether an address is the machine itself. */
export function isLoopback(text: string): boolean {
  return parse(text)?.range() === 'loopback';
}

/** Reads `10.0.0.0/8` and the like. Undefined: not CIDR notation, or bits beyond the prefix are set. */
export function parseNetwork(text: string): Network | undefined {
  const [first = '', prefix = '', ...rest] = text.split('/');
  const address = parse(first);
  if (!address || rest.length > 0 || !/^\d{1,3}$/.test(prefix)) return undefined;
  // What was written as IPv6 but means IPv4 has 96 bits of mapping in front.
  const bits = Number(prefix) - (isIP(first) === 6 && address instanceof ipaddr.IPv4 ? 96 : 0);
  const size = address instanceof ipaddr.IPv4 ? 32 : 128;
  if (bits < 0 || bits > size) return undefined;
  const isFirst = address.toByteArray().every((byte, index) => (byte & (0xff >> Math.min(8, Math.max(0, bits - 8 * index)))) === 0);
  return isFirst ? { address: address.toString(), bits } : undefined;
}

/** Whether an address is inside a network. An address of the other family never is. */
export function isInside(text: string, network: Network): boolean {
  const [address, first] = [parse(text), parse(network.address)];
  if (!address || !first || address.kind() !== first.kind()) return false;
  return address.match([first, network.bits]);
}

function parse(text: string): Address | undefined {
  // Stricter than the library, which reads 0x7f.1 as an address. One with a zone means something on this machine only.
  return isIP(text) === 0 || text.includes('%') ? undefined : ipaddr.process(text);
}
