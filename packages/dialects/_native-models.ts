/** `GET /v1/models`: the catalog in the shape that clients of OpenAI's list understand, with the routes of each model and what they cost. */
import {
  type Answer,
  type DialectRoute,
  type ModelListing,
  on,
  PRICE_UNITS,
  type Price,
  ROUTINGS,
  type RouteListing,
  readQuery,
} from '@claimcheck/core';
import { z } from 'zod';
import { modelQuery } from './_native-requests.ts';

/** The lists of vendors tell when a model was made, which nobody knows of a file. */
const CREATED = 0;

const priceSchema = z
  .object({
    usd: z.number(),
    per: z.enum([...PRICE_UNITS.filter((unit) => unit !== 'token'), 'million tokens']),
    output_usd: z.number().optional(),
  })
  .meta({ id: 'Price', description: 'US dollars; `output_usd` is per million tokens that were written.' });

const modelMembers = {
  id: z.string(),
  object: z.literal('model'),
  created: z.literal(CREATED),
  owned_by: z.string(),
  name: z.string(),
  modality: z.enum(['image', 'video', 'audio', 'text', 'json']),
  aliases: z.array(z.string()),
  available: z.boolean(),
  routing: z.enum(ROUTINGS),
  routes: z.array(
    z.object({
      provider: z.string(),
      model: z.string(),
      available: z.boolean(),
      reason: z.string().optional().meta({ description: 'Why it would not serve now.' }),
      price: priceSchema.optional(),
    }),
  ),
};
const modelSchema = z.object(modelMembers).meta({ id: 'Model' });
const oneModelSchema = z.object({ ...modelMembers, parameters: z.looseObject({}).optional().meta({ description: 'A JSON Schema.' }) });
const modelListSchema = z.object({ object: z.literal('list'), data: z.array(modelSchema) }).meta({ id: 'ModelList' });

export const modelRoutes: readonly DialectRoute[] = [
  on('listModels', {
    method: 'GET',
    path: '/v1/models',
    body: 'none',
    summary: 'Lists every model, with its routes and prices.',
    answers: { 200: { description: 'All models.', schema: modelListSchema } },
    decode: () => ({ kind: 'listModels' }),
    encode: (listings) => json({ object: 'list', data: listings.map(modelBody) }),
  }),
  on('readModel', {
    method: 'GET',
    path: '/v1/models/:model{.+}',
    body: 'none',
    summary: 'Tells of one model, by its name or alias.',
    query: modelQuery,
    answers: { 200: { description: 'The model.', schema: oneModelSchema } },
    decode: ({ params: { model = '' } }) => ({ kind: 'readModel', name: model }),
    encode: (listing, request) =>
      json({ ...modelBody(listing), ...(readQuery(request, modelQuery).schema && { parameters: listing.model.parameters }) }),
  }),
];

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
