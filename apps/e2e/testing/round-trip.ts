/**
 * A service whose vendor is a second one: the adapter of the first calls the dialect of the second, whose sandbox does the work. There are two
 * of the first kind, one that is called back by the vendor and one that has to look.
 */
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import type { JsonObject } from '@claimcheck/core';
import { type Environment, temporaryFolder } from './processes.ts';
import { openPublicAddress, type PublicAddress } from './public-address.ts';
import { type ModelText, writeModels } from './vendors.ts';

/** The model whose one route is given. */
export const MODEL = 'test/model';

export interface RoundTripOptions {
  /** Of {@link MODEL}, to the second service. */
  readonly route: { readonly provider: string; readonly model: string };
  /** Further members of its file. */
  readonly more?: JsonObject;
  /** Further models. */
  readonly models?: readonly ModelText[];
  /** Variables that point the adapter at the second service. */
  readonly variables: (upstream: { readonly url: string; readonly key: string }) => Environment;
}

/** A service that uses the other one. */
export interface Downstream {
  readonly service: TestService;
  /** Calls that came to its public address, and how it answered. */
  readonly callbacks: PublicAddress['calls'];
  /** Hands a job in, natively, for {@link MODEL} unless another is named. Returns its id. */
  submit(parameters: object, model?: string): Promise<string>;
  /** The result body of the job once it has ended. */
  ended(id: string): Promise<Record<string, unknown>>;
}

export interface RoundTrip extends AsyncDisposable {
  readonly upstream: TestService;
  readonly looking: Downstream;
  readonly calledBack: Downstream;
  /** Those of `calledBack`. */
  readonly callbacks: PublicAddress['calls'];
  /** Of the newest job of the second service. */
  upstreamStatus(): Promise<unknown>;
  /** Its id. */
  upstreamId(): Promise<string>;
}

export async function startRoundTrip({ route, more, models = [], variables }: RoundTripOptions): Promise<RoundTrip> {
  await using started = new AsyncDisposableStack();
  const folder = started.use(await temporaryFolder());
  const upstream = started.use(await startTestService());
  const { url } = await upstream.listen();
  const modelsDir = await writeModels(folder.path, [{ name: MODEL, routes: [route], ...(more && { more }) }, ...models]);
  const options = { modelsDir, variables: variables({ url, key: upstream.key }) };
  const looking = started.use(await startTestService(options));
  await looking.listen();
  const publicAddress = started.use(await openPublicAddress());
  const calledBack = started.use(await startTestService({ ...options, publicUrl: publicAddress.url }));
  publicAddress.leadTo((await calledBack.listen()).url);
  const newest = async () => {
    const { requests } = await jsonOf(await upstream.request('/v2/requests?limit=1'));
    const [request] = [requests].flat();
    if (typeof request !== 'object' || request === null) return {};
    return { ...request } as Record<string, unknown>;
  };
  const { calls: callbacks } = publicAddress;
  const stack = started.move();
  return {
    upstream,
    looking: downstream(looking, []),
    calledBack: downstream(calledBack, callbacks),
    callbacks,
    upstreamStatus: async () => (await newest()).status,
    upstreamId: async () => String((await newest()).request_id),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function downstream(service: TestService, callbacks: PublicAddress['calls']): Downstream {
  return {
    service,
    callbacks,
    async submit(parameters, model = MODEL) {
      const response = await service.request(`/v2/${model}`, jsonBody(parameters));
      const claimCheck = await jsonOf(response);
      if (response.status !== 200) throw new Error(`The submission was answered with ${response.status}: ${JSON.stringify(claimCheck)}`);
      return String(claimCheck.request_id);
    },
    async ended(id) {
      for (;;) {
        const { status } = await jsonOf(await service.request(`/v2/requests/${id}/status?wait=10`));
        if (status !== 'QUEUED' && status !== 'PROCESSING') return jsonOf(await service.request(`/v2/requests/${id}`));
      }
    },
  };
}
