/**
 * A Cog container as cog.md describes it: one slot, no authentication, no poll, webhooks with twelve retries. Its model draws one pixel;
 * it wants `prompt` to be text (refused by the schema otherwise) and `steps` to be 50 at most (refused by the runner).
 */
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { postCallback } from './_callback.ts';
import { answerFirst, answerServed, type Desk, type ErrorStyle, membersOf, PNG, simulate } from './_desk.ts';
import { answerJson, type Handler, type Simulated, type SimulatedRequest, type Simulator, type SimulatorOptions } from './simulator.ts';

/** Section 6. */
export type CogHealth = 'UNKNOWN' | 'STARTING' | 'READY' | 'BUSY' | 'UNHEALTHY' | 'SETUP_FAILED' | 'DEFUNCT';

export interface SimulatedCog extends Simulated {
  /** Makes the container tell of this state, and take no work unless it is READY; undefined leaves it to its slot. */
  setHealth(health: CogHealth | undefined): void;
  /** Ends all runs without a webhook, as a container that is killed and started again. */
  restart(): void;
}

/** What the container was given as WEBHOOK_AUTH_TOKEN. */
export const WEBHOOK_TOKEN = 'simulated-webhook-token';

const EVENTS = ['start', 'output', 'logs', 'completed'];
const SLOTS = 1;
/** Section 7: 12 retries, from 0.2 seconds on, doubling up to 102.4. */
const RETRY_WAITS_MS = Array.from({ length: 12 }, (_, retry) => Math.min(200 * 2 ** retry, 102_400));
/** After these, and without an answer, the last webhook of a run is sent again. */
const RETRIED = [undefined, 429, 500, 502, 503, 504];

/** These never come of a container as such, but of what is in front of it. */
const STYLE: ErrorStyle = {
  body: (_status, message) => ({ error: message }),
  rateHeaders: () => ({ 'retry-after': '1' }),
};

interface CogRun {
  readonly id: string;
  readonly webhook: string | undefined;
  readonly events: readonly unknown[];
  readonly startedAt: number;
  readonly control: AbortController;
  /** Why its control was aborted; a container that restarts tells nobody. */
  end: 'canceled' | 'lost';
}

type Snapshot = Readonly<Record<string, unknown>>;

/** Each call starts another container. */
async function start(options: SimulatorOptions): Promise<SimulatedCog> {
  const runs = new Map<string, CogRun>();
  const state: { health: CogHealth | undefined } = { health: undefined };
  const simulated = await simulate(options, '', (desk) => openServer(desk, runs, () => state.health));
  return Object.assign(simulated, {
    setHealth(health: CogHealth | undefined) {
      state.health = health;
    },
    restart() {
      for (const run of runs.values()) {
        run.end = 'lost';
        run.control.abort();
      }
      runs.clear();
    },
  });
}

function openServer(desk: Desk, runs: Map<string, CogRun>, healthTold: () => CogHealth | undefined): Handler {
  const { faults, runMs } = desk;
  return async (request, response) => {
    if (await answerFirst(desk, request, response, { style: STYLE })) return;
    const [path = '/'] = request.path.split('?', 1);
    const [, root, id, verb, ...rest] = path.split('/').map(decodeURIComponent);
    if (request.method === 'GET' && path === '/') return answerJson(response, 200, discovery(desk.url));
    if (request.method === 'GET' && path === '/health-check') {
      return answerServed(desk, response, 200, { status: currentHealth(), version: VERSION });
    }
    if (root !== 'predictions' || rest.length > 0) return answerText(response, 404, '');
    if (request.method === 'POST' && id && verb === 'cancel') return cancel(response, id);
    if (verb === undefined && request.method === (id ? 'PUT' : 'POST')) return predict(request, response, id);
    return answerText(response, 405, '');
  };

  function currentHealth(): CogHealth {
    return healthTold() ?? (runs.size >= SLOTS ? 'BUSY' : 'READY');
  }

  function cancel(response: ServerResponse, id: string): void {
    const run = runs.get(id);
    run?.control.abort();
    answerServed(desk, response, run ? 200 : 404, {});
  }

  async function predict(request: SimulatedRequest, response: ServerResponse, pathId: string | undefined): Promise<void> {
    const contentType = request.headers['content-type'];
    if (contentType !== undefined && !/^application\/json\b/.test(contentType))
      return answerText(response, 415, 'Expected request with `Content-Type: application/json`');
    // Section 2: without a content type the body counts as absent.
    const body = contentType === undefined ? {} : request.body;
    if (!isObject(body)) return answerText(response, 400, 'Failed to parse the request body as JSON');
    const events = body.webhook_events_filter ?? EVENTS;
    if (!Array.isArray(events) || !events.every((event) => EVENTS.includes(event))) {
      return answerText(response, 422, 'Failed to deserialize the JSON body into the target type: webhook_events_filter: unknown variant');
    }
    if (pathId !== undefined && body.id !== undefined && body.id !== pathId) {
      return answerServed(desk, response, 422, {
        detail: [{ loc: ['body', 'id'], msg: 'must match the id in the path', type: 'value_error' }],
      });
    }
    const id = pathId ?? (typeof body.id === 'string' ? body.id : `pred_${systemClock.now().toString(16)}`);
    const known = runs.get(id);
    if (known)
      return answerServed(
        desk,
        response,
        202,
        faults.take('backwards') ? { ...snapshotOf(known, 'starting') } : snapshotOf(known, 'processing'),
      );
    const input = membersOf(body.input);
    if (input.prompt !== undefined && typeof input.prompt !== 'string') {
      return answerServed(desk, response, 422, {
        detail: [{ loc: ['body', 'input', 'prompt'], msg: 'Input should be a valid string', type: 'string_type' }],
      });
    }
    const health = healthTold();
    if (health !== undefined && health !== 'READY' && health !== 'BUSY')
      return answerServed(desk, response, 503, { error: 'Setup has not finished', status: 'failed' });
    if (currentHealth() === 'BUSY')
      return answerServed(desk, response, 409, { error: 'At capacity - all prediction slots busy', status: 'failed' });
    desk.countRun();
    if (typeof input.steps === 'number' && input.steps > 50) {
      return answerServed(desk, response, 422, { id, error: 'steps must be 50 at most', logs: '', status: 'failed', metrics: {} });
    }
    const run: CogRun = {
      id,
      webhook: typeof body.webhook === 'string' ? body.webhook : undefined,
      events,
      startedAt: systemClock.now(),
      control: new AbortController(),
      end: 'canceled',
    };
    runs.set(id, run);
    const isAsync = request.headers.prefer === 'respond-async';
    const ended = perform(run, input);
    if (isAsync) return answerServed(desk, response, 202, { id, status: 'starting' });
    // Section 5: a caller who leaves cancels.
    response.on('close', () => run.control.abort());
    const snapshot = await ended;
    if (snapshot) answerServed(desk, response, 200, { ...snapshot, ...(snapshot.status !== 'succeeded' && { logs: '' }) });
    else response.destroy();
  }

  /** Runs to the end and tells by webhook. Undefined when nobody learns how it ended. */
  async function perform(run: CogRun, input: Snapshot): Promise<Snapshot | undefined> {
    void tell(run, 'start', snapshotOf(run, 'processing'));
    const isCancelled = await systemClock.sleep(runMs, AbortSignal.any([run.control.signal, desk.closed])).then(
      () => false,
      () => true,
    );
    runs.delete(run.id);
    if (run.end === 'lost' || desk.closed.aborted) return undefined;
    const ended = isCancelled ? snapshotOf(run, 'canceled') : outcome(run, input);
    void complete(run, ended);
    return ended;
  }

  function outcome(run: CogRun, input: Snapshot): Snapshot {
    if (faults.take('fail')) return { ...snapshotOf(run, 'failed'), error: 'CUDA out of memory' };
    if (faults.take('refuse'))
      return { ...snapshotOf(run, 'failed'), error: 'NSFW content detected. Try running it again, or try a different prompt.' };
    // A model of words where there is no picture to draw, so that both kinds of output can be tried.
    const output = input.prompt === undefined ? ['Hello', ', ', 'world'] : [`data:image/png;base64,${PNG.toString('base64')}`];
    return { ...snapshotOf(run, 'succeeded'), output };
  }

  async function complete(run: CogRun, ended: Snapshot): Promise<void> {
    await tell(run, 'completed', ended);
    // Section 7: other snapshots are sent in the background and may come after the last.
    if (faults.take('backwards')) await send(run, snapshotOf(run, 'processing'));
  }

  async function tell(run: CogRun, event: string, snapshot: Snapshot): Promise<void> {
    if (run.events.includes(event)) await send(run, snapshot, event === 'completed' ? RETRY_WAITS_MS : []);
  }

  async function send({ webhook }: CogRun, snapshot: Snapshot, waitsMs: readonly number[] = []): Promise<void> {
    if (webhook === undefined) return;
    const headers = () => ({ 'user-agent': 'coglet/0.22.0', authorization: `Bearer ${WEBHOOK_TOKEN}` });
    const isTaken = (status: number | undefined) => !RETRIED.includes(status);
    await postCallback(desk, { url: webhook, body: JSON.stringify(snapshot), headers, waitsMs, isTaken });
  }
}

export default {
  name: 'cog',
  environment: (url) => ({ COG_BASE_URL: url, COG_WEBHOOK_TOKEN: WEBHOOK_TOKEN }),
  start,
} satisfies Simulator;

const VERSION = { coglet: '0.22.0' };

function discovery(url: string): Snapshot {
  return {
    cog_version: VERSION.coglet,
    docs_url: `${url}/docs`,
    openapi_url: `${url}/openapi.json`,
    shutdown_url: `${url}/shutdown`,
    healthcheck_url: `${url}/health-check`,
    predictions_url: `${url}/predictions`,
    predictions_idempotent_url: `${url}/predictions/{prediction_id}`,
    predictions_cancel_url: `${url}/predictions/{prediction_id}/cancel`,
  };
}

function snapshotOf(run: CogRun, status: string): Snapshot {
  return { id: run.id, status, logs: 'drawing\n', metrics: { predict_time: (systemClock.now() - run.startedAt) / 1000 } };
}

function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text);
}

function isObject(value: unknown): value is Snapshot {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
