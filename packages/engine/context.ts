/** What every verb of the engine works with; built once by `openEngine`. */
import type { Clock, LimitedRoute, Log, SignableMessage, WebhookEncoder, WebhookSigningKeys } from '@claimcheck/core';
import type { AssetStore } from './assets.ts';
import type { Guard } from './outbound/index.ts';
import type { Outputs } from './outputs.ts';
import type { ProviderHealth } from './provider-health.ts';
import type { DoorbellQueue } from './queue.ts';
import type { Database } from './storage/connection.ts';
import type { Signals } from './storage/signals.ts';
import type { WebhookSecrets } from './webhook-secrets.ts';

/** Signs a message as the named dialect does; undefined where that has no way of its own. */
export type SignWebhook = (
  dialect: string,
  message: SignableMessage,
  keys: WebhookSigningKeys,
) => Readonly<Record<string, string>> | undefined;

export interface EngineSettings {
  /** Seconds for which an ended job stays readable. */
  readonly resultTtlSeconds: number;
  /** Seconds to wait before each send of a webhook; its length is the number of sends. */
  readonly webhookSchedule: readonly number[];
  /** Seconds for which an ended delivery and its sends can be looked at. */
  readonly webhookLogSeconds: number;
}

export interface EngineContext {
  readonly database: Database;
  readonly queue: DoorbellQueue;
  /** The routes with limits of their own. */
  readonly limitedRoutes: readonly LimitedRoute[];
  readonly signals: Signals;
  readonly health: ProviderHealth;
  readonly assets: AssetStore;
  /** Brings what runs have produced into its normal form. */
  readonly outputs: Outputs;
  readonly webhookSecrets: WebhookSecrets;
  /** Where webhooks may go. */
  readonly guard: Guard;
  readonly clock: Clock;
  /** Uniform in [0, 1); jitter only. */
  readonly random: () => number;
  readonly log: Log;
  readonly settings: EngineSettings;
  /** Writes the webhook of an ended job in its dialect. */
  readonly encodeWebhook: WebhookEncoder;
  readonly signWebhook: SignWebhook;
}
