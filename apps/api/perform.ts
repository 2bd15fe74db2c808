/** Performs what a dialect decoded: resolves the model, checks its parameters, and hands the rest to the engine. */
import {
  AppError,
  type ExactJson,
  fromJsonText,
  isId,
  isJsonObject,
  isTerminal,
  type Job,
  type JsonText,
  type Model,
  membersOf,
  type Operation,
  type OperationKind,
  type Operations,
  objectFrom,
  type Quote,
  readWebhookOptions,
  routeOf,
  SANDBOX,
  type SubmitOperation,
  type Wait,
  type WebhookOptions,
} from '@claimcheck/core';
import type { JobReference, KeyOwner, Submitted } from '@claimcheck/engine';
import type { AppDeps } from './app.ts';
import type { BroughtFiles } from './brought-files.ts';
import { followByToken, followJob } from './follow-job.ts';
import { idempotencyOf } from './idempotency.ts';
import { isDeliveryOperation, performDeliveries } from './perform-deliveries.ts';
import { listModels, readModel, unknownModel } from './perform-models.ts';
import { isUploadOperation, performUploads } from './perform-uploads.ts';
import { performPublic, performWebhooks } from './perform-webhooks.ts';
import { checkWebhookUrl } from './webhook-url.ts';
import type { ReceivedRequest } from './wire-request.ts';

export interface Performer extends KeyOwner {
  readonly dialect: string;
  readonly request: ReceivedRequest;
  /** Files that came with the request. */
  readonly files: BroughtFiles;
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
  if (operation.kind === 'submit') {
    const { isReplay, ...submitted } = await submit(deps, performer, operation);
    const job = await waitFor(deps, performer, submitted, operation.wait);
    return { outcome: operation.withLogs ? await withLogs(deps, job) : job, isReplay };
  }
  if (operation.kind === 'stream') {
    const { isReplay, ...job } = await submit(deps, performer, operation.submission);
    return { outcome: followJob(deps.engine, performer, job, 0), isReplay };
  }
  return { outcome: await performKnown(deps, performer, operation), isReplay: false };
}

type KnownOperation = Exclude<Operation, { readonly kind: 'submit' | 'stream' }>;

/** Operations on jobs that exist, and on what belongs to the caller. */
async function performKnown(deps: AppDeps, performer: Performer, operation: KnownOperation): Promise<Outcome> {
  const { engine } = deps;
  if (isUploadOperation(operation)) return performUploads(engine, performer, operation);
  if (isDeliveryOperation(operation)) return performDeliveries(engine, performer, operation);
  switch (operation.kind) {
    case 'read': {
      const reference = referenceTo(operation.id, performer);
      const job = await waitFor(deps, performer, found(await engine.read(reference), operation.id), operation.wait);
      return operation.withLogs ? withLogs(deps, job) : job;
    }
    case 'cancel':
      return found(await engine.cancel(referenceTo(operation.id, performer)), operation.id);
    case 'purge':
      return found(await engine.purge(referenceTo(operation.id, performer)), operation.id);
    case 'discard':
      return found(await discard(deps, referenceTo(operation.id, performer)), operation.id);
    case 'discardMany':
      return { discarded: await discardMany(deps, performer, operation.ids) };
    case 'readCaller':
      return { callerId: performer.callerId };
    case 'list': {
      const { kind: _kind, cursor, model, ...filter } = operation;
      if (cursor !== undefined && !isId(cursor)) {
        throw new AppError('invalid_request', 'The cursor is not one that a list has handed out.', {
          problems: [{ pointer: '/cursor', message: 'must be the next_cursor of an earlier page' }],
        });
      }
      return engine.list({
        ...filter,
        callerId: performer.callerId,
        ...(cursor !== undefined && { cursor }),
        ...(model !== undefined && { model: deps.catalog.find(model)?.name ?? model }),
      });
    }
    case 'follow': {
      const reference = referenceTo(operation.id, performer);
      const job = found(await engine.read(reference), operation.id);
      return followJob(deps.engine, performer, job, operation.after);
    }
    case 'quote':
      return quote(deps, performer, operation.submission);
    case 'listModels':
      return listModels(deps);
    case 'readModel':
      return readModel(deps, operation.name);
    case 'readWebhookKeys':
    case 'readAllWebhookKeys':
      return performPublic(engine, operation);
    case 'followByToken':
      return followByToken(engine, operation.token, performer.signal);
    default:
      return performWebhooks(engine, performer, operation);
  }
}

async function discard({ engine }: AppDeps, reference: JobReference): Promise<Job | undefined> {
  const job = await engine.read(reference);
  return job && (isTerminal(job.state) ? engine.purge(reference) : engine.cancel(reference));
}

/** One after the other: each may have files to remove. */
async function discardMany(deps: AppDeps, { callerId }: Performer, ids: readonly string[]): Promise<number> {
  let discarded = 0;
  for (const id of new Set(ids.filter(isId))) if (await discard(deps, { id, callerId })) discarded += 1;
  return discarded;
}

/** A submission that was checked, with the provider that would run it. */
interface CheckedSubmission extends Omit<SplitRequest, 'parameters'> {
  readonly model: Model;
  readonly pinned: string | undefined;
  readonly provider: string;
  readonly input: JsonText;
}

async function check(deps: AppDeps, performer: Performer, operation: SubmitOperation): Promise<CheckedSubmission> {
  const { catalog, router } = deps;
  const { model, pinned } = resolveModel(deps, operation);
  const { parameters: body, ...webhook } = splitWebhook(deps, performer, model, operation);
  const fitted = operation.fit?.(body, model) ?? body;
  const parameters = operation.isText ? catalog.readText(model, fitted) : fitted;
  const { input, provider } = await pointingInto(operation.parametersPointer, async () => {
    const filled = catalog.fill(model, parameters);
    return { input: filled, ...(await router.choose({ model, parameters: JSON.parse(filled), pinned })) };
  });
  await checkQueueLength(deps, provider, operation.queueLengthMax);
  return { model, pinned, provider, input, ...webhook };
}

/** Does the work. @throws what it throws, with problems of parameters told of where the client has put them. */
async function pointingInto<Result>(pointer: string | undefined, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof AppError) || error.problems.length === 0 || pointer === undefined) throw error;
    const problems = error.problems.map((problem) => ({ ...problem, pointer: `${pointer}${problem.pointer}` }));
    throw new AppError(error.code, error.message, { problems, cause: error });
  }
}

/** @throws AppError `rate_limited` when more jobs than the client will stand in line with wait there. */
async function checkQueueLength({ engine }: AppDeps, provider: string, queueLengthMax: number | undefined): Promise<void> {
  if (queueLengthMax === undefined || (await engine.countWaiting(provider, queueLengthMax + 1)) <= queueLengthMax) return;
  throw new AppError('rate_limited', `More than ${queueLengthMax} requests wait already, which is more than the request allows.`, {
    retryAfterSeconds: 1,
  });
}

async function submit(deps: AppDeps, performer: Performer, operation: SubmitOperation): Promise<Submitted> {
  const { model, pinned, provider, input, webhookUrl, webhookOptions } = await check(deps, performer, operation);
  const job = await deps.engine.submit({
    callerId: performer.callerId,
    dialect: performer.dialect,
    model: model.name,
    provider,
    ...((pinned !== undefined || operation.mayFallBack === false) && { isPinned: true }),
    input,
    baseUrl: performer.request.baseUrl,
    priority: operation.priority ?? 'normal',
    timeoutSeconds: operation.timeoutSeconds ?? model.timeoutSeconds,
    ...(operation.timeoutSeconds !== undefined && { hasOwnDeadline: true }),
    ...(operation.startTimeoutSeconds !== undefined && { startTimeoutSeconds: operation.startTimeoutSeconds }),
    ...(operation.attemptsMax !== undefined && { attemptsMax: operation.attemptsMax }),
    ...(operation.runAt !== undefined && { runAt: operation.runAt }),
    ...(operation.delaySeconds !== undefined && { delaySeconds: operation.delaySeconds }),
    ...(operation.idempotencyKey !== undefined && { idempotency: idempotencyOf(performer.request, operation.idempotencyKey) }),
    ...(webhookUrl !== undefined && { webhookUrl }),
    ...(webhookOptions && { webhookOptions }),
    ...(operation.sessionId !== undefined && { sessionId: operation.sessionId }),
  });
  // The job of a request that came before has the files that came with that.
  await (job.isReplay ? performer.files.discard() : performer.files.giveTo(job, input));
  return job;
}

/** What a submission would cost where it would run now. */
async function quote(deps: AppDeps, performer: Performer, submission: SubmitOperation): Promise<Quote> {
  const { model, provider, input } = await check(deps, performer, submission);
  await performer.files.discard();
  const route = routeOf(model, provider);
  if (!route) throw new Error(`the router chose ${provider}, which has no route to ${model.name}`);
  const usd = await deps.catalog.estimateUsd(model, route, JSON.parse(input));
  return { model, route, ...(usd !== undefined && { usd }) };
}

async function withLogs({ engine }: AppDeps, job: Job): Promise<Job> {
  return { ...job, logs: await engine.readLogs(job) };
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
function resolveModel({ catalog }: AppDeps, { model: name, modelPointer, provider }: SubmitOperation): ResolvedModel {
  const whole = catalog.find(name);
  if (whole) return { model: whole, pinned: provider && checkedProvider(whole, provider) };
  const [wanted = '', ...rest] = name.split('/');
  const bare = catalog.find(rest.join('/'));
  if (!bare || !routeOf(bare, wanted)) throw unknownModel(catalog, name, modelPointer);
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
  const { parameters, webhookUrl: named, webhookPointer = '/webhook', webhookMember, webhookOptionMembers: optionNames } = operation;
  if (named !== undefined) checkWebhookUrl(engine, named, webhookPointer);
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
