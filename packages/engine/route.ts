/**
 * Which of a model's routes serves a job: those that are switched on and can express what the client asked for, in the order that the model's
 * file wants, the healthy before the sick, and those that have not failed the job before those that have.
 */
import { AppError, type Catalog, type JsonObject, type Model, type Route, type RouteListing, routeOf, SANDBOX } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import { type Outage, waitOf } from './provider-health.ts';

export interface RouterOptions {
  readonly catalog: Pick<Catalog, 'express' | 'estimateUsd'>;
  /** Providers that are switched on. */
  readonly available: ReadonlySet<string>;
  /** The others, with the reason, such as a variable that is not set. */
  readonly off: ReadonlyMap<string, string>;
  /** Whether the sandbox serves: where none of a model's providers is on, always as the last route, or never. */
  readonly sandbox: 'auto' | 'on' | 'off';
}

export interface Choice {
  readonly provider: string;
  /** Milliseconds until the provider is likely to be well; 0 for one that is. */
  readonly waitMs: number;
}

export interface RouteRequest {
  readonly model: Model;
  /** As the catalog has filled them. */
  readonly parameters: JsonObject;
  /** The only provider that may serve it. */
  readonly pinned?: string | undefined;
}

export interface Router {
  /**
   * The route for a new job.
   * @throws AppError `unavailable` that names the variables which would switch a route on; `invalid_parameters` when no route that is on can
   *   express the parameters.
   */
  choose(request: RouteRequest): Promise<Choice>;
  /**
   * The route for a job whose attempts at some providers have failed, each named as often as it did. Undefined when no route is left that
   * could serve it, as after a change of settings.
   */
  chooseAgain(request: RouteRequest, failed: readonly string[]): Promise<Choice | undefined>;
  /** All routes of a model, and whether they would serve now. */
  list(model: Model): readonly RouteListing[];
}

export function makeRouter({ health, log }: Pick<EngineContext, 'health' | 'log'>, options: RouterOptions): Router {
  const { catalog, available, off, sandbox } = options;

  /** Without the sandbox where that may not serve. */
  function routesThatAreOn(model: Model): Route[] {
    const real = model.routes.filter(({ provider }) => provider !== SANDBOX && available.has(provider));
    const mayPlay = sandbox === 'on' || (sandbox === 'auto' && real.length === 0);
    const playing = mayPlay && available.has(SANDBOX) ? routeOf(model, SANDBOX) : undefined;
    return playing ? [...real, playing] : real;
  }

  function pinnedRoute(model: Model, provider: string): Route | undefined {
    if (provider === SANDBOX && sandbox === 'off') return undefined;
    return available.has(provider) ? routeOf(model, provider) : undefined;
  }

  async function inOrder({ model, parameters, pinned }: RouteRequest): Promise<readonly Route[]> {
    if (pinned !== undefined) return [pinnedRoute(model, pinned)].filter((route) => route !== undefined);
    const routes = routesThatAreOn(model);
    if (routes.length < 2) return routes;
    const rank = await rankOf(model, parameters, routes);
    const last = (route: Route) => (route.provider === SANDBOX ? 1 : 0);
    // The sort is stable: what ranks alike stays in the order of the file.
    return routes.toSorted((a, b) => last(a) - last(b) || (rank.get(a) ?? 0) - (rank.get(b) ?? 0));
  }

  /** Lower goes first. */
  async function rankOf(model: Model, parameters: JsonObject, routes: readonly Route[]): Promise<ReadonlyMap<Route, number>> {
    switch (model.routing) {
      case 'order':
        return new Map(routes.map((route) => [route, -(route.weight ?? 1)]));
      case 'price': {
        const prices = await Promise.all(routes.map((route) => catalog.estimateUsd(model, route, parameters)));
        // Without a price it may cost anything.
        return new Map(routes.map((route, index) => [route, prices[index] ?? Number.MAX_VALUE]));
      }
      case 'latency': {
        const times = await health.times(model.name);
        // One that was never measured goes first, so that it is.
        return new Map(routes.map((route) => [route, times.get(route.provider) ?? 0]));
      }
    }
  }

  /** The first of the routes that can express the parameters; what the others refuse is thrown when none can. */
  async function firstThatExpresses({ model, parameters }: RouteRequest, routes: readonly Route[]): Promise<Route> {
    let refusal: unknown;
    for (const route of routes) {
      try {
        await catalog.express(model, route, parameters);
        return route;
      } catch (error) {
        refusal ??= error;
        // The client asked for nothing wrong: the mapping in the model's file is.
        const isRefused = error instanceof AppError && error.code === 'invalid_parameters';
        if (!isRefused) log.error({ error, model: model.name, provider: route.provider }, 'route cannot be used');
      }
    }
    throw refusal;
  }

  /** The sick ones are behind the healthy ones, the one that is back first before the others. */
  function healthyFirst(routes: readonly Route[]): readonly Route[] {
    return routes.toSorted((a, b) => waitFor(a) - waitFor(b));
  }

  /** Milliseconds; 0 once it may be tried. */
  function outageOf({ provider }: Route): number {
    const state = health.stateOf(provider);
    return state === undefined || state === 'probing' ? 0 : state.forMs;
  }

  function waitFor({ provider }: Route): number {
    const state = health.stateOf(provider);
    return state === undefined ? 0 : waitOf(state);
  }

  return {
    async choose(request) {
      const routes = await inOrder(request);
      if (routes.length === 0) throw nobodyCan(request, off);
      // One that is due for a trial keeps its place, or nobody would find out that it is back: a worker lets one job try it, and sends on the
      // others.
      const inTurn = routes.toSorted((a, b) => outageOf(a) - outageOf(b));
      const route = await firstThatExpresses(request, inTurn);
      return { provider: route.provider, waitMs: waitFor(route) };
    },
    async chooseAgain(request, failed) {
      const failures = (route: Route) => failed.filter((provider) => provider === route.provider).length;
      const routes = healthyFirst((await inOrder(request)).toSorted((a, b) => failures(a) - failures(b)));
      if (routes.length === 0) return undefined;
      try {
        const route = await firstThatExpresses(request, routes);
        return { provider: route.provider, waitMs: waitFor(route) };
      } catch (error) {
        if (error instanceof AppError) return undefined;
        throw error;
      }
    },
    list(model) {
      const serving = new Set(routesThatAreOn(model));
      const real = model.routes.filter(({ provider }) => provider !== SANDBOX);
      const playing = sandbox === 'off' ? undefined : routeOf(model, SANDBOX);
      return [...real, ...(playing && available.has(SANDBOX) ? [playing] : [])].map((route) => {
        const reason = reasonAgainst(route, serving);
        return { route, isAvailable: reason === undefined, ...(reason !== undefined && { reason }) };
      });
    },
  };

  function reasonAgainst(route: Route, serving: ReadonlySet<Route>): string | undefined {
    const { provider } = route;
    if (provider === SANDBOX) {
      return [...serving].some((one) => one.provider === SANDBOX) ? undefined : 'another provider of the model is on';
    }
    if (!available.has(provider)) return off.get(provider) ?? `there is no provider "${provider}"`;
    const state = health.stateOf(provider);
    return state === undefined ? undefined : outageText(state);
  }
}

function outageText(state: Outage | 'probing'): string {
  if (state === 'probing') return 'it kept failing and is being tried again';
  const seconds = Math.ceil(state.forMs / 1000);
  return state.reason === 'asked'
    ? `it asked to be left alone for ${seconds} s more`
    : `it keeps failing; it is tried again in ${seconds} s`;
}

function nobodyCan({ model, pinned }: RouteRequest, off: ReadonlyMap<string, string>): AppError {
  const name = JSON.stringify(model.name);
  if (pinned !== undefined) {
    const why = pinned === SANDBOX ? 'SANDBOX is off' : (off.get(pinned) ?? 'it is not switched on');
    return new AppError('unavailable', `The model ${name} cannot run at ${pinned}: ${why}.`);
  }
  const reasons = model.routes.flatMap(({ provider }) => {
    const why = off.get(provider);
    return why === undefined ? [] : [`${provider}: ${why}`];
  });
  const why =
    reasons.length === 0 ? 'none of its providers is switched on' : `none of its providers is switched on (${reasons.join('; ')})`;
  return new AppError('unavailable', `The model ${name} cannot run: ${why}. Set what is missing, or SANDBOX=on to try it without.`);
}
