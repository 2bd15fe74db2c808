/**
 * An upstream as a team may have one of its own: a small queue over HTTP that wants a key, and one address that answers with the picture
 * itself. It speaks no vendor's wire; `QUEUE_ROUTE` and `FILE_ROUTE` are the options of routes by which the provider `http` runs models there.
 */
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { answerBytes, answerFirst, answerHalf, answerServed, type Desk, type ErrorStyle, keep, membersOf, PNG, simulate } from './_desk.ts';
import { answerJson, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

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

const http: Simulator = {
  name: 'http',
  environment: (url) => ({ HTTP_BASE_URL: url, HTTP_KEY: KEY }),
  start: (options) => simulate(options, '', openQueue),
};
export default http;

function openQueue(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const jobs = new Map<string, Job>();
  let number = 0;
  return async (request, response) => {
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    const [, root, id = '', part, ...rest] = request.path.split('/').map(decodeURIComponent);
    const call = `${request.method} ${root}`;
    if (call === 'POST jobs' && id === '') return submit(request, response);
    if (call === 'POST pictures' && id === '') return draw(request, response);
    const job = jobs.get(id);
    if (root !== 'jobs' || !job || rest.length > 0) return refuse(response, 404, 'input', 'there is no such job');
    if (call === 'DELETE jobs' && part === undefined) {
      jobs.delete(id);
      return answerServed(desk, response, 200, { id, state: 'broken' });
    }
    if (call === 'GET jobs' && part === undefined) return look(job, response);
    if (call === 'GET jobs' && part === 'result') return result(job, response);
    refuse(response, 405, 'input', 'this cannot be done here');
  };

  function take(input: unknown, response: ServerResponse): Job | undefined {
    if (typeof membersOf(input).prompt !== 'string') {
      refuse(response, 422, 'input', 'prompt must be text');
      return undefined;
    }
    desk.countRun();
    number += 1;
    const end = faults.take('fail') ? 'broken' : faults.take('refuse') ? 'refused' : 'done';
    const job = { id: `job ${number}`, startedAt: systemClock.now(), seed: 42, end } as const;
    keep(jobs, job.id, job);
    return job;
  }

  function submit({ body }: SimulatedRequest, response: ServerResponse): void {
    const job = take(membersOf(body).input, response);
    if (job) answerServed(desk, response, 202, { id: job.id, state: 'waiting' });
  }

  async function draw({ body }: SimulatedRequest, response: ServerResponse): Promise<void> {
    const job = take(body, response);
    if (!job) return;
    await systemClock.sleep(runMs, desk.closed);
    if (job.end === 'refused') refuse(response, 422, 'policy', 'the prompt is against the rules');
    else if (job.end === 'broken') refuse(response, 409, 'server', 'out of paint');
    else if (faults.take('truncated')) answerHalf(response, 200, PNG, 'image/png');
    else answerBytes(response, PNG, 'image/png');
  }

  function look(job: Job, response: ServerResponse): void {
    const fraction = Math.min(1, (systemClock.now() - job.startedAt) / Math.max(1, runMs));
    const state: State = fraction < 1 ? 'busy' : job.end;
    const error = {
      broken: { type: 'server', message: 'out of paint' },
      refused: { type: 'policy', message: 'the prompt is against the rules' },
    };
    if (faults.take('backwards')) {
      answerServed(desk, response, 200, { id: job.id, state: 'waiting', percent: 0 });
      return;
    }
    answerServed(desk, response, 200, {
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
    const picture = { link: `${desk.url}/files/fox.png`, type: 'image/png', size: [1, 1], flagged: false };
    answerServed(desk, response, 200, { pictures: [picture], seed: job.seed });
  }
}

function refuseKey({ 'x-key': key }: SimulatedRequest['headers']): object | undefined {
  return key === KEY ? undefined : { error: { type: 'key', message: 'the key is not known' } };
}

function refuse(response: ServerResponse, status: number, type: string, message: string): void {
  answerJson(response, status, { error: { type, message } });
}
