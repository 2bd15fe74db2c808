/** `GET /v1/models`: the catalog in the shape that clients of OpenAI's list understand, with the routes of each model and what they cost. */
import { type Answer, AppError, type DialectRoute, type ModelListing, on, type Price, type RouteListing } from '@claimcheck/core';

/** The lists of vendors tell when a model was made, which nobody knows of a file. */
const CREATED = 0;

export const modelRoutes: readonly DialectRoute[] = [
  on('listModels', {
    method: 'GET',
    path: '/v1/models',
    body: 'none',
    decode: () => ({ kind: 'listModels' }),
    encode: (listings) => json({ object: 'list', data: listings.map(modelBody) }),
  }),
  on('readModel', {
    method: 'GET',
    path: '/v1/models/:model{.+}',
    body: 'none',
    decode: ({ params: { model = '' }, query }) => {
      wantsSchema(query);
      return { kind: 'readModel', name: model };
    },
    encode: (listing, { query }) => json({ ...modelBody(listing), ...(wantsSchema(query) && { parameters: listing.model.parameters }) }),
  }),
];

/** @throws AppError for anything but true and false. */
function wantsSchema(query: URLSearchParams): boolean {
  const given = query.get('schema') ?? 'false';
  if (given === 'true' || given === '1') return true;
  if (given === 'false' || given === '0') return false;
  const message = 'must be true or false';
  throw new AppError('invalid_request', `schema ${message}.`, { problems: [{ pointer: '/schema', message }] });
}

export function modelBody({ model, routes }: ModelListing) {
  const { name, title, produces, aliases, routing } = model;
  return {
    id: name,
    object: 'model',
    created: CREATED,
    owned_by: name.includes('/') ? name.slice(0, name.indexOf('/')) : 'claimcheck',
    name: title,
    modality: produces,
    aliases,
    available: routes.some(({ isAvailable }) => isAvailable),
    routing,
    routes: routes.map(routeBody),
  };
}

function routeBody({ route: { provider, model, price }, isAvailable, reason }: RouteListing) {
  return {
    provider,
    model,
    available: isAvailable,
    ...(reason !== undefined && { reason }),
    ...(price && { price: priceBody(price) }),
  };
}

function priceBody({ usd, per, outputUsd }: Price) {
  return { usd, per: per === 'token' ? 'million tokens' : per, ...(outputUsd !== undefined && { output_usd: outputUsd }) };
}

function json(value: unknown): Answer {
  return { status: 200, body: { kind: 'json', value } };
}
