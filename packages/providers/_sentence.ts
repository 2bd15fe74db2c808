/** What of an upstream's own error sentence may be shown to a client. */

const CHARACTERS_MAX = 300;

/**
 * One line of plain text, 300 characters at most, without links (they may carry tokens) and without `secret`.
 * Undefined for anything that is no text: a raw body says more about the upstream than about the request.
 */
export function sentenceOf(said: unknown, secret: string): string | undefined {
  if (typeof said !== 'string') return undefined;
  const line = said
    .replaceAll(secret, '***')
    .replace(/\bhttps?:\/\/\S+/gi, '(link)')
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim();
  // A page of markup or a JSON document is not a sentence.
  if (line === '' || /^[<{[]/.test(line)) return undefined;
  return line.length > CHARACTERS_MAX ? `${line.slice(0, CHARACTERS_MAX - 1).toWellFormed()}…` : line;
}
