/** Which provider a job of a model is queued for. */
import type { Model } from '@claimcheck/core';

export interface ChooseOptions {
  /** Names of the providers that are switched on. */
  readonly available: ReadonlySet<string>;
  /** `off`: the sandbox never serves; otherwise it serves what nobody else can. It needs no line in the model's routes. */
  readonly sandbox: 'auto' | 'on' | 'off';
}

/** The first route in the order of the model's file whose provider is on; undefined when none can run. */
export function chooseProvider(model: Model, { available, sandbox }: ChooseOptions): string | undefined {
  const route = model.routes.find(({ provider }) => provider !== 'sandbox' && available.has(provider));
  if (route) return route.provider;
  return sandbox !== 'off' && available.has('sandbox') ? 'sandbox' : undefined;
}
