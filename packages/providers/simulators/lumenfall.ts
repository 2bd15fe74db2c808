/**
 * Speaks Lumenfall's wire: pictures, words, videos with signed webhooks, the secret of these, models and dry runs, all under both of its prefixes.
 * A model whose name begins with `unknown` does not exist; one that begins with `broke` finds the balance empty. Pictures and videos may
 * have any size but `0x0`. "Sheet" below is protocols/lumenfall.md.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { isOnThisMachine, postCallback } from './_callback.ts';
import { answerFirst, answerServed, type Desk, type ErrorStyle, keep, PNG, simulate } from './_desk.ts';
import { completionOf } from './_openai-chat.ts';
import { type Fields, fieldsOf, isFields } from './_openai-form.ts';
import { answerJson, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

const KEY = 'lmnfl_0123.456789abcdef';
const PICTURES_MAX = 10;
/** By so much a timer may be ahead of the clock, and a webhook must not come before the end it tells of. */
const EARLY_MS = 2;

interface Video {
  readonly id: string;
  readonly fields: Fields;
  readonly createdAt: number;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** Sheet, section 11. */
const STYLE: ErrorStyle = {
  body: (status, message) => errorBody(message, status === 429 ? 'RATE_LIMITED' : 'INTERNAL_ERROR'),
  rateHeaders: () => ({ 'retry-after': '1' }),
};
const REFUSED = { code: 'CONTENT_POLICY_VIOLATION', message: 'The prompt violates the content policy of the provider.' };

const lumenfall: Simulator = {
  name: 'lumenfall',
  environment: (url) => ({ LUMENFALL_API_KEY: KEY, LUMENFALL_BASE_URL: `${url}/openai/v1` }),
  start: (options) => simulate(options, '/openai/v1', openGateway),
};
export default lumenfall;

function openGateway(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const videos = new Map<string, Video>();
  const byKey = new Map<string, Video>();
  const secret = randomBytes(24);

  return async (request, response) => {
    const { method } = request;
    const [whole = '', query = ''] = request.path.split('?', 2);
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    // The documents are loose about the prefix (sheet, section 1).
    const path = whole.replace(/^(\/openai)?\/v1(?=\/)/, '');
    const isDryRun = new URLSearchParams(query).get('dryRun') === 'true';
    if (method === 'POST' && path === '/images/generations') return makePictures(request, response, isDryRun);
    if (method === 'POST' && path === '/chat/completions') return chat(request, response, isDryRun);
    if (method === 'POST' && path === '/videos') return makeVideo(request, response, isDryRun);
    if (method === 'GET' && path === '/models')
      return answerServed(desk, response, 200, { object: 'list', data: [modelOf('hidream-i1-fast')] });
    const [, model] = /^\/models\/([^/]+)$/.exec(path) ?? [];
    if (method === 'GET' && model) return answerServed(desk, response, 200, modelOf(decodeURIComponent(model)));
    // Native, so under one prefix only (sheet, section 2).
    if (method === 'GET' && whole === '/v1/webhooks/secret')
      return answerServed(desk, response, 200, { key: `whsec_${secret.toString('base64')}` });
    const [, id = ''] = /^\/videos\/([\w-]+)$/.exec(path) ?? [];
    const video = videos.get(id);
    if (!video) return answerJson(response, 404, errorBody('No such resource.', 'INVALID_REQUEST'));
    if (method === 'DELETE') {
      videos.delete(id);
      return void response.writeHead(204).end();
    }
    if (method === 'GET') return answerServed(desk, response, 200, videoOf(video));
    answerJson(response, 405, errorBody('Method not allowed.', 'INVALID_REQUEST'));
  };

  /** Holds the connection for as long as a run takes (sheet, section 4). */
  async function makePictures(request: SimulatedRequest, response: ServerResponse, isDryRun: boolean): Promise<void> {
    const fields = await checked(request, response);
    if (!fields) return;
    if (isDryRun) return answerQuote(fields, response);
    desk.countRun();
    await systemClock.sleep(runMs, desk.closed);
    if (faults.take('refuse')) return answerJson(response, 400, errorBody(REFUSED.message, REFUSED.code));
    if (faults.take('fail')) return answerJson(response, 400, errorBody('The provider failed.', 'UPSTREAM_ERROR'));
    const [provider, model] = routeOf(String(fields.model));
    const picture = () =>
      fields.response_format === 'b64_json' ? { b64_json: PNG.toString('base64') } : { url: linkOf(newId('img'), 'png') };
    const wanted = typeof fields.n === 'number' ? Math.min(PICTURES_MAX, Math.max(1, fields.n)) : 1;
    answerServed(desk, response, 200, {
      id: newId('req'),
      created: seconds(systemClock.now()),
      size: fields.size ?? '1024x1024',
      output_format: 'png',
      data: Array.from({ length: wanted }, picture),
      metadata: { model, executed_model: `${provider}/${model}`, provider, provider_name: provider, cost: 0.01, cost_currency: 'USD' },
    });
  }

  async function chat({ body }: SimulatedRequest, response: ServerResponse, isDryRun: boolean): Promise<void> {
    const fields = isFields(body) ? body : {};
    const completion = completionOf(fields, newId('req'), seconds(systemClock.now()));
    if (!completion) return answerJson(response, 400, errorBody('messages are required.', 'INVALID_REQUEST', 'invalid_request_error'));
    if (refusedModel(String(fields.model), response)) return;
    if (isDryRun) return answerQuote(fields, response);
    desk.countRun();
    await systemClock.sleep(runMs, desk.closed);
    if (faults.take('refuse')) return answerJson(response, 400, errorBody(REFUSED.message, REFUSED.code));
    if (faults.take('fail')) return answerJson(response, 400, errorBody('The provider failed.', 'UPSTREAM_ERROR'));
    const metadata = { executed_model: `openrouter/${fields.model}`, provider: 'openrouter', cost: 0.0002, cost_currency: 'USD' };
    answerServed(desk, response, 200, { ...completion, metadata });
  }

  /** Sheet, section 9. The same key finds the video that there is already. */
  async function makeVideo(request: SimulatedRequest, response: ServerResponse, isDryRun: boolean): Promise<void> {
    const fields = await checked(request, response);
    if (!fields) return;
    if (isDryRun) return answerQuote(fields, response);
    const { idempotency_key: key, webhook_url: webhook } = fields;
    const known = typeof key === 'string' ? byKey.get(key) : undefined;
    if (known) return answerServed(desk, response, 200, submissionOf(known));
    // The vendor wants https and a public host; a simulator has the opposite reason to be choosy.
    if (webhook !== undefined && (typeof webhook !== 'string' || !isOnThisMachine(webhook))) {
      return answerJson(response, 400, errorBody('webhook_url must be on this machine: this is a simulator.', 'INVALID_REQUEST'));
    }
    desk.countRun();
    const error = faults.take('refuse')
      ? REFUSED
      : faults.take('fail')
        ? { code: 'UPSTREAM_ERROR', message: 'The video could not be made.' }
        : null;
    const video: Video = { id: newId('video'), fields, createdAt: systemClock.now(), error };
    keep(videos, video.id, video);
    if (typeof key === 'string') keep(byKey, key, video);
    if (webhook !== undefined) void callBack(video, webhook);
    answerServed(desk, response, 202, submissionOf(video));
  }

  /** Sheet, section 10. The id in it is of the request log, and not the one of the video. */
  async function callBack(video: Video, webhook: string): Promise<void> {
    await systemClock.sleep(runMs + EARLY_MS, desk.closed).catch(() => {});
    if (desk.closed.aborted) return;
    const { model, status, output } = videoOf(video);
    const id = newId('req');
    const body = JSON.stringify({ type: `video.${status}`, data: { object: 'video.generation', id, model, status, output } });
    const timestamp = seconds(systemClock.now());
    const signature = createHmac('sha256', secret).update(`msg_${id}.${timestamp}.${body}`).digest('base64');
    const headers = { 'webhook-id': `msg_${id}`, 'webhook-timestamp': String(timestamp), 'webhook-signature': `v1,${signature}` };
    await postCallback(desk, { url: webhook, body, headers: () => headers });
  }

  /** The fields of a submission; undefined when it was refused. */
  async function checked(request: SimulatedRequest, response: ServerResponse): Promise<Fields | undefined> {
    const fields = await fieldsOf(request);
    const model = typeof fields?.model === 'string' ? fields.model : '';
    if (!fields || typeof fields.prompt !== 'string' || model === '') {
      answerJson(response, 400, errorBody('model and prompt are required.', 'INVALID_REQUEST', 'invalid_request_error'));
    } else if (fields.size === '0x0') {
      answerJson(response, 400, errorBody('size must not be empty.', 'INVALID_REQUEST', 'invalid_request_error'));
    } else if (!refusedModel(model, response)) return fields;
    return undefined;
  }

  /** True when the model was the reason for the answer. */
  function refusedModel(model: string, response: ServerResponse): boolean {
    if (model.startsWith('unknown')) answerJson(response, 404, errorBody(`Model ${model} not found.`, 'MODEL_NOT_FOUND'));
    else if (model.startsWith('broke')) {
      answerJson(response, 402, errorBody('Insufficient balance.', 'INSUFFICIENT_BALANCE', 'billing_error'));
    } else return false;
    return true;
  }

  /** Sheet, section 6: parameters are checked, nothing runs. */
  function answerQuote({ model }: Fields, response: ServerResponse): void {
    const component = { type: 'output', metric: 'image', quantity: 1, billable_quantity: 1, unit_price: 0.01, total_cost: 10_000 };
    const [provider, name] = routeOf(String(model));
    const quote = { estimated: true, model: name, provider, total_cost_micros: 10_000, currency: 'USD', components: [component] };
    answerServed(desk, response, 200, quote);
  }

  function submissionOf({ id, fields, createdAt }: Video) {
    const { model, seconds: length, size } = fields;
    return {
      id,
      object: 'video',
      created_at: seconds(createdAt),
      status: 'queued',
      model,
      seconds: String(length ?? '10'),
      size: size ?? '1280x720',
    };
  }

  function videoOf(video: Video) {
    const { id, fields, createdAt, error } = video;
    const elapsedMs = faults.take('backwards') ? -1 : systemClock.now() - createdAt;
    const isOver = elapsedMs >= runMs;
    const isDone = isOver && !error;
    return {
      ...submissionOf(video),
      prompt: fields.prompt,
      status: isOver ? (error ? 'failed' : 'completed') : elapsedMs < runMs / 2 ? 'queued' : 'in_progress',
      completed_at: isDone ? seconds(createdAt + runMs) : null,
      expires_at: isDone ? seconds(createdAt + runMs) + 3600 : null,
      output: isDone ? { url: linkOf(id, 'mp4'), content_type: 'video/mp4', size_bytes: PNG.length } : null,
      error: isOver ? error : null,
      metadata: isDone ? { cost: 0.5 } : { cost_estimate: 0.5 },
    };
  }

  function linkOf(id: string, extension: string): string {
    return `${desk.url}/files/${id}.${extension}`;
  }
}

/** Sheet, section 7: what is before a slash forces a provider. */
function routeOf(model: string): readonly [provider: string, model: string] {
  const [provider, ...rest] = model.split('/');
  return provider !== undefined && rest.length > 0 ? [provider, rest.join('/')] : ['replicate', model];
}

function modelOf(id: string) {
  return { id, object: 'model', created: 0, owned_by: 'simulator' };
}

function refuseKey({ authorization }: SimulatedRequest['headers']): object | undefined {
  return authorization === `Bearer ${KEY}` ? undefined : errorBody('Invalid API key.', 'AUTHENTICATION_FAILED', 'authentication_error');
}

function errorBody(message: string, code: string, type?: string) {
  return { error: { message, ...(type !== undefined && { type }), code } };
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

function newId(kind: string): string {
  return `${kind}_${randomBytes(16).toString('hex')}`;
}
