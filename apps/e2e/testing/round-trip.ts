/**
 * Two services, of which one is the other's vendor: the adapter of the first calls the dialect of the second, whose sandbox does the work.
 */
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import type { JsonObject } from '@claimcheck/core';
import { type Environment, temporaryFolder } from './processes.ts';
import { openPublicAddress, type PublicAddress } from './public-address.ts';
import { writeModels } from './vendors.ts';

/** The model of the first service. Its one route is at the second. */
export const MODEL = 'test/model';

export interface RoundTripOptions {
  readonly provider: string;
  /** What the second service calls the model. */
  readonly upstreamModel: string;
  /** Variables that point the adapter at the second service. */
  readonly variables: (upstream: { readonly url: string; readonly key: string }) => Environment;
  /** Of the model; a prompt unless given. */
  readonly parameters?: JsonObject;
}

export interface RoundTrip extends AsyncDisposable {
  readonly upstream: TestService;
  readonly client: TestService;
  /** The first service's own address, with what passed through it: the callbacks. */
  readonly publicAddress: PublicAddress;
  /** Hands a job in at the first service, natively. Returns its id. */
  submit(parameters: object): Promise<string>;
  /** The first service's result body once the job has ended. */
  ended(id: string): Promise<Record<string, unknown>>;
  /** Result bodies of all jobs of the second service, newest first: what the first has made of its own. */
  upstreamJobs(): Promise<readonly Record<string, unknown>[]>;
}

export async function startRoundTrip({ provider, upstreamModel, variables, parameters }: RoundTripOptions): Promise<RoundTrip> {
  await using started = new AsyncDisposableStack();
  const folder = started.use(await temporaryFolder());
  const upstream = started.use(await startTestService());
  const { url } = await upstream.listen();
  const publicAddress = started.use(await openPublicAddress());
  const route = { provider, model: upstreamModel };
  const modelsDir = await writeModels(folder.path, [{ name: MODEL, routes: [route], ...(parameters && { more: { parameters } }) }]);
  const client = started.use(
    await startTestService({ modelsDir, publicUrl: publicAddress.url, variables: { ...variables({ url, key: upstream.key }) } }),
  );
  publicAddress.leadTo((await client.listen()).url);
  const read = async (service: TestService, path: string) => jsonOf(await service.request(path));
  const stack = started.move();
  return {
    upstream,
    client,
    publicAddress,
    async submit(body) {
      const response = await client.request(`/v2/${MODEL}`, jsonBody(body));
      const claimCheck = await jsonOf(response);
      if (response.status !== 200) throw new Error(`The submission was answered with ${response.status}: ${JSON.stringify(claimCheck)}`);
      return String(claimCheck.request_id);
    },
    async ended(id) {
      for (;;) {
        const { status } = await read(client, `/v2/requests/${id}/status?wait=10`);
        if (status !== 'QUEUED' && status !== 'PROCESSING') return read(client, `/v2/requests/${id}`);
      }
    },
    async upstreamJobs() {
      const { requests } = await read(upstream, '/v2/requests?limit=100');
      return Promise.all([requests].flat().map((request) => read(upstream, `/v2/requests/${idOf(request)}`)));
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function idOf(request: unknown): string {
  if (typeof request === 'object' && request !== null && 'request_id' in request) return String(request.request_id);
  throw new Error('The list holds something without an id.');
}
