/** Pictures, made while the client waits: generations, edits and variations (protocols/openai.md, sections 3 and 4; lumenfall.md, 4 and 5). */
import {
  type Answer,
  AppError,
  type Followed,
  isTerminal,
  type Job,
  type Media,
  mediaUrl,
  type Output,
  type ServerSentEvent,
  type WireRequest,
} from '@claimcheck/core';
import { brokenStream, failureAnswer, failureBody } from './_openai-errors.ts';
import { bytesOf, executedModelOf, formatOf, metadataOf, NO_OUTPUT, sizeOf, tokensOf, typedEvent, unixSeconds } from './_openai-facts.ts';
import {
  compression,
  count,
  fitter,
  format,
  isEmpty,
  LABELS,
  oneOf,
  own,
  type Rule,
  refused,
  size,
  webhookElsewhere,
} from './_openai-fit.ts';
import { ID_PREFIXES } from './_openai-ids.ts';
import { bodyOf } from './_openai-requests.ts';

/** Below the five minutes after which clients on Node's `fetch` give up on a silent answer. */
export const HELD_SECONDS = 280;

const RULES = {
  n: count,
  size,
  output_format: format,
  output_compression: compression,
  response_format: oneOf('url', 'b64_json'),
  partial_images: own,
  webhook_url: webhookElsewhere,
  media_retention: refused(),
  metadata: refused(isEmpty),
  ...LABELS,
} as const satisfies Readonly<Record<string, Rule>>;

/** What models call the pictures that they are given. */
export const PICTURES = ['image', 'images', 'image_url', 'image_urls', 'input_image', 'input_images', 'init_image'];

export const fitGeneration = fitter({ rules: RULES });
export const fitEdit = fitter({
  rules: RULES,
  // `images` is how the JSON variant has it.
  files: { image: PICTURES, images: PICTURES, mask: ['mask_url', 'mask_image'] },
});

/** The result when the job has ended. @throws AppError `wait_timeout` while it runs. */
export function picturesAnswer(job: Job, request: WireRequest): Answer {
  const { id, state, output = NO_OUTPUT, provider } = ended(job);
  if (state !== 'COMPLETED') return failureAnswer(job);
  const [first] = output.media;
  return {
    status: 200,
    // Protocols/lumenfall.md, section 4; newer clients look into `metadata`.
    headers: {
      'x-lumenfall-provider': provider,
      'x-lumenfall-model': executedModelOf(job),
      'x-lumenfall-request-id': `${ID_PREFIXES.request}${id}`,
    },
    body: {
      kind: 'json',
      value: {
        id: `${ID_PREFIXES.request}${id}`,
        created: unixSeconds(job.finishedAt ?? job.updatedAt),
        ...(first && { size: sizeOf(first), output_format: formatOf(first) }),
        data: output.media.map((media) => pictureBody(media, wantsBytes(request), request.baseUrl)),
        // Of a model that makes no files, so that nothing paid for is lost.
        ...(output.text !== undefined && { text: output.text }),
        ...(output.json !== undefined && { json: output.json }),
        ...usageMembers(output),
        metadata: metadataOf(job),
      },
    },
  };
}

/** @throws AppError `wait_timeout` for a job that runs. */
export function ended(job: Job): Job {
  if (isTerminal(job.state)) return job;
  const message = `The job did not end within ${HELD_SECONDS} seconds and goes on. Ask for it at /v1/requests/${ID_PREFIXES.request}${job.id}.`;
  throw new AppError('wait_timeout', message, { requestId: job.id });
}

/** Models named like the vendor's newest answer in base64 only, and clients that know them ask for nothing and expect that (section 10). */
function wantsBytes(request: WireRequest): boolean {
  const { response_format: wanted, model } = bodyOf(request);
  if (wanted !== undefined && wanted !== null) return wanted === 'b64_json';
  return typeof model === 'string' && /^(?:[^/]*\/)?(?:chat)?gpt-image/.test(model);
}

function pictureBody(media: Media, isInline: boolean, baseUrl: string) {
  const bytes = isInline ? bytesOf(media) : undefined;
  return bytes ? { b64_json: bytes } : { url: mediaUrl(media, baseUrl) };
}

function usageMembers(output: Output) {
  const tokens = tokensOf(output);
  if (!tokens) return {};
  return {
    usage: {
      input_tokens: tokens.input,
      input_tokens_details: { text_tokens: tokens.input, image_tokens: 0 },
      output_tokens: tokens.output,
      total_tokens: tokens.total,
    },
  };
}

/**
 * One event for each picture once they are there. None is told of before: nothing that runs tells of pictures which are not done, and the vendor
 * too may send fewer partial ones than were asked for.
 */
export async function* pictureEvents(
  { events, read }: Followed,
  request: WireRequest,
  kind: 'image_generation' | 'image_edit',
): AsyncGenerator<ServerSentEvent> {
  for await (const { state } of events) {
    if (!isTerminal(state)) continue;
    const job = await read();
    if (!job) break;
    if (job.state !== 'COMPLETED') yield typedEvent('error', { error: failureBody(job) });
    else yield* completedPictures(job, request, kind);
    return;
  }
  yield typedEvent('error', { error: brokenStream('The stream ended before the job did.') });
}

function* completedPictures(job: Job, request: WireRequest, kind: string): Generator<ServerSentEvent> {
  const { output = NO_OUTPUT, finishedAt = job.updatedAt } = job;
  const { quality = 'auto', background = 'auto' } = bodyOf(request);
  for (const media of output.media) {
    const bytes = bytesOf(media);
    yield typedEvent(`${kind}.completed`, {
      b64_json: bytes ?? null,
      ...(!bytes && { url: mediaUrl(media, request.baseUrl) }),
      created_at: unixSeconds(finishedAt),
      size: sizeOf(media) ?? 'auto',
      quality,
      background,
      output_format: formatOf(media),
      ...usageMembers(output),
    });
  }
}
