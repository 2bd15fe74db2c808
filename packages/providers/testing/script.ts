/** Upstreams that say what a test has written down: for answers that no simulator gives. */
import { createServer } from 'node:http';
import type { JsonValue } from '@claimcheck/core';
import { onTestFinished } from 'vitest';
import { openFaults, type SimulatedRequest, serve } from '../simulators/simulator.ts';

export interface ScriptedAnswer {
  /** 200 unless given. */
  readonly status?: number;
  /** JSON unless they say otherwise. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Text and bytes go out as they are, anything else as JSON. */
  readonly body: JsonValue | Buffer;
}

export interface Script {
  readonly url: string;
  /** What came, oldest first. */
  readonly requests: readonly SimulatedRequest[];
}

/** Answers with these in turn, the last one for ever, whatever is asked, until the test is over. */
export async function script(...answers: readonly [ScriptedAnswer, ...ScriptedAnswer[]]): Promise<Script> {
  const left = [...answers];
  return scriptFor(() => (left.length > 1 ? left.shift() : left[0]));
}

/** Answers each request as it likes; with 404 where it has no answer. */
export async function scriptFor(
  answer: (request: SimulatedRequest) => Promise<ScriptedAnswer | undefined> | ScriptedAnswer | undefined,
): Promise<Script> {
  const server = await serve(0, openFaults(), async (request, response) => {
    const { status = 200, headers = {}, body } = (await answer(request)) ?? { status: 404, body: {} };
    const isRaw = typeof body === 'string' || Buffer.isBuffer(body);
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(isRaw ? body : JSON.stringify(body));
  });
  onTestFinished(() => server.close());
  return server;
}

const FLOOD_BYTES = 200_000_000;

export interface Flood {
  readonly url: string;
  /** Bytes that were taken off it. */
  readonly sent: number;
}

/** Answers everything with 200 MB that begin like JSON; `isAnnounced` says so in its header. */
export async function flood(isAnnounced: boolean, status = 200): Promise<Flood> {
  const chunk = Buffer.alloc(1_000_000, ' ');
  let sent = 0;
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(status, { 'content-type': 'application/json', ...(isAnnounced && { 'content-length': FLOOD_BYTES }) });
    const pour = () => {
      while (sent < FLOOD_BYTES && !response.destroyed) {
        sent += chunk.length;
        if (!response.write(chunk)) return;
      }
      response.end();
    };
    response.on('drain', pour);
    pour();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close().closeAllConnections());
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('a server that listens on a port has an address');
  return {
    url: `http://127.0.0.1:${address.port}`,
    get sent() {
      return sent;
    },
  };
}
