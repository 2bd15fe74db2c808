/** Callbacks of a simulator: to this machine only, with the faults that callbacks can have. */
import { systemClock } from '@claimcheck/core';
import type { Desk } from './_desk.ts';

const ANSWER_MS = 20_000;

export interface CallbackPost {
  readonly url: string;
  readonly body: string;
  /** Made for each post, because their time is part of what is signed. */
  headers(): Readonly<Record<string, string>>;
  /** Milliseconds before each further try, after an answer that `isTaken` does not hold of; without waits nothing is tried again. */
  readonly waitsMs?: readonly number[];
  /** Undefined where there was no answer. 2xx unless given. */
  isTaken?(status: number | undefined): boolean;
}

/** True for an address that a simulator may call: what it was told to call comes from anyone who can reach it. */
export function isOnThisMachine(url: string): boolean {
  const { hostname, protocol } = URL.parse(url) ?? {};
  return (protocol === 'http:' || protocol === 'https:') && /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(hostname ?? '');
}

/** Posts it, or does what a due fault makes of it. Never rejects: a receiver that is gone is no failure of the simulator. */
export async function postCallback(desk: Desk, post: CallbackPost): Promise<void> {
  if (!isOnThisMachine(post.url) || desk.faults.take('lost-callback')) return;
  const times = desk.faults.take('double-callback') ? 2 : 1;
  if (desk.faults.take('late-callback')) await systemClock.sleep(desk.slowMs, desk.closed).catch(() => {});
  for (let sent = 0; sent < times; sent += 1) await deliver(desk, post);
}

/** Tries until it was taken. The status of the last answer. */
async function deliver({ closed }: Desk, { url, body, headers, waitsMs = [], isTaken = isSuccess }: CallbackPost): Promise<void> {
  for (const waitMs of [0, ...waitsMs]) {
    if (waitMs > 0) await systemClock.sleep(waitMs, closed).catch(() => {});
    if (closed.aborted) return;
    const init = { method: 'POST', redirect: 'manual', headers: { 'content-type': 'application/json', ...headers() }, body } as const;
    const answer = await fetch(url, { ...init, signal: AbortSignal.any([closed, AbortSignal.timeout(ANSWER_MS)]) }).catch(() => undefined);
    await answer?.body?.cancel();
    if (isTaken(answer?.status)) return;
  }
}

function isSuccess(status: number | undefined): boolean {
  return status !== undefined && status >= 200 && status < 300;
}
