/** `/callbacks/{provider}/{token}`: where upstreams tell of their runs. The token is the permission; what proves the rest is the adapter's to say. */
import { AppError } from '@claimcheck/core';
import type { Received } from '@claimcheck/engine';
import type { Context } from 'hono';
import type { AppDeps } from './app.ts';
import type { Bodies } from './bodies.ts';

/** Some upstreams put whole pictures into what they tell. */
export const CALLBACK_BYTES_MAX = 32 * 1024 * 1024;

/** Vendors call again after anything but 2xx, which is wanted only where that can help. */
const STATUS = { taken: 200, ignored: 200 } as const satisfies Partial<Record<Received, number>>;
const LATER_SECONDS = 2;

/** @throws AppError `not_found` for an address that nobody was given, `unavailable` where calling again can help. */
export async function answerCallback(
  c: Context,
  { receive, closing, bodies }: Pick<AppDeps, 'receive' | 'closing'> & { readonly bodies: Bodies },
): Promise<Response> {
  const provider = c.req.param('provider') ?? '';
  const token = c.req.param('token') ?? '';
  const signal = AbortSignal.any([c.req.raw.signal, closing]);
  using lease = bodies.lease();
  const callback = {
    provider,
    token,
    header: (name: string) => c.req.header(name),
    readBody: () => bodies.read(c.req.raw, { bytesMax: CALLBACK_BYTES_MAX, lease }),
  };
  const received = await receive(callback, signal);
  if (received === 'unknown') throw new AppError('not_found', 'Nobody waits for a call at this address.');
  if (received === 'later') {
    throw new AppError('unavailable', 'The run cannot be told of at this moment: call again.', { retryAfterSeconds: LATER_SECONDS });
  }
  return c.json({ status: received }, STATUS[received]);
}
