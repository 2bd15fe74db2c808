/** Responses: a job's answer as a list of items, in the background, held, or as a stream that can be resumed (protocols/openai.md, section 7). */
import {
  type Answer,
  type Followed,
  isJsonObject,
  isTerminal,
  type Job,
  type JsonObject,
  type Media,
  mediaUrl,
  readMembers,
  type ServerSentEvent,
  type State,
  type WireRequest,
} from '@claimcheck/core';
import { brokenStream, failureAnswer, failureBody } from './_openai-errors.ts';
import { bytesOf, formatOf, metadataOf, NO_OUTPUT, sizeOf, tokensOf, typedEvent, unixSeconds, wordsOf } from './_openai-facts.ts';
import {
  compression,
  count,
  type Draft,
  fitter,
  format,
  give,
  isEmpty,
  LABELS,
  own,
  type Rule,
  refuse,
  refused,
  size,
  webhookElsewhere,
} from './_openai-fit.ts';
import { ID_PREFIXES } from './_openai-ids.ts';
import { ended } from './_openai-images.ts';
import { ABILITY_RULES, conversation, isPlainFormat, LENGTH_RULES } from './_openai-messages.ts';
import { responseMembers } from './_openai-queries.ts';

/** The only tool that there is says what the picture shall be like: as parameters. */
const tools: Rule = (draft, name, value) => {
  draft.members.delete(name);
  for (const [index, tool] of (Array.isArray(value) ? value : [value]).entries()) {
    if (isJsonObject(tool) && tool.type === 'image_generation') liftTool(draft, tool);
    else refuse(draft, `${name}/${index}`, 'must be {"type": "image_generation"}: there are no other tools here');
  }
};

function liftTool(draft: Draft, { type: _type, partial_images: _partial, model: _model, ...options }: JsonObject): void {
  for (const [name, value] of Object.entries(options)) if (value !== 'auto' && value !== null) give(draft, name, value);
}

const RULES: Readonly<Record<string, Rule>> = {
  tools,
  input: conversation,
  // Behind the tool's own, which have the same names.
  n: count,
  size,
  output_format: format,
  output_compression: compression,
  ...LENGTH_RULES,
  ...ABILITY_RULES,
  // Which tool is used is settled by the model, which does one thing.
  tool_choice: own,
  previous_response_id: refused(),
  conversation: refused(),
  text: refused((value) => isJsonObject(value) && isPlainFormat(value.format ?? { type: 'text' })),
  truncation: refused((value) => value === 'auto' || value === 'disabled'),
  max_tool_calls: refused(),
  metadata: refused(isEmpty),
  include: refused((value) => Array.isArray(value) && value.length === 0),
  background: own,
  instructions: refused(),
  stream_options: own,
  webhook_url: webhookElsewhere,
  store: own,
  ...LABELS,
};

/** `background` means something else to models of pictures, so it is taken even where it is declared. */
export const fitResponse = fitter({ rules: RULES, always: ['background'] });

export function isInBackground(request: WireRequest): boolean {
  return readMembers(request, responseMembers).background === true;
}

const STATUSES = {
  QUEUED: 'queued',
  PROCESSING: 'in_progress',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
} as const satisfies Record<State, string>;

/** In the background whatever became of it is the answer; who waits gets an error for a job that failed. */
export function createdAnswer(job: Job, request: WireRequest): Answer {
  if (isInBackground(request)) return responseAnswer(job, request.baseUrl);
  if (ended(job).state !== 'COMPLETED') return failureAnswer(job);
  return { status: 200, body: { kind: 'json', value: responseBody(job, request.baseUrl, false) } };
}

export function responseAnswer(job: Job, baseUrl: string): Answer {
  return { status: 200, body: { kind: 'json', value: responseBody(job, baseUrl) } };
}

/** `output` is always a list: clients count on it. */
function responseBody(job: Job, baseUrl: string, isBackground = true) {
  const hasFailed = job.state === 'FAILED' || job.state === 'CANCELLED';
  const { code, message } = failureBody(job);
  return {
    id: `${ID_PREFIXES.response}${job.id}`,
    object: 'response',
    created_at: unixSeconds(job.createdAt),
    status: STATUSES[job.state],
    background: isBackground,
    model: job.model,
    output: job.state === 'COMPLETED' ? itemsOf(job, baseUrl) : [],
    error: hasFailed ? { code, message } : null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    parallel_tool_calls: false,
    previous_response_id: null,
    temperature: null,
    tool_choice: 'auto',
    tools: [],
    top_p: null,
    usage: usageOf(job),
    ...(job.finishedAt && { run: metadataOf(job) }),
  };
}

function usageOf({ output = NO_OUTPUT }: Job) {
  const tokens = tokensOf(output);
  if (!tokens) return null;
  return {
    input_tokens: tokens.input,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: tokens.output,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: tokens.total,
  };
}

/** Words and addresses as a message, pictures as what the vendor's tool makes. */
function itemsOf(job: Job, baseUrl: string): object[] {
  const words = messageTextOf(job, baseUrl);
  const pictures = picturesOf(job).map((media, index) => pictureItem(job, media, index, baseUrl));
  return [...(words === undefined ? [] : [messageItem(job, words)]), ...pictures];
}

function picturesOf({ output = NO_OUTPUT }: Job): readonly Media[] {
  return output.media.filter(({ contentType }) => contentType.startsWith('image/'));
}

/** Undefined when pictures are all there is. The vendor has no item for other files: their addresses are told in words. */
function messageTextOf({ output = NO_OUTPUT }: Job, baseUrl: string): string | undefined {
  const files = output.media.filter(({ contentType }) => !contentType.startsWith('image/'));
  const hasWords = output.text !== undefined || output.json !== undefined || files.length > 0 || output.media.length === 0;
  return hasWords ? wordsOf({ ...output, media: files }, baseUrl) : undefined;
}

function messageItem({ id }: Job, text: string) {
  const content = [{ type: 'output_text', text, annotations: [] }];
  return { id: `${ID_PREFIXES.message}${id}`, type: 'message', role: 'assistant', status: 'completed', content };
}

function pictureItem(job: Job, media: Media, index: number, baseUrl: string) {
  return {
    id: `ig_${job.id}_${index}`,
    type: 'image_generation_call',
    status: 'completed',
    result: bytesOf(media) ?? null,
    output_format: formatOf(media),
    ...(sizeOf(media) !== undefined && { size: sizeOf(media) }),
    url: mediaUrl(media, baseUrl),
  };
}

/**
 * Told from a job's first event on, which makes the same events with the same numbers each time; those up to `after` are left out.
 * @param baseUrl has no trailing slash
 */
export async function* responseEvents(
  followed: Followed,
  baseUrl: string,
  isBackground: boolean,
  after = -1,
): AsyncGenerator<ServerSentEvent> {
  let number = 0;
  for await (const [type, data] of happenings(followed, baseUrl, isBackground)) {
    const sequence = number++;
    if (sequence > after) yield typedEvent(type, { sequence_number: sequence, ...data });
  }
}

type Happening = readonly [type: string, data: Readonly<Record<string, unknown>>];

async function* happenings({ job, events, read }: Followed, baseUrl: string, isBackground: boolean): AsyncGenerator<Happening> {
  // As it was in the beginning, however far it has come since.
  const { output: _output, failure: _failure, finishedAt: _end, ...begun } = job;
  const snapshot = (state: 'QUEUED' | 'PROCESSING') => ({
    response: responseBody({ ...begun, state, progress: 0 }, baseUrl, isBackground),
  });
  yield ['response.created', snapshot('QUEUED')];
  yield ['response.queued', snapshot('QUEUED')];
  let isRunning = false;
  let said: string | undefined;
  for await (const { type, state, data } of events) {
    if (!isRunning && state === 'PROCESSING') {
      isRunning = true;
      yield ['response.in_progress', snapshot('PROCESSING')];
    }
    if (type === 'partial') {
      if (said === undefined) yield* messageBegun(job);
      const delta = String(data?.text ?? '');
      said = (said ?? '') + delta;
      yield textDelta(job, delta);
    }
    if (!isTerminal(state)) continue;
    const last = await read();
    if (last) yield* lastHappenings(last, baseUrl, isBackground, said);
    else yield ['error', { error: brokenStream('The response was removed before its stream had ended.') }];
    return;
  }
  yield ['error', { error: brokenStream('The stream ended before the response did: resume it with starting_after.') }];
}

function* lastHappenings(job: Job, baseUrl: string, isBackground: boolean, said: string | undefined): Generator<Happening> {
  if (job.state === 'COMPLETED') {
    const words = messageTextOf(job, baseUrl);
    if (words !== undefined) {
      if (said === undefined) yield* messageBegun(job);
      const rest = words.startsWith(said ?? '') ? words.slice(said?.length ?? 0) : '';
      if (rest !== '') yield textDelta(job, rest);
      yield* messageEnded(job, words);
    }
    const before = words === undefined ? 0 : 1;
    for (const [index, media] of picturesOf(job).entries()) yield* pictureMade(pictureItem(job, media, index, baseUrl), before + index);
  }
  yield [`response.${STATUSES[job.state]}`, { response: responseBody(job, baseUrl, isBackground) }];
}

function* messageBegun(job: Job): Generator<Happening> {
  yield ['response.output_item.added', { output_index: 0, item: { ...messageItem(job, ''), status: 'in_progress', content: [] } }];
  yield ['response.content_part.added', { ...partOf(job), part: { type: 'output_text', text: '', annotations: [] } }];
}

function textDelta(job: Job, delta: string): Happening {
  return ['response.output_text.delta', { ...partOf(job), delta, logprobs: [] }];
}

function* messageEnded(job: Job, text: string): Generator<Happening> {
  yield ['response.output_text.done', { ...partOf(job), text, logprobs: [] }];
  yield ['response.content_part.done', { ...partOf(job), part: { type: 'output_text', text, annotations: [] } }];
  yield ['response.output_item.done', { output_index: 0, item: messageItem(job, text) }];
}

function partOf({ id }: Job) {
  return { item_id: `${ID_PREFIXES.message}${id}`, output_index: 0, content_index: 0 };
}

function* pictureMade(item: ReturnType<typeof pictureItem>, outputIndex: number): Generator<Happening> {
  const place = { item_id: item.id, output_index: outputIndex };
  yield ['response.output_item.added', { output_index: outputIndex, item: { ...item, status: 'in_progress', result: null } }];
  for (const step of ['in_progress', 'generating', 'completed']) yield [`response.image_generation_call.${step}`, place];
  yield ['response.output_item.done', { output_index: outputIndex, item }];
}
