/**
 * What the simulators of upstreams have in common. Each file beside this one speaks one vendor's documented wire, so that a team develops
 * and tests without a key and without paying: `npm run simulate -- fal --port 9001`, and FAL_BASE_URL pointing there.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

/**
 * What can be made to go wrong. Every fault happens to the next calls it fits, as often as asked for.
 * `slow`: answers after two seconds (`slowMs`). `429`: with `Retry-After: 1`. `500`. `html`: a page with status 200. `truncated`: half of the JSON, then
 * the connection closes. `lost-callback`, `double-callback`, `late-callback` (after two seconds). `backwards`: a status that was there before.
 * `expired`: links to results answer 404. `fail`: the run fails. `refuse`: the run is refused for its content.
 */
export const FAULTS = [
  'slow',
  '429',
  '500',
  'html',
  'truncated',
  'lost-callback',
  'double-callback',
  'late-callback',
  'backwards',
  'expired',
  'fail',
  'refuse',
] as const;
export type Fault = (typeof FAULTS)[number];

export interface SimulatorOptions {
  /** 0 takes any free one. */
  readonly port: number;
  /** Milliseconds that a run takes from its submission. */
  readonly runMs: number;
  /** Milliseconds that what is slow or late takes longer; 2,000 unless given. */
  readonly slowMs?: number;
}

export interface Simulated extends AsyncDisposable {
  /** Of the simulator, without a trailing slash. What adapters get as their base URL is `baseUrl`. */
  readonly url: string;
  /** As the vendor's `<PROVIDER>_BASE_URL`. */
  readonly baseUrl: string;
  /** Makes the next `times` calls go wrong. */
  inject(fault: Fault, times?: number): void;
  /** Every request that came, oldest first, bodies parsed where they are JSON. */
  readonly requests: readonly SimulatedRequest[];
  /** Runs that were submitted: what a real vendor would have charged for. */
  readonly submitted: number;
}

export interface SimulatedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: unknown;
}

/** One vendor. A file's default export, with the file's name. */
export interface Simulator {
  readonly name: string;
  /** Variables that point the adapter at it, for a simulator at `url`: printed at its start. */
  environment(url: string): Readonly<Record<string, string>>;
  start(options: SimulatorOptions): Promise<Simulated>;
}

export interface Faults {
  inject(fault: Fault, times?: number): void;
  /** True when this fault is due; it is used up by that. */
  take(fault: Fault): boolean;
}

export function openFaults(): Faults {
  const due = new Map<Fault, number>();
  return {
    inject: (fault, times = 1) => void due.set(fault, (due.get(fault) ?? 0) + times),
    take(fault) {
      const left = due.get(fault) ?? 0;
      if (left > 0) due.set(fault, left - 1);
      return left > 0;
    },
  };
}

export type Handler = (request: SimulatedRequest, response: ServerResponse) => Promise<void> | void;

/** Listens on the loopback address and reads each request whole, 20 MB at most. `POST /_faults {"fault":"429","times":3}` injects. */
export async function serve(
  port: number,
  faults: Faults,
  handle: Handler,
): Promise<{ readonly url: string; readonly requests: SimulatedRequest[]; close(): Promise<void> }> {
  const requests: SimulatedRequest[] = [];
  const server = createServer((request, response) => {
    void readWhole(request)
      .then(async (text) => {
        const seen = { method: request.method ?? 'GET', path: request.url ?? '/', headers: request.headers, body: parsed(text) };
        if (seen.path === '/_faults') return answerJson(response, ...injected(faults, seen.body));
        requests.push(seen);
        await handle(seen, response);
      })
      .catch((error: unknown) => {
        if (!response.headersSent) answerJson(response, 500, { error: String(error) });
        else response.destroy();
      });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('a server that listens on a port has an address');
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

export function answerJson(response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

function injected(faults: Faults, body: unknown): [status: number, answer: object] {
  const given = typeof body === 'object' && body !== null ? body : {};
  const fault = FAULTS.find((known) => 'fault' in given && given.fault === known);
  const times = 'times' in given && typeof given.times === 'number' ? given.times : 1;
  if (!fault || !Number.isInteger(times) || times < 1)
    return [400, { error: `fault must be one of ${FAULTS.join(', ')}, times a whole number` }];
  faults.inject(fault, times);
  return [200, { fault, times }];
}

const BODY_BYTES_MAX = 20_000_000;

async function readWhole(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) throw new Error('the request is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
