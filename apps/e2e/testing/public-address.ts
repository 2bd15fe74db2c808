/** A public address for a service that does not listen yet: it must know its PUBLIC_URL before it starts, and gets its port only then. */
import { listen } from '@claimcheck/engine/testing';

export interface PublicAddress extends AsyncDisposable {
  readonly url: string;
  /** What passed through, and how it was answered. */
  readonly calls: readonly { readonly method: string; readonly path: string; readonly status: number }[];
  /** Must be called before anything passes through. */
  leadTo(url: string): void;
}

/** Of the connection, not of what travels on it. */
const OF_CONNECTION = ['host', 'connection', 'content-length', 'transfer-encoding'];

export async function openPublicAddress(): Promise<PublicAddress> {
  const calls: { method: string; path: string; status: number }[] = [];
  let service = '';
  const server = await listen(async (request, response) => {
    const { url: path = '', method = 'GET' } = request;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const headers = Object.entries(request.headers).flatMap(([name, value]) =>
      typeof value === 'string' && !OF_CONNECTION.includes(name) ? [[name, value] as const] : [],
    );
    const body = chunks.length > 0 ? { body: Buffer.concat(chunks) } : {};
    const answer = await fetch(`${service}${path}`, { method, headers: Object.fromEntries(headers), ...body });
    calls.push({ method, path, status: answer.status });
    const contentType = answer.headers.get('content-type');
    response.writeHead(answer.status, contentType === null ? {} : { 'content-type': contentType });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  return { url: server.url, calls, leadTo: (url) => (service = url), [Symbol.asyncDispose]: () => server.close() };
}
