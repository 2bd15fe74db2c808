import { afterAll, beforeAll, expect, test } from 'vitest';
import { jsonOf, MODEL, ORIGIN, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

const ROUNDS = 300;
const SEED = 0xc1a1;

/** Small, seeded and good enough (mulberry32), so that a failure can be repeated. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Draft {
  method: string;
  path: string;
  headers: Map<string, string>;
  body: Buffer;
}

const NASTY = [
  '\0',
  '\\u0000',
  '\\ud800',
  '"',
  '{',
  '}',
  '[',
  '\\',
  '\u2028',
  '\ufeff',
  '1e999',
  '-',
  'null',
  '__proto__',
  '%00',
  '%',
  '🐼',
  ' ',
  "'",
  '../',
  '\n',
];

test(`no mutation of a valid request, of ${ROUNDS} tried, breaks the service`, async () => {
  const random = randomFrom(SEED);
  const upTo = (count: number) => Math.floor(random() * count);
  const pick = <Value>(values: readonly [Value, ...Value[]] | readonly Value[]): Value => values[upTo(values.length)] as Value;
  const id = await service.submit({ prompt: 'x' });

  const insertAt = (text: string, piece: string) => {
    const at = upTo(text.length + 1);
    return text.slice(0, at) + piece + text.slice(at);
  };
  const mutations: readonly ((draft: Draft) => void)[] = [
    (draft) => {
      draft.body[upTo(draft.body.length)] = upTo(256);
    },
    (draft) => {
      draft.body = draft.body.subarray(0, upTo(draft.body.length));
    },
    (draft) => {
      draft.body = Buffer.from(insertAt(draft.body.toString('latin1'), Buffer.from(pick(NASTY)).toString('latin1')), 'latin1');
    },
    (draft) => {
      draft.body = Buffer.concat([draft.body, draft.body]);
    },
    (draft) => {
      draft.body = Buffer.from(
        draft.body.toString().replace(/:[^,}]+/, `:${pick(['{}', '[]', '1e400', '""', 'true', '-1', '"\\u0000"'])}`),
      );
    },
    (draft) => {
      draft.path = `/${insertAt(draft.path.slice(1), encodeURIComponent(pick(NASTY)))}`;
    },
    (draft) => {
      draft.path = `/${insertAt(draft.path.slice(1), pick(['/', '//', '%', '%E0%A4%A', '?', '&', ';', '%2F', '.', '..', '*', ':id', '{.+}']))}`;
    },
    (draft) => {
      draft.path += `?${pick(['wait', 'webhook', 'limit', 'cursor', 'status', 'after'])}=${encodeURIComponent(pick(NASTY))}`;
    },
    (draft) => {
      draft.path = pick([
        '/v2/requests',
        `/v2/requests/${id}`,
        `/v2/requests/${id}/status`,
        `/v2/requests/${id}/events?after=9`,
        `/v1/requests/${id}`,
        `/v2/requests/${id}/cancel`,
        `/files/${'a'.repeat(43)}/x`,
        '/readyz',
      ]);
    },
    (draft) => {
      draft.method = pick(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD', 'PROPFIND', 'get']);
    },
    (draft) => {
      const name = pick(['content-type', 'prefer', 'last-event-id', 'range', 'if-none-match', 'accept', 'authorization', 'content-length']);
      draft.headers.set(
        name,
        pick(['', 'x', 'wait=1e9', 'wait="', 'bytes=0-', '*', '-1', 'application/json;charset=utf-16', '\u00ff', '9'.repeat(30)]),
      );
    },
    (draft) => {
      draft.headers.delete('content-type');
    },
  ];

  for (let round = 0; round < ROUNDS; round++) {
    const draft: Draft = {
      method: 'POST',
      path: `/v2/${MODEL}`,
      headers: new Map([
        ['content-type', 'application/json'],
        ['x-api-key', service.key],
      ]),
      body: Buffer.from(JSON.stringify({ prompt: 'a panda', seed: 7, webhook: 'http://127.0.0.1:9/hook' })),
    };
    for (let count = 1 + upTo(3); count > 0; count--) pick(mutations)(draft);
    const { method, path, headers, body } = draft;
    const hasBody = !/^(get|head)$/i.test(method);
    const response = await service.app.request(`${ORIGIN}${path}`, {
      method,
      headers: [...headers],
      ...(hasBody && { body: new Uint8Array(body) }),
      signal: AbortSignal.timeout(10_000),
    });
    const described = `round ${round}: ${method} ${path} ${JSON.stringify([...headers])} ${body.toString('latin1')}`;
    expect(response.status, described).toBeLessThan(500);
    // What was accepted may be a stream that does not end; a job that has ended answers 422 with its own body.
    if (response.status < 400 || response.status === 422 || method.toLowerCase() === 'head') {
      await response.body?.cancel();
      continue;
    }
    expect(await jsonOf(response), described).toMatchObject({ error: expect.any(String), code: expect.any(String) });
  }
});
