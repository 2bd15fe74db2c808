/**
 * Cog containers: model servers that an operator runs himself (sheet: cog.md). A container tells of a run once, by webhook, and forgets it
 * (sections 1 and 5), so this adapter works in two ways:
 *
 * 1. Where the container can reach us, a run is started under an id of ours and told of by webhook. Looks in between find lost runs.
 * 2. Elsewhere the connection is kept until the run has ended. Closing it cancels the run (section 5), so none is left behind.
 *
 * `start` only makes up the id; the first `check` sends it. So the id is saved before the container hears of it: whoever resumes asks with
 * the same id, which a container that still runs it recognises, and a webhook can be told from a forged one even when it comes at once.
 *
 * - Authentication: a container asks for none (section 1). Webhooks carry `COG_WEBHOOK_TOKEN`, where set, and an id that nobody can guess.
 * - Final: inputs that are refused, runs that failed (in words only, so refused content cannot be told apart) and what the server does not
 *   understand; another provider may serve the last, and a model that could not be set up. Tried again: 429, 5xx, a server that is away or out
 *   of order, a run that was lost. No free slot is no failure: the run waits (section 10).
 * - Cancelled by POST, or by leaving. Progress and logs come with looks, and words with webhooks.
 * - Sent twice under its id it runs once, for as long as it runs (section 5).
 * - Hosts: calls go to `COG_BASE_URL` only; results are data URIs, which are stored, or links where the container uploads them (section 9).
 */
import { randomUUID, timingSafeEqual } from 'node:crypto';
import {
  type Callback,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Output,
  type Provider,
  RetryableError,
  type Run,
  type Step,
  TerminalError,
} from '@claimcheck/core';
import { z } from 'zod';
import { ownBaseUrlSetting } from './_base-url.ts';
import { type Call, type CallAnswer, call, jsonOf, parseJson } from './_call.ts';
import { eventsToTell } from './_cog-events.ts';
import { partialTextOf, readCogOutput } from './_cog-output.ts';
import { cogFacts } from './_facts.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { endedLinesOf, endTold, linesOf, progressIn, told } from './_log-progress.ts';
import { sentenceOf } from './_sentence.ts';

const handleSchema = z.object({
  /** Ends in 122 random bits that only we and the container know: a webhook that names it comes from there (section 7 knows no signature). */
  id: z.string(),
  /** True once the container has taken it. */
  isTaken: z.boolean().default(false),
  /** Looks in a row that found no place for it, or no trace of it. */
  looks: z.number().default(0),
  /** Connections that broke while it was sent. */
  breaks: z.number().default(0),
});
type Handle = z.infer<typeof handleSchema>;

const LOOK_MS = 30_000;
/** Two minutes without a trace: a container tries its last webhook ten times in that time (section 7). */
const LOOKS_MAX = 4;
/** Sent again under the same id so often before the attempt is given up, because another attempt has another id (section 10). */
const BREAKS_MAX = 2;
/** Waits for a free slot grow from one second to this. A container has no queue of its own (section 4). */
const SLOT_MS_MAX = 5_000;
/** Node gives an answer five minutes to begin. */
const HELD_MS = 290_000;
/** Outputs are data URIs inside of the answer (section 9). */
const BYTES_MAX = 32_000_000;

/** A few containers' worth: those that find no free slot wait, so more than there are slots only spares a pause. */
const CONCURRENCY = 8;

const settings = z.object({
  /** Where the container listens, such as http://10.0.0.7:5000. Unset: off. It asks for no key (section 1). */
  COG_BASE_URL: ownBaseUrlSetting(),
  /** The container's WEBHOOK_AUTH_TOKEN (section 7). When set, webhooks without it are ignored. */
  COG_WEBHOOK_TOKEN: z.string().min(1).optional(),
  /** Runs at once, 8 unless set, and runs started per time, of all workers together. */
  COG_CONCURRENCY: concurrencySetting(),
  COG_RATE: rateSetting(),
});

const cog: Provider<z.infer<typeof settings>> = {
  name: 'cog',
  settings,
  open({ COG_BASE_URL: baseUrl, COG_WEBHOOK_TOKEN: token, COG_CONCURRENCY: concurrency = CONCURRENCY, COG_RATE: rate }) {
    if (baseUrl === undefined) return { off: 'COG_BASE_URL is not set' };
    return {
      ...limitsOf(concurrency, rate),
      // Nothing was sent when a handle was not saved.
      isIdempotent: true,
      async start(run) {
        run.signal.throwIfAborted();
        return running({ id: `${run.idempotencyKey}-${randomUUID()}`, isTaken: false, looks: 0, breaks: 0 }, 0);
      },
      async check(run, value) {
        const handle = readHandle(value);
        if (handle.isTaken) return look(baseUrl, run, handle);
        // A container that had no place is asked whether it has one now, rather than sent the whole input again.
        if (handle.looks > 0 && (await readHealth(baseUrl, run)) !== 'READY') return waiting(handle);
        return send(baseUrl, run, handle);
      },
      async cancel(run, value) {
        await cancelRun(baseUrl, run, readHandle(value));
      },
      receive: (run, callback) => receive(run, callback, token),
    };
  },
};
export default cog;

/** Hands the run over: answered at once where a webhook follows, else when it has ended. */
async function send(baseUrl: string, run: Run, handle: Handle): Promise<Step> {
  const isHeld = run.callbackUrl === undefined;
  const sentAt = run.clock.now();
  let snapshot: JsonObject;
  try {
    const answer = await put(baseUrl, run, handle, {
      ...(run.callbackUrl !== undefined && { webhook: run.callbackUrl, webhook_events_filter: eventsToTell(run) }),
      ...(isHeld && { timeoutMs: HELD_MS }),
    });
    if (isFull(answer)) return waiting(handle);
    snapshot = readAnswer(answer);
  } catch (error) {
    if (!(error instanceof RetryableError)) throw error;
    if (isHeld && run.clock.now() - sentAt >= HELD_MS) {
      const message = `The run took longer than ${HELD_MS / 1000} seconds; for longer ones the model server must be able to call back (PUBLIC_URL).`;
      throw new TerminalError(message, { code: 'timeout', cause: error });
    }
    if (!error.mayHaveStarted || handle.breaks >= BREAKS_MAX) throw error;
    return running({ ...handle, breaks: handle.breaks + 1 }, 1000);
  }
  const ended = await endOf(run, snapshot);
  if (ended) return ended;
  // A run whose connection broke a moment ago is still being cancelled: sent again, it would be told of as running.
  if (isHeld) return waiting(handle);
  return running({ ...handle, isTaken: true, looks: 0 }, LOOK_MS);
}

/**
 * Looks after a run whose webhook has not come. The only question that a container answers is the same PUT, which starts the run again when
 * it has just ended (section 5). So it is asked when that cannot happen, while all slots are taken, and otherwise only in the end.
 */
async function look(baseUrl: string, run: Run, handle: Handle): Promise<Step> {
  const looks = handle.looks + 1;
  const isOver = looks >= LOOKS_MAX;
  try {
    const health = await readHealth(baseUrl, run);
    if (health === 'BUSY' || (health === 'READY' && isOver)) {
      const answer = await put(baseUrl, run, handle, {});
      if (!isFull(answer)) {
        const snapshot = readAnswer(answer);
        const ended = await endOf(run, snapshot);
        if (ended) return ended;
        // Only a snapshot of a run that was known has logs; without, this has started it again (section 11).
        if ('logs' in snapshot) return { ...running({ ...handle, looks: 0 }, LOOK_MS), ...toldIn(snapshot) };
        await cancelRun(baseUrl, run, handle);
      }
    }
  } catch (error) {
    // Giving up means another run under another id, so one look that fails is only a look without a trace.
    if (isOver || !(error instanceof RetryableError)) throw error;
  }
  if (isOver) throw new RetryableError('The model server no longer knows the run, and its result did not come.');
  return running({ ...handle, looks }, LOOK_MS);
}

/** Verified by the id and, if set, the token; there is no signature and no time in a webhook (section 7), so a repeated one says the same. */
async function receive(run: Run, callback: Callback, token: string | undefined): Promise<Step | undefined> {
  if (token !== undefined && !isSame(callback.header('authorization') ?? '', `Bearer ${token}`)) return undefined;
  const known = handleSchema.safeParse(callback.handle);
  const snapshot = parseJson(callback.body);
  if (!known.success || !isJsonObject(snapshot)) return undefined;
  if (typeof snapshot.id !== 'string' || !isSame(snapshot.id, known.data.id)) return undefined;
  if (isTerminal(snapshot.status)) return endOf(run, snapshot);
  return snapshot.status === 'processing' ? { ...running(known.data, LOOK_MS), ...toldIn(snapshot) } : undefined;
}

interface PutOptions {
  readonly webhook?: string;
  readonly webhook_events_filter?: readonly string[];
  /** Given for a call that is held until the run has ended. */
  readonly timeoutMs?: number;
}

function put(baseUrl: string, run: Run, { id }: Handle, { timeoutMs, ...webhook }: PutOptions): Promise<CallAnswer> {
  return callCog(run, {
    url: `${baseUrl}/predictions/${encodeURIComponent(id)}`,
    method: 'PUT',
    // Exactly this value, or the server keeps the connection (section 2).
    headers: timeoutMs === undefined ? { prefer: 'respond-async' } : {},
    json: { id, input: run.parameters, ...webhook },
    bytesMax: BYTES_MAX,
    startsRun: true,
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
}

/** 200 when the signal was delivered, 404 when the run has ended (section 5): either way there is nothing more to do. */
async function cancelRun(baseUrl: string, run: Run, { id }: Handle): Promise<void> {
  const answer = await callCog(run, { url: `${baseUrl}/predictions/${encodeURIComponent(id)}/cancel`, method: 'POST', json: {} });
  if (answer.status !== 404) jsonOf(answer);
}

/** @throws TerminalError when the model could not be set up, RetryableError when the container must be restarted (section 6). */
async function readHealth(baseUrl: string, run: Run): Promise<JsonValue | undefined> {
  const health = jsonOf(await callCog(run, { url: `${baseUrl}/health-check` }));
  const status = isJsonObject(health) ? health.status : undefined;
  if (status === 'SETUP_FAILED') throw new TerminalError('The model server could not set up its model.', { isProvidersOnly: true });
  if (status === 'DEFUNCT') throw new RetryableError('The model server is out of order.');
  return status;
}

function callCog(run: Run, request: Omit<Call, 'signal' | 'clock'>): Promise<CallAnswer> {
  return call({ ...request, signal: run.signal, clock: run.clock });
}

/** No free slot, or not set up yet (section 3). A 503 without the server's own words is a proxy's. */
function isFull({ status, json }: CallAnswer): boolean {
  return status === 409 || (status === 503 && isJsonObject(json) && json.status === 'failed');
}

/** The snapshot of a run. @throws for everything else that a PUT is answered with (sections 2, 3 and 10). */
function readAnswer(answer: CallAnswer): JsonObject {
  const { status, json } = answer;
  if (status === 422) throw new TerminalError(`The model refused the input: ${refusalOf(json)}`, { code: 'invalid_input' });
  if (status === 413) throw new TerminalError('The input is larger than the model server takes.', { code: 'invalid_input' });
  // 400 and 415 are plain text, and 404 is no Cog server: not the client's fault, and no better the next time.
  if (status >= 400 && status < 500 && status !== 401 && status !== 403 && status !== 429) {
    throw new TerminalError(`The model server refused the request with status ${status}.`, { isProvidersOnly: true });
  }
  const snapshot = jsonOf(answer);
  if (!isJsonObject(snapshot)) throw new RetryableError('The model server answered with something that is no run.');
  return snapshot;
}

/** Either of two shapes (section 3): problems with their places, or a sentence of the runner. */
function refusalOf(json: JsonValue | undefined): string {
  const body = isJsonObject(json) ? json : {};
  const problems = (Array.isArray(body.detail) ? body.detail : []).filter(isJsonObject).map(({ loc, msg }) => {
    const place = (Array.isArray(loc) ? loc : []).filter((part) => part !== 'body' && part !== 'input').join('.');
    return `${place === '' ? '' : `${place}: `}${typeof msg === 'string' ? msg : 'is not valid'}`;
  });
  return sentenceOf(problems.length > 0 ? problems.join('; ') : (body.error ?? body.detail), 'it does not say why.');
}

function isTerminal(status: JsonValue | undefined): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'canceled';
}

/** Both grow until the end (section 7). */
function toldIn({ logs, output }: JsonObject) {
  const text = typeof logs === 'string' ? logs : '';
  return { ...progressIn(text), ...told(linesOf(text), partialTextOf(output)) };
}

/** The result of a run that has ended, undefined while it goes on (section 4). @throws TerminalError for one that failed. */
async function endOf(run: Run, snapshot: JsonObject): Promise<Step | undefined> {
  const { status, logs } = snapshot;
  if (status === 'starting' || status === 'processing') return undefined;
  return endTold(endedLinesOf(logs), () => outputOf(run, snapshot));
}

async function outputOf(run: Run, { status, output, error, metrics }: JsonObject): Promise<Output> {
  if (status === 'succeeded') return { ...(await readCogOutput(run, output ?? null)), ...cogFacts(metrics) };
  // Text without a code (section 10): a refusal of content cannot be told from another failure.
  if (status === 'failed') throw new TerminalError(sentenceOf(error, 'The model failed and did not say why.'));
  if (status === 'canceled') throw new TerminalError('The run was cancelled at the model server.');
  throw new RetryableError('The model server told of a state that is not known.');
}

function running(handle: Handle, checkAfterMs: number): Extract<Step, { kind: 'running' }> {
  return { kind: 'running', handle: { ...handle }, checkAfterMs };
}

function waiting(handle: Handle): Step {
  return running({ ...handle, looks: handle.looks + 1 }, Math.min(SLOT_MS_MAX, 1000 * (handle.looks + 1)));
}

function readHandle(value: JsonValue): Handle {
  const handle = handleSchema.safeParse(value);
  if (!handle.success) throw new TerminalError('The model server was asked about a run that is not its own.', { code: 'internal' });
  return handle.data;
}

function isSame(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
