/** What an adapter is given for an attempt: the request as the route's mapping expresses it, and the means to work on it. */
import {
  AppError,
  type Catalog,
  type Job,
  type JsonObject,
  type Model,
  type Route,
  type Run,
  routeOf,
  TerminalError,
} from '@claimcheck/core';
import type { EngineContext } from './context.ts';

export interface UpstreamRunOptions {
  readonly catalog: Pick<Catalog, 'find' | 'express'>;
  readonly job: Job;
  /** Of the address for the upstream's own calls; undefined where it shall make none. */
  readonly callbackUrl?: string | undefined;
  readonly signal: AbortSignal;
  /** Takes what the run tells meanwhile; unless given, nobody hears it. */
  readonly tell?: Run['tell'];
}

/** @throws TerminalError when the model or its route is gone, or its mapping refuses what it accepted before. */
export async function makeUpstreamRun(
  { assets, clock }: Pick<EngineContext, 'assets' | 'clock'>,
  { catalog, job, callbackUrl, signal, tell = () => {} }: UpstreamRunOptions,
): Promise<Run> {
  const model = catalog.find(job.model);
  if (!model) throw new TerminalError(`The model ${job.model} is no longer in the catalog.`);
  const route = routeOf(model, job.provider);
  if (!route) throw new TerminalError(`The model ${job.model} has no route to ${job.provider} any more.`, { isProvidersOnly: true });
  return {
    jobId: job.id,
    attempt: job.attempt,
    model: route.model,
    produces: model.produces,
    ...(route.options && { options: route.options }),
    parameters: await expressed(catalog, model, route, job),
    idempotencyKey: `${job.id}-${job.provider}`,
    ...(callbackUrl !== undefined && { callbackUrl }),
    signal,
    clock,
    tell,
    storeFile: (file) => assets.store(job.id, file),
  };
}

async function expressed(catalog: Pick<Catalog, 'express'>, model: Model, route: Route, { input }: Job): Promise<JsonObject> {
  try {
    return await catalog.express(model, route, JSON.parse(input));
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const code = error.code === 'internal' ? 'internal' : 'invalid_input';
    throw new TerminalError(error.message, { code, isProvidersOnly: true, cause: error });
  }
}

/** Where an upstream may tell of a run. */
export function callbackUrlOf(publicUrl: string, provider: string, token: string): string {
  return `${publicUrl}/callbacks/${provider}/${token}`;
}
