/**
 * Decides where calls to URLs of strangers may go. Three steps, all of them always: the URL is judged before anything is looked up; of what its
 * name leads to, only allowed addresses are kept, and the connection uses exactly these; the address that was connected is judged once more.
 * A check of the name alone would not do: its owner may answer the next question with another address.
 */
import { lookup } from 'node:dns/promises';
import { canonicalAddress, classifyAddress, isInside, isLoopback } from './addresses.ts';
import { type AllowList, EMPTY_ALLOW_LIST, normalizeName } from './allow-list.ts';
import { OutboundError } from './outbound-error.ts';

/**
 * All addresses of a name. Rejects with the error of `node:dns`, whose code tells names that do not exist from servers that do not answer.
 * It must settle by itself at some time: callers stop waiting, but ask no second question meanwhile.
 */
export type Resolve = (hostname: string) => Promise<readonly string[]>;

export interface UrlProblem {
  /** `invalid_url`: not a URL for calls. `blocked_address`: a URL that is refused for where it leads. */
  readonly code: 'invalid_url' | 'blocked_address';
  /** Completes the sentence "The webhook cannot be used: it …". */
  readonly message: string;
}

export interface Guard {
  /**
   * What is wrong with a URL as it is written; undefined when nothing is. The same for submitting, testing and sending, without any
   * lookup: where a name leads shows when it is called.
   */
  problemWith(url: unknown): UrlProblem | undefined;
  /**
   * The addresses of a URL's hostname that may be connected, at least one; the address itself for an address in brackets or plain.
   * Questions for a name that is being looked up already share its answer. Has no time limit of its own.
   * @throws OutboundError `blocked_address`, `dns_not_found` or `dns_error`.
   */
  addressesOf(hostname: string): Promise<readonly string[]>;
  /** Whether an address may be connected for the sake of this hostname. */
  permits(hostname: string, address: string): boolean;
}

export interface GuardOptions {
  readonly allow?: AllowList;
  readonly resolve?: Resolve;
  readonly urlCharactersMax?: number;
}

const UNPRINTABLE = /[\s\p{Cc}]/u;

/** Ports of databases, queues and control planes, and of protocols that can be spoken to in HTTP by mistake. Below 1024, all but two are refused. */
const DENIED_PORTS: ReadonlySet<number> = new Set([
  1433, 1521, 1719, 1720, 1723, 2049, 2181, 2375, 2376, 2377, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432, 5433, 5672,
  5900, 5984, 5985, 5986, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6697, 7000, 7001, 7199, 8125, 8300, 8301, 8302, 8500,
  8501, 8600, 9042, 9092, 9160, 9200, 9300, 10080, 10250, 10255, 10256, 10257, 10259, 11211, 15672, 25672, 26379, 27017, 27018, 27019,
]);

const DENIED_NAMES: readonly string[] = ['localhost', 'metadata.google.internal'];
const DENIED_ENDINGS: readonly string[] = ['.localhost', '.local', '.internal'];

/**
 * A guard for one allow list; empty by default. Connections of a caller outlive its guard's decisions, so a changed list takes a new guard
 * and a new caller. `resolve` defaults to the system's own lookup, which knows the hosts file and the names of a compose network. URLs may have
 * 2,048 characters unless told otherwise.
 */
export function openGuard(options: GuardOptions = {}): Guard {
  const { allow = EMPTY_ALLOW_LIST, resolve = resolveBySystem, urlCharactersMax = 2_048 } = options;
  /** Lookups under way. One hanging name takes one of the few threads of the system's lookup, however many calls wait for it. */
  const lookups = new Map<string, Promise<readonly string[]>>();

  function lookUp(name: string): Promise<readonly string[]> {
    const known = lookups.get(name);
    if (known) return known;
    const started = resolve(name).finally(() => lookups.delete(name));
    lookups.set(name, started);
    return started;
  }

  function permits(hostname: string, address: string): boolean {
    const canonical = canonicalAddress(address);
    if (canonical === undefined) return false;
    if (allow.addresses.has(canonical)) return true;
    const name = normalizeName(hostname);
    const kind = classifyAddress(canonical);
    if (kind === 'public') return true;
    if (kind === 'private') return allow.hosts.has(name) || allow.networks.some((network) => isInside(canonical, network));
    return isLocalhost(name) && allow.hosts.has(name) && isLoopback(canonical);
  }

  function hostProblem(hostname: string): string | undefined {
    const literal = literalOf(hostname);
    if (literal !== undefined) return permits('', literal) ? undefined : 'must not lead to a private or reserved address';
    const name = normalizeName(hostname);
    if (allow.hosts.has(name)) return undefined;
    const isDenied = DENIED_NAMES.includes(name) || DENIED_ENDINGS.some((ending) => name.endsWith(ending));
    return isDenied ? 'must not use a local or internal name' : undefined;
  }

  function portProblem({ hostname, port }: URL): string | undefined {
    // The URL parser leaves out the port of the scheme.
    if (port === '' || allow.hosts.has(normalizeName(hostname)) || allow.addresses.has(literalOf(hostname) ?? '')) return undefined;
    const number = Number(port);
    if (number !== 80 && number !== 443 && number < 1_024) return 'must use port 80, 443 or one from 1024 to 65535';
    return DENIED_PORTS.has(number) ? `must not use port ${number}, which is known for internal services` : undefined;
  }

  return {
    problemWith(value) {
      const parsed = parseUrl(value, urlCharactersMax);
      if (typeof parsed === 'string') return { code: 'invalid_url', message: parsed };
      const message = hostProblem(parsed.hostname) ?? portProblem(parsed);
      return message === undefined ? undefined : { code: 'blocked_address', message };
    },
    async addressesOf(hostname) {
      const message = hostProblem(hostname);
      if (message !== undefined) throw refusedUrl(message);
      const literal = literalOf(hostname);
      if (literal !== undefined) return [literal];
      const answers = await lookUp(hostname).catch((error: unknown) => {
        throw new OutboundError(isUnknownName(error) ? 'dns_not_found' : 'dns_error', { cause: error });
      });
      if (answers.length === 0) throw new OutboundError('dns_not_found');
      const permitted = answers.filter((address) => permits(hostname, address));
      // The answers are not named: they would tell strangers about the network inside.
      if (permitted.length === 0) throw new OutboundError('blocked_address');
      return permitted;
    },
    permits,
  };
}

/** The error of a call to a URL that {@link Guard.problemWith} refuses. */
export function refusedUrl(message: string): OutboundError {
  return new OutboundError('blocked_address', { message: `The URL cannot be called: it ${message}.`, isLiteral: true });
}

/** The URL, or what is wrong with it before it matters where it leads. */
function parseUrl(value: unknown, charactersMax: number): URL | string {
  if (typeof value !== 'string') return 'must be a string';
  if (value.length > charactersMax) return `must have ${charactersMax} characters at most`;
  // The URL parser drops line breaks and tabs, so what it accepts may still not be what was meant.
  if (UNPRINTABLE.test(value)) return 'must not contain spaces or control characters';
  const example = 'must be a URL such as https://example.com/hook';
  if (!value.isWellFormed() || !URL.canParse(value)) return example;
  const url = new URL(value);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'must start with http:// or https://';
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password';
  return normalizeName(url.hostname) === '' ? example : url;
}

/** The address that a hostname spells out. The URL parser has turned every spelling of it into the usual one, and put IPv6 in brackets. */
function literalOf(hostname: string): string | undefined {
  return canonicalAddress(hostname.replace(/^\[(.*)\]$/, '$1'));
}

function isLocalhost(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost');
}

function isUnknownName(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOTFOUND' || error.code === 'ENODATA');
}

/** A hanging server holds a thread for longer than a caller waits; the runtime keeps half of its threads free of lookups, so files go on. */
async function resolveBySystem(hostname: string): Promise<readonly string[]> {
  const answers = await lookup(hostname, { all: true, order: 'verbatim' });
  return answers.map(({ address }) => address);
}
