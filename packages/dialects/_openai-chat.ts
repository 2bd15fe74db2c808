/** Chat completions, while the client waits or word by word (protocols/lumenfall.md, section 2). */
import {
  type Answer,
  type Followed,
  isJsonObject,
  isTerminal,
  type Job,
  PlainText,
  type ServerSentEvent,
  type WireRequest,
} from '@claimcheck/core';
import { brokenStream, failureAnswer, failureBody } from './_openai-errors.ts';
import { metadataOf, NO_OUTPUT, tokensOf, unixSeconds, wordsOf } from './_openai-facts.ts';
import { count, fitter, isEmpty, LABELS, own, type Rule, refused, webhookElsewhere } from './_openai-fit.ts';
import { ID_PREFIXES } from './_openai-ids.ts';
import { ended } from './_openai-images.ts';
import { ABILITY_RULES, conversation, isPlainFormat, LENGTH_RULES } from './_openai-messages.ts';
import { bodyOf } from './_openai-requests.ts';

const none = refused((value) => Array.isArray(value) && value.length === 0);

const RULES: Readonly<Record<string, Rule>> = {
  messages: conversation,
  n: count,
  ...LENGTH_RULES,
  ...ABILITY_RULES,
  tools: none,
  functions: none,
  function_call: refused((value) => value === 'none' || value === 'auto'),
  response_format: refused(isPlainFormat),
  modalities: refused((value) => JSON.stringify(value) === '["text"]'),
  audio: refused(),
  logprobs: refused((value) => value === false),
  logit_bias: refused(isEmpty),
  prediction: refused(),
  web_search_options: refused(),
  reasoning_effort: refused(),
  verbosity: refused(),
  metadata: refused(isEmpty),
  stream_options: own,
  webhook_url: webhookElsewhere,
  store: own,
  ...LABELS,
};

export const fitChat = fitter({ rules: RULES });

/** @throws AppError `wait_timeout` for a job that runs. */
export function completionAnswer(job: Job, { baseUrl }: WireRequest): Answer {
  const { state, output = NO_OUTPUT } = ended(job);
  if (state !== 'COMPLETED') return failureAnswer(job);
  const message = { role: 'assistant', content: wordsOf(output, baseUrl), refusal: null };
  const value = {
    ...headOf(job, 'chat.completion'),
    choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
    usage: usageOf(job) ?? null,
    metadata: metadataOf(job),
  };
  return { status: 200, body: { kind: 'json', value } };
}

/** Pieces of the answer as they come. What was not told in pieces comes in the last one. */
export async function* chunks({ job, events, read }: Followed, request: WireRequest): AsyncGenerator<ServerSentEvent> {
  let said = '';
  yield chunk(job, { role: 'assistant', content: '' });
  for await (const event of events) {
    if (event.type === 'partial') {
      const text = String(event.data?.text ?? '');
      said += text;
      yield chunk(job, { content: text });
    }
    if (!isTerminal(event.state)) continue;
    yield* lastChunks(await read(), said, request);
    return;
  }
  yield { data: { error: brokenStream('The stream ended before the answer did.') } };
}

function* lastChunks(job: Job | undefined, said: string, request: WireRequest): Generator<ServerSentEvent> {
  if (!job) return yield { data: { error: brokenStream('The request was removed before its answer was read.') } };
  if (job.state !== 'COMPLETED') return yield { data: { error: failureBody(job) } };
  const words = wordsOf(job.output ?? NO_OUTPUT, request.baseUrl);
  if (!words.startsWith(said)) {
    // An attempt failed half-way, and the one after it said something else: what was sent cannot be taken back.
    return yield { data: { error: brokenStream('The answer was begun anew after a failure: ask again, without a stream if need be.') } };
  }
  if (words.length > said.length) yield chunk(job, { content: words.slice(said.length) });
  yield chunk(job, {}, 'stop');
  const { stream_options: options } = bodyOf(request);
  const wantsUsage = isJsonObject(options) && options.include_usage === true;
  if (wantsUsage) yield { data: { ...headOf(job, 'chat.completion.chunk'), choices: [], usage: usageOf(job) ?? NO_USAGE } };
  yield { data: new PlainText('[DONE]') };
}

function chunk(job: Job, delta: object, finishReason: string | null = null): ServerSentEvent {
  return {
    data: { ...headOf(job, 'chat.completion.chunk'), choices: [{ index: 0, delta, finish_reason: finishReason, logprobs: null }] },
  };
}

function headOf({ id, createdAt, model }: Job, object: string) {
  return { id: `${ID_PREFIXES.chat}${id}`, object, created: unixSeconds(createdAt), model };
}

/** Clients that asked for it read the numbers without a look. */
const NO_USAGE = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };

function usageOf({ output = NO_OUTPUT }: Job) {
  const tokens = tokensOf(output);
  return tokens && { prompt_tokens: tokens.input, completion_tokens: tokens.output, total_tokens: tokens.total };
}
