/** A DNS server on a free UDP port of the loopback address, whose answers a test decides, and a lookup that asks it. */
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Resolve } from '../guard.ts';

/** The addresses of a name, or how the server fails. `silence`: it does not answer at all. */
export type DnsAnswer = readonly string[] | 'NXDOMAIN' | 'SERVFAIL' | 'silence';

export interface DnsServer extends AsyncDisposable {
  /** Asks this server for both families, once each. */
  readonly resolve: Resolve;
  /** Names that were asked for, once per lookup. */
  readonly lookups: readonly string[];
}

const RESPONSE_CODES = { SERVFAIL: 2, NXDOMAIN: 3 } as const;
const TYPE_A = 1;
const TYPE_AAAA = 28;

/** `answer` is called once per lookup with the number of lookups of that name before. */
export async function startDnsServer(answer: (name: string, lookupsBefore: number) => DnsAnswer): Promise<DnsServer> {
  const lookups: string[] = [];
  const answers = new Map<string, DnsAnswer>();
  const socket = createSocket('udp4');
  socket.on('message', (query, { port, address }) => {
    const { name, type, question } = readQuestion(query);
    const found = answers.get(name) ?? 'NXDOMAIN';
    if (found !== 'silence') socket.send(writeResponse(query, question, type, found), port, address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const resolver = new Resolver({ timeout: 50, tries: 1 });
  resolver.setServers([`127.0.0.1:${socket.address().port}`]);
  return {
    lookups,
    async resolve(hostname) {
      answers.set(hostname, answer(hostname, lookups.filter((name) => name === hostname).length));
      lookups.push(hostname);
      const found = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
      const addresses = found.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
      const [first] = found;
      if (addresses.length === 0 && first.status === 'rejected') throw first.reason;
      return addresses;
    },
    async [Symbol.asyncDispose]() {
      resolver.cancel();
      socket.close();
      await once(socket, 'close');
    },
  };
}

function readQuestion(query: Buffer): { readonly name: string; readonly type: number; readonly question: Buffer } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.'), type: query.readUInt16BE(at + 1), question: query.subarray(12, at + 5) };
}

function writeResponse(query: Buffer, question: Buffer, type: number, answer: Exclude<DnsAnswer, 'silence'>): Buffer {
  const isFound = typeof answer === 'object';
  const family = type === TYPE_A ? 4 : type === TYPE_AAAA ? 6 : 0;
  const records = isFound ? answer.filter((address) => isIP(address) === family).map((address) => writeRecord(type, address)) : [];
  const head = Buffer.alloc(12);
  head.writeUInt16BE(query.readUInt16BE(0), 0);
  head.writeUInt16BE(0x8180 | (isFound ? 0 : RESPONSE_CODES[answer]), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  return Buffer.concat([head, question, ...records]);
}

/** One answer: the name by reference to the question, the type, the class, no time to live, the address. */
function writeRecord(type: number, address: string): Buffer {
  const bytes = ipaddr.parse(address).toByteArray();
  return Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, bytes.length, ...bytes]);
}
