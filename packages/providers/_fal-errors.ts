/** fal's errors (fal.md, section 5) as ours. They come from its platform or from a model, in two families of bodies. */
import { isJsonObject, type JsonObject, type JsonValue, ProviderError, RetryableError, TerminalError } from '@claimcheck/core';
import { type CallAnswer, jsonOf, retryAfterOf } from './_call.ts';
import { sentenceOf } from './_sentence.ts';

/** Types of 400 and 5xx that trying again can mend; the vendor says that all others are final. */
const TRANSIENT: ReadonlySet<string> = new Set([
  'internal_server_error',
  'internal_error',
  'runner_server_error',
  'downstream_service_error',
  'downstream_service_unavailable',
  'runner_incomplete_response',
  'runner_scheduling_failure',
  'runner_connection_timeout',
  'runner_connection_refused',
  'runner_connection_error',
  'runner_disconnected',
  'request_timeout',
  'startup_timeout',
  'generation_timeout',
]);
const PROBLEMS_SHOWN = 3;

/** The error that an answer other than 2xx means. `key` is cut out of the vendor's words. */
export function falError(answer: CallAnswer, key: string): ProviderError {
  const { status, startsRun } = answer;
  const body = isJsonObject(answer.json) ? answer.json : {};
  const type = typeOf(answer, body);
  const said = (otherwise: string) => sentenceOf(wordsOf(body), otherwise, key);
  if (type === 'content_policy_violation') return new TerminalError(said('The provider refused the content.'), { code: 'content_refused' });
  // What is wrong with our account, as with an exhausted balance, is not for clients.
  if (status < 400 || status === 401 || status === 402 || status === 403) return thrownBy(() => jsonOf(answer));
  if (status === 429) return new RetryableError('The provider has too much to do.', retryAfterOf(answer));
  // The vendor's own client tries these again (section 11).
  if (status === 408 || status === 409) return new RetryableError(said(`The provider answered with status ${status}.`), mayRun(startsRun));
  if (status === 404) {
    return startsRun
      ? new TerminalError('The provider does not know the model.', { isProvidersOnly: true })
      : new TerminalError('The provider does not know the run.');
  }
  if (status === 499) return new TerminalError('The run was cancelled at the provider.');
  if (status === 504 && answer.header('x-fal-request-timeout-type') === 'user')
    return new TerminalError('The run was not started in the time that was set for it.');
  const sentence = said(status >= 500 ? `The provider failed with status ${status}.` : 'The provider refused the parameters.');
  if (status >= 500 && (type === undefined || TRANSIENT.has(type))) {
    // A type is of fal itself, which says that there is no run; without one, something in front of fal may have lost its answer.
    const isDoubtful = startsRun && type === undefined && (status === 502 || status === 504);
    return new RetryableError(sentence, { ...retryAfterOf(answer), ...mayRun(isDoubtful) });
  }
  if (status === 400 && type === 'downstream_service_error') return new RetryableError(sentence);
  const isInput = type !== 'no_media_generated' && (status === 400 || status === 413 || status === 422);
  return new TerminalError(sentence, isInput ? { code: 'invalid_input' } : {});
}

/** True for the 400 that a result answers with before the run has ended (section 2). The vendor marks it in no other way than by its words. */
export function isInProgress({ status, json }: CallAnswer): boolean {
  const detail = isJsonObject(json) ? json.detail : undefined;
  return status === 400 && typeof detail === 'string' && /in progress/i.test(detail);
}

function typeOf({ header }: CallAnswer, body: JsonObject): string | undefined {
  const [problem] = Array.isArray(body.detail) ? body.detail : [];
  const type = header('x-fal-error-type') ?? body.error_type ?? (isJsonObject(problem) ? problem.type : undefined);
  return typeof type === 'string' && type !== '' ? type : undefined;
}

/** Of a model's error the places and messages; the rest of it repeats the input. */
function wordsOf({ detail }: JsonObject): string | undefined {
  if (typeof detail === 'string') return detail;
  const problems: readonly JsonValue[] = Array.isArray(detail) ? detail.slice(0, PROBLEMS_SHOWN) : [];
  const words = problems.filter(isJsonObject).map(({ loc, msg }) => {
    const place = (Array.isArray(loc) ? loc : []).filter((part) => part !== 'body').join('.');
    return `${place === '' ? '' : `${place}: `}${typeof msg === 'string' ? msg : 'is not valid'}`;
  });
  return words.length === 0 ? undefined : words.join('; ');
}

function mayRun(mayHaveStarted: boolean): { readonly mayHaveStarted?: boolean } {
  return mayHaveStarted ? { mayHaveStarted } : {};
}

function thrownBy(read: () => unknown): ProviderError {
  try {
    read();
  } catch (error) {
    if (error instanceof ProviderError) return error;
    throw error;
  }
  return new RetryableError('The provider answered with something unexpected.');
}
