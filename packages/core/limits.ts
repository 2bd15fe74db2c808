/** How much a provider, or one of a model's routes, may be asked at once and per time. */
import type { Model } from './model.ts';

/** `max` starts per `perMs` milliseconds, spread over them: never all at once. */
export interface Rate {
  readonly max: number;
  readonly perMs: number;
}

/** Hold for all workers together. */
export interface Limits {
  /** Runs at once, 1 or more. */
  readonly concurrency?: number;
  /** Runs started per time. */
  readonly rate?: Rate;
}

/** A route with limits of its own, which hold besides those of its provider. */
export interface LimitedRoute {
  /** The name of its model. */
  readonly model: string;
  readonly provider: string;
  readonly limits: Limits;
}

/** Those of all these models. */
export function limitedRoutes(models: readonly Model[]): readonly LimitedRoute[] {
  return models.flatMap(({ name, routes }) =>
    routes.flatMap(({ provider, limits }) => (limits && hasLimits(limits) ? [{ model: name, provider, limits }] : [])),
  );
}

function hasLimits({ concurrency, rate }: Limits): boolean {
  return concurrency !== undefined || rate !== undefined;
}

const UNIT_MS = { s: 1_000, min: 60_000, h: 3_600_000 } as const;

/** What a text that {@link parseRate} does not understand should be. */
export const RATE_RULE = 'must be a whole number per s, min or h, such as 50/s or 3000/min';

/** Reads `50/s`, `3000/min` or `100/h`; undefined for anything else. */
export function parseRate(text: string): Rate | undefined {
  const [, max, unit] = /^([1-9]\d{0,8})\/(s|min|h)$/.exec(text) ?? [];
  return max === undefined ? undefined : { max: Number(max), perMs: UNIT_MS[unit as keyof typeof UNIT_MS] };
}
