/** How dialects refuse what a schema alone cannot read: in sentences that name members as people write them. */
import { AppError, type Problem } from '@claimcheck/core';

/** Messages complete a sentence that begins with the name: "must be true or false". An empty pointer is the body as a whole. */
export function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer.slice(1)} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}
