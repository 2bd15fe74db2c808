/** The client: submits until it is told 200, as a careful program would, and notes every answer it should not have got. */
import { systemClock } from '@claimcheck/core';
import { z } from 'zod';
import type { PartProcess } from './fleet.ts';

export interface Submitted {
  readonly id: string;
  readonly tag: string;
}

export interface Client {
  /** Resolves when a 200 came. Lost connections and 503 are tried again, at any API, under the same Idempotency-Key. */
  submit(parameters: Parameters, first?: PartProcess): Promise<Submitted>;
  /** Cancels a job; lost connections are tried again. */
  cancel(id: string): Promise<void>;
  /** Tag by id of everything that a 200 was given for. */
  readonly acknowledged: ReadonlyMap<string, string>;
}

export interface Parameters {
  readonly tag: string;
  readonly duration_ms?: number;
  readonly gate?: boolean;
}

export interface ClientOptions {
  readonly apis: () => readonly PartProcess[];
  readonly key: string;
  readonly webhookUrl: string;
  readonly signal: AbortSignal;
  readonly violate: (sentence: string) => void;
}

const answerBody = z.object({ request_id: z.string() });
const ANSWER_MS = 30_000;
/** Shorter than what Retry-After asks for: a patient client would hide how soon the service is back. */
const TRY_AGAIN_MS = 100;
const CONCURRENCY = 64;

export function makeClient({ apis, key, webhookUrl, signal, violate }: ClientOptions): Client {
  const acknowledged = new Map<string, string>();
  const waiting: (() => void)[] = [];
  let running = 0;
  let turn = 0;

  const nextApi = (): PartProcess | undefined => {
    const live = apis();
    turn += 1;
    return live[turn % Math.max(live.length, 1)];
  };
  /** The id; undefined when it must be tried again. */
  const tryOnce = async (api: PartProcess, parameters: Parameters): Promise<string | undefined> => {
    const response = await fetch(`${api.url}/v2/scripted?webhook=${encodeURIComponent(webhookUrl)}`, {
      method: 'POST',
      headers: { 'x-api-key': key, 'content-type': 'application/json', 'idempotency-key': parameters.tag },
      body: JSON.stringify(parameters),
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
    });
    const text = await response.text();
    if (response.status === 200) return answerBody.parse(JSON.parse(text)).request_id;
    const isExpected = response.status === 503 || response.status === 409;
    if (!isExpected) violate(`a submission was answered ${response.status}: ${text.slice(0, 200)}`);
    else if (!response.headers.has('retry-after')) violate(`a ${response.status} came without Retry-After: ${text.slice(0, 200)}`);
    return undefined;
  };
  const submit = async (parameters: Parameters, first?: PartProcess): Promise<Submitted> => {
    for (let api = first ?? nextApi(); ; api = nextApi()) {
      signal.throwIfAborted();
      const id = api && (await tryOnce(api, parameters).catch(() => undefined));
      if (id !== undefined) {
        acknowledged.set(id, parameters.tag);
        return { id, tag: parameters.tag };
      }
      await systemClock.sleep(TRY_AGAIN_MS, signal);
    }
  };
  return {
    acknowledged,
    async cancel(id) {
      for (;;) {
        signal.throwIfAborted();
        const response = await fetch(`${nextApi()?.url}/v2/requests/${id}/cancel`, {
          method: 'POST',
          headers: { 'x-api-key': key },
          signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
        }).catch(() => undefined);
        await response?.text();
        if (response?.status === 200) return;
        if (response && response.status !== 503) violate(`a cancellation was answered ${response.status}`);
        await systemClock.sleep(TRY_AGAIN_MS, signal);
      }
    },
    async submit(parameters, first) {
      // One that a scenario sends itself does not queue behind the crowd.
      if (first || parameters.duration_ms === undefined) return submit(parameters, first);
      if (running >= CONCURRENCY) await new Promise<void>((resolve) => waiting.push(resolve));
      running += 1;
      try {
        return await submit(parameters);
      } finally {
        running -= 1;
        waiting.shift()?.();
      }
    },
  };
}
