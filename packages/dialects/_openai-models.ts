/** The catalog as both vendors list it (protocols/openai.md, section 5; lumenfall.md, section 8). */
import { type Answer, isJsonObject, type ModelListing, readQuery, type WireRequest } from '@claimcheck/core';
import { PICTURES } from './_openai-images.ts';
import { modelQuery } from './_openai-queries.ts';

/** The vendors tell when a model was made, which nobody knows of a file. */
const CREATED = 0;

export function modelList(listings: readonly ModelListing[]): Answer {
  return { status: 200, body: { kind: 'json', value: { object: 'list', data: listings.map(modelBody) } } };
}

/** With `?schema=true` and the schema of its parameters. */
export function modelAnswer(listing: ModelListing, request: WireRequest): Answer {
  const schema = readQuery(request, modelQuery).schema && { parameters: listing.model.parameters };
  return { status: 200, body: { kind: 'json', value: { ...modelBody(listing), ...schema } } };
}

function modelBody({ model, routes }: ModelListing) {
  const { name, title, produces, aliases } = model;
  const isAvailable = routes.some((route) => route.isAvailable);
  const prices = routes.flatMap(({ route }) => (route.price ? [route.price.usd] : []));
  return {
    id: name,
    object: 'model',
    created: CREATED,
    owned_by: name.includes('/') ? name.slice(0, name.indexOf('/')) : 'claimcheck',
    name: title,
    modality: produces,
    modalities: { input: takesPictures(model) ? ['text', 'image'] : ['text'], output: [produces] },
    model_status: isAvailable ? 'active' : 'unavailable',
    aliases,
    ...(prices.length > 0 && { starting_price: Math.min(...prices) }),
    providers: routes.filter((route) => route.isAvailable).map(({ route }) => route.provider),
  };
}

function takesPictures({ parameters: { properties = {} } }: ModelListing['model']): boolean {
  return isJsonObject(properties) && PICTURES.some((name) => Object.hasOwn(properties, name));
}
