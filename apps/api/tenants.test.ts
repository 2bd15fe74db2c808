/** What belongs to one caller does not exist for another: whichever dialect asks, by whichever line that takes an id. */
import type { DialectRoute } from '@claimcheck/core';
import { loadDialects } from '@claimcheck/dialects';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonOf, startTestService, type TestService } from './testing/service.ts';

const UNKNOWN_ID = '01980000-0000-7000-8000-000000000000';
const MODEL = 'flux-schnell';
/** Vendors put words in front of ids where their clients tell kinds of things by them. */
const PREFIXES = ['', 'req_', 'video_', 'resp_', 'chatcmpl-', 'img_', 'task_', 'file-', 'file_'];

let service: TestService;
let strangersKey: string;
beforeAll(async () => {
  service = await startTestService({ worker: false });
  strangersKey = await service.newKey('a stranger');
});
afterAll(() => service[Symbol.asyncDispose]());

const dialects = (await loadDialects()).map(({ name, routes }) => ({ name, routes: routes.filter(({ path }) => takesId(path)) }));

describe.each(dialects.filter(({ routes }) => routes.length > 0))('$name', ({ routes }) => {
  test.each(routes.map((route) => ({ line: `${route.method} ${route.path}`, route })))(
    "$line answers another caller's id as an unknown one, and changes nothing",
    async ({ route }) => {
      const id = await service.submit({ prompt: 'x' });
      for (const prefix of PREFIXES) {
        const foreign = await ask(route, prefix, id);
        if (foreign === undefined) continue;
        expect(foreign).toEqual(await ask(route, prefix, UNKNOWN_ID));
        expect(foreign.status, foreign.body).toBeGreaterThanOrEqual(400);
      }
      expect(await jsonOf(await service.request(`/v2/requests/${id}`))).toMatchObject({ status: 'QUEUED' });
    },
    30_000,
  );
});

/** True of a line with a parameter that does not name a model, or anything at all. */
function takesId(path: string): boolean {
  return PREFIXES.some((prefix) => pathWith(path, `${prefix}${UNKNOWN_ID}`)?.includes(UNKNOWN_ID));
}

/** Undefined where the line takes no such id. */
async function ask(route: DialectRoute, prefix: string, id: string) {
  const path = pathWith(route.path, `${prefix}${id}`);
  if (path === undefined) return undefined;
  const response = await service.request(path, {
    method: route.method,
    headers: { 'x-api-key': strangersKey, 'content-type': 'application/json' },
    ...(route.method !== 'GET' && { body: '{}' }),
  });
  return { status: response.status, body: (await response.text()).replaceAll(id, '{id}') };
}

/** The path with the id for each of its parameters, but those that name models. */
function pathWith(path: string, id: string): string | undefined {
  const filled = path.replace(/:(\w+)(?:\{((?:[^{}]|\{[^}]*\})+)\})?/g, (_, name: string, pattern = '[^/]+') => {
    if (new RegExp(`^(?:${pattern})$`).test(id) && !/model|owner|name|app|path/.test(name)) return id;
    return new RegExp(`^(?:${pattern})$`).test(MODEL) ? MODEL : ' ';
  });
  return filled.includes(' ') ? undefined : filled;
}
