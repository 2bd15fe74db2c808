/** The provider of the fault suite: start, check and cancel are one HTTP call each to the scripted upstream, and say which process calls. */
import { isJsonObject, type JsonObject, type JsonValue, type Provider, RetryableError, type Run, type Step } from '@claimcheck/core';
import { z } from 'zod';

const settings = z.object({
  CHAOS_UPSTREAM_URL: z.url(),
  /** Runs that one worker holds at a time. */
  CHAOS_CONCURRENCY: z.coerce.number().int().default(500),
});

const CALL_MS = 60_000;

export const scriptedProvider: Provider<z.infer<typeof settings>> = {
  name: 'scripted',
  settings,
  open: ({ CHAOS_UPSTREAM_URL: url, CHAOS_CONCURRENCY: concurrency }) => ({
    concurrency,
    async start(run) {
      if (run.parameters.gate === true) await call(run, 'POST', `${url}/gate`);
      return toStep(await call(run, 'POST', `${url}/runs`));
    },
    check: async (run, handle) => toStep(await call(run, 'GET', `${url}/runs/${idOf(handle)}`)),
    cancel: async (run, handle) => void (await call(run, 'DELETE', `${url}/runs/${idOf(handle)}`)),
  }),
};

async function call(run: Run, method: string, url: string): Promise<JsonObject> {
  try {
    const response = await fetch(url, {
      method,
      signal: AbortSignal.any([run.signal, AbortSignal.timeout(CALL_MS)]),
      headers: { 'idempotency-key': run.idempotencyKey, 'x-pid': String(process.pid), 'content-type': 'application/json' },
      ...(method === 'POST' && { body: JSON.stringify(run.parameters) }),
    });
    const answer: JsonValue = await response.json();
    if (!response.ok || !isJsonObject(answer)) throw new Error(`answered ${response.status}`);
    return answer;
  } catch (cause) {
    throw new RetryableError('The scripted upstream did not answer.', { cause });
  }
}

function toStep(answer: JsonObject): Step {
  const { run, done, check_after_ms: checkAfterMs } = answer;
  if (done === true) return { kind: 'finished', output: { media: [], json: { run: run ?? null } } };
  return { kind: 'running', handle: { run: run ?? null }, checkAfterMs: typeof checkAfterMs === 'number' ? checkAfterMs : 200 };
}

function idOf(handle: JsonValue): string {
  return isJsonObject(handle) ? String(handle.run) : '';
}
