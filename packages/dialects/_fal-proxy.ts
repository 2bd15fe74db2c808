/** Clients of fal that may not know the key send everything to one address of their own and name the vendor's in a header (fal.md, section 12). */
import { AppError, type DialectProxy } from '@claimcheck/core';

/** Hosts of section 1, with what answers for them here. Those behind the first of a kind are older, or stand in for it. */
const HOSTS: Readonly<Record<string, string>> = {
  'queue.fal.run': '/fal/queue',
  'queue.falrun.com': '/fal/queue',
  'fal.run': '/fal/run',
  'falrun.com': '/fal/run',
  'rest.fal.ai': '/fal/rest',
  'rest.alpha.fal.ai': '/fal/rest',
  'api.fal.ai': '/fal/api',
};

export const falProxy: DialectProxy = {
  path: '/fal/proxy',
  target({ header }) {
    const named = header('x-fal-target-url');
    const url = named !== undefined && URL.canParse(named) ? new URL(named) : undefined;
    const start = HOSTS[url?.hostname ?? ''];
    if (url && start !== undefined) return `${start}${url.pathname}${url.search}`;
    const hosts = Object.keys(HOSTS).join(', ');
    const given = named === undefined ? 'none was sent' : `not ${JSON.stringify(named)}`;
    throw new AppError('invalid_request', `The header x-fal-target-url must be an address at one of ${hosts}; ${given}.`);
  },
};
