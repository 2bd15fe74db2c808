/** Replicate's errors as ours (replicate.md, section 6): those of its API, and those of predictions that failed. */
import { isJsonObject, type JsonObject, type JsonValue, ProviderError, RetryableError, TerminalError } from '@claimcheck/core';
import { type CallAnswer, jsonOf, retryAfterOf } from './_call.ts';
import { sentenceOf } from './_sentence.ts';

/** Codes in the error of a prediction that trying again can mend: unknown, and a start that took too long. All others, and none, are final. */
const TRANSIENT: ReadonlySet<string> = new Set(['E1000', 'E6716']);

/** The vendor has no status for refused content, and documents no code: models say it in words, so this is the one place that reads them. */
const REFUSED = /\bnsfw\b|\bflagged as sensitive\b|\bsafety (checker|filter|system)\b|\bcontent (policy|moderation)\b|\(E005\)/i;

const RETRY_AFTER_SECONDS_MAX = 3_600;
const FIELDS_SHOWN = 3;

/** The error that an answer other than 2xx means. `key` is cut out of the vendor's words. */
export function replicateError(answer: CallAnswer, key: string): ProviderError {
  const { status, startsRun } = answer;
  const body = isJsonObject(answer.json) ? answer.json : {};
  const sentence = sentenceOf(wordsOf(body), `The provider answered with status ${status}.`, key);
  if (status === 429) return new RetryableError('The provider has too much to do.', { ...bodyWait(body), ...retryAfterOf(answer) });
  if (status === 404 && !startsRun) return new TerminalError('The provider does not know the run.');
  if (status === 404 || isOfVersion(answer, body)) {
    return new TerminalError('The provider does not know the model, or no longer has this version.', { isProvidersOnly: true });
  }
  if (status === 400 || status === 413 || status === 422) return new TerminalError(sentence, { code: 'invalid_input' });
  if (status === 408 || status === 409 || status === 425)
    return new RetryableError(sentence, { mayHaveStarted: startsRun && status === 408 });
  if (status < 400 || status === 401 || status === 402 || status === 403 || status >= 500) {
    try {
      jsonOf(answer);
    } catch (error) {
      if (error instanceof ProviderError) return error;
      throw error;
    }
  }
  return new TerminalError(sentence);
}

/** The error of a prediction that failed, which may carry a code of `E` and four digits. */
export function predictionError(error: JsonValue | undefined, key: string): ProviderError {
  const text = typeof error === 'string' ? error : '';
  const sentence = sentenceOf(text, 'The run failed at the provider.', key);
  if (REFUSED.test(text)) return new TerminalError(sentence, { code: 'content_refused' });
  const code = /\bE\d{4}\b/.exec(text)?.[0];
  return code !== undefined && TRANSIENT.has(code) ? new RetryableError(sentence) : new TerminalError(sentence);
}

/**
 * A version that is gone or disabled is answered like a wrong input, with 422. What is wrong with an input comes with its fields; there is no
 * code for the other, so its words are read.
 */
function isOfVersion({ status, startsRun }: CallAnswer, { title, detail, invalid_fields: fields }: JsonObject): boolean {
  return startsRun && status === 422 && !Array.isArray(fields) && /\bversion\b/i.test(`${title} ${detail}`);
}

/** The header says the same, but an answer may come without it. */
function bodyWait({ retry_after: seconds }: JsonObject): { readonly retryAfterMs?: number } {
  if (typeof seconds !== 'number' || !(seconds >= 0)) return {};
  return { retryAfterMs: Math.min(seconds, RETRY_AFTER_SECONDS_MAX) * 1000 };
}

function wordsOf({ detail, title, invalid_fields: fields }: JsonObject): string | undefined {
  const problems: readonly JsonValue[] = Array.isArray(fields) ? fields.slice(0, FIELDS_SHOWN) : [];
  const words = problems.filter(isJsonObject).map(({ field, description }) => `${field}: ${description}`);
  if (words.length > 0) return words.join('; ');
  return [detail, title].find((text) => typeof text === 'string');
}
