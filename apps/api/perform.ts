/** Performs what a dialect decoded: resolves the model, checks its parameters, and hands the rest to the engine. */
import {
  AppError,
  type ExactJson,
  fromJsonText,
  isId,
  isJsonObject,
  type Job,
  type JsonText,
  type Model,
  membersOf,
  type Operation,
  type OperationKind,
  type Operations,
  objectFrom,
  readWebhookOptions,
  routeOf,
  SANDBOX,
  type SubmitOperation,
  type Wait,
  type WebhookOptions,
  type WireRequest,
} from '@claimcheck/core';
import type { JobReference, KeyOwner } from '@claimcheck/engine';
import type { AppDeps } from './app.ts';
import { idempotencyOf } from './idempotency.ts';
import { isDeliveryOperation, performDeliveries } from './perform-deliveries.ts';
import { listModels, readModel, unknownModel } from './perform-models.ts';
import { performPublic, performWebhooks } from './perform-webhooks.ts';
import { checkWebhookUrl } from './webhook-url.ts';

export interface Performer extends KeyOwner {
  readonly dialect: string;
  readonly request: WireRequest;
  /** Aborts when the client is gone or the process drains. */
  readonly signal: AbortSignal;
}

type Outcome = Operations[OperationKind]['outcome'];

export interface Performed {
  readonly outcome: Outcome;
  /** True when a submission was recognised as one that had been handed in before. */
  readonly isReplay: boolean;
}

/** @throws AppError for everything a client can do wrong. */
export async function perform(deps: AppDeps, performer: Performer, operation: Operation): Promise<Performed> {
  if (operation.kind !== 'submit') return { outcome: await performKnown(deps, performer, operation), isReplay: false };
  return submit(deps, performer, operation);
}

/** Operations on jobs that exist, and on what belongs to the caller. */
async function performKnown(deps: AppDeps, performer: Performer, operation: Exclude<Operation, SubmitOperation>): Promise<Outcome> {
  const { engine } = deps;
  if (isDeliveryOperation(operation)) return performDeliveries(engine, performer, operation);
  switch (operation.kind) {
    case 'read': {
      const job = found(await engine.read(referenceTo(operation.id, performer)), operation.id);
      return waitFor(deps, performer, job, operation.wait);
    }
    case 'cancel':
      return found(await engine.cancel(referenceTo(operation.id, performer)), operation.id);
    case 'purge':
      return found(await engine.purge(referenceTo(operation.id, performer)), operation.id);
    case 'list': {
      const { limit, cursor, state } = operation;
      if (cursor !== undefined && !isId(cursor)) {
        throw new AppError('invalid_request', 'The cursor is not one that a list has handed out.', {
          problems: [{ pointer: '/cursor', message: 'must be the next_cursor of an earlier page' }],
        });
      }
      return engine.list({
        callerId: performer.callerId,
        limit,
        ...(cursor !== undefined && { cursor }),
        ...(state !== undefined && { state }),
      });
    }
    case 'follow': {
      const reference = referenceTo(operation.id, performer);
      const job = found(await engine.read(reference), operation.id);
      return { job, events: engine.follow(reference, operation.after, performer.signal) };
    }
    case 'listModels':
      return listModels(deps);
    case 'readModel':
      return readModel(deps, operation.name);
    case 'readWebhookKeys':
      return performPublic(engine, operation);
    default:
      return performWebhooks(engine, performer, operation);
  }
}

async function submit(deps: AppDeps, performer: Performer, operation: SubmitOperation): Promise<Performed> {
  const { engine, catalog, router } = deps;
  const { model, pinned } = resolveModel(deps, operation);
  const { parameters, webhookUrl, webhookOptions } = splitWebhook(deps, performer, model, operation);
  const input = catalog.fill(model, parameters);
  const { provider } = await router.choose({ model, parameters: JSON.parse(input), pinned });
  const submitted = await engine.submit({
    callerId: performer.callerId,
    dialect: performer.dialect,
    model: model.name,
    provider,
    ...(pinned !== undefined && { isPinned: true }),
    input,
    baseUrl: performer.request.baseUrl,
    priority: operation.priority ?? 'normal',
    timeoutSeconds: operation.timeoutSeconds ?? model.timeoutSeconds,
    ...(operation.runAt !== undefined && { runAt: operation.runAt }),
    ...(operation.delaySeconds !== undefined && { delaySeconds: operation.delaySeconds }),
    ...(operation.idempotencyKey !== undefined && { idempotency: idempotencyOf(performer.request, operation.idempotencyKey) }),
    ...(webhookUrl !== undefined && { webhookUrl }),
    ...(webhookOptions && { webhookOptions }),
    ...(operation.sessionId !== undefined && { sessionId: operation.sessionId }),
  });
  return { outcome: await waitFor(deps, performer, submitted, operation.wait), isReplay: submitted.isReplay };
}

interface ResolvedModel {
  readonly model: Model;
  /** The provider that the client insists on. */
  readonly pinned: string | undefined;
}

/**
 * By its name, else as `provider/name`: that provider and no other, which can also be named apart from it.
 * @throws AppError `unknown_model`, `invalid_request` for a provider that has no route to the model.
 */
function resolveModel({ catalog }: AppDeps, { model: name, provider }: SubmitOperation): ResolvedModel {
  const whole = catalog.find(name);
  if (whole) return { model: whole, pinned: provider && checkedProvider(whole, provider) };
  const [wanted = '', ...rest] = name.split('/');
  const bare = catalog.find(rest.join('/'));
  if (!bare || !routeOf(bare, wanted)) throw unknownModel(catalog, name);
  if (provider !== undefined && provider !== wanted) {
    throw new AppError(
      'invalid_request',
      `The request names two providers, ${wanted} in the model and ${JSON.stringify(provider)}: name one.`,
    );
  }
  return { model: bare, pinned: wanted };
}

function checkedProvider(model: Model, provider: string): string {
  if (routeOf(model, provider)) return provider;
  const known = [...new Set([...model.routes.map((route) => route.provider), SANDBOX])].join(', ');
  throw new AppError('invalid_request', `The model ${model.name} does not run at ${JSON.stringify(provider)}; it can run at ${known}.`);
}

/** Waits as asked. The job that was there is the answer when the process drains or the wait is over. */
async function waitFor({ engine }: AppDeps, { callerId, signal }: Performer, job: Job, wait: Wait | undefined): Promise<Job> {
  if (!wait || wait.seconds <= 0) return job;
  return (await engine.wait({ id: job.id, callerId }, { until: wait.until, timeoutMs: wait.seconds * 1000, signal })) ?? job;
}

interface SplitRequest {
  readonly parameters: ExactJson;
  readonly webhookUrl?: string;
  /** Undefined when nobody chose anything. */
  readonly webhookOptions?: WebhookOptions;
}

/**
 * Takes the webhook and its options out of the body, where the dialect puts them there and the model has no parameters of these names.
 * What stands in the address line wins over the body: it is what the client sees. Both win over what was chosen for the key.
 */
function splitWebhook({ catalog, engine }: AppDeps, performer: Performer, model: Model, operation: SubmitOperation): SplitRequest {
  const { parameters, webhookUrl: named, webhookMember, webhookOptionMembers: optionNames } = operation;
  if (named !== undefined) checkWebhookUrl(engine, named, '/webhook');
  const members = isJsonObject(parameters.value) ? membersOf(parameters.text) : new Map<string, JsonText>();
  const countGiven = members.size;
  const take = (name: string | undefined) => {
    const text = name === undefined || catalog.declares(model, name) ? undefined : members.get(name);
    if (name === undefined || text === undefined) return undefined;
    members.delete(name);
    return fromJsonText(text);
  };
  const inBody = take(webhookMember);
  // Clients that always send the field send null for none.
  const webhookUrl = named ?? (inBody === undefined || inBody === null ? undefined : checkWebhookUrl(engine, inBody, `/${webhookMember}`));
  const chosenInBody = {
    format: take(optionNames?.format),
    schedule: take(optionNames?.schedule),
    events: take(optionNames?.events),
    headers: take(optionNames?.headers),
  };
  const options = {
    ...performer.webhookOptions,
    ...readWebhookOptions(chosenInBody, (option) => `/${optionNames?.[option]}`),
    ...operation.webhookOptions,
  };
  return {
    parameters: members.size === countGiven ? parameters : exactJson(objectFrom(members)),
    ...(webhookUrl !== undefined && { webhookUrl }),
    ...(webhookUrl !== undefined && Object.keys(options).length > 0 && { webhookOptions: options }),
  };
}

function exactJson(text: JsonText): ExactJson {
  return { text, value: fromJsonText(text) };
}

/** An id that we cannot have made is answered like one that does not exist, without asking the database. */
function referenceTo(id: string, { callerId }: Performer): JobReference {
  if (!isId(id)) throw notFound(id);
  return { id, callerId };
}

function found(job: Job | undefined, id: string): Job {
  if (!job) throw notFound(id);
  return job;
}

/** The vendor's wording (protocols/segmind.md section 6). */
function notFound(id: string): AppError {
  return new AppError('not_found', `Request ${id} not found`);
}
