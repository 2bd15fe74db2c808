/** Entity tags (RFC 9110, section 8.8.3). */

/** True when an If-None-Match header names this tag, with its quotes, or any. */
export function matchesEtag(header: string | undefined, etag: string): boolean {
  return header?.split(',').some((tag) => ['*', etag].includes(tag.trim().replace(/^W\//, ''))) ?? false;
}
