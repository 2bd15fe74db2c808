/**
 * Speaks WaveSpeed's wire. Any name of two or more segments is a model, except those that begin with `unknown`. A prompt is required. A run
 * is `created` for the first half of its time. Webhooks are posted to loopback addresses only. Sections in comments are of the protocol sheet.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { isOnThisMachine, postCallback } from './_callback.ts';
import { answerFirst, answerServed, type Desk, type ErrorStyle, keep, membersOf, PNG, simulate } from './_desk.ts';
import { answerJson, type Faults, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

/** What an adapter must send (section 2). */
const KEY = 'simulated-wavespeed-key';
/** What webhooks are signed with. The part behind the underscore is the key as it is, not what it decodes to (section 9). */
export const WEBHOOK_SECRET = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
/** First segments below /api/v3 that are no vendor of a model (section 1). */
const RESERVED = ['predictions', 'models', 'model', 'balance', 'account', 'webhook', 'media', 'upload', 'billings', 'user'];
/** After this long a call that waits for the end is answered (section 6). */
const SYNC_MS_MAX = 120_000;
/** Three more tries with growing waits (section 9); how long the waits are is not documented. */
const RETRY_WAITS_MS = [500, 1000, 2000];

interface SimulatedRun {
  readonly id: string;
  readonly model: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly submittedAt: number;
  readonly failure: { readonly code: number; readonly error: string } | undefined;
}

/** Both `message` and `error`, as clients read one or the other (section 3). Whether 429 tells how long to wait is an open question. */
const STYLE: ErrorStyle = {
  body: (code, message) => ({ code, message, error: message }),
  rateHeaders: () => ({ 'retry-after': '1' }),
};

const wavespeed: Simulator = {
  name: 'wavespeed',
  environment: (url) => ({ WAVESPEED_API_KEY: KEY, WAVESPEED_BASE_URL: url }),
  start: (options) => simulate(options, '', openApi),
};
export default wavespeed;

function openApi(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const runs = new Map<string, SimulatedRun>();
  return async (request, response) => {
    const { pathname, searchParams } = new URL(request.path, 'http://simulator');
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    // v2 has the same shapes, and ids are good on both (section 1).
    const [first = '', id = '', last] = (/^\/api\/v[23]\/(.+)$/.exec(pathname)?.[1] ?? '').split('/');
    if (first === 'predictions' && request.method === 'GET' && (last === undefined || last === 'result')) return answerRun(id, response);
    if (first === 'predictions' && request.method === 'DELETE' && last === undefined) return answerDeletion(id, response);
    if (first === 'webhook' && id === 'secret' && request.method === 'GET') return succeed(response, { secret: WEBHOOK_SECRET });
    if (request.method === 'POST' && id !== '' && !RESERVED.includes(first)) {
      return answerSubmission(request, pathname.slice('/api/v3/'.length), searchParams.get('webhook'), response);
    }
    refuse(response, 404, 'not found');
  };

  async function answerSubmission({ body }: SimulatedRequest, model: string, webhook: string | null, response: ServerResponse) {
    const input = membersOf(body);
    if (model.startsWith('unknown')) return refuse(response, 404, `model ${model} not found`);
    if (typeof input.prompt !== 'string') return refuse(response, 400, 'property "prompt" is missing');
    // The one error without an envelope (section 3).
    if (webhook !== null && input.enable_base64_output === true) {
      return answerJson(response, 400, { error: 'enable_base64_output cannot be used with a webhook' });
    }
    if (webhook !== null && !isOnThisMachine(webhook))
      return refuse(response, 400, 'this simulator posts webhooks to loopback addresses only');
    desk.countRun();
    const run = { id: randomBytes(16).toString('hex'), model, input, submittedAt: systemClock.now(), failure: failureOf(faults) };
    keep(runs, run.id, run);
    if (webhook !== null) void tell(run, webhook).catch(() => {});
    if (input.enable_sync_mode !== true) return succeed(response, { ...predictionAt(run, 0), status: 'created' });
    await systemClock.sleep(Math.min(runMs, SYNC_MS_MAX), desk.closed);
    const isLate = runMs > SYNC_MS_MAX;
    succeed(response, {
      ...predictionAt(run, runMs),
      ...(isLate && { status: 'processing', outputs: [], code: 5004, error: 'Sync mode timed out' }),
    });
  }

  function answerRun(id: string, response: ServerResponse) {
    const run = runs.get(id);
    if (!run) return refuse(response, 404, 'prediction not found');
    succeed(response, predictionAt(run, faults.take('backwards') ? -1 : systemClock.now() - run.submittedAt));
  }

  function answerDeletion(id: string, response: ServerResponse) {
    if (!runs.delete(id)) return refuse(response, 404, 'prediction not found');
    succeed(response, { id, status: 'deleted' });
  }

  /** The prediction object (section 4) of a run that started so long ago. */
  function predictionAt({ id, model, input, submittedAt, failure }: SimulatedRun, elapsedMs: number) {
    const isOver = elapsedMs >= runMs;
    const status = elapsedMs < runMs / 2 ? 'created' : 'processing';
    return {
      id,
      model,
      input,
      outputs: isOver && !failure ? [input.enable_base64_output === true ? PNG.toString('base64') : `${desk.url}/files/${id}/1.png`] : [],
      urls: { get: `${desk.url}/api/v3/predictions/${id}/result` },
      has_nsfw_contents: isOver && !failure ? [false] : [],
      status: isOver ? (failure ? 'failed' : 'completed') : status,
      created_at: new Date(submittedAt).toISOString(),
      error: '',
      executionTime: isOver ? runMs : 0,
      timings: { inference: isOver ? runMs : 0 },
      ...(isOver && failure),
    };
  }

  /** One webhook at the end (section 9), unless the run is gone by then. */
  async function tell(run: SimulatedRun, url: string): Promise<void> {
    await systemClock.sleep(runMs, desk.closed);
    if (!runs.has(run.id)) return;
    const body = JSON.stringify(predictionAt(run, runMs));
    await postCallback(desk, { url, body, headers: () => signed(run.id, body), waitsMs: RETRY_WAITS_MS });
  }

  function succeed(response: ServerResponse, data: object) {
    answerServed(desk, response, 200, { code: 200, message: 'success', data });
  }
}

function refuse(response: ServerResponse, status: number, message: string) {
  answerJson(response, status, STYLE.body(status, message));
}

/** Task-level codes of section 5. */
function failureOf(faults: Faults): SimulatedRun['failure'] {
  if (faults.take('refuse')) return { code: 1200, error: 'The content was flagged as potentially sensitive.' };
  return faults.take('fail') ? { code: 1403, error: 'The model ran out of memory.' } : undefined;
}

function signed(id: string, body: string): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(systemClock.now() / 1000));
  const hash = createHmac('sha256', WEBHOOK_SECRET.slice('whsec_'.length));
  const signature = `v3,${hash.update(`${id}.${timestamp}.${body}`).digest('hex')}`;
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature };
}

function refuseKey({ authorization }: SimulatedRequest['headers']): object | undefined {
  return authorization === `Bearer ${KEY}` ? undefined : STYLE.body(401, 'invalid API key');
}
