/** A receiver of webhooks to try the service with: checks each, reports it, and answers as it is told to, in trouble if need be. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Clock, type Running, StartError } from '@claimcheck/core';
import { readAtMost } from './read-at-most.ts';
import { problemWith } from './webhook-check.ts';

export interface ReceiverOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  /** What signatures are checked with; without it, nothing is checked. */
  readonly key?: Buffer;
  readonly answer: AnswerOptions;
  readonly clock: Clock;
  /** Called for each webhook before it is answered. */
  readonly onWebhook: (report: WebhookReport) => void;
}

export interface AnswerOptions {
  /** 200 to 599; 204 unless given, or 401 for what is not genuine. */
  readonly status?: number;
  /** Sent as `Retry-After`. */
  readonly retryAfterSeconds?: number;
  readonly delayMs: number;
}

/** What is told of one webhook. Texts are as they came, from whoever sent them. */
export interface WebhookReport {
  readonly receivedAtMs: number;
  readonly path: string;
  readonly id?: string;
  /** What is told, such as `request.completed`. */
  readonly event?: string;
  readonly sequence?: string;
  /** The job's state as a word; the body may have a number for it. */
  readonly status?: string;
  readonly check: { readonly kind: 'verified' | 'unchecked' } | { readonly kind: 'refused'; readonly problem: string };
  /** How often this id has come, this time included. What is not genuine counts for nothing. */
  readonly timesSeen: number;
  /** Undefined when it was larger than a webhook may be. */
  readonly body?: Buffer;
  readonly answer: Required<Pick<AnswerOptions, 'status' | 'delayMs'>> & Pick<AnswerOptions, 'retryAfterSeconds'>;
}

export interface Receiver extends Running {
  /** Where to post, such as http://127.0.0.1:9000. */
  readonly url: string;
}

export const BODY_BYTES_MAX = 1024 * 1024;
/** Ids that are remembered to tell duplicates; the oldest are forgotten first. */
const IDS_MAX = 10_000;
/** With the size of a body, this bounds the memory. */
const CONNECTIONS_MAX = 100;
const SERVER_LIMITS = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 5_000 };

/** Stopping breaks what is not answered yet: its sender will send it again. @throws StartError when the port cannot be had. */
export async function startReceiver(options: ReceiverOptions): Promise<Receiver> {
  const { host, port, key, clock, onWebhook } = options;
  const stopping = new AbortController();
  const timesSeen = new Map<string, number>();

  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'POST') {
      request.resume();
      response.writeHead(405, { allow: 'POST' }).end('Webhooks are posted.\n');
      return;
    }
    const body = await readAtMost(request, BODY_BYTES_MAX);
    const receivedAtMs = clock.now();
    const id = textOf(request, 'webhook-id');
    const event = textOf(request, 'webhook-event');
    const sequence = textOf(request, 'webhook-sequence');
    const status = textOf(request, 'webhook-status');
    const check = checkOf(request, body, receivedAtMs);
    const answer = answerTo(body, check, options.answer);
    onWebhook({
      receivedAtMs,
      path: request.url ?? '/',
      ...(id !== undefined && { id }),
      ...(event !== undefined && { event }),
      ...(sequence !== undefined && { sequence }),
      ...(status !== undefined && { status }),
      check,
      timesSeen: id === undefined || check.kind === 'refused' ? 1 : count(id),
      ...(body && { body }),
      answer,
    });
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    if (answer.delayMs > 0) await clock.sleep(answer.delayMs, AbortSignal.any([stopping.signal, gone.signal]));
    const { retryAfterSeconds } = answer;
    response.writeHead(answer.status, retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }).end();
  }

  function checkOf(request: IncomingMessage, body: Buffer | undefined, nowMs: number): WebhookReport['check'] {
    if (!body) return { kind: 'refused', problem: `the body has more than ${BODY_BYTES_MAX} bytes` };
    if (!key) return { kind: 'unchecked' };
    const problem = problemWith({ headers: request.headers, body }, key, nowMs);
    return problem === undefined ? { kind: 'verified' } : { kind: 'refused', problem };
  }

  function count(id: string): number {
    const times = (timesSeen.get(id) ?? 0) + 1;
    // Deleted first, so that it moves behind those that were not seen for longer.
    timesSeen.delete(id);
    timesSeen.set(id, times);
    const [oldest] = timesSeen.keys();
    if (timesSeen.size > IDS_MAX && oldest !== undefined) timesSeen.delete(oldest);
    return times;
  }

  const server = createServer(SERVER_LIMITS, (request, response) => {
    // It fails only when the sender went away or everything stops: there is nobody left to tell.
    receive(request, response).catch(() => response.destroy());
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(describeListenError(error, options)));
    server.listen(port, host, resolve);
  });
  // A listening TCP server has an address with a port.
  const address = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`,
    async stop() {
      stopping.abort();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function answerTo(body: Buffer | undefined, check: WebhookReport['check'], options: AnswerOptions): WebhookReport['answer'] {
  const usual = !body ? 413 : check.kind === 'refused' ? 401 : 204;
  return { ...options, status: options.status ?? usual };
}

function textOf(request: IncomingMessage, header: string): string | undefined {
  return request.headers[header]?.toString();
}

function describeListenError(error: NodeJS.ErrnoException, { host, port }: ReceiverOptions): StartError {
  const reasons: Record<string, string> = {
    EADDRINUSE: `Port ${port} on ${host} is in use by another program: stop it, or choose another with --port.`,
    EACCES: `Port ${port} may not be used by this account: choose 1024 or more with --port.`,
    EADDRNOTAVAIL: `This machine has no address ${host}: choose one of its own with --host.`,
    ENOTFOUND: `The name ${host} is not known: choose an address of this machine with --host.`,
  };
  return new StartError(reasons[error.code ?? ''] ?? `Cannot listen on ${host}:${port}: ${error.message}`, { cause: error });
}
