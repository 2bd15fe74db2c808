/**
 * What every simulator works with: a server, faults that are due, a count of the runs that a real vendor would charge for, and answers that
 * are the same at all of them.
 */
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import {
  answerJson,
  type Faults,
  type Handler,
  openFaults,
  type Simulated,
  type SimulatedRequest,
  type SimulatorOptions,
  serve,
} from './simulator.ts';

export interface Desk {
  /** Of the simulator, without a trailing slash. */
  readonly url: string;
  readonly faults: Faults;
  /** Milliseconds that a run takes. */
  readonly runMs: number;
  /** Milliseconds that what is slow or late takes longer. */
  readonly slowMs: number;
  /** Aborts when the simulator is closed: for every wait. */
  readonly closed: AbortSignal;
  countRun(): void;
}

/** How a vendor words an error, and what it sends beside 429. */
export interface ErrorStyle {
  /** `application/json` unless given. */
  readonly contentType?: string;
  body(status: number, message: string): object;
  rateHeaders(): Readonly<Record<string, string>>;
}

const SLOW_MS = 2_000;

/** Starts a simulator. What `open` makes of the desk answers every request; `path` is that of the vendor's base URL. */
export async function simulate(
  { port, runMs, slowMs = SLOW_MS }: SimulatorOptions,
  path: string,
  open: (desk: Desk) => Handler,
): Promise<Simulated> {
  const faults = openFaults();
  const closing = new AbortController();
  let submitted = 0;
  const desk = {
    url: '',
    faults,
    runMs,
    slowMs,
    closed: closing.signal,
    countRun() {
      submitted += 1;
    },
  };
  const server = await serve(port, faults, open(desk));
  desk.url = server.url;
  return {
    url: server.url,
    baseUrl: `${server.url}${path}`,
    inject: faults.inject,
    requests: server.requests,
    get submitted() {
      return submitted;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await server.close();
    },
  };
}

/** The 70 bytes of a real PNG of one pixel: what every run produces. */
export const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

/**
 * What comes before anything of the vendor's own: files behind links, which need no key and may have expired; a key that is wrong, for which
 * `refuseKey` gives the words; and faults that can happen to any call. True when it was the answer: then nothing has happened at the vendor.
 */
export async function answerFirst(
  { faults, slowMs, closed }: Desk,
  request: SimulatedRequest,
  response: ServerResponse,
  { style, refuseKey }: { readonly style: ErrorStyle; refuseKey?(headers: SimulatedRequest['headers']): object | undefined },
): Promise<boolean> {
  const refuse = (status: number, body: object, headers = {}) =>
    answerJson(response, status, body, { ...(style.contentType !== undefined && { 'content-type': style.contentType }), ...headers });
  if (request.path.startsWith('/files/')) {
    if (faults.take('expired')) refuse(404, style.body(404, 'not found'));
    else answerBytes(response, PNG, 'image/png');
    return true;
  }
  const refusal = refuseKey?.(request.headers);
  if (refusal) {
    refuse(401, refusal);
    return true;
  }
  if (faults.take('slow')) await systemClock.sleep(slowMs, closed);
  if (faults.take('429')) refuse(429, style.body(429, 'too many requests'), style.rateHeaders());
  else if (faults.take('500')) refuse(500, style.body(500, 'internal error'));
  else if (faults.take('html')) response.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Please stand by.</body></html>');
  else return false;
  return true;
}

/** The answer to a request that was served; half of it when that is due: the vendor has done its work, and nobody hears of it. */
export function answerServed({ faults }: Desk, response: ServerResponse, status: number, body: object): void {
  if (faults.take('truncated')) answerHalf(response, status, Buffer.from(JSON.stringify(body)), 'application/json');
  else answerJson(response, status, body);
}

export function answerBytes(
  response: ServerResponse,
  bytes: Buffer,
  contentType: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(200, { ...headers, 'content-type': contentType, 'content-length': bytes.length }).end(bytes);
}

/** Announces all of it. */
export function answerHalf(response: ServerResponse, status: number, bytes: Buffer, contentType: string): void {
  response.writeHead(status, { 'content-type': contentType, 'content-length': bytes.length });
  response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
}

/** More than anyone follows at a time. */
const KEPT_MAX = 10_000;

/** Keeps something under its id, and forgets the oldest that are too many: a simulator may run for weeks. */
export function keep<Kept>(kept: Map<string, Kept>, id: string, value: Kept): void {
  kept.set(id, value);
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT_MAX) return;
    kept.delete(oldest);
  }
}

/** The members of a JSON object; none of anything else. */
export function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}
