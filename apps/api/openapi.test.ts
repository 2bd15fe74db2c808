import { join } from 'node:path';
import { type Model, parseExactJson } from '@claimcheck/core';
import { loadDialects } from '@claimcheck/dialects';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { describeApi, type OpenApi, type OpenApiOperation, shapeOf } from './openapi.ts';
import { jsonBody, jsonOf, MODEL, ORIGIN, startTestService, type TestService } from './testing/service.ts';

/** What the tests look at of the document, as it is served. */
const documentSchema = z.looseObject({
  openapi: z.string(),
  servers: z.array(z.object({ url: z.string() })),
  tags: z.array(z.looseObject({ name: z.string() })),
  paths: z.record(
    z.string(),
    z.record(z.string(), z.looseObject({ operationId: z.string(), summary: z.string(), tags: z.array(z.string()) })),
  ),
  components: z.looseObject({ schemas: z.record(z.string(), z.looseObject({})) }),
});
type Served = z.infer<typeof documentSchema>;

let service: TestService;
let served: Served;
beforeAll(async () => {
  service = await startTestService();
  served = documentSchema.parse(await (await service.app.request('/openapi.json')).json());
});
afterAll(() => service[Symbol.asyncDispose]());

/** Methods of paths, `x-query` for one that OpenAPI 3.1 has no word for. */
function operationsOf(document: Pick<Served, 'paths'>) {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method: method.replace('x-', '').toUpperCase(), operation })),
  );
}

/** A path that OpenAPI writes with the values that a caller might put there. */
function filledIn(path: string): string {
  return path.replaceAll('{area}', 'billing').replaceAll(/\{\w+\}/g, 'x');
}

test('is a valid document of OpenAPI 3.1', async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(served));
  expect(errors ?? []).toEqual([]);
  expect(valid).toBe(true);
  expect(validator.version).toBe('3.1');
});

test('the validator is one that finds mistakes', async () => {
  const broken = { ...structuredClone(served), paths: { '/x': { get: { responses: { 200: {} } } } } };
  expect((await new Validator().validate(broken)).valid).toBe(false);
});

test('every reference leads somewhere', () => {
  const references = Array.from(JSON.stringify(served).matchAll(/"\$ref":"([^"]+)"/g), ([, reference = '']) => reference);
  const at = (reference: string) =>
    reference
      .slice(2)
      .split('/')
      .reduce<unknown>((value, key) => Object(value)[key.replaceAll('~1', '/').replaceAll('~0', '~')], served);
  expect(references.length).toBeGreaterThan(100);
  expect([...new Set(references)].filter((reference) => at(reference) === undefined)).toEqual([]);
});

describe('the routes', () => {
  test('are all that are mounted, and no other', () => {
    const mounted = service.app.routes.filter(({ path }) => path !== '/*').map(({ method, path }) => ({ method, shape: shapeOf(path) }));
    // What is mounted for any method tells which there are, or stands for another address.
    const lines = new Set(mounted.filter(({ method }) => method !== 'ALL').map(({ method, shape }) => `${method} ${shape}`));
    const documented = operationsOf(served).map(({ path, method }) => `${method} ${path.replaceAll(/\{\w+\}/g, '{}')}`);
    expect([...lines].filter((line) => !documented.includes(line))).toEqual([]);

    const proxies = new Set(
      mounted.map(({ shape }) => shape).filter((shape) => !mounted.some((other) => other.shape === shape && other.method !== 'ALL')),
    );
    const isForModel = (line: string) =>
      service.catalog.list().some(({ name }) => line === `POST /v1/${name}` || line === `POST /v2/${name}`);
    const others = documented.filter((line) => !lines.has(line) && !isForModel(line) && !proxies.has(line.slice(line.indexOf(' ') + 1)));
    expect(others).toEqual([]);
    expect(Array.from(proxies)).toContain('/fal/proxy');
  });

  test('have names of their own, say what they do, and belong to a part', () => {
    const all = operationsOf(served).map(({ operation }) => operation);
    const ids = all.map(({ operationId }) => operationId);
    expect(ids.filter((id, at) => ids.indexOf(id) !== at)).toEqual([]);
    expect(ids.filter((id) => !/^[a-z][\w.-]+$/.test(id))).toEqual([]);
    expect(all.filter(({ summary }) => !/^\S.*\.$/.test(summary))).toEqual([]);
    const tags = served.tags.map(({ name }) => name);
    expect(all.flatMap((operation) => operation.tags).filter((tag) => !tags.includes(tag))).toEqual([]);
  });

  test('name every parameter of their paths', () => {
    for (const { path, operation } of operationsOf(served)) {
      const inPath = z.array(z.looseObject({ name: z.string().optional(), in: z.string().optional() })).parse(operation.parameters ?? []);
      const named = inPath.filter((parameter) => parameter.in === 'path').map(({ name }) => name);
      expect(named, path).toEqual(Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name));
    }
  });

  test('want a key exactly where they say so', async () => {
    const refused = async (path: string, method: string) => (await service.app.request(filledIn(path), { method })).status === 401;
    for (const { path, method, operation } of operationsOf(served)) {
      // What stands behind it says the header.
      if (path === '/fal/proxy') continue;
      expect(await refused(path, method), `${method} ${path}`).toBe(operation.security === undefined);
    }
  });

  test.each([
    [{ 'x-api-key': 'KEY' }, 'apiKey'],
    [{ authorization: 'Bearer KEY' }, 'bearer'],
    [{ authorization: 'Key KEY' }, 'authorization'],
    [{ authorization: 'Token KEY' }, 'authorization'],
  ])('take a key as %j', async (headers, scheme) => {
    const sent = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replace('KEY', service.key)]));
    expect((await service.app.request('/v2/requests', { headers: sent })).status).toBe(200);
    expect(served.security).toContainEqual({ [scheme]: [] });
    expect(served.components.securitySchemes).toHaveProperty(scheme);
  });

  test('tell what their values may be, as the schemas that read them say', () => {
    const references = z.array(z.object({ $ref: z.string() })).parse(served.paths['/v2/requests']?.get?.parameters);
    const parameters = Object(served.components.parameters);
    expect(references.map(({ $ref }) => parameters[$ref.replace('#/components/parameters/', '')])).toEqual([
      { name: 'limit', in: 'query', description: 'How many at most.', schema: { type: 'integer', minimum: 1, maximum: 100, default: 20 } },
      { name: 'cursor', in: 'query', description: expect.any(String), schema: { type: 'string' } },
      {
        name: 'status',
        in: 'query',
        description: expect.any(String),
        schema: { type: 'string', enum: ['QUEUED', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED'] },
      },
    ]);
  });

  test('give defaults and examples that may be sent', () => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    const schemas = Object.values<{ readonly name: string; readonly schema: object }>(Object(served.components.parameters));
    const wrong = schemas.flatMap(({ name, schema }) => {
      const { examples = [], ...rest }: { readonly examples?: readonly unknown[]; readonly default?: unknown } = schema;
      const given = 'default' in rest ? [...examples, rest.default] : examples;
      return given.filter((value) => !ajv.validate(schema, value)).map((value) => [name, value]);
    });
    expect(wrong).toEqual([]);
    expect(schemas).toContainEqual(expect.objectContaining({ name: 'Prefer', schema: { type: 'string', examples: ['wait=30'] } }));
  });

  test('share what they have in common', () => {
    for (const shared of [served.components.parameters, served.components.responses]) {
      const texts = Object.values(Object(shared)).map((one) => JSON.stringify(one));
      expect(texts.filter((text, at) => texts.indexOf(text) !== at)).toEqual([]);
    }
  });

  test('show an error as their format tells it', () => {
    const examples = z.record(z.string(), z.looseObject({ description: z.string() })).parse(served.components.responses);
    expect(Object.keys(examples)).toEqual(expect.arrayContaining(['NativeError', 'FalError', 'OpenaiError']));
    expect(JSON.stringify(examples)).toContain('Request 019b7602-7c00-7000-8000-00000000a001 not found');
    expect(served.paths['/fal/run/{model}']?.post?.responses).toMatchObject({ default: { $ref: '#/components/responses/FalError' } });
  });
});

describe('of another dialect', () => {
  test('the routes are there without a word about them', async () => {
    const dialects = [...(await loadDialects()), ...(await loadDialects(join(import.meta.dirname, 'testing/dialects')))];
    const { paths, tags } = describeApi({ dialects, models: [] });
    expect(paths['/tiny/jobs/{id}']).toMatchObject({
      get: {
        tags: ['tiny'],
        summary: 'Tells where a job stands, or its result.',
        responses: { default: { $ref: '#/components/responses/TinyError' } },
      },
      delete: { summary: 'Cancels a job.' },
    });
    expect(tags).toContainEqual({ name: 'tiny', description: 'Below `/tiny`.' });
    expect(Object.keys(paths).filter((path) => path.includes(MODEL))).toEqual([]);
  });
});

/** Answers may not have members that the document does not have. */
function closed(schema: unknown): unknown {
  return JSON.parse(
    JSON.stringify(schema, (_key, value: unknown) => {
      if (typeof value !== 'object' || value === null || !('properties' in value) || 'additionalProperties' in value) return value;
      return { ...value, additionalProperties: false };
    }),
  );
}

function answerSchemaOf(
  document: Pick<OpenApi | Served, 'paths' | 'components'>,
  method: string,
  path: string,
  status: number,
): ValidateFunction {
  const ajv = new Ajv2020({
    strict: false,
    allErrors: true,
    formats: {
      uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
      uri: (text: string) => URL.canParse(text),
      'date-time': /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/,
    },
  });
  ajv.addSchema({ $id: 'document', components: closed(document.components) });
  const operation: OpenApiOperation | undefined = document.paths[path]?.[method] as OpenApiOperation | undefined;
  const [content] = Object.values(Object(Object(operation?.responses)[status]?.content));
  const schema = Object(content).schema;
  if (schema === undefined) throw new Error(`${method} ${path} says nothing of what it answers with ${status}.`);
  return ajv.compile(JSON.parse(JSON.stringify(closed(schema)).replaceAll('"#/components', '"document#/components')));
}

/** Sends a request, and holds its answer against what the document says of it. */
async function answerOf(method: 'get' | 'post' | 'put' | 'delete', path: string, address: string, init: RequestInit = {}) {
  const response = await service.request(address, { ...init, method: method.toUpperCase() });
  const body = await jsonOf(response);
  const fits = answerSchemaOf(served, method, path, response.status);
  expect({ body, fits: fits(body), errors: fits.errors ?? [] }).toEqual({ body, fits: true, errors: [] });
  return { status: response.status, body };
}

describe('real answers fit what is said of them', () => {
  const ended = (id: string) =>
    expect
      .poll(async () => (await jsonOf(await service.request(`/v2/requests/${id}/status?wait=5`))).status, { timeout: 60_000 })
      .toMatch(/COMPLETED|FAILED|CANCELLED/);

  test('of a job that succeeds', async () => {
    const submitted = await answerOf('post', `/v2/${MODEL}`, `/v2/${MODEL}`, jsonBody({ prompt: 'a panda [[slow:0]]' }));
    const id = String(submitted.body.request_id);
    await answerOf('get', '/v2/requests/{id}/status', `/v2/requests/${id}/status?logs=true`);
    await ended(id);
    const status = await answerOf('get', '/v2/requests/{id}/status', `/v2/requests/${id}/status?logs=true`);
    expect(status.body).toMatchObject({ status: 'COMPLETED', metrics: { attempts: [{}] } });
    expect((await answerOf('get', '/v2/requests/{id}', `/v2/requests/${id}`)).body).toHaveProperty('images');
    await answerOf('get', '/v2/requests', '/v2/requests?limit=1');
    const waited = await answerOf('post', '/v2/{model}', `/v2/${MODEL}`, jsonBody({ prompt: 'x' }, { prefer: 'wait=10' }));
    expect(waited.body).toHaveProperty('output');
    await answerOf('delete', '/v2/requests/{id}', `/v2/requests/${id}`);
  });

  test('of a job that fails, also where a client waits', async () => {
    const body = { prompt: '[[fail:no]]' };
    const waited = await answerOf('post', '/v1/{model}', `/v1/${MODEL}`, jsonBody(body));
    expect(waited).toMatchObject({ status: 422, body: { status: 'FAILED' } });
    const id = String(waited.body.request_id);
    expect((await answerOf('get', '/v2/requests/{id}', `/v2/requests/${id}`)).status).toBe(422);
    expect((await answerOf('get', '/v2/requests/{id}/status', `/v2/requests/${id}/status`)).status).toBe(422);
    await answerOf('post', '/v2/requests/{id}/cancel', `/v2/requests/${id}/cancel`);
  });

  test('of events, from the first to the last', async () => {
    const id = await service.submit({ prompt: 'a panda [[slow:200]]' });
    const text = await (await service.request(`/v2/requests/${id}/events`)).text();
    const events = Array.from(text.matchAll(/^data: (.+)$/gm), ([, data = '']): unknown => JSON.parse(data));
    const fits = answerSchemaOf(served, 'get', '/v2/requests/{id}/events', 200);
    expect(events.length).toBeGreaterThan(1);
    for (const event of events) expect({ event, fits: fits(event), errors: fits.errors ?? [] }).toEqual({ event, fits: true, errors: [] });
  });

  test('of models', async () => {
    await answerOf('get', '/v1/models', '/v1/models');
    expect((await answerOf('get', '/v1/models/{model}', `/v1/models/${MODEL}?schema=true`)).body).toHaveProperty('parameters');
  });

  test('of webhooks and their deliveries', async () => {
    await answerOf('get', '/v2/webhooks/secret', '/v2/webhooks/secret');
    await answerOf('post', '/v2/webhooks/secret/rotate', '/v2/webhooks/secret/rotate');
    await answerOf('get', '/v2/webhooks/settings', '/v2/webhooks/settings');
    const settings = { signatures: ['v1', 'v1a'], schedule: 'short', headers: { 'x-team': 'video' } };
    await answerOf('put', '/v2/webhooks/settings', '/v2/webhooks/settings', jsonBody(settings));
    const secret = await answerOf('get', '/v2/webhooks/secret', '/v2/webhooks/secret');
    await answerOf('get', '/v2/webhooks/keys/{id}', new URL(String(secret.body.jwks_url)).pathname);
    const tried = await answerOf('post', '/v2/webhooks/test', '/v2/webhooks/test', jsonBody({ url: 'http://127.0.0.1:9/hook' }));
    expect(tried.body).toHaveProperty('sends');
    await answerOf('get', '/v2/deliveries', '/v2/deliveries');
    await answerOf('get', '/v2/deliveries/{id}', `/v2/deliveries/${tried.body.id}`);
    await answerOf('post', '/v2/deliveries/{id}/resend', `/v2/deliveries/${tried.body.id}/resend`);
    const replay = await answerOf('post', '/v2/deliveries/replay', '/v2/deliveries/replay', jsonBody({ since: '2020-01-01T00:00:00Z' }));
    await answerOf('get', '/v2/deliveries/replay/{id}', `/v2/deliveries/replay/${replay.body.replay_id}`);
    await answerOf('delete', '/v2/deliveries/replay/{id}', `/v2/deliveries/replay/${replay.body.replay_id}`);
  });

  test('of files that are handed in', async () => {
    const announced = await answerOf('post', '/v2/uploads', '/v2/uploads', jsonBody({ file_name: 'a.txt', content_type: 'text/plain' }));
    const address = new URL(String(announced.body.upload_url)).pathname;
    await answerOf('put', '/uploads/{token}', address, { body: 'hello', headers: { 'content-type': 'text/plain' } });
    await answerOf('get', '/v2/uploads', '/v2/uploads');
    await answerOf('get', '/v2/uploads/{id}', `/v2/uploads/${announced.body.id}`);
    await answerOf('delete', '/v2/uploads/{id}', `/v2/uploads/${announced.body.id}`);
  });

  test('of health', async () => {
    await answerOf('get', '/healthz', '/healthz');
    await answerOf('get', '/readyz', '/readyz');
  });

  test('of errors', async () => {
    const ajv = new Ajv2020({ strict: false, formats: { uuid: true } });
    const fits = ajv.compile(Object(closed(served.components.schemas.Error)));
    for (const response of [
      await service.request('/v2/requests?limit=0&status=x'),
      await service.request('/nowhere'),
      await service.request(`/v2/${MODEL}`, jsonBody({ prompt: 7 })),
      await service.app.request('/v2/requests'),
    ]) {
      expect(response.status).toBeGreaterThanOrEqual(400);
      const body = await jsonOf(response);
      expect({ body, fits: fits(body) }).toEqual({ body, fits: true });
    }
  });

  test('and others do not', () => {
    const fits = answerSchemaOf(served, 'get', '/healthz', 200);
    expect([fits({ status: 'ok' }), fits({ status: 'ok', more: 1 }), fits({ status: 'bad' }), fits({})]).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });
});

describe('every model that runs here', () => {
  const schemaOf = (version: string, name: string) =>
    Object(served.paths[`/${version}/${name}`]?.post?.requestBody).content['application/json'].schema;
  const compiled = (name: string) => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'document', components: served.components });
    return ajv.compile({ $ref: schemaOf('v2', name).$ref.replace('#', 'document#') });
  };

  test('has a line of its own in each version, with its parameters and its other names', () => {
    const models = service.catalog.list();
    expect(models.length).toBeGreaterThan(5);
    for (const model of models) {
      expect(schemaOf('v1', model.name)).toEqual(schemaOf('v2', model.name));
      const description = String(served.paths[`/v2/${model.name}`]?.post?.description);
      for (const alias of model.aliases) expect(description).toContain(alias);
    }
  });

  test('is described by what checks its parameters', () => {
    const accepts = (model: Model, parameters: object) => {
      try {
        service.catalog.fill(model, parseExactJson(JSON.stringify(parameters)));
        return true;
      } catch {
        return false;
      }
    };
    for (const model of service.catalog.list()) {
      const fits = compiled(model.name);
      for (const parameters of [
        {},
        { prompt: 'x' },
        { prompt: 7 },
        { prompt: 'x', seed: 'one' },
        { messages: [{ role: 'user', content: 'x' }] },
      ]) {
        expect(fits(parameters), `${model.name} ${JSON.stringify(parameters)}`).toBe(accepts(model, parameters));
      }
    }
  });

  test('takes a webhook beside its parameters', () => {
    const fits = compiled(MODEL);
    const options = { webhook_format: 'standard', webhook_schedule: [0, 5], webhook_events: 'started', webhook_headers: { 'x-a': 'b' } };
    expect(fits({ prompt: 'x', webhook: 'https://example.com/', ...options })).toBe(true);
    for (const wrong of [{ webhook: 1 }, { webhook_format: 'xml' }, { webhook_schedule: ['x'] }, { webhook_headers: { a: 1 } }]) {
      expect(fits({ prompt: 'x', ...wrong })).toBe(false);
    }
  });
});

describe('as it is served', () => {
  test('it names the address that it was asked at, and is sent again only when it is another', async () => {
    expect(served.servers).toEqual([{ url: ORIGIN }]);
    const first = await service.app.request('/openapi.json');
    expect(first.headers.get('content-type')).toBe('application/json');
    const etag = first.headers.get('etag') ?? '';
    const again = await service.app.request('/openapi.json', { headers: { 'if-none-match': `W/${etag}` } });
    expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag]);
    const elsewhere = await service.app.request('http://other.example/openapi.json', { headers: { 'if-none-match': etag } });
    expect(elsewhere.status).toBe(200);
    expect(await jsonOf(elsewhere)).toMatchObject({ servers: [{ url: 'http://other.example' }] });
  });

  test('it names PUBLIC_URL where that is known', async () => {
    await using known = await startTestService({ worker: false, publicUrl: 'https://queue.example/base' });
    expect(await jsonOf(await known.app.request('/openapi.json'))).toMatchObject({ servers: [{ url: 'https://queue.example/base' }] });
  });
});
