/**
 * The dispatcher: sends owed webhooks from the due-index in Postgres, at least once each. Woken by the signal of a new delivery
 * or by the time the next one is due; several dispatchers share the work.
 */
import { Agent, request } from 'undici';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { type ClaimedDelivery, claimDeliveries, nextDeliveryInMs, recordSends, type SendRecord } from './storage/deliveries.ts';

export interface RunningDispatcher {
  /** Starts no new sends and resolves when those under way are recorded. */
  stop(): Promise<void>;
}

const CONCURRENCY = 500;
/** A receiver has this long for its whole answer. */
const SEND_MS = 15_000;
const CONNECT_MS = 3_000;
/** A dispatcher that dies is noticed after this, and the delivery sent again; far more than a send can take. */
const CLAIM_SECONDS = 60;
/** Signals may be lost, so the index is looked at after this time at the latest. */
const LOOK_AGAIN_MS = 5_000;
const RESPONSE_BYTES_MAX = 16_384;
/** Share of a scheduled wait that is left to chance. */
const JITTER = 0.2;

export function startDispatcher(context: EngineContext, userAgent: string): RunningDispatcher {
  const { clock, database, log, random, signals } = context;
  const agent = new Agent({ connect: { timeout: CONNECT_MS }, maxResponseSize: RESPONSE_BYTES_MAX, maxHeaderSize: RESPONSE_BYTES_MAX });
  const stopping = new AbortController();
  const sending = new Set<Promise<void>>();
  const record = coalesce(async (records: readonly SendRecord[]) => {
    await recordSends(database.sql, records);
    return records.map(() => undefined);
  });
  let wake = Promise.withResolvers<void>();
  const unsubscribe = signals.on('deliveries', () => wake.resolve());

  const running = (async () => {
    while (!stopping.signal.aborted) {
      wake = Promise.withResolvers<void>();
      const waitMs = await dispatchOnce().catch((error: unknown) => {
        log.warn({ error }, 'deliveries not claimed');
        return LOOK_AGAIN_MS;
      });
      const awake = new AbortController();
      await Promise.race([wake.promise, clock.sleep(waitMs, AbortSignal.any([awake.signal, stopping.signal])).catch(() => {})]);
      awake.abort();
    }
    await Promise.all(sending);
  })();

  /** Starts all sends that are due and that there is room for; returns how long there is nothing to do. */
  async function dispatchOnce(): Promise<number> {
    const limit = CONCURRENCY - sending.size;
    // Each finished send wakes the loop.
    if (limit <= 0) return LOOK_AGAIN_MS;
    const claimed = await claimDeliveries(database.sql, { limit, claimSeconds: CLAIM_SECONDS });
    for (const delivery of claimed) {
      const send = deliver(delivery)
        .catch((error: unknown) => log.warn({ error, deliveryId: delivery.id }, 'send not recorded'))
        .finally(() => {
          sending.delete(send);
          if (sending.size >= CONCURRENCY - 1) wake.resolve();
        });
      sending.add(send);
    }
    if (claimed.length === limit) return 0;
    return Math.min((await nextDeliveryInMs(database.sql)) ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS);
  }

  async function deliver(delivery: ClaimedDelivery): Promise<void> {
    const startedMs = performance.now();
    const outcome = await send(delivery);
    const delivered = outcome.error === undefined;
    // schedule[0] was the wait before the first send, so after n sends schedule[n] is the next wait.
    const wait = delivery.schedule[delivery.sendCount + 1];
    const next = delivered ? 'DELIVERED' : wait === undefined ? 'FAILED' : { afterSeconds: wait * (1 + JITTER * (2 * random() - 1)) };
    await record({ deliveryId: delivery.id, claim: delivery.claim, durationMs: performance.now() - startedMs, ...outcome, next });
    // It may be due before the dispatcher would look again.
    if (typeof next === 'object') wake.resolve();
    const fields = { deliveryId: delivery.id, jobId: delivery.jobId, status: outcome.status, code: outcome.error?.code };
    if (delivered) log.info(fields, 'webhook delivered');
    else log.warn(fields, next === 'FAILED' ? 'webhook given up' : 'webhook failed, will be sent again');
  }

  /** One POST. Redirects are not followed: an address that was checked must not lead to one that was not. */
  async function send(delivery: ClaimedDelivery): Promise<Pick<SendRecord, 'status' | 'error'>> {
    const tooLate = new AbortController();
    const answered = new AbortController();
    clock.sleep(SEND_MS, answered.signal).then(
      () => tooLate.abort(new DOMException('The send took too long.', 'TimeoutError')),
      () => {},
    );
    try {
      const response = await request(delivery.url, {
        method: 'POST',
        dispatcher: agent,
        signal: tooLate.signal,
        headers: {
          'content-type': delivery.contentType,
          'user-agent': userAgent,
          'accept-encoding': 'identity',
          'webhook-id': delivery.id,
          'webhook-timestamp': String(Math.floor(clock.now() / 1000)),
        },
        body: delivery.body,
      });
      const { statusCode: status } = response;
      await response.body.dump({ limit: RESPONSE_BYTES_MAX });
      if (status >= 200 && status < 300) return { status };
      const code = status >= 300 && status < 400 ? 'redirect' : 'http_error';
      return { status, error: { code, message: `The receiver answered ${status}.` } };
    } catch (error) {
      return { error: describeSendError(error) };
    } finally {
      answered.abort();
    }
  }

  return {
    async stop() {
      stopping.abort();
      unsubscribe();
      await running;
      await agent.close();
    },
  };
}

/** Stable codes of `reference` outcomes by the error codes of Node and undici; a code that is not listed is `internal`. */
const SEND_ERRORS: Readonly<Record<string, { readonly code: string; readonly message: string }>> = {
  ENOTFOUND: { code: 'dns_not_found', message: 'The name of the receiver does not exist.' },
  EAI_AGAIN: { code: 'dns_error', message: 'The name of the receiver could not be looked up.' },
  ECONNREFUSED: { code: 'connect_refused', message: 'The receiver refused the connection.' },
  UND_ERR_CONNECT_TIMEOUT: { code: 'connect_timeout', message: 'The receiver could not be connected in time.' },
  ECONNRESET: { code: 'connection_reset', message: 'The receiver closed the connection before it had answered.' },
  UND_ERR_SOCKET: { code: 'connection_reset', message: 'The receiver closed the connection before it had answered.' },
  UND_ERR_HEADERS_TIMEOUT: { code: 'headers_timeout', message: 'The receiver did not begin to answer in time.' },
  UND_ERR_HEADERS_OVERFLOW: { code: 'response_invalid', message: 'The headers of the answer were too large.' },
  UND_ERR_RES_EXCEEDED_MAX_SIZE: { code: 'response_invalid', message: 'The answer was too large.' },
  HTTPParserError: { code: 'response_invalid', message: 'The answer was not HTTP.' },
  TimeoutError: { code: 'total_timeout', message: 'The receiver did not finish its answer in time.' },
};

function describeSendError(error: unknown): { readonly code: string; readonly message: string } {
  if (!(error instanceof Error)) return { code: 'internal', message: 'The webhook could not be sent.' };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  if (/^(ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_SSL)/.test(code)) {
    return { code: 'tls_error', message: 'The certificate or the encryption of the receiver was not accepted.' };
  }
  if (code.startsWith('HPE_')) return { code: 'response_invalid', message: 'The answer was not HTTP.' };
  return SEND_ERRORS[code] ?? SEND_ERRORS[error.name] ?? { code: 'internal', message: 'The webhook could not be sent.' };
}
