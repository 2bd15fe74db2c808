/** Asks a running service for the secret that the webhooks of an API key's owner are signed with. */
import { StartError } from '@claimcheck/core';
import { z } from 'zod';
import { readAtMost } from './read-at-most.ts';

export interface SecretQuestion {
  /** The service's origin, such as http://127.0.0.1:8080. */
  readonly url: string;
  readonly apiKey: string;
  readonly signal: AbortSignal;
}

const ANSWER_MS = 10_000;
const ANSWER_BYTES_MAX = 64 * 1024;

const answerSchema = z.object({ secret: z.string() });
const refusalSchema = z.object({ error: z.string() });

/** @throws StartError with a sentence when the service is out of reach, refuses the key or has no secrets; the signal's reason when it aborts. */
export async function askForSecret({ url, apiKey, signal }: SecretQuestion): Promise<string> {
  const address = `${url.replace(/\/+$/, '')}/v2/webhooks/secret`;
  const { status, json } = await ask(address, apiKey, signal).catch((cause: unknown) => {
    if (signal.aborted) throw signal.reason;
    throw new StartError(`Cannot ask ${address} for the secret: is the service running there?`, { cause });
  });
  if (status !== 200) {
    const refusal = refusalSchema.safeParse(json);
    throw new StartError(`${address} answered ${status}${refusal.success ? `: ${refusal.data.error}` : ' and no secret.'}`);
  }
  const answer = answerSchema.safeParse(json);
  if (!answer.success) throw new StartError(`${address} answered without a secret: is it this service?`);
  return answer.data.secret;
}

async function ask(address: string, apiKey: string, signal: AbortSignal): Promise<{ readonly status: number; readonly json: unknown }> {
  const response = await fetch(address, {
    headers: { 'x-api-key': apiKey },
    // The key is for the service that was named, not for where it may send us.
    redirect: 'error',
    signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
  });
  const body = response.body ? await readAtMost(response.body, ANSWER_BYTES_MAX) : undefined;
  return { status: response.status, json: parse(body?.toString() ?? '') };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
