/**
 * Speaks inference.sh's wire: tasks, their polls and streams, and webhooks without a signature. An app whose name begins with `unknown/`
 * does not exist; one that begins with `locked/` lacks a secret; a prompt of more than 1000 characters is refused. "Sheet" below is
 * protocols/inference-sh.md.
 */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { isOnThisMachine, postCallback } from './_callback.ts';
import { answerFirst, answerServed, type Desk, type ErrorStyle, keep, PNG, simulate } from './_desk.ts';
import { answerJson, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

const KEY = 'inf_0123456789abcdef';
const HEARTBEAT_MS = 10_000;
/** By so much a timer may be ahead of the clock, and a webhook must not come before the end it tells of. */
const EARLY_MS = 2;

interface Task {
  readonly id: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
  readonly webhook: string | undefined;
  readonly error: string;
  /** Ends when the task does, early when it is cancelled. */
  readonly cancelled: AbortController;
}

/** What clients of all three generations read (sheet, section 1, "Recommended"). */
const STYLE: ErrorStyle = {
  body: (status, message) => ({
    type: 'about:blank',
    title: TITLES[status] ?? 'Request failed',
    status,
    detail: message,
    success: false,
    error: { code: (TITLES[status] ?? 'request_failed').toLowerCase().replaceAll(' ', '_'), message },
  }),
  rateHeaders: () => ({ 'retry-after': '1' }),
};
const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Unauthorized',
  404: 'Not found',
  429: 'Too many requests',
  500: 'Internal error',
};

const inferenceSh: Simulator = {
  name: 'inference-sh',
  environment: (url) => ({ INFERENCE_API_KEY: KEY, INFERENCE_BASE_URL: url }),
  start: (options) => simulate(options, '', openApi),
};
export default inferenceSh;

function openApi(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const tasks = new Map<string, Task>();

  return async (request, response) => {
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    // Section 1: older documents have `/v1` in front, and a base URL with a slash at its end gives two.
    const path = (request.path.split('?', 1)[0] ?? '').replaceAll(/\/+/g, '/').replace(/^\/v1\//, '/');
    if (request.method === 'POST' && (path === '/apps/run' || path === '/run')) return answerRun(request, response);
    const [, id = '', verb = ''] = /^\/tasks\/([\w-]+)(?:\/(status|stream|cancel))?$/.exec(path) ?? [];
    const task = tasks.get(id);
    if (!task) return answerJson(response, 404, STYLE.body(404, 'task not found'));
    if (request.method === 'POST' && verb === 'cancel') return cancel(task, request, response);
    if (request.method === 'DELETE' && verb === '') {
      tasks.delete(id);
      return void response.writeHead(204).end();
    }
    if (request.method !== 'GET' || verb === 'cancel') return answerJson(response, 404, STYLE.body(404, 'no such route'));
    if (verb === 'stream') return stream(task, request, response);
    const whole = taskOf(task);
    const { status, updated_at } = whole;
    answer(request, response, verb === 'status' ? { id, status, updated_at } : whole);
  };

  async function answerRun(request: SimulatedRequest, response: ServerResponse): Promise<void> {
    const body = request.body;
    const { app, input, webhook } = isObject(body) ? body : {};
    if (typeof app !== 'string' || !isObject(input)) return answerJson(response, 400, STYLE.body(400, 'app and input are required'));
    if (app.startsWith('unknown/')) return answerJson(response, 404, STYLE.body(404, `app ${app} not found`));
    if (app.startsWith('locked/')) {
      // Section 10: outside of any envelope.
      const action = { type: 'add_secret', provider: 'hub' };
      const errors = [{ type: 'secret', key: 'HUB_TOKEN', message: 'secret HUB_TOKEN is missing', action }];
      return answerJson(response, 412, { satisfied: false, errors });
    }
    if (typeof input.prompt === 'string' && input.prompt.length > 1000)
      return answerJson(response, 400, STYLE.body(400, 'prompt must have 1000 characters at most'));
    if (webhook !== undefined && (typeof webhook !== 'string' || !isOnThisMachine(webhook)))
      return answerJson(response, 400, STYLE.body(400, 'webhook must be on this machine: this is a simulator'));
    desk.countRun();
    const error = faults.take('refuse') ? 'the prompt was refused' : faults.take('fail') ? 'CUDA out of memory' : '';
    const task: Task = { id: newId(), input, createdAt: systemClock.now(), webhook, error, cancelled: new AbortController() };
    keep(tasks, task.id, task);
    void callBack(task);
    // Section 6, "Poll": never terminal, or a client that polls never sees a change.
    answer(request, response, resultOf(task, 1));
  }

  /** Section 9: on every end, and without a signature. */
  async function callBack(task: Task): Promise<void> {
    await systemClock.sleep(runMs + EARLY_MS, AbortSignal.any([desk.closed, task.cancelled.signal])).catch(() => {});
    if (task.webhook === undefined || desk.closed.aborted) return;
    const { id, status, output, error, session_id, created_at, updated_at } = taskOf(task);
    const body = JSON.stringify({ id, status, output, error, session_id, created_at, updated_at });
    await postCallback(desk, { url: task.webhook, body, headers: () => ({}) });
  }

  /** Section 13: what a cancel answers is not settled; this is what the documents show. */
  function cancel(task: Task, request: SimulatedRequest, response: ServerResponse): void {
    if (statusOf(task) < 10) task.cancelled.abort();
    answer(request, response, { id: task.id, status: statusOf(task), cancelled: task.cancelled.signal.aborted });
  }

  /** Section 6: the current task first, then what changes, and heartbeats, until the terminal one, and only then the end. */
  async function stream(task: Task, { headers }: SimulatedRequest, response: ServerResponse): Promise<void> {
    const isLines = headers.accept?.includes('application/x-ndjson') ?? false;
    const write = (value: object) => response.write(isLines ? `${JSON.stringify(value)}\n` : `data: ${JSON.stringify(value)}\n\n`);
    response.writeHead(200, { 'content-type': isLines ? 'application/x-ndjson' : 'text/event-stream' });
    if (faults.take('truncated')) {
      response.write(`{"id":"${task.id}","sta`, () => response.destroy());
      return;
    }
    write(taskOf(task));
    const left = AbortSignal.any([desk.closed, task.cancelled.signal]);
    let status = statusOf(task);
    while (status < 10 && !desk.closed.aborted && !response.destroyed) {
      const leftMs = Math.max(1, task.createdAt + runMs / (status === 2 ? 2 : 1) - systemClock.now());
      await systemClock.sleep(Math.min(HEARTBEAT_MS, leftMs), left).catch(() => {});
      const before = status;
      status = statusOf(task);
      if (status >= 10) break;
      const { status_text, progress } = { progress: 0, ...taskOf(task) };
      write(status === before ? { type: 'heartbeat' } : { data: { status, status_text, progress }, fields: ['status', 'progress'] });
    }
    // After the loop: it may have ended since the heartbeat.
    if (statusOf(task) >= 10) write(taskOf(task));
    response.end();
  }

  /** Section 5, in the current numbers: received, running, and one of the three ends. */
  function statusOf(task: Task): number {
    if (task.cancelled.signal.aborted) return 12;
    const elapsedMs = systemClock.now() - task.createdAt;
    if (elapsedMs >= runMs) return task.error === '' ? 10 : 11;
    return elapsedMs < runMs / 2 ? 2 : 7;
  }

  function taskOf(task: Task) {
    const status = statusOf(task);
    const percent = Math.min(99, Math.floor((100 * (systemClock.now() - task.createdAt)) / Math.max(1, runMs)));
    if (status < 10 && faults.take('backwards')) return { ...resultOf(task, 1), progress: 0 };
    return status < 10 ? { ...resultOf(task, status), progress: percent } : resultOf(task, status);
  }

  /** Section 4. */
  function resultOf(task: Task, status: number) {
    const { id, input, createdAt, error } = task;
    const created_at = new Date(createdAt).toISOString();
    const image = { uri: `${desk.url}/files/${id}/image.png`, content_type: 'image/png', filename: 'image.png', size: PNG.length };
    const seed = typeof input.seed === 'number' && input.seed >= 0 ? input.seed : 7;
    return {
      id,
      short_id: id.slice(0, 8),
      status,
      status_text: NAMES[status],
      output: status === 10 ? { image, seed } : null,
      error: status === 11 ? error : '',
      session_id: null,
      created_at,
      updated_at: status < 10 ? created_at : new Date(Math.min(systemClock.now(), createdAt + runMs)).toISOString(),
    };
  }

  /** Section 1: the bare object for those who ask for version 2, else what all the others read. */
  function answer({ headers }: SimulatedRequest, response: ServerResponse, data: object): void {
    const isBare = headers['x-api-version'] === '2';
    answerServed(desk, response, 200, isBare ? data : { success: true, status: 200, data, messages: [] });
  }
}

const NAMES: Readonly<Record<number, string>> = {
  1: 'received',
  2: 'queued',
  7: 'running',
  10: 'completed',
  11: 'failed',
  12: 'cancelled',
};

function refuseKey({ authorization }: SimulatedRequest['headers']): object | undefined {
  return authorization === `Bearer ${KEY}` ? undefined : STYLE.body(401, 'invalid api key');
}

/** 26 characters of base 32, like the vendor's. */
function newId(): string {
  return Array.from(randomBytes(26), (byte) => 'abcdefghjkmnpqrstvwxyz0123456789'[byte % 32]).join('');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
