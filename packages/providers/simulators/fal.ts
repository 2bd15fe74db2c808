/**
 * Speaks the wire of fal's queue. Any id is a model that draws one pixel, except that the owner `unknown` has none. A prompt is required, and
 * missing it shows at the result, as at the vendor. A run is IN_QUEUE for the first half of its time. Left out are the synchronous host, the
 * status stream and uploads. Sections in comments are of the protocol sheet fal.md.
 */
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { isOnThisMachine, postCallback } from './_callback.ts';
import { answerFirst, answerServed, type Desk, type ErrorStyle, keep, membersOf, PNG, simulate } from './_desk.ts';
import { answerJson, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

/** What an adapter must send (section 4). */
const KEY = 'simulated-id:simulated-secret';
const USER_ID = 'simulated-user';
const RANDOM_SEED = 7;
const IMAGES_MAX = 4;

interface Ended {
  readonly status: number;
  readonly body: object;
  /** Of a run that failed, as the status tells it. */
  readonly error?: string;
  readonly errorType?: string;
}

interface SimulatedRun {
  readonly id: string;
  readonly app: string;
  readonly submittedAt: number;
  /** What it will have come to; a cancellation changes that. */
  ended: Ended;
  isCancelled: boolean;
}

/** Platform errors (section 5). */
const STYLE: ErrorStyle = {
  body: (status, message) => ({ detail: message, error_type: status === 429 ? 'concurrent_requests_limit' : 'internal_server_error' }),
  rateHeaders: () => ({ 'retry-after': '1' }),
};

const fal: Simulator = {
  name: 'fal',
  environment: (url) => ({ FAL_KEY: KEY, FAL_BASE_URL: url, FAL_JWKS_URL: `${url}/.well-known/jwks.json` }),
  start: (options) => simulate(options, '', openQueue),
};
export default fal;

function openQueue(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const runs = new Map<string, SimulatedRun>();
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return async (request, response) => {
    const { pathname, searchParams } = new URL(request.path, desk.url);
    // A trailing slash is accepted (section 1).
    const path = pathname.replace(/\/$/, '');
    if (path === '/.well-known/jwks.json') {
      const { x } = publicKey.export({ format: 'jwk' });
      // The vendor's document pads (section 7).
      return answerJson(response, 200, { keys: [{ kty: 'OKP', crv: 'Ed25519', x: `${x}=` }] });
    }
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    const asked = /^\/(.+?)\/requests\/([^/]+)(?:\/(status|response|cancel))?$/.exec(path);
    const verb = asked?.[3];
    if (!asked && request.method === 'POST') return answerSubmission(request, path.slice(1), searchParams, response);
    const run = runs.get(asked?.[2] ?? '');
    // With the whole id of the model, as some pages show, it is the same run (section 1).
    if (!run || !`${asked?.[1]}/`.startsWith(`${run.app}/`)) return answerJson(response, 404, { status: 'NOT_FOUND' });
    if (request.method === 'PUT' && verb === 'cancel') return answerCancel(run, response);
    if (request.method !== 'GET' || verb === 'cancel') return answerJson(response, 405, { detail: 'Method Not Allowed' });
    response.setHeader('x-fal-request-id', run.id);
    if (verb === 'status') answerStatus(run, ['1', 'true'].includes(searchParams.get('logs') ?? ''), response);
    else answerResult(run, response);
  };

  function answerSubmission({ body }: SimulatedRequest, model: string, query: URLSearchParams, response: ServerResponse) {
    const webhook = query.get('fal_webhook');
    if (model.startsWith('unknown/') || !model.includes('/')) return answerJson(response, 404, { detail: 'Application not found' });
    if (webhook !== null && !isOnThisMachine(webhook)) {
      return answerJson(response, 422, { detail: 'A simulator posts webhooks to this machine only.', error_type: 'bad_request' });
    }
    desk.countRun();
    const input = membersOf(body);
    const app = model
      .split('/')
      .slice(0, /^(workflows|comfy)\//.test(model) ? 3 : 2)
      .join('/');
    const id = randomUUID();
    const run = { id, app, submittedAt: systemClock.now(), ended: endOf(id, input), isCancelled: false };
    keep(runs, id, run);
    if (webhook !== null) void tell(run, webhook).catch(() => {});
    response.setHeader('x-fal-request-id', id);
    answerServed(desk, response, 200, { status: 'IN_QUEUE', request_id: id, queue_position: 0, ...urlsOf(run) });
  }

  function endOf(id: string, input: Readonly<Record<string, unknown>>): Ended {
    if (faults.take('refuse')) return modelError('content_policy_violation', 'The content could not be processed: it was flagged.');
    if (faults.take('fail')) return modelError('no_media_generated', 'The model generated no media for this input.', []);
    const { prompt, seed = RANDOM_SEED, num_images: count = 1, sync_mode: isInline = false } = input;
    if (typeof prompt !== 'string') return modelError('missing', 'Field required');
    const url = isInline === true ? `data:image/png;base64,${PNG.toString('base64')}` : `${desk.url}/files/${id}.png`;
    const images = Array.from({ length: Math.min(IMAGES_MAX, typeof count === 'number' ? count : 1) }, () => ({
      url,
      content_type: 'image/png',
      width: 1,
      height: 1,
    }));
    const timings = { inference: runMs / 1000 };
    return { status: 200, body: { images, timings, seed, has_nsfw_concepts: images.map(() => false), prompt } };
  }

  /** 202 until it is over (section 2). */
  function answerStatus(run: SimulatedRun, isLogged: boolean, response: ServerResponse) {
    const elapsedMs = systemClock.now() - run.submittedAt;
    const common = { request_id: run.id, ...urlsOf(run) };
    if ((elapsedMs < runMs / 2 && !run.isCancelled) || faults.take('backwards')) {
      return answerServed(desk, response, 202, { status: 'IN_QUEUE', queue_position: 0, ...common });
    }
    const percent = Math.min(100, Math.floor((100 * elapsedMs) / runMs));
    const bar = { message: `${percent}%|###  | ${percent}/100`, level: 'STDERR', source: 'USER', timestamp: timestampOf() };
    const logs = isLogged ? [bar] : null;
    if (!isOver(run)) return answerServed(desk, response, 202, { status: 'IN_PROGRESS', logs, ...common });
    const { error, errorType } = run.ended;
    answerServed(desk, response, 200, {
      status: 'COMPLETED',
      logs,
      metrics: { inference_time: runMs / 2000 },
      ...(error !== undefined && { error, error_type: errorType }),
      ...common,
    });
  }

  function answerResult(run: SimulatedRun, response: ServerResponse) {
    if (!isOver(run)) return answerJson(response, 400, { detail: 'Request is still in progress' });
    const { status, body, errorType } = run.ended;
    if (errorType !== undefined) response.setHeader('x-fal-error-type', errorType);
    answerServed(desk, response, status, body);
  }

  function answerCancel(run: SimulatedRun, response: ServerResponse) {
    if (isOver(run)) return answerJson(response, 400, { status: 'ALREADY_COMPLETED' });
    run.isCancelled = true;
    run.ended = platformError(499, 'client_cancelled', 'The request was cancelled.');
    answerJson(response, 202, { status: 'CANCELLATION_REQUESTED' });
  }

  function isOver(run: SimulatedRun): boolean {
    return run.isCancelled || systemClock.now() - run.submittedAt >= runMs;
  }

  function urlsOf({ app, id }: SimulatedRun) {
    const response_url = `${desk.url}/${app}/requests/${id}`;
    return { response_url, status_url: `${response_url}/status`, cancel_url: `${response_url}/cancel` };
  }

  /** The webhook of section 7. */
  async function tell(run: SimulatedRun, webhook: string): Promise<void> {
    await systemClock.sleep(runMs, desk.closed);
    const { status, body: payload } = run.ended;
    const outcome = status === 200 ? { status: 'OK' } : { status: 'ERROR', error: `Invalid status code: ${status}` };
    const body = JSON.stringify({ request_id: run.id, gateway_request_id: run.id, ...outcome, payload });
    const headers = () => {
      const timestamp = String(Math.floor(systemClock.now() / 1000));
      const lines = [run.id, USER_ID, timestamp, createHash('sha256').update(body).digest('hex')];
      return {
        'x-fal-webhook-request-id': run.id,
        'x-fal-webhook-user-id': USER_ID,
        'x-fal-webhook-timestamp': timestamp,
        'x-fal-webhook-signature': sign(null, Buffer.from(lines.join('\n')), privateKey).toString('hex'),
      };
    };
    await postCallback(desk, { url: webhook, body, headers });
  }
}

/** The family of errors that models answer with (section 5). */
function modelError(type: string, msg: string, place: readonly string[] = ['prompt']): Ended {
  const detail = [{ loc: ['body', ...place], msg, type, url: `https://docs.fal.ai/errors#${type}`, input: {} }];
  return { status: 422, body: { detail }, error: msg, errorType: type };
}

function platformError(status: number, type: string, detail: string): Ended {
  return { status, body: { detail, error_type: type }, error: detail, errorType: type };
}

function refuseKey({ authorization }: SimulatedRequest['headers']): object | undefined {
  return authorization === `Key ${KEY}` ? undefined : { detail: 'Cannot access application. Authentication is required.' };
}

function timestampOf(): string {
  return new Date(systemClock.now()).toISOString();
}
