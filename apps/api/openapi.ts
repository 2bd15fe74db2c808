/**
 * The description of the API (OpenAPI 3.1): every route of every dialect, what the API serves itself, and a path of its own for each model
 * that runs here. It is made from the route tables, and from the very schemas that check what comes in.
 */
import { AppError, type Dialect, type DialectRoute, type Model, PUBLIC_OPERATIONS, type RouteDescription } from '@claimcheck/core';
import { OWN_ROUTES, type OwnRoute } from './openapi-own-routes.ts';
import { type JsonSchema, openSchemaComponents, relocated, type SchemaComponents } from './openapi-schemas.ts';
import { SUMMARIES } from './openapi-summaries.ts';
import packageJson from './package.json' with { type: 'json' };

export interface DescribedApi {
  readonly dialects: readonly Dialect[];
  /** Those that would run. */
  readonly models: readonly Model[];
}

export interface OpenApi {
  readonly openapi: string;
  readonly info: JsonSchema;
  readonly tags: readonly JsonSchema[];
  readonly security: readonly JsonSchema[];
  readonly paths: Readonly<Record<string, PathItem>>;
  readonly components: Readonly<Record<string, JsonSchema>>;
}

/** Operations by their methods in lower case. */
export type PathItem = Readonly<Record<string, OpenApiOperation>>;

export interface OpenApiOperation {
  readonly operationId: string;
  readonly responses: Readonly<Record<string, JsonSchema>>;
  readonly [member: string]: unknown;
}

const INFO = {
  title: 'claimcheck',
  version: packageJson.version,
  summary: 'A job queue for AI inference, with webhooks.',
  description: [
    'A client hands in a job and gets a claim check; it polls, streams or waits for the result, or is called back by a webhook.',
    'The native routes are described in full, with the parameters of each model. Below them stand the wire formats of other services, whose own',
    'pages say the rest: they all share the same jobs and models.',
  ].join(' '),
  license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
};

const SECURITY_SCHEMES = {
  apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' },
  bearer: { type: 'http', scheme: 'bearer' },
  authorization: { type: 'apiKey', in: 'header', name: 'authorization', description: 'The word `Key` or `Token`, a space, and the key.' },
};
/** Any one of them will do. */
const SECURITY = Object.keys(SECURITY_SCHEMES).map((name) => ({ [name]: [] }));

const SERVICE_TAG = 'Service';
const MODELS_TAG = 'Models';

/** @throws Error for routes that cannot be told apart, and for two schemas of one name. */
export function describeApi({ dialects, models }: DescribedApi): OpenApi {
  const native = dialects.find(({ name }) => name === 'native');
  if (!native) throw new Error('the native dialect is missing');
  const others = dialects.filter((dialect) => dialect !== native);
  const schemas = openSchemaComponents();
  const paths = openPaths();
  const responses: Record<string, JsonSchema> = {};

  for (const route of OWN_ROUTES) paths.add(route.method, route.path, (parameters) => ownOperation(route, parameters, schemas));
  // As they are mounted: where two have the same line, the first answers.
  const lines = [...others, native].flatMap((dialect) => submissionsFirst(dialect.routes).map((route) => ({ dialect, route })));
  const narrow = lines.filter(({ route }) => isNarrow(route));
  for (const { dialect, route } of [...lines.filter((line) => !narrow.includes(line)), ...narrow]) {
    paths.add(route.method, route.path, (parameters) => operation(dialect, route, parameters, schemas));
  }
  for (const dialect of dialects) {
    responses[errorName(dialect)] = errorResponse(dialect, schemas);
    if (dialect.proxy) for (const method of PROXY_METHODS) paths.add(method, dialect.proxy.path, () => proxyOperation(dialect));
  }
  for (const model of models) {
    for (const route of native.routes.filter(isForModels)) {
      const path = route.path.replace(MODEL_PARAMETER, model.name);
      paths.add(route.method, path, () => modelOperation(native, route, model, schemas));
    }
  }
  return {
    openapi: '3.1.0',
    info: INFO,
    tags: [
      tagOf(native),
      { name: MODELS_TAG, description: 'The models that run here, each with its parameters, in the native format.' },
      ...others.map(tagOf),
      { name: SERVICE_TAG, description: 'What needs no key.' },
    ],
    security: SECURITY,
    paths: paths.all(),
    components: { ...schemas.all(), responses, securitySchemes: SECURITY_SCHEMES },
  };
}

const MODEL_PARAMETER = ':model{.+}';
const isForModels = ({ operation, path }: DialectRoute) => operation === 'submit' && path.includes(MODEL_PARAMETER);

/** For readers, who look for how to begin; tables have them where their wide paths may stand. */
function submissionsFirst(routes: readonly DialectRoute[]): readonly DialectRoute[] {
  return [...routes.filter(({ operation }) => operation === 'submit'), ...routes.filter(({ operation }) => operation !== 'submit')];
}

/** A parameter in a path. */
interface PathParameter {
  readonly name: string;
  /** Of Hono: a regular expression for its value. */
  readonly pattern: string | undefined;
}

/** Paths in the order they were added; what was added first stays. */
function openPaths() {
  const items = new Map<
    string,
    { readonly path: string; readonly names: readonly string[]; readonly item: Record<string, OpenApiOperation> }
  >();
  const ids = new Set<string>();

  function uniqueId(method: string, path: string): string {
    const wanted = `${method}${path.replaceAll(/[{}]/g, '')}`.replaceAll(/[^A-Za-z0-9.]+/g, '-');
    let id = wanted;
    for (let number = 2; ids.has(id); number += 1) id = `${wanted}-${number}`;
    ids.add(id);
    return id;
  }

  return {
    add(method: string, honoPath: string, describe: (parameters: readonly PathParameter[]) => Omit<OpenApiOperation, 'operationId'>): void {
      const parameters = parametersIn(honoPath);
      const shape = shapeOf(honoPath);
      const known = items.get(shape);
      const path = known?.path ?? honoPath.replaceAll(PARAMETER, '{$1}');
      const names = known?.names ?? parameters.map(({ name }) => name);
      const item: Record<string, OpenApiOperation> = known?.item ?? {};
      items.set(shape, { path, names, item });
      const key = operationKey(method);
      if (key in item) return;
      const renamed = parameters.map(({ name, pattern }, at) => ({ name: names[at] ?? name, pattern }));
      item[key] = { operationId: uniqueId(method.toLowerCase(), path), ...describe(renamed) } as OpenApiOperation;
    },
    all: (): Readonly<Record<string, PathItem>> => Object.fromEntries(Array.from(items.values(), ({ path, item }) => [path, item])),
  };
}

/** `:name`, or `:name{pattern}`, whose pattern may have braces and slashes of its own. */
const PARAMETER = /:(\w+)(?:\{((?:[^{}]|\{[^{}]*\})*)\})?/g;
const ANYTHING = '.+';

function parametersIn(honoPath: string): PathParameter[] {
  return Array.from(honoPath.matchAll(PARAMETER), ([, name = '', pattern]) => ({ name, pattern }));
}

/** A path without what its parameters are called: those that differ in nothing else are the same to OpenAPI. */
export function shapeOf(honoPath: string): string {
  return honoPath.replaceAll(PARAMETER, '{}');
}

/** True for a path that takes only some values of a parameter: another may take the rest, and says more about both. */
function isNarrow({ path }: DialectRoute): boolean {
  return parametersIn(path).some(({ pattern }) => pattern !== undefined && pattern !== ANYTHING);
}

/** OpenAPI 3.1 has no place for methods that HTTP got after it, but for extensions. */
function operationKey(method: string): string {
  const key = method.toLowerCase();
  return key === 'query' ? 'x-query' : key;
}

function operation(dialect: Dialect, route: DialectRoute, path: readonly PathParameter[], schemas: SchemaComponents) {
  const body = requestBody(route, schemas);
  const parameters = [...pathParameters(path), ...parametersOf(route, schemas)];
  return {
    tags: [titleOf(dialect)],
    summary: route.summary ?? SUMMARIES[route.operation],
    ...(PUBLIC_OPERATIONS.has(route.operation) && { security: [] }),
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: body }),
    responses: { ...answersOf(route, schemas), default: { $ref: `#/components/responses/${errorName(dialect)}` } },
  };
}

const PRODUCTS = {
  image: 'pictures',
  video: 'videos',
  audio: 'sound',
  text: 'text',
  json: 'data',
} as const satisfies Record<Model['produces'], string>;

function modelOperation(dialect: Dialect, route: DialectRoute, model: Model, schemas: SchemaComponents) {
  const name = componentName(model.name);
  const schema = schemas.add(name, modelSchema(model, name, route, schemas));
  const aliases = model.aliases.length > 0 ? ` Also called ${model.aliases.join(', ')}.` : '';
  return {
    ...operation(dialect, route, [], schemas),
    tags: [MODELS_TAG],
    summary: `${model.title}: ${lowerFirst(route.summary ?? SUMMARIES.submit)}`,
    description: `Makes ${PRODUCTS[model.produces]}.${aliases}`,
    requestBody: { required: true, content: contentOf(route.body, schema) },
  };
}

/** The model's own parameters, and beside them the members that are the route's unless the model has one of that name. */
function modelSchema(model: Model, name: string, route: DialectRoute, schemas: SchemaComponents): JsonSchema {
  const { $id: _id, $schema: _dialect, ...own } = relocated(model.parameters, '#/', `#/components/schemas/${name}/`);
  const properties: JsonSchema = Object(own.properties);
  const beside = Object.entries(route.ownMembers?.shape ?? {}).filter(([member]) => !(member in properties));
  const besideSchemas = beside.map(([member, schema]) => [member, schemas.of(schema, 'input')]);
  return { title: model.title, ...own, properties: { ...properties, ...Object.fromEntries(besideSchemas) } };
}

function requestBody(route: DialectRoute, schemas: SchemaComponents): JsonSchema | undefined {
  if (route.body === 'none') return undefined;
  const isJob = route.operation === 'submit';
  const members = route.members
    ? schemas.of(route.members, 'input')
    : route.ownMembers
      ? schemas.of(route.ownMembers, 'input')
      : { type: 'object' };
  return {
    required: route.body !== 'optional json',
    ...(isJob && { description: "The model's parameters, and what the format has beside them." }),
    content: contentOf(route.body, members),
  };
}

function contentOf(body: DialectRoute['body'], schema: JsonSchema): JsonSchema {
  switch (body) {
    case 'json':
    case 'optional json':
      return { 'application/json': { schema } };
    case 'json or form':
      return {
        'application/json': { schema },
        'multipart/form-data': { schema: { type: 'object' } },
        'application/x-www-form-urlencoded': { schema: { type: 'object' } },
      };
    case 'text':
      return { '*/*': { schema: { type: 'string' } } };
    case 'file':
      return { '*/*': { schema: {} } };
    case 'none':
      return {};
  }
}

function pathParameters(parameters: readonly PathParameter[]): JsonSchema[] {
  return parameters.map(({ name, pattern }) => ({
    name,
    in: 'path',
    required: true,
    ...(pattern === ANYTHING && { description: 'May contain slashes.' }),
    schema: { type: 'string', ...valuesOf(pattern) },
  }));
}

function valuesOf(pattern: string | undefined): JsonSchema {
  if (pattern === undefined || pattern === ANYTHING) return {};
  const words = pattern.replace(/^\(\?:([\w|-]+)\)$/, '$1');
  return /^[\w|-]+$/.test(words) ? { enum: words.split('|') } : { pattern: `^(?:${pattern})$` };
}

function parametersOf({ query, headers }: RouteDescription, schemas: SchemaComponents): JsonSchema[] {
  const all = { query, header: headers };
  return Object.entries(all).flatMap(([place, object]) =>
    Object.entries(object?.shape ?? {}).map(([name, member]) => {
      const { description, ...schema } = schemas.of(member, 'output');
      const isRequired = !member.safeParse(undefined).success;
      const said = { ...(isRequired && { required: true }), ...(description !== undefined && { description }) };
      return schemas.addParameter({ name, in: place, ...said, schema });
    }),
  );
}

function answersOf({ answers }: RouteDescription, schemas: SchemaComponents): Record<string, JsonSchema> {
  if (!answers) return { '2XX': { description: 'As the format says.' } };
  return Object.fromEntries(
    Object.entries(answers).map(([status, { description, schema, contentType, streams = {} }]) => {
      const type = contentType ?? (schema && 'application/json');
      const content = { ...(type && { [type]: schema }), ...streams };
      const described = Object.entries(content).map(([name, of]) => [name, of ? { schema: schemas.of(of, 'output') } : {}]);
      return [status, { description, ...(described.length > 0 && { content: Object.fromEntries(described) }) }];
    }),
  );
}

function ownOperation(route: OwnRoute, path: readonly PathParameter[], schemas: SchemaComponents) {
  const parameters = pathParameters(path);
  return {
    tags: [SERVICE_TAG],
    summary: route.summary,
    security: [],
    ...(parameters.length > 0 && { parameters }),
    ...(route.body !== undefined && { requestBody: { description: route.body, content: ownContent(route, schemas) } }),
    responses: { ...answersOf(route, schemas), default: { $ref: '#/components/responses/NativeError' } },
  };
}

function ownContent({ schema }: OwnRoute, schemas: SchemaComponents): JsonSchema {
  return schema ? { 'application/json': { schema: schemas.of(schema, 'input') } } : { '*/*': { schema: {} } };
}

const PROXY_METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** What a key is needed for, its target says. */
function proxyOperation(dialect: Dialect) {
  return {
    tags: [titleOf(dialect)],
    summary: 'Answers as the address that a header names.',
    responses: { '2XX': { description: 'As that address.' }, default: { $ref: `#/components/responses/${errorName(dialect)}` } },
  };
}

/** An error as the dialect tells it. */
function errorResponse(dialect: Dialect, schemas: SchemaComponents): JsonSchema {
  const { body, headers } = dialect.encodeError(new AppError('not_found', 'Request 019b7602-7c00-7000-8000-00000000a001 not found'));
  const description = `An error, as ${titleOf(dialect)} tells it.`;
  if (body.kind !== 'json') return { description };
  const schema = dialect.errorSchema ? schemas.of(dialect.errorSchema, 'output') : {};
  return { description, content: { [headers?.['content-type'] ?? 'application/json']: { schema, example: body.value } } };
}

function errorName({ name }: Dialect): string {
  return `${componentName(name.charAt(0).toUpperCase() + name.slice(1))}Error`;
}

function titleOf({ about, name }: Dialect): string {
  return about?.title ?? name;
}

function tagOf(dialect: Dialect): JsonSchema {
  const { about, routes } = dialect;
  // Not those where there is nothing but that.
  const paths = (dialect.paths ?? []).filter((start) =>
    routes.some((route) => route.operation !== 'readCaller' && route.path.startsWith(start)),
  );
  const below = paths.length > 0 ? `Below ${paths.map((path) => `\`${path}\``).join(', ')}.` : undefined;
  const description = [about?.description, below].filter((part) => part !== undefined).join(' ');
  return {
    name: titleOf(dialect),
    ...(description && { description }),
    ...(about?.documentationUrl !== undefined && { externalDocs: { url: about.documentationUrl } }),
  };
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function componentName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9._-]/g, '.');
}
