/** An upstream's own words about an error, made fit for a client. */
import type { JsonValue } from '@claimcheck/core';

const CHARACTERS_MAX = 300;

/**
 * The text in one line, 300 characters at most, or `otherwise` when there is none. Links lose their path and query, where tokens travel,
 * and what looks like a key goes too, as does `key` itself.
 */
export function sentenceOf(text: JsonValue | undefined, otherwise: string, key?: string): string {
  if (typeof text !== 'string') return otherwise;
  const keyless = key === undefined ? text : text.replaceAll(key, '…');
  const plain = keyless
    .slice(0, 10 * CHARACTERS_MAX)
    .replace(/\b(https?:\/\/)(?:[^\s/@"']*@)?([^\s/?#"']+)[^\s"']*/gi, '$1$2/…')
    .replace(/\bdata:[^\s"']{20,}/gi, 'data:…')
    .replace(/\b(bearer|basic)\s+[\w.+/=-]{8,}/gi, '$1 …')
    .replace(/(key|token|secret)(\s*[:=]\s*)[\w.+/=-]{8,}/gi, '$1$2…')
    .replace(/\s+/g, ' ')
    .trim();
  if (plain === '') return otherwise;
  return plain.length > CHARACTERS_MAX ? `${plain.slice(0, CHARACTERS_MAX - 1).toWellFormed()}…` : plain;
}
