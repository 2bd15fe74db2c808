/** Performs the operations on what signs a caller's webhooks. */
import { AppError, isId, type Operation, type OperationKind, type Operations } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';

type Webhooks = Pick<Engine, 'webhookSecrets'>;
type Own = 'readWebhookSecret' | 'rotateWebhookSecret' | 'readWebhookPreferences' | 'changeWebhookPreferences';
type Outcome<Kind extends OperationKind> = Operations[Kind]['outcome'];

/** For the caller that was authenticated. */
export async function performWebhooks(
  { webhookSecrets }: Webhooks,
  callerId: string,
  operation: Operations[Own]['operation'],
): Promise<Outcome<Own>> {
  switch (operation.kind) {
    case 'readWebhookSecret':
      return webhookSecrets.read(callerId);
    case 'rotateWebhookSecret':
      return webhookSecrets.rotate(callerId, { ...(operation.graceSeconds !== undefined && { graceSeconds: operation.graceSeconds }) });
    case 'readWebhookPreferences':
      return webhookSecrets.preferences(callerId);
    case 'changeWebhookPreferences':
      return webhookSecrets.prefer(callerId, operation.changes);
  }
}

/** For anyone. @throws AppError `not_found` for a caller that does not exist; Error for an operation that is not public. */
export async function performPublic({ webhookSecrets }: Webhooks, operation: Operation): Promise<Outcome<'readWebhookKeys'>> {
  // Guards a second time: nothing else may ever be done for someone without a key.
  if (operation.kind !== 'readWebhookKeys') throw new Error(`${operation.kind} is not a public operation`);
  const { callerId } = operation;
  const keys = isId(callerId) ? await webhookSecrets.keys(callerId) : undefined;
  if (!keys) throw new AppError('not_found', `Caller ${callerId} not found`);
  return { keys };
}
