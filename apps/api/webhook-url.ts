/** What may be named as a webhook at submission. */
import { AppError, type JsonValue } from '@claimcheck/core';

const URL_CHARACTERS_MAX = 2_048;
const UNPRINTABLE = /[\s\p{Cc}]/u;

/**
 * The URL, if it is one that can be called: http or https, no credentials, 2,048 characters at most.
 * @throws AppError `invalid_parameters` with `pointer`, so that nothing is queued whose end nobody could hear of.
 */
export function checkWebhookUrl(value: JsonValue, pointer: string): string {
  const problem = problemWith(value);
  if (problem !== undefined) {
    throw new AppError('invalid_parameters', `The webhook cannot be used: it ${problem}.`, { problems: [{ pointer, message: problem }] });
  }
  return String(value);
}

function problemWith(value: JsonValue): string | undefined {
  if (typeof value !== 'string') return 'must be a string';
  if (value.length > URL_CHARACTERS_MAX) return `must have ${URL_CHARACTERS_MAX} characters at most`;
  // The URL parser drops line breaks and tabs, so what it accepts may still not be what was meant.
  if (UNPRINTABLE.test(value)) return 'must not contain spaces or control characters';
  if (!value.isWellFormed() || !URL.canParse(value)) return 'must be a URL such as https://example.com/hook';
  const url = new URL(value);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'must start with http:// or https://';
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password';
  return undefined;
}
