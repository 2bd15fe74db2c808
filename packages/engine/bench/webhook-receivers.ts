/**
 * The receivers of `webhooks.ts`, in a process of their own: well-behaved ones that note when each message came, one that never answers,
 * and hostile ones. Tells its ports once it listens, and what came when it is asked.
 */
import { createServer, type RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

export interface ReceiverPorts {
  readonly well: readonly number[];
  readonly hanging: number;
  readonly hostile: readonly number[];
}

/** Milliseconds since the epoch at which the head of each message came, by webhook-id. */
export type Arrivals = readonly (readonly [id: string, atMs: number])[];

const WELL = 20;
const HOSTILE = 100;
const CHUNK = Buffer.alloc(65_536, 'x');
const BOMB = gzipSync(Buffer.alloc(10_000_000));

const arrived = new Map<string, number>();
const sockets = new Set<Socket>();

const receive: RequestListener = (request, response) => {
  arrived.set(String(request.headers['webhook-id']), performance.timeOrigin + performance.now());
  request.resume().on('end', () => response.end());
};
/** One after the other over the ports. */
const HOSTILE_KINDS: readonly RequestListener[] = [
  // Never answers.
  () => {},
  // Without end.
  (_request, response) => {
    const more = () => {
      while (!response.destroyed && response.write(CHUNK));
    };
    response.on('drain', more).on('error', () => {});
    more();
  },
  // A byte now and then.
  (_request, response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write('x'), 100);
    response.on('close', () => clearInterval(timer)).on('error', () => {});
  },
  // Small on the wire, large when unpacked.
  (_request, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(BOMB);
  },
  // Headers without end.
  (_request, response) => {
    response.writeHead(200, Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`x-${index}`, 'y'.repeat(1_000)]))).end();
  },
  // Breaks off in the middle.
  (request, response) => {
    response.writeHead(200, { 'content-length': '1000' }).write('half');
    request.socket.destroy();
  },
];

function listen(listener: RequestListener): Promise<number> {
  const server = createServer({ maxHeaderSize: 65_536 }, listener);
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : 0);
    });
  });
}

const ports: ReceiverPorts = {
  well: await Promise.all(Array.from({ length: WELL }, () => listen(receive))),
  hanging: await listen(() => {}),
  hostile: await Promise.all(Array.from({ length: HOSTILE }, (_, index) => listen(HOSTILE_KINDS[index % HOSTILE_KINDS.length] ?? receive))),
};
process.on('message', () => process.send?.([...arrived] satisfies Arrivals));
// Whoever asked is gone.
process.on('disconnect', () => process.exit());
process.send?.(ports);
