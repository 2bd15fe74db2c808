/**
 * An upstream as a team may have one of its own: a small queue over HTTP that wants a key, and one address that answers with the picture
 * itself. It speaks no vendor's wire; `QUEUE_ROUTE` and `FILE_ROUTE` are the options of routes by which the provider `http` runs models there.
 */
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { answerFault, answerServed, type ErrorStyle, PNG } from './_faulty.ts';
import {
  answerJson,
  openFaults,
  type Simulated,
  type SimulatedRequest,
  type Simulator,
  type SimulatorOptions,
  serve,
} from './simulator.ts';

export const KEY = 'simulated-http-key';

/** What all routes do with an error of this upstream. */
const error =
  '{"message": body.error.message, "code": body.error.type = "policy" ? "content_refused" : body.error.type = "input" ? "invalid_input" : "provider_error"}';

/** `POST /jobs`, then looks until it is done, then the result from an address of its own. */
export const QUEUE_ROUTE = {
  submit: { path: '/jobs', headers: { 'x-key': '{key}', 'idempotency-key': '{idempotency_key}' }, body: '{"input": parameters}' },
  poll: { path: '/jobs/{handle}', headers: { 'x-key': '{key}' } },
  result: { path: '/jobs/{handle}/result', headers: { 'x-key': '{key}' } },
  cancel: { path: '/jobs/{handle}', headers: { 'x-key': '{key}' } },
  handle: 'body.id',
  state: '$lookup({"waiting": "running", "busy": "running", "done": "succeeded", "broken": "failed", "refused": "refused"}, body.state)',
  progress: 'body.percent / 100',
  outputs: 'body.pictures.{"url": link, "content_type": type, "width": size[0], "height": size[1], "nsfw": flagged}',
  seed: 'body.seed',
  error,
  poll_seconds: 0.05,
};

/** `POST /pictures`, answered with the bytes when they are ready. */
export const FILE_ROUTE = { submit: { path: '/pictures', headers: { 'x-key': '{key}' } }, error };

type State = 'waiting' | 'busy' | 'done' | 'broken' | 'refused';

interface Job {
  readonly id: string;
  readonly startedAt: number;
  readonly seed: number;
  end: Exclude<State, 'waiting' | 'busy'>;
}

const STYLE: ErrorStyle = {
  body: (_status, message) => ({ error: { type: 'server', message } }),
  rateHeaders: () => ({ 'retry-after': '1' }),
};

async function start({ port, runMs }: SimulatorOptions): Promise<Simulated> {
  const faults = openFaults();
  const closing = new AbortController();
  const jobs = new Map<string, Job>();
  let submitted = 0;

  const server = await serve(port, faults, async (request, response) => {
    if (request.path.startsWith('/files/')) return sendFile(response);
    if (request.headers['x-key'] !== KEY) return refuse(response, 401, 'key', 'the key is not known');
    if (await answerFault(faults, response, STYLE, closing.signal)) return;
    const [, root, id = '', part, ...rest] = request.path.split('/').map(decodeURIComponent);
    const call = `${request.method} ${root}`;
    if (call === 'POST jobs' && id === '') return submit(request, response);
    if (call === 'POST pictures' && id === '') return draw(request, response);
    const job = jobs.get(id);
    if (root !== 'jobs' || !job || rest.length > 0) return refuse(response, 404, 'input', 'there is no such job');
    if (call === 'DELETE jobs' && part === undefined) {
      jobs.delete(id);
      return answerServed(faults, response, 200, { id, state: 'broken' });
    }
    if (call === 'GET jobs' && part === undefined) return look(job, response);
    if (call === 'GET jobs' && part === 'result') return result(job, response);
    refuse(response, 405, 'input', 'this cannot be done here');
  });

  function take(input: unknown, response: ServerResponse): Job | undefined {
    const prompt = typeof input === 'object' && input !== null && 'prompt' in input ? input.prompt : undefined;
    if (typeof prompt !== 'string') {
      refuse(response, 422, 'input', 'prompt must be text');
      return undefined;
    }
    submitted += 1;
    const end = faults.take('fail') ? 'broken' : faults.take('refuse') ? 'refused' : 'done';
    const job = { id: `job ${submitted}`, startedAt: systemClock.now(), seed: 42, end } as const;
    jobs.set(job.id, job);
    return job;
  }

  function submit({ body }: SimulatedRequest, response: ServerResponse): void {
    const job = take(typeof body === 'object' && body !== null && 'input' in body ? body.input : undefined, response);
    if (job) answerServed(faults, response, 202, { id: job.id, state: 'waiting' });
  }

  async function draw({ body }: SimulatedRequest, response: ServerResponse): Promise<void> {
    const job = take(body, response);
    if (!job) return;
    await systemClock.sleep(runMs, closing.signal);
    if (job.end === 'refused') refuse(response, 422, 'policy', 'the prompt is against the rules');
    else if (job.end === 'broken') refuse(response, 409, 'server', 'out of paint');
    else response.writeHead(200, { 'content-type': 'image/png' }).end(PNG);
  }

  function look(job: Job, response: ServerResponse): void {
    const fraction = Math.min(1, (systemClock.now() - job.startedAt) / Math.max(1, runMs));
    const state: State = fraction < 1 ? 'busy' : job.end;
    const error = {
      broken: { type: 'server', message: 'out of paint' },
      refused: { type: 'policy', message: 'the prompt is against the rules' },
    };
    if (faults.take('backwards')) {
      answerServed(faults, response, 200, { id: job.id, state: 'waiting', percent: 0 });
      return;
    }
    answerServed(faults, response, 200, {
      id: job.id,
      state,
      percent: Math.floor(100 * fraction),
      ...(state === 'broken' || state === 'refused' ? { error: error[state] } : {}),
    });
  }

  function result(job: Job, response: ServerResponse): void {
    const isReady = systemClock.now() - job.startedAt >= runMs && job.end === 'done';
    if (!isReady) {
      refuse(response, 404, 'input', 'there is no result');
      return;
    }
    const picture = { link: `${server.url}/files/fox.png`, type: 'image/png', size: [1, 1], flagged: false };
    answerServed(faults, response, 200, { pictures: [picture], seed: job.seed });
  }

  function sendFile(response: ServerResponse): void {
    if (faults.take('expired')) refuse(response, 404, 'input', 'the file is gone');
    else response.writeHead(200, { 'content-type': 'image/png' }).end(PNG);
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
      closing.abort();
      await server.close();
    },
  };
}

export default {
  name: 'http',
  environment: (url) => ({ HTTP_BASE_URL: url, HTTP_KEY: KEY }),
  start,
} satisfies Simulator;

function refuse(response: ServerResponse, status: number, type: string, message: string): void {
  answerJson(response, status, { error: { type, message } });
}
