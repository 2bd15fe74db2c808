/** Answers of a simulator that go wrong when a fault is due: what happens to any call, whatever the vendor. */
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { answerJson, type Faults } from './simulator.ts';

const SLOW_MS = 2000;

/** How a vendor words an error, and what it sends beside 429. */
export interface ErrorStyle {
  body(status: number, message: string): object;
  rateHeaders(): Readonly<Record<string, string>>;
}

/** The 70 bytes of a real PNG of one pixel: what every run produces. */
export const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

/** Called before a request is looked at. True when the fault was the answer: then nothing has happened at the vendor. */
export async function answerFault(faults: Faults, response: ServerResponse, style: ErrorStyle, closed: AbortSignal): Promise<boolean> {
  if (faults.take('slow')) await systemClock.sleep(SLOW_MS, closed);
  if (faults.take('429')) answerJson(response, 429, style.body(429, 'too many requests'), style.rateHeaders());
  else if (faults.take('500')) answerJson(response, 500, style.body(500, 'internal error'));
  else if (faults.take('html')) response.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Please stand by.</body></html>');
  else return false;
  return true;
}

/** The answer to a request that was served; half of it when that is due: the vendor has done its work, and nobody hears of it. */
export function answerServed(faults: Faults, response: ServerResponse, status: number, body: object): void {
  if (!faults.take('truncated')) {
    answerJson(response, status, body);
    return;
  }
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.write(text.slice(0, text.length / 2), () => response.destroy());
}
