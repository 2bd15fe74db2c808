/**
 * The catalog as Replicate lists its models (replicate.md, section 1). A model has one version, whose id is the model's name: with it a
 * prediction can be created, and the client for Python asks for it after a run (section 11).
 */
import { type Answer, AppError, type DialectRoute, type Model, type ModelListing, on, type WireRequest } from '@claimcheck/core';
import { answered, modelSchema, pageSchema, versionSchema } from './_replicate-answer-schemas.ts';
import { BASE, modelNameOf, NO_OWNER } from './_replicate-prediction.ts';
import { modelInPath, pathParameter } from './_replicate-requests.ts';

const MODEL = `${BASE}/models/:model{.+}`;
/** The vendor tells when a version was made and with which Cog, which nobody knows of a file. */
const CREATED_AT = '1970-01-01T00:00:00.000Z';
const COG_VERSION = '0.0.0';

export const modelRoutes: readonly DialectRoute[] = [
  on('listModels', {
    method: 'GET',
    path: `${BASE}/models`,
    body: 'none',
    answers: answered('All models.', pageSchema(modelSchema)),
    decode: () => ({ kind: 'listModels' }),
    encode: (listings, { baseUrl }) => json(pageOf(listings.map((listing) => modelBody(listing, baseUrl)))),
  }),
  on('listModels', {
    method: 'QUERY',
    path: `${BASE}/models`,
    body: 'text',
    summary: 'Lists the models in whose names or titles every word of the body occurs.',
    answers: answered('What was found.', pageSchema(modelSchema)),
    decode: () => ({ kind: 'listModels' }),
    encode: (listings, request) => json(pageOf(found(listings, request).map((listing) => modelBody(listing, request.baseUrl)))),
  }),
  on('readModel', {
    method: 'GET',
    path: `${MODEL}/versions/:version{.+}`,
    body: 'none',
    answers: answered('The version.', versionSchema),
    decode: (request) => ({ kind: 'readModel', name: modelInPath(request) }),
    encode: ({ model }, request) => {
      const version = modelNameOf(pathParameter(request, 'version'));
      if (version === model.name || model.aliases.includes(version)) return json(versionBody(model));
      throw new AppError('not_found', `The model ${model.name} has no version ${JSON.stringify(version)}; its only one is ${model.name}.`);
    },
  }),
  on('readModel', {
    method: 'GET',
    path: `${MODEL}/versions`,
    body: 'none',
    answers: answered('The only version.', pageSchema(versionSchema)),
    decode: (request) => ({ kind: 'readModel', name: modelInPath(request) }),
    encode: ({ model }) => json(pageOf([versionBody(model)])),
  }),
  on('readModel', {
    method: 'GET',
    path: MODEL,
    body: 'none',
    answers: answered('The model.', modelSchema),
    decode: (request) => ({ kind: 'readModel', name: modelInPath(request) }),
    encode: (listing, { baseUrl }) => json(modelBody(listing, baseUrl)),
  }),
];

/** Models in whose names or titles every word of the query occurs. The vendor's client sends the query as a JSON text. */
function found(listings: readonly ModelListing[], { text = '' }: WireRequest): readonly ModelListing[] {
  const words = text.toLowerCase().match(/[\p{L}\p{N}.]+/gu) ?? [];
  return listings.filter(({ model: { name, title, aliases } }) => {
    const about = [name, title, ...aliases].join(' ').toLowerCase();
    return words.every((word) => about.includes(word));
  });
}

function modelBody({ model }: ModelListing, baseUrl: string) {
  const slash = model.name.indexOf('/');
  const owner = slash === -1 ? NO_OWNER : model.name.slice(0, slash);
  const name = model.name.slice(slash + 1);
  return {
    url: `${baseUrl}${BASE}/models/${owner}/${name}`,
    owner,
    name,
    description: model.title,
    visibility: 'public',
    github_url: null,
    paper_url: null,
    license_url: null,
    run_count: 0,
    cover_image_url: null,
    default_example: null,
    latest_version: versionBody(model),
  };
}

function versionBody(model: Model) {
  return { id: model.name, created_at: CREATED_AT, cog_version: COG_VERSION, openapi_schema: schemaOf(model) };
}

/** As Cog describes a model: its parameters are the schema `Input`. */
function schemaOf({ title, parameters, produces }: Model) {
  return {
    openapi: '3.1.0',
    info: { title, version: COG_VERSION },
    components: { schemas: { Input: { title: 'Input', ...parameters }, Output: { title: 'Output', ...OUTPUTS[produces] } } },
  };
}

const FILE = { type: 'string', format: 'uri' };
const OUTPUTS = {
  image: { anyOf: [FILE, { type: 'array', items: FILE }] },
  video: FILE,
  audio: FILE,
  text: { type: 'array', items: { type: 'string' }, 'x-cog-array-type': 'iterator', 'x-cog-array-display': 'concatenate' },
  json: {},
} as const satisfies Record<Model['produces'], object>;

/** There are never so many that they need a second page. */
function pageOf(results: readonly unknown[]) {
  return { previous: null, next: null, results };
}

function json(value: unknown): Answer {
  return { status: 200, body: { kind: 'json', value } };
}
