/** Performs the operations on what signs a caller's webhooks. */
import {
  AppError,
  isId,
  type Operation,
  type OperationKind,
  type Operations,
  type WebhookOptions,
  type WebhookPreferenceChanges,
  type WebhookPreferences,
} from '@claimcheck/core';
import type { Engine, KeyOwner } from '@claimcheck/engine';

type Webhooks = Pick<Engine, 'webhookSecrets' | 'keys'>;
type Own = 'readWebhookSecret' | 'rotateWebhookSecret' | 'readWebhookPreferences' | 'changeWebhookPreferences';
type Outcome<Kind extends OperationKind> = Operations[Kind]['outcome'];

/** For the caller that was authenticated. */
export async function performWebhooks(
  { webhookSecrets, keys }: Webhooks,
  owner: KeyOwner,
  operation: Operations[Own]['operation'],
): Promise<Outcome<Own>> {
  const { callerId, webhookOptions = {} } = owner;
  switch (operation.kind) {
    case 'readWebhookSecret':
      return webhookSecrets.read(callerId);
    case 'rotateWebhookSecret':
      return webhookSecrets.rotate(callerId, { ...(operation.graceSeconds !== undefined && { graceSeconds: operation.graceSeconds }) });
    case 'readWebhookPreferences':
      return { ...(await webhookSecrets.preferences(callerId)), options: webhookOptions };
    case 'changeWebhookPreferences':
      return changePreferences({ webhookSecrets, keys }, owner, operation.changes);
  }
}

async function changePreferences(
  { webhookSecrets, keys }: Webhooks,
  { callerId, keyId, webhookOptions }: KeyOwner,
  { options: changes = {}, ...signatures }: WebhookPreferenceChanges,
): Promise<WebhookPreferences> {
  const changed = Object.entries({ ...webhookOptions, ...changes }).filter(([, choice]) => choice !== null);
  // Without the nulls, these are the options that there were and those that were read.
  const options = Object.fromEntries(changed) as WebhookOptions;
  await keys.choose(keyId, options);
  return { ...(await webhookSecrets.prefer(callerId, signatures)), options };
}

/** For anyone. @throws AppError `not_found` for a caller that does not exist; Error for an operation that is not public. */
export async function performPublic(
  { webhookSecrets }: Pick<Webhooks, 'webhookSecrets'>,
  operation: Operation,
): Promise<Outcome<'readWebhookKeys' | 'readAllWebhookKeys'>> {
  if (operation.kind === 'readAllWebhookKeys') return { keys: await webhookSecrets.allKeys() };
  // Guards a second time: nothing else may ever be done for someone without a key.
  if (operation.kind !== 'readWebhookKeys') throw new Error(`${operation.kind} is not a public operation`);
  const { callerId } = operation;
  const keys = isId(callerId) ? await webhookSecrets.keys(callerId) : undefined;
  if (!keys) throw new AppError('not_found', `Caller ${callerId} not found`);
  return { keys };
}
