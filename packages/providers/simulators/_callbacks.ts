/** Callbacks of a simulator: to this machine only, with the faults that callbacks can have. */
import { systemClock } from '@claimcheck/core';
import type { Faults } from './simulator.ts';

const LATE_MS = 2000;
const ANSWER_MS = 10_000;

/** True for an address that a simulator may call: what it was told to call comes from anyone who can reach it. */
export function isOnThisMachine(url: string): boolean {
  const { hostname, protocol } = URL.parse(url) ?? {};
  return (protocol === 'http:' || protocol === 'https:') && /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(hostname ?? '');
}

/** Posts to the address, or does what a due fault makes of it. Never rejects: a receiver that is gone is no failure of the simulator. */
export async function postCallback(
  faults: Faults,
  url: string,
  body: string,
  headers: Readonly<Record<string, string>>,
  closed: AbortSignal,
): Promise<void> {
  if (!isOnThisMachine(url) || faults.take('lost-callback')) return;
  const times = faults.take('double-callback') ? 2 : 1;
  try {
    if (faults.take('late-callback')) await systemClock.sleep(LATE_MS, closed);
    for (let sent = 0; sent < times; sent++) {
      const signal = AbortSignal.any([closed, AbortSignal.timeout(ANSWER_MS)]);
      const answer = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: { 'content-type': 'application/json', ...headers },
        body,
        signal,
      });
      await answer.body?.cancel();
    }
  } catch {
    // The receiver is gone, or the simulator closes.
  }
}
