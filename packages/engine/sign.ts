/**
 * What proves where a send comes from: the signature of Standard Webhooks, and beside it or in its place that of the vendor for whose clients
 * the receiver was written. The vendor's way is the dialect's matter, and a fault in it may cost that proof, but never the send.
 */
import { sign } from 'node:crypto';
import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { SignableMessage, WebhookSigningKeys } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import { OutboundError } from './outbound/index.ts';
import type { ClaimedDelivery } from './storage/deliveries.ts';
import { type CallerSigner, pairIn } from './webhook-secrets.ts';
import { formatSecret, signatureHeader } from './webhook-signature.ts';

type Signed = Pick<ClaimedDelivery, 'id' | 'callerId' | 'jobId' | 'body' | 'dialect'>;
type Headers = Readonly<Record<string, string>>;

/** Headers for a send that is made now, names in lower case. @throws OutboundError when the caller's secret cannot be read; anything when the database does not answer. */
export type Sign = (delivery: Signed) => Promise<Headers>;

/** A dialect wants to sign by ed25519, and the caller has no pair yet. */
class PairMissing extends Error {}

export function makeSign({
  clock,
  log,
  signWebhook,
  webhookSecrets,
}: Pick<EngineContext, 'clock' | 'log' | 'signWebhook' | 'webhookSecrets'>): Sign {
  /** The headers of the dialect; none where it has no way of its own, or fails. */
  async function inDialect(
    dialect: string,
    message: SignableMessage,
    callerId: string,
    signers: readonly CallerSigner[],
  ): Promise<Headers> {
    const signWith = (pair = pairIn(signers)): Headers => {
      const keys: WebhookSigningKeys = {
        callerId,
        secrets: signers.map(({ hmac }) => formatSecret(hmac)),
        signEd25519(bytes) {
          if (!pair) throw new PairMissing();
          return sign(null, bytes, pair);
        },
      };
      try {
        return checked(signWebhook(dialect, message, keys) ?? {});
      } catch (error) {
        if (error instanceof PairMissing) throw error;
        log.error({ error, dialect, deliveryId: message.id }, 'webhook not signed in its dialect');
        return {};
      }
    };
    try {
      return signWith();
    } catch (error) {
      if (!(error instanceof PairMissing)) throw error;
      return signWith(await webhookSecrets.pairOf(callerId));
    }
  }

  return async ({ id, callerId, jobId, body, dialect }) => {
    const signers = (await webhookSecrets.signersOf([callerId])).get(callerId);
    if (!signers)
      throw new OutboundError('internal', { message: 'The secret of your webhooks cannot be read; the operator has to mend that.' });
    const timestamp = Math.floor(clock.now() / 1000);
    // A test send belongs to no job.
    const message = { id, jobId: jobId ?? id, timestamp, body };
    return {
      'webhook-timestamp': String(timestamp),
      'webhook-signature': signatureHeader({ id, timestampSeconds: timestamp, body, signers }),
      ...(dialect !== null && (await inDialect(dialect, message, callerId, signers))),
    };
  };
}

/** In lower case, so that they replace ours. @throws Error for what cannot be sent. */
function checked(headers: Headers): Headers {
  for (const [name, value] of Object.entries(headers)) {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  }
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
