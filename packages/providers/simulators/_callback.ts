/** Callbacks of a simulator: whether and how often one is posted is decided by the faults that are due. */
import { systemClock } from '@claimcheck/core';
import type { Faults } from './simulator.ts';

const LATE_MS = 2000;
const TIMEOUT_MS = 5000;

/** True for an address of this machine: a simulator calls nobody else, whoever asks. */
export function isLoopback(url: string): boolean {
  const host = URL.parse(url)?.hostname ?? '';
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** Posts one callback. Its headers are made for each post, because their time is part of what is signed. Nothing is tried again. */
export async function postCallback(
  faults: Faults,
  url: string,
  body: string,
  headers: () => Readonly<Record<string, string>>,
  closed: AbortSignal,
): Promise<void> {
  if (!isLoopback(url) || faults.take('lost-callback')) return;
  if (faults.take('late-callback')) await systemClock.sleep(LATE_MS, closed);
  const times = faults.take('double-callback') ? 2 : 1;
  for (let sent = 0; sent < times; sent += 1) {
    const response = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      headers: { 'content-type': 'application/json', ...headers() },
      body,
      signal: AbortSignal.any([closed, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    await response.body?.cancel();
  }
}
