/** Settings that adapters of vendors have in common. */
import { z } from 'zod';

/** A vendor's `<PROVIDER>_BASE_URL`: takes the place of exactly `defaultUrl`. Slashes at its end are dropped, as paths bring their own. */
export function baseUrlSetting(defaultUrl: string) {
  return httpUrl().default(defaultUrl);
}

/** Where a server of the operator's own listens: there is none unless it is said. */
export function ownBaseUrlSetting() {
  return httpUrl().optional();
}

function httpUrl() {
  return z
    .url({ protocol: /^https?$/, error: 'must be an address that starts with http:// or https://' })
    .transform((url) => url.replace(/\/+$/, ''));
}

/** A vendor's key. One that cannot be sent in a header is refused at the start, as the error of a later call would quote it. */
export function keySetting() {
  return z
    .string()
    .trim()
    .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without spaces')
    .optional();
}
