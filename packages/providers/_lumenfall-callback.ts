/** Which callback addresses Lumenfall takes. Any other would be refused together with the whole request. */
import { isIP } from 'node:net';

/**
 * https, a host name, port 443 or 8443 (protocols/lumenfall.md, section 10). A vendor on this machine, which can only be a simulator, may call
 * this machine by whatever address.
 */
export function takesCallback(baseUrl: string, callbackUrl: string): boolean {
  const url = URL.parse(callbackUrl);
  if (!url) return false;
  if (isLoopback(url.hostname)) return isLoopback(new URL(baseUrl).hostname);
  // Names without a dot, like addresses in brackets, are of no public host.
  const isPublicName = isIP(url.hostname) === 0 && !url.hostname.startsWith('[') && url.hostname.includes('.');
  return url.protocol === 'https:' && isPublicName && ['', '443', '8443'].includes(url.port);
}

function isLoopback(hostname: string): boolean {
  return hostname === '127.0.0.1' || hostname === '[::1]' || hostname === 'localhost';
}
