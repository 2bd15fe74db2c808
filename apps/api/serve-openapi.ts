/** `/openapi.json`: the description of the API, made when it is first asked for and then kept. */
import { createHash } from 'node:crypto';
import type { Context } from 'hono';
import { matchesEtag } from './etag.ts';
import { type DescribedApi, describeApi } from './openapi.ts';

/** `publicUrl` is the address that is told; undefined tells the one that each request came to. */
export function openApiHandler(api: DescribedApi, publicUrl: string | undefined): (c: Context) => Response {
  let made: readonly [string, string] | undefined;
  return (c) => {
    made ??= halves(api);
    const servers = JSON.stringify([{ url: publicUrl ?? new URL(c.req.url).origin }]);
    const text = made.join(servers);
    const etag = `"${createHash('sha256').update(text).digest('base64url')}"`;
    const headers = { etag, 'cache-control': 'no-cache' };
    if (matchesEtag(c.req.header('if-none-match'), etag)) return new Response(null, { status: 304, headers });
    return new Response(text, { headers: { ...headers, 'content-type': 'application/json' } });
  };
}

/** What stands before and behind the list of servers. */
function halves(api: DescribedApi): readonly [string, string] {
  const { openapi, info, ...rest } = describeApi(api);
  return [`${JSON.stringify({ openapi, info }).slice(0, -1)},"servers":`, `,${JSON.stringify(rest).slice(1)}`];
}
