/** What may be named as a webhook at submission. */
import { AppError, type JsonValue } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';

/**
 * The URL, if it is one that may be called, as far as that can be told without looking its name up.
 * @throws AppError `invalid_parameters` with `pointer`, so that nothing is queued whose end nobody could hear of.
 */
export function checkWebhookUrl({ problemWithWebhook }: Pick<Engine, 'problemWithWebhook'>, value: JsonValue, pointer: string): string {
  const problem = problemWithWebhook(value);
  if (problem !== undefined) {
    const { message } = problem;
    throw new AppError('invalid_parameters', `The webhook cannot be used: it ${message}.`, { problems: [{ pointer, message }] });
  }
  return String(value);
}
