/**
 * Speaks Replicate's wire, below `/v1`. Any model draws one pixel, with two exceptions: the owner `unknown` has none, and models of the owner
 * `prunaai` are created by version only. A prompt is required. A prediction is `starting` for the first half of its time. Left out are the
 * blocking creation, streams, uploads and the catalogue. Sections in comments are of the protocol sheet replicate.md.
 */
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { isOnThisMachine, postCallback } from './_callback.ts';
import { answerFirst, answerServed, type Desk, type ErrorStyle, keep, membersOf, simulate } from './_desk.ts';
import { answerJson, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

/** What an adapter must send (section 2). */
const TOKEN = 'r8_simulated0123456789';
const NEWEST_VERSION = 'a25bf35c'.repeat(8);
const RANDOM_SEED = 7;

type Ending = 'succeeded' | 'failed' | 'canceled';

interface Prediction {
  readonly id: string;
  readonly model: string;
  readonly version: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
  readonly webhook: string | undefined;
  ending: Ending;
  error: string | null;
}

/** Section 6. */
const STYLE: ErrorStyle = {
  contentType: 'application/problem+json',
  body: (status, message) => ({ detail: message, status, ...(status === 429 && { retry_after: 1 }) }),
  rateHeaders: () => ({ 'retry-after': '1' }),
};

const replicate: Simulator = {
  name: 'replicate',
  environment: (url) => ({ REPLICATE_API_TOKEN: TOKEN, REPLICATE_BASE_URL: `${url}/v1` }),
  start: (options) => simulate(options, '/v1', openApi),
};
export default replicate;

function openApi(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const predictions = new Map<string, Prediction>();
  const secret = randomBytes(32);
  return async (request, response) => {
    const [path = '/'] = request.path.split('?', 1);
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    const route = `${request.method} ${path}`;
    if (route === 'GET /v1/webhooks/default/secret') return answerJson(response, 200, { key: `whsec_${secret.toString('base64')}` });
    if (route === 'POST /v1/predictions') return createByVersion(request, response);
    const [, owner, name, isCreation] = /^\/v1\/models\/([^/]+)\/([^/]+)(\/predictions)?$/.exec(path) ?? [];
    if (owner && name) return answerModel(request, owner, name, isCreation !== undefined, response);
    const [, id, isCancel] = /^\/v1\/predictions\/([^/]+)(\/cancel)?$/.exec(path) ?? [];
    const prediction = predictions.get(id ?? '');
    if (!prediction) return problem(response, 404, 'The requested resource could not be found.');
    if (isCancel && request.method === 'POST') {
      if (!isOver(prediction)) prediction.ending = 'canceled';
    } else if (isCancel || request.method !== 'GET') return problem(response, 405, 'Method not allowed');
    answerServed(desk, response, 200, describe(prediction));
  };

  function createByVersion(request: SimulatedRequest, response: ServerResponse) {
    const { version } = membersOf(request.body);
    const [, given] = /^(?:[\w.-]+\/[\w.-]+:)?([0-9a-f]{64})$/.exec(typeof version === 'string' ? version : '') ?? [];
    if (!given) return problem(response, 422, 'The specified version does not exist (or perhaps you don’t have permission to use it?)');
    create(request, 'prunaai/hidream-l1-fast', given, response);
  }

  function answerModel(request: SimulatedRequest, owner: string, name: string, isCreation: boolean, response: ServerResponse) {
    const isGone = owner === 'unknown' || (isCreation && owner === 'prunaai');
    if (isGone || request.method !== (isCreation ? 'POST' : 'GET')) {
      return problem(response, 404, 'The requested resource could not be found.');
    }
    if (isCreation) return create(request, `${owner}/${name}`, 'hidden', response);
    answerJson(response, 200, { owner, name, latest_version: { id: NEWEST_VERSION, cog_version: '0.16.8', openapi_schema: {} } });
  }

  function create({ body }: SimulatedRequest, model: string, version: string, response: ServerResponse) {
    const { input: given, webhook } = membersOf(body);
    const input = membersOf(given);
    if (typeof input.prompt !== 'string') {
      return problem(response, 422, '- input: prompt is required\n', {
        title: 'Input validation failed',
        invalid_fields: [{ type: 'required', field: 'input.prompt', description: 'prompt is required' }],
      });
    }
    if (typeof webhook === 'string' && !isOnThisMachine(webhook)) {
      return problem(response, 422, 'A simulator posts webhooks to this machine only.');
    }
    desk.countRun();
    const prediction: Prediction = {
      // 26 characters (section 1).
      id: randomBytes(13).toString('hex'),
      model,
      version,
      input,
      createdAt: systemClock.now(),
      webhook: typeof webhook === 'string' ? webhook : undefined,
      ending: 'succeeded',
      error: null,
    };
    if (faults.take('refuse')) fail(prediction, 'NSFW content detected. Try running it again, or try a different prompt.');
    else if (faults.take('fail')) fail(prediction, 'CUDA error: an illegal memory access was encountered');
    keep(predictions, prediction.id, prediction);
    if (prediction.webhook !== undefined) void tell(prediction, prediction.webhook).catch(() => {});
    answerServed(desk, response, 201, describe(prediction));
  }

  /** The object of section 4. */
  function describe(prediction: Prediction) {
    const { id, model, version, input, createdAt, ending, error } = prediction;
    const elapsedMs = systemClock.now() - createdAt;
    const isStarting = (elapsedMs < runMs / 2 && !isOver(prediction)) || faults.take('backwards');
    const isEnded = !isStarting && isOver(prediction);
    const seed = typeof input.seed === 'number' && input.seed >= 0 ? input.seed : RANDOM_SEED;
    const percent = Math.min(100, Math.floor((100 * elapsedMs) / runMs));
    const url = `${desk.url}/v1/predictions/${id}`;
    return {
      id,
      model,
      version,
      status: isStarting ? 'starting' : isEnded ? ending : 'processing',
      source: 'api',
      data_removed: false,
      input,
      // One address and no list, as the vendor's own model answers (section 13).
      output: isEnded && ending === 'succeeded' ? `${desk.url}/files/${id}/out.png` : null,
      logs: isStarting ? '' : `Using seed: ${seed}\n ${percent}%|###  | ${percent}/100`,
      error: isEnded ? error : null,
      created_at: instant(createdAt),
      ...(!isStarting && { started_at: instant(createdAt + runMs / 2) }),
      ...(isEnded && { completed_at: instant(createdAt + runMs), metrics: { predict_time: runMs / 2000, total_time: runMs / 1000 } }),
      ...(prediction.webhook !== undefined && { webhook: prediction.webhook }),
      urls: { get: url, cancel: `${url}/cancel`, web: `https://replicate.com/p/${id}` },
    };
  }

  function isOver({ createdAt, ending }: Prediction): boolean {
    return ending === 'canceled' || systemClock.now() - createdAt >= runMs;
  }

  /** The end only, which is what adapters ask for (section 7). The timer may be early by a fraction of a millisecond. */
  async function tell(prediction: Prediction, webhook: string): Promise<void> {
    await systemClock.sleep(runMs + 1, desk.closed);
    const body = JSON.stringify(describe(prediction));
    const id = `msg_${randomUUID()}`;
    const headers = () => {
      const timestamp = String(Math.floor(systemClock.now() / 1000));
      const signature = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64');
      return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
    };
    await postCallback(desk, { url: webhook, body, headers });
  }
}

function fail(prediction: Prediction, error: string): void {
  prediction.ending = 'failed';
  prediction.error = error;
}

/** `Token` is the older word (section 2). */
function refuseKey({ authorization = '' }: SimulatedRequest['headers']): object | undefined {
  if (authorization === `Bearer ${TOKEN}` || authorization === `Token ${TOKEN}`) return undefined;
  return { title: 'Unauthenticated', detail: 'You did not pass a valid authentication token', status: 401 };
}

function problem(response: ServerResponse, status: number, detail: string, more: object = {}): void {
  answerJson(response, status, { ...more, detail, status }, { 'content-type': 'application/problem+json' });
}

function instant(at: number): string {
  return new Date(at).toISOString();
}
