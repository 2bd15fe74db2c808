/**
 * Any upstream that takes a job over HTTP, without an adapter of its own: requests and the reading of answers are written down in the options
 * of a route (see `_http-route.ts`), and the route's model is an id that these may use. Media inside of answers go to the asset store.
 *
 * - Authentication: headers of the route, in which `{key}` is `HTTP_KEY`.
 * - Final: 4xx, the state `failed` unless the route's `error` says otherwise, the state `refused`. Another provider may serve 401, 402, 403, a
 *   submission that finds nothing (404, 405, 410), a route that is wrong, and what `error` marks with `fall_over`. Tried again: 429 after
 *   `Retry-After`, 5xx.
 * - Resumed by what the route's `handle` has read; a look that fails, or tells of a state that is not known, is made again. Without `poll` a run
 *   is over with the answer, and cannot be resumed. Cancelled by the route's `cancel`. Progress by its `progress`; no logs, no callbacks.
 * - Submitted twice it runs twice, unless the upstream minds `{idempotency_key}`, which is the same for all attempts here.
 * - Hosts: calls go to `HTTP_BASE_URL` only. Handles are put into paths as one segment, so that no answer leads elsewhere.
 */
import {
  compileExpression,
  ExpressionError,
  type JsonObject,
  type JsonValue,
  type Provider,
  ProviderError,
  RetryableError,
  type Run,
  type Step,
  TerminalError,
  type Upstream,
} from '@claimcheck/core';
import { z } from 'zod';
import { keySetting, ownBaseUrlSetting } from './_base-url.ts';
import { type CallAnswer, call, jsonOf } from './_call.ts';
import { readHttpOutput } from './_http-output.ts';
import { type HttpRoute, type HttpRouteRequest, httpRoute } from './_http-route.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { tryLook } from './_look.ts';
import { checkAfterMs } from './_pace.ts';
import { sentenceOf } from './_sentence.ts';

/** Where requests go, and with what. */
interface Target {
  readonly baseUrl: string;
  readonly key: string | undefined;
}

const handleSchema = z.object({
  /** What the route's expression has read. */
  reference: z.union([z.string().min(1), z.number(), z.record(z.string(), z.union([z.string(), z.number()]))]),
  startedAt: z.number(),
});
type Handle = z.infer<typeof handleSchema>;

const BYTES_MAX = 32_000_000;
const LOOK_MS_MAX = 5_000;

/** Which request an answer belongs to decides what a refusal means. */
type Stage = 'submit' | 'poll' | 'result';

const settings = z.object({
  /** What the paths of routes follow, such as http://10.0.0.9:8000/v1. Unset: off. */
  HTTP_BASE_URL: ownBaseUrlSetting(),
  /** Stands for `{key}` in the headers of routes. */
  HTTP_KEY: keySetting(),
  /** Runs at once, and runs started per time, of all workers together. */
  HTTP_CONCURRENCY: concurrencySetting(),
  HTTP_RATE: rateSetting(),
});

const http: Provider<z.infer<typeof settings>> = {
  name: 'http',
  settings,
  routeOptions: httpRoute,
  open({ HTTP_BASE_URL: baseUrl, HTTP_KEY: key, HTTP_CONCURRENCY: concurrency, HTTP_RATE: rate }) {
    if (baseUrl === undefined) return { off: 'HTTP_BASE_URL is not set' };
    return { ...limitsOf(concurrency, rate), ...runsAt({ baseUrl, key }) };
  },
};
export default http;

function runsAt(target: Target): Upstream {
  return {
    async start(run) {
      const route = routeOf(run);
      const answer = await send(target, run, route.submit, { method: 'POST', stage: 'submit' });
      await refuse(target, run, route, answer, 'submit');
      if (!route.poll) return finish(run, route, answer);
      const reference = await read('handle', route.handle, viewOf(run, answer, jsonOf(answer)));
      const handle = handleSchema.safeParse({ reference, startedAt: run.clock.now() });
      if (!handle.success) {
        throw new RetryableError('The provider took the request and did not say how to find it again.', { mayHaveStarted: true });
      }
      return running(run, route, handle.data);
    },
    async check(run, value) {
      const route = routeOf(run);
      const handle = readHandle(value);
      const looked = await tryLook(() => look(target, run, route, handle));
      if (looked.kind === 'later') return { ...running(run, route, handle), checkAfterMs: looked.checkAfterMs };
      if (looked.seen instanceof ProviderError) throw looked.seen;
      return looked.seen;
    },
    async cancel(run, value) {
      const { cancel } = routeOf(run);
      if (!cancel) return;
      const answer = await send(target, run, cancel, { handle: readHandle(value), method: 'DELETE', stage: 'poll' });
      // Other 4xx say that the run has ended, or that it cannot be stopped.
      if ([401, 402, 403, 429].includes(answer.status) || answer.status >= 500) jsonOf(answer);
    },
  };
}

/** Where a run stands; an error when it is over without a result. @throws when that could not be learnt: a RetryableError where it may be later. */
async function look(target: Target, run: Run, route: HttpRoute, handle: Handle): Promise<Step | ProviderError> {
  if (!route.poll) throw new TerminalError('The route of this model no longer says how to look at a run.', { code: 'internal' });
  const answer = await send(target, run, route.poll, { handle, stage: 'poll' });
  await refuse(target, run, route, answer, 'poll');
  const view = viewOf(run, answer, jsonOf(answer), handle);
  const state = await read('state', route.state, view);
  if (state === 'running') return running(run, route, handle, await read('progress', route.progress, view));
  if (state === 'failed') return failureOf(target, await read('error', route.error, view), { message: 'The run failed at the provider.' });
  if (state === 'refused') {
    const message = 'The provider refused the content.';
    return failureOf(target, await read('error', route.error, view), { message, code: 'content_refused' });
  }
  if (state !== 'succeeded') throw new RetryableError('The provider told of a state that is not known.');
  if (!route.result) return finish(run, route, answer, handle);
  const result = await send(target, run, route.result, { handle, stage: 'result' });
  await refuse(target, run, route, result, 'result');
  return finish(run, route, result, handle);
}

/** The options of a route are one object for all of its runs, so what they say is read once. */
const routes = new WeakMap<JsonObject, HttpRoute>();

/** @throws TerminalError for a route that does not say how to run its model. */
function routeOf({ options = {} }: Run): HttpRoute {
  const known = routes.get(options);
  if (known) return known;
  const route = httpRoute.safeParse(options);
  if (!route.success) {
    const places = route.error.issues.map(({ path }) => path.join('.') || 'all of it').join(', ');
    const message = `The options of this model's route are wrong: ${places}.`.slice(0, 300);
    throw new TerminalError(message, { code: 'internal', cause: route.error, isProvidersOnly: true });
  }
  routes.set(options, route.data);
  return route.data;
}

interface Sending {
  readonly stage: Stage;
  readonly handle?: Handle;
  readonly method?: 'POST' | 'DELETE';
}

async function send(target: Target, run: Run, request: HttpRouteRequest, { stage, handle, method }: Sending): Promise<CallAnswer> {
  const fill = (text: string, encode: (value: string, name: string) => string) =>
    text.replace(/\{([\w.]+)\}/g, (_all, name: string) => encode(substituteFor(name, target, run, handle), name));
  const headers = Object.entries(request.headers).map(([name, text]) => [name, fill(text, asHeader)]);
  const body = await bodyOf(request, stage, run, handle);
  return call({
    url: `${target.baseUrl}${fill(request.path, asPathPart)}`,
    method: request.method ?? method ?? 'GET',
    headers: { accept: '*/*', ...Object.fromEntries(headers) },
    // A GET cannot have a body.
    ...(body !== undefined && request.method !== 'GET' && { json: body }),
    timeoutMs: request.timeout_seconds * 1000,
    bytesMax: BYTES_MAX,
    startsRun: stage === 'submit',
    signal: run.signal,
    clock: run.clock,
  });
}

async function bodyOf({ body }: HttpRouteRequest, stage: Stage, run: Run, handle: Handle | undefined): Promise<JsonValue | undefined> {
  if (body === undefined) return stage === 'submit' ? run.parameters : undefined;
  const { parameters, model, idempotencyKey, jobId, attempt } = run;
  const view = { parameters, model, idempotency_key: idempotencyKey, job_id: jobId, attempt, handle: handle?.reference ?? null };
  return read('body', body, view);
}

/** What a `{name}` stands for. @throws TerminalError for a member that the handle does not have, or a key that is not set. */
function substituteFor(name: string, { key }: Target, run: Run, handle: Handle | undefined): string {
  if (name === 'idempotency_key') return run.idempotencyKey;
  if (name === 'job_id') return run.jobId;
  if (name === 'model') return run.model;
  if (name === 'key') {
    if (key !== undefined) return key;
    const message = 'The route of this model needs a key, and HTTP_KEY is not set.';
    throw new TerminalError(message, { code: 'internal', isProvidersOnly: true });
  }
  const reference = handle?.reference;
  const member = typeof reference === 'object' ? reference[name.slice('handle.'.length)] : name === 'handle' ? reference : undefined;
  if (member === undefined || member === '') throw new TerminalError(`The provider did not tell the ${name} of the run.`);
  return String(member);
}

/** One segment at most, as with slashes and dots a handle could lead to another address; several of an operator's id of a model. */
function asPathPart(value: string, name: string): string {
  const segments = name === 'model' ? value.split('/') : [value];
  if (segments.some((segment) => segment === '.' || segment === '..')) {
    throw new TerminalError('The provider told of a run that cannot be asked for.');
  }
  return segments.map((segment) => encodeURIComponent(segment.toWellFormed())).join('/');
}

function asHeader(value: string): string {
  if (!/^[\x20-\x7e]*$/.test(value)) throw new TerminalError('The provider told of a run that cannot be asked for.');
  return value;
}

/** What expressions over an answer see. */
function viewOf(run: Run, { status }: CallAnswer, body: JsonValue | undefined, handle?: Handle): JsonObject {
  return { status, body: body ?? null, parameters: run.parameters, model: run.model, handle: handle?.reference ?? null };
}

async function read(name: string, expression: string | undefined, view: JsonObject): Promise<JsonValue | undefined> {
  if (expression === undefined) return undefined;
  try {
    return await compileExpression(expression).evaluate(view);
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error;
    // It, not the job, has to be changed.
    const message = `The expression for ${name} of this route could not be evaluated: ${error.message}`;
    throw new TerminalError(message.slice(0, 300), { code: 'internal', cause: error, isProvidersOnly: true });
  }
}

/** Resolves for an answer with a status of 2xx. @throws what any other one means. */
async function refuse(target: Target, run: Run, route: HttpRoute, answer: CallAnswer, stage: Stage): Promise<void> {
  const { status, json } = answer;
  if (status >= 200 && status < 300) return;
  if (status < 400 || status >= 500 || [401, 402, 403, 429].includes(status)) {
    jsonOf(answer);
    throw new RetryableError(`The provider answered with status ${status}.`);
  }
  const isSubmit = stage === 'submit';
  throw failureOf(target, await read('error', route.error, viewOf(run, answer, json)), {
    message: `The provider refused the request with status ${status}.`,
    ...(isSubmit && (status === 400 || status === 422) && { code: 'invalid_input' }),
    // Nothing is there that runs the model.
    isProvidersOnly: isSubmit && [404, 405, 410].includes(status),
    // A run that was there, or a result that shall come.
    canRetry: !isSubmit && [404, 409, 425].includes(status),
  });
}

const toldSchema = z.object({
  message: z.string().optional().catch(undefined),
  code: z.enum(['provider_error', 'content_refused', 'invalid_input']).optional().catch(undefined),
  retry: z.boolean().optional().catch(undefined),
  fall_over: z.boolean().optional().catch(undefined),
});

interface Untold {
  readonly message: string;
  readonly code?: 'content_refused' | 'invalid_input';
  readonly isProvidersOnly?: boolean;
  readonly canRetry?: boolean;
}

/** The error that a route's expression describes, completed by what is known without it. */
function failureOf({ key }: Target, value: JsonValue | undefined, untold: Untold): TerminalError | RetryableError {
  const told = toldSchema.safeParse(typeof value === 'string' ? { message: value } : value).data ?? {};
  const message = sentenceOf(told.message, untold.message, key);
  const code = told.code ?? untold.code ?? 'provider_error';
  if (told.retry ?? untold.canRetry ?? false) return new RetryableError(message, { code });
  return new TerminalError(message, { code, isProvidersOnly: told.fall_over ?? untold.isProvidersOnly ?? false });
}

async function finish(run: Run, route: HttpRoute, answer: CallAnswer, handle?: Handle): Promise<Step> {
  const isFile = route.outputs === undefined && route.text === undefined && route.json === undefined;
  const view = viewOf(run, answer, isFile ? null : jsonOf(answer), handle);
  const output = await readHttpOutput(run, answer, {
    isFile,
    files: await read('outputs', route.outputs, view),
    text: await read('text', route.text, view),
    json: await read('json', route.json, view),
    seed: await read('seed', route.seed, view),
    timings: await read('timings', route.timings, view),
    usage: await read('usage', route.usage, view),
  });
  return { kind: 'finished', output };
}

function running(run: Run, route: HttpRoute, handle: Handle, progress?: JsonValue): Step {
  const firstMs = route.poll_seconds * 1000;
  return {
    kind: 'running',
    handle: { ...handle },
    ...(typeof progress === 'number' && progress >= 0 && progress <= 1 && { progress }),
    checkAfterMs: checkAfterMs(run, handle.startedAt, { firstMs, mostMs: Math.max(firstMs, LOOK_MS_MAX) }, false),
  };
}

function readHandle(value: JsonValue): Handle {
  const handle = handleSchema.safeParse(value);
  if (!handle.success) throw new TerminalError('The provider was asked about a run that is not its own.', { code: 'internal' });
  return handle.data;
}
