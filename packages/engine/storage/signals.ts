/**
 * Postgres notifications for this process. They only say "look": they may be lost while the connection is down, so listeners are
 * told to look at everything after each reconnect, and nobody waits for a signal alone.
 *
 * node-postgres instead of postgres.js: that one forgets its channels when a reconnect fails, and cannot be asked on the
 * listening connection itself whether it still lives.
 */
import type { Clock, Log } from '@claimcheck/core';
import pg from 'pg';
import { DELIVERIES_CHANNEL } from './deliveries.ts';
import { CONCLUDED_CHANNEL, ENDED_CHANNEL, JOBS_CHANNEL } from './jobs.ts';
import { PROVIDERS_CHANNEL } from './provider-health.ts';
import { WEBHOOK_SECRETS_CHANNEL } from './webhook-secrets.ts';

/** What changed: ids of jobs, of callers, names; `all` when notifications may have been missed. */
export type Changed = readonly string[] | 'all';
export type SignalName = 'jobs' | 'ended' | 'concluded' | 'deliveries' | 'webhookSecrets' | 'providers';

export interface Signals {
  /** Calls `listener` on every signal of that name until the returned function is called. */
  on(name: SignalName, listener: (changed: Changed) => void): () => void;
  close(): Promise<void>;
}

const CHANNELS: Readonly<Record<string, SignalName>> = {
  [WEBHOOK_SECRETS_CHANNEL]: 'webhookSecrets',
  [JOBS_CHANNEL]: 'jobs',
  [ENDED_CHANNEL]: 'ended',
  [CONCLUDED_CHANNEL]: 'concluded',
  [PROVIDERS_CHANNEL]: 'providers',
  [DELIVERIES_CHANNEL]: 'deliveries',
};
const HEARTBEAT_MS = 10_000;
const ANSWER_MS = 5_000;
const RECONNECT_MS = 500;

/** Starts listening in the background; reconnects by itself until closed. */
export function listenToSignals(options: { readonly databaseUrl: string; readonly clock: Clock; readonly log: Log }): Signals {
  const { clock, log } = options;
  const listeners: Record<SignalName, Set<(changed: Changed) => void>> = {
    jobs: new Set(),
    ended: new Set(),
    concluded: new Set(),
    providers: new Set(),
    deliveries: new Set(),
    webhookSecrets: new Set(),
  };
  const closing = new AbortController();
  const emit = (name: SignalName, changed: Changed) => {
    for (const listener of listeners[name]) listener(changed);
  };

  /** One connection's life: resolves when it ended. */
  const listenOnce = async () => {
    const client = new pg.Client({
      connectionString: options.databaseUrl,
      application_name: 'claimcheck-signals',
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: ANSWER_MS,
      keepAlive: true,
    });
    const ended = new AbortController();
    client.on('error', () => ended.abort());
    client.on('end', () => ended.abort());
    client.on('notification', ({ channel, payload }) => {
      const name = CHANNELS[channel];
      if (name) emit(name, payload ? payload.split(',') : 'all');
    });
    try {
      await client.connect();
      for (const channel of Object.keys(CHANNELS)) await client.query(`listen ${channel}`);
      for (const name of Object.values(CHANNELS)) emit(name, 'all');
      const over = AbortSignal.any([ended.signal, closing.signal]);
      while (!over.aborted) {
        await clock.sleep(HEARTBEAT_MS, over).catch(() => {});
        // A half-open connection delivers nothing and reports nothing; only a question shows it.
        if (!over.aborted) await client.query('select 1');
      }
    } finally {
      await client.end().catch(() => {});
    }
  };

  const running = (async () => {
    while (!closing.signal.aborted) {
      try {
        await listenOnce();
      } catch (error) {
        log.warn({ error }, 'signals lost, reconnecting');
      }
      await clock.sleep(RECONNECT_MS, closing.signal).catch(() => {});
    }
  })();

  return {
    on(name, listener) {
      listeners[name].add(listener);
      return () => listeners[name].delete(listener);
    },
    async close() {
      closing.abort();
      await running;
    },
  };
}
