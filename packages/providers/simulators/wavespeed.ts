/**
 * Speaks WaveSpeed's wire. Any name of two or more segments is a model, except those that begin with `unknown`. A prompt is required. A run
 * is `created` for the first half of its time. Webhooks are posted to loopback addresses only. Sections in comments are of the protocol sheet.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { answerFault, answerServed, type ErrorStyle, PNG } from './_faulty.ts';
import { answerJson, type Faults, openFaults, type SimulatedRequest, type Simulator, serve } from './simulator.ts';

/** What an adapter must send (section 2). */
const KEY = 'simulated-wavespeed-key';
/** What webhooks are signed with. The part behind the underscore is the key as it is, not what it decodes to (section 9). */
export const WEBHOOK_SECRET = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
/** First segments below /api/v3 that are no vendor of a model (section 1). */
const RESERVED = ['predictions', 'models', 'model', 'balance', 'account', 'webhook', 'media', 'upload', 'billings', 'user'];
/** After this long a call that waits for the end is answered (section 6). */
const SYNC_MS_MAX = 120_000;
const LATE_MS = 2000;
/** Three more tries with growing waits (section 9); how long the waits are is not documented. */
const RETRY_WAITS_MS = [500, 1000, 2000];
const WEBHOOK_MS = 20_000;

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
  async start({ port, runMs }) {
    const faults = openFaults();
    const runs = new Map<string, SimulatedRun>();
    const closed = new AbortController();
    let submitted = 0;
    const server = await serve(port, faults, async (request, response) => {
      const { pathname, searchParams } = new URL(request.path, 'http://simulator');
      if (pathname.startsWith('/files/')) return answerFile(faults, response);
      if (request.headers.authorization !== `Bearer ${KEY}`) return refuse(response, 401, 'invalid API key');
      if (await answerFault(faults, response, STYLE, closed.signal)) return;
      // v2 has the same shapes, and ids are good on both (section 1).
      const [first = '', id = '', last] = (/^\/api\/v[23]\/(.+)$/.exec(pathname)?.[1] ?? '').split('/');
      if (first === 'predictions' && request.method === 'GET' && (last === undefined || last === 'result')) return answerRun(id, response);
      if (first === 'predictions' && request.method === 'DELETE' && last === undefined) return answerDeletion(id, response);
      if (first === 'webhook' && id === 'secret' && request.method === 'GET') return succeed(response, { secret: WEBHOOK_SECRET });
      if (request.method === 'POST' && id !== '' && !RESERVED.includes(first)) {
        return answerSubmission(request, pathname.slice('/api/v3/'.length), searchParams.get('webhook'), response);
      }
      refuse(response, 404, 'not found');
    });

    async function answerSubmission({ body }: SimulatedRequest, model: string, webhook: string | null, response: ServerResponse) {
      const input: Readonly<Record<string, unknown>> = typeof body === 'object' && body !== null ? { ...body } : {};
      if (model.startsWith('unknown')) return refuse(response, 404, `model ${model} not found`);
      if (typeof input.prompt !== 'string') return refuse(response, 400, 'property "prompt" is missing');
      // The one error without an envelope (section 3).
      if (webhook !== null && input.enable_base64_output === true) {
        return answerJson(response, 400, { error: 'enable_base64_output cannot be used with a webhook' });
      }
      if (webhook !== null && !isLoopback(webhook))
        return refuse(response, 400, 'this simulator posts webhooks to loopback addresses only');
      submitted += 1;
      const run = { id: randomBytes(16).toString('hex'), model, input, submittedAt: systemClock.now(), failure: failureOf(faults) };
      runs.set(run.id, run);
      if (webhook !== null) void tell(run, webhook).catch(() => {});
      if (input.enable_sync_mode !== true) return succeed(response, { ...predictionAt(run, 0), status: 'created' });
      await systemClock.sleep(Math.min(runMs, SYNC_MS_MAX), closed.signal);
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
        outputs:
          isOver && !failure ? [input.enable_base64_output === true ? PNG.toString('base64') : `${server.url}/files/${id}/1.png`] : [],
        urls: { get: `${server.url}/api/v3/predictions/${id}/result` },
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
      const times = faults.take('lost-callback') ? 0 : faults.take('double-callback') ? 2 : 1;
      await systemClock.sleep(runMs + (faults.take('late-callback') ? LATE_MS : 0), closed.signal);
      for (let time = 0; time < times && runs.has(run.id); time++) await post(run, url);
    }

    async function post(run: SimulatedRun, url: string): Promise<void> {
      const body = JSON.stringify(predictionAt(run, runMs));
      for (const waitMs of [0, ...RETRY_WAITS_MS]) {
        if (waitMs > 0) await systemClock.sleep(waitMs, closed.signal);
        const signal = AbortSignal.any([closed.signal, AbortSignal.timeout(WEBHOOK_MS)]);
        const headers = { 'content-type': 'application/json', ...signed(run.id, body) };
        const answer = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'manual' }).catch(() => undefined);
        await answer?.body?.cancel();
        if (answer?.ok) return;
      }
    }

    function succeed(response: ServerResponse, data: object) {
      answerServed(faults, response, 200, { code: 200, message: 'success', data });
    }

    return {
      url: server.url,
      baseUrl: server.url,
      inject: faults.inject,
      requests: server.requests,
      get submitted() {
        return submitted;
      },
      async [Symbol.asyncDispose]() {
        closed.abort();
        await server.close();
      },
    };
  },
};
export default wavespeed;

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

function isLoopback(address: string): boolean {
  const url = URL.parse(address);
  return url !== null && /^https?:$/.test(url.protocol) && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
}

function answerFile(faults: Faults, response: ServerResponse) {
  if (faults.take('expired')) return refuse(response, 404, 'not found');
  response.writeHead(200, { 'content-type': 'image/png', 'content-length': PNG.length }).end(PNG);
}
