/** Models as apps of inference.sh: `namespace/name`, with the schema of their input (protocols/inference-sh.md, section 2). */
import type { ModelListing } from '@claimcheck/core';
import { pageBody, type SearchQuery } from './_inference-sh-requests.ts';

export function appBody({ model, routes }: ModelListing) {
  const { name, title, produces, parameters } = model;
  const slash = name.indexOf('/');
  const isAvailable = routes.some((route) => route.isAvailable);
  return {
    id: name,
    short_id: name,
    namespace: slash < 0 ? '' : name.slice(0, slash),
    name: name.slice(slash + 1),
    title,
    description: title,
    category: produces === 'json' ? 'other' : produces,
    visibility: 'public',
    images: {},
    status: isAvailable ? 'active' : 'maintenance',
    ...(!isAvailable && { status_message: routes.flatMap(({ reason = [] }) => reason).join(' ') }),
    version_id: '',
    version: { input_schema: parameters, default_function: 'run' },
  };
}

/** In the order of names. The cursor is the last name of the page before. */
export function appPage(listings: readonly ModelListing[], query: SearchQuery) {
  const { limit, cursor = '', term } = query;
  const found = listings
    .filter(({ model: { name, title, aliases } }) => [name, title, ...aliases].some((text) => text.toLowerCase().includes(term)))
    .toSorted(({ model: { name: a } }, { model: { name: b } }) => (a < b ? -1 : 1))
    .filter(({ model: { name } }) => name > cursor);
  const page = found.slice(0, limit);
  return pageBody(page.map(appBody), found.length > limit ? page.at(-1)?.model.name : undefined, query);
}
