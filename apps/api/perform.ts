/** Performs what a dialect decoded: resolves the model, checks its parameters, and hands the rest to the engine. */
import {
  AppError,
  type Catalog,
  type ExactJson,
  fromJsonText,
  isId,
  isJsonObject,
  type Job,
  type Model,
  membersOf,
  type Operation,
  type OperationKind,
  type Operations,
  objectFrom,
  type SubmitOperation,
  type Wait,
  type WireRequest,
} from '@claimcheck/core';
import type { JobReference } from '@claimcheck/engine';
import type { AppDeps } from './app.ts';
import { idempotencyOf } from './idempotency.ts';
import { performPublic, performWebhooks } from './perform-webhooks.ts';
import { checkWebhookUrl } from './webhook-url.ts';

export interface Performer {
  readonly callerId: string;
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
    case 'readWebhookKeys':
      return performPublic(engine, operation);
    default:
      return performWebhooks(engine, performer.callerId, operation);
  }
}

async function submit(deps: AppDeps, performer: Performer, operation: SubmitOperation): Promise<Performed> {
  const { engine, catalog } = deps;
  const { model, provider } = resolveModel(deps, operation.model);
  const { parameters, webhookUrl } = splitWebhook(deps, model, operation);
  const input = catalog.fill(model, parameters);
  if (provider === undefined) {
    throw new AppError('unavailable', `The model ${operation.model} cannot run: none of its providers is switched on.`);
  }
  const submitted = await engine.submit({
    callerId: performer.callerId,
    dialect: performer.dialect,
    model: model.name,
    provider,
    input,
    baseUrl: performer.request.baseUrl,
    priority: operation.priority ?? 'normal',
    timeoutSeconds: operation.timeoutSeconds ?? model.timeoutSeconds,
    ...(operation.runAt !== undefined && { runAt: operation.runAt }),
    ...(operation.delaySeconds !== undefined && { delaySeconds: operation.delaySeconds }),
    ...(operation.idempotencyKey !== undefined && { idempotency: idempotencyOf(performer.request, operation.idempotencyKey) }),
    ...(webhookUrl !== undefined && { webhookUrl }),
    ...(operation.sessionId !== undefined && { sessionId: operation.sessionId }),
  });
  return { outcome: await waitFor(deps, performer, submitted, operation.wait), isReplay: submitted.isReplay };
}

interface ResolvedModel {
  readonly model: Model;
  /** Undefined when none of its providers is on, or not the one that the client insists on. */
  readonly provider: string | undefined;
}

/** By its name, else as `provider/name`: that provider and no other. @throws AppError `unknown_model`. */
function resolveModel({ catalog, chooseProvider }: AppDeps, name: string): ResolvedModel {
  const model = catalog.find(name);
  if (model) return { model, provider: chooseProvider(model) };
  const [wanted = '', ...rest] = name.split('/');
  const bare = catalog.find(rest.join('/'));
  const routes = bare?.routes.filter(({ provider }) => provider === wanted) ?? [];
  // The sandbox needs no route.
  if (!bare || (routes.length === 0 && wanted !== 'sandbox')) throw unknownModel(catalog, name);
  const provider = chooseProvider({ ...bare, routes });
  return { model: bare, provider: provider === wanted ? provider : undefined };
}

/** Waits as asked. The job that was there is the answer when the process drains or the wait is over. */
async function waitFor({ engine }: AppDeps, { callerId, signal }: Performer, job: Job, wait: Wait | undefined): Promise<Job> {
  if (!wait || wait.seconds <= 0) return job;
  return (await engine.wait({ id: job.id, callerId }, { until: wait.until, timeoutMs: wait.seconds * 1000, signal })) ?? job;
}

/** Takes the webhook out of the body, where the dialect puts it there and the model has no parameter of that name. */
function splitWebhook(
  { catalog, engine }: AppDeps,
  model: Model,
  { parameters, webhookUrl, webhookMember }: SubmitOperation,
): { readonly parameters: ExactJson; readonly webhookUrl?: string } {
  if (webhookUrl !== undefined) checkWebhookUrl(engine, webhookUrl, '/webhook');
  const outside = webhookUrl === undefined ? {} : { webhookUrl };
  if (webhookMember === undefined || catalog.declares(model, webhookMember) || !isJsonObject(parameters.value))
    return { parameters, ...outside };
  const members = membersOf(parameters.text);
  const member = members.get(webhookMember);
  if (member === undefined) return { parameters, ...outside };
  members.delete(webhookMember);
  const text = objectFrom(members);
  const rest = { parameters: { text, value: fromJsonText(text) } };
  const url = fromJsonText(member);
  // Clients that always send the field send null for none. One beside the body wins: it is what the client sees in its address line.
  if (url === null || webhookUrl !== undefined) return { ...rest, ...outside };
  return { ...rest, webhookUrl: checkWebhookUrl(engine, url, `/${webhookMember}`) };
}

function unknownModel(catalog: Catalog, name: string): AppError {
  const nearest = catalog.nearest(name);
  const hint =
    nearest.length > 0
      ? `Did you mean ${nearest.join(', ')}?`
      : `Known models: ${catalog
          .list()
          .map((model) => model.name)
          .join(', ')}.`;
  return new AppError('unknown_model', `There is no model ${JSON.stringify(name)}. ${hint}`);
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
