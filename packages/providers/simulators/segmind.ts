/**
 * Speaks Segmind's wire. Any name is a model that v1 and v2 know, with these exceptions: names that begin with `unknown` are of no model,
 * those that begin with `sync-only` are known to v1 only. A prompt is required. A run is QUEUED for the first half of its time.
 * Sections in comments are of the protocol sheet.
 */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { answerBytes, answerFirst, answerHalf, answerServed, type Desk, type ErrorStyle, keep, membersOf, PNG, simulate } from './_desk.ts';
import { answerJson, type Faults, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

/** What an adapter must send (section 1). */
const KEY = 'SG_0123456789abcdef';
const RANDOM_SEED = 7;

interface SimulatedRun {
  readonly id: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly submittedAt: number;
  /** The words of its error; undefined for a run that ends well. */
  readonly error: string | undefined;
}

/** Only `error`, for every status (section 6). There is no `Retry-After`: the instant when the limit starts anew is told instead. */
const STYLE: ErrorStyle = {
  body: (_status, message) => ({ error: message }),
  rateHeaders: () => ({ 'x-rate-limit-reset-at-utc': new Date(systemClock.now() + 1000).toISOString() }),
};

const segmind: Simulator = {
  name: 'segmind',
  environment: (url) => ({ SEGMIND_API_KEY: KEY, SEGMIND_BASE_URL: url }),
  start: (options) => simulate(options, '', openApi),
};
export default segmind;

function openApi(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const runs = new Map<string, SimulatedRun>();
  return async (request, response) => {
    const { path, method } = request;
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    const asked = /^\/v[12]\/requests\/([^/]+)(\/status)?$/.exec(path);
    if (asked && method === 'GET') return answerRun(asked[1] ?? '', asked[2] !== undefined, response);
    const model = /^\/(v1|v2)\/([\w.-]+)$/.exec(path);
    // The wrong method is answered with a page (section 6).
    if (method !== 'POST') return void response.writeHead(405, { 'content-type': 'text/html' }).end('<h1>405</h1>');
    if (!model) return answerJson(response, 404, { error: 'Not found' });
    await answerSubmission(request, model[1] ?? '', model[2] ?? '', response);
  };

  async function answerSubmission({ body }: SimulatedRequest, version: string, model: string, response: ServerResponse) {
    if (model.startsWith('unknown') || (version === 'v2' && model.startsWith('sync-only'))) {
      return answerJson(response, 404, { error: `Model ${model} not found` });
    }
    const parameters = membersOf(body);
    if (typeof parameters.prompt !== 'string') return answerJson(response, 400, { error: 'prompt is required' });
    desk.countRun();
    const run = { id: randomBytes(16).toString('hex'), parameters, submittedAt: systemClock.now(), error: errorOf(faults) };
    if (version === 'v1') return answerSynchronously(run, response);
    keep(runs, run.id, run);
    // All URLs are absolute (section 4).
    const { poll_url, status_url, response_url } = urlsOf(run);
    answerServed(desk, response, 200, { request_id: run.id, status: 'QUEUED', poll_url, status_url, response_url });
  }

  /** The bytes themselves (section 2), with what section 7 puts into headers. */
  async function answerSynchronously(run: SimulatedRun, response: ServerResponse) {
    await systemClock.sleep(runMs, desk.closed);
    if (run.error !== undefined) return answerJson(response, 422, { error: run.error });
    if (faults.take('truncated')) return answerHalf(response, 200, PNG, 'image/png');
    answerBytes(response, PNG, 'image/png', {
      'x-request-id': run.id,
      'x-seed-value': String(seedOf(run)),
      'x-cost': '0.004',
      'x-generation-time': String(runMs / 1000),
    });
  }

  function answerRun(id: string, isStatus: boolean, response: ServerResponse) {
    const run = runs.get(id);
    if (!run) return answerJson(response, 404, { error: `Request ${id} not found` });
    const { status_url, response_url } = urlsOf(run);
    const elapsedMs = faults.take('backwards') ? -1 : systemClock.now() - run.submittedAt;
    if (elapsedMs < runMs) {
      const status = elapsedMs < runMs / 2 ? 'QUEUED' : 'PROCESSING';
      return answerServed(desk, response, 200, { status, request_id: id, metrics: {}, status_url, response_url });
    }
    const seconds = runMs / 1000;
    const metrics = { inference_time: seconds / 2, queue_time: seconds / 2, total_time: seconds };
    // A failure is served as 422, without costs (section 4).
    if (run.error !== undefined) return answerServed(desk, response, 422, { status: 'FAILED', request_id: id, error: run.error, metrics });
    const paid = { ...metrics, cost: 0.004, remaining_credits: 12.5 };
    if (isStatus) return answerServed(desk, response, 200, { status: 'COMPLETED', request_id: id, metrics: { ...paid, retry_count: 0 } });
    const url = `${desk.url}/files/${id}/image.png`;
    const images = [{ url, content_type: 'image/png', file_name: 'image.png', file_size: PNG.length }];
    const { prompt } = run.parameters;
    const result = {
      status: 'COMPLETED',
      request_id: id,
      output: url,
      images,
      seed: seedOf(run),
      prompt,
      timings: {},
      error: null,
      metrics: paid,
    };
    answerServed(desk, response, 200, result);
  }

  function urlsOf({ id }: SimulatedRun) {
    const response_url = `${desk.url}/v2/requests/${id}`;
    return { poll_url: `${desk.url}/v1/requests/${id}`, status_url: `${response_url}/status`, response_url };
  }
}

/** Refused content is a failure like others; only its words differ (section 5). */
function errorOf(faults: Faults): string | undefined {
  if (faults.take('refuse')) return 'Content blocked: the prompt was flagged by our content policy (RAI).';
  return faults.take('fail') ? 'The model ran out of memory.' : undefined;
}

/** -1 asks for any (section 3). */
function seedOf({ parameters: { seed } }: SimulatedRun): number {
  return typeof seed === 'number' && seed >= 0 ? seed : RANDOM_SEED;
}

function refuseKey({ 'x-api-key': key }: SimulatedRequest['headers']): object | undefined {
  return key === KEY ? undefined : { error: key ? 'Invalid API key' : 'Missing Authorization or x-api-key' };
}
