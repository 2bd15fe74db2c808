/** What OpenAI's and Lumenfall's requests say in the address line, in headers, and in members of the body that are not the model's. */
import { flagText, instant, isId, wholeNumberText, wordText } from '@claimcheck/core';
import { z } from 'zod';
import { REQUEST_STATUSES } from './_openai-facts.ts';
import { withoutPrefix } from './_openai-ids.ts';

export const submissionQuery = z.object({
  dryRun: flagText().default(false).meta({ description: 'Tells the price, and makes nothing.' }),
});

/** The second asks for a recorded or an invented answer (lumenfall.md, section 13): to run the request for money would be the opposite. */
export const submissionHeaders = z.object({
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again.' }),
  'X-Lumenfall-Replay': z
    .literal('off', { error: 'must be off, because no answers are recorded here' })
    .optional()
    .meta({ description: 'No answers are recorded here.' }),
});

const MODEL_ERROR = { error: 'must name a model; GET /openai/v1/models lists them' };
const KEY_CHARACTERS_MAX = 256;
const KEY_ERROR = { error: `must be a text of 1 to ${KEY_CHARACTERS_MAX} characters` };

/** Others than Lumenfall's videos have no such key in the body, but a client that sends it means it (lumenfall.md, section 9). */
export const submissionMembers = z.object({
  model: z
    .string(MODEL_ERROR)
    .min(1, MODEL_ERROR)
    .meta({ description: 'Its name, an alias, or one of them behind a provider and a slash.' }),
  idempotency_key: z
    .string(KEY_ERROR)
    .min(1, KEY_ERROR)
    .max(KEY_CHARACTERS_MAX, KEY_ERROR)
    .nullish()
    .meta({ description: 'As the header, which wins.' }),
});

/** No unless given; text in forms, which have nothing else. */
function flag() {
  const asText = z.enum(['true', 'false']).transform((text) => text === 'true');
  return z.union([z.boolean(), asText, z.null()], { error: 'must be true or false' }).optional();
}

export const streamMembers = submissionMembers.extend({
  stream: flag().meta({ description: 'Answers with server-sent events.' }),
});

/** The address is read by whoever takes the job in. */
export const videoMembers = submissionMembers.extend({
  webhook_url: z.url().optional().meta({ description: 'Where the end of the job is told.' }),
});

export const responseMembers = streamMembers.extend({
  background: flag().meta({ description: 'Answers at once, with where the job stands.' }),
});

const limit = wholeNumberText({ min: 1, max: 100, rule: 'a whole number from 1 to 100' })
  .default(20)
  .meta({ description: 'Jobs of a page.' });

/** An id that a list has told, without what it begins with; undefined for an empty one. */
const cursor = z
  .string()
  .transform((id) => withoutPrefix(id) || undefined)
  .refine((id) => id === undefined || isId(id), { error: 'must be an id that a list has told' })
  .optional()
  .meta({ description: 'The last id of the page before.' });

export const videosQuery = z.object({
  limit,
  after: cursor,
  order: z.enum(['desc'], { error: 'can only be desc here' }).optional().meta({ description: 'The newest come first.' }),
});

/** A day begins in UTC. */
const instantOrDay = () =>
  z
    .string()
    .transform((text) => (/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text))
    .pipe(instant())
    .optional()
    .meta({ description: 'A day or an instant.' });

export const requestsQuery = z.object({
  limit,
  starting_after: cursor,
  status: wordText(REQUEST_STATUSES).optional().meta({ description: 'Of these alone.' }),
  created_after: instantOrDay(),
  created_before: instantOrDay(),
  summary: z.enum(['false'], { error: 'can only be false here' }).optional().meta({ description: 'There is none.' }),
});

export const modelQuery = z.object({
  schema: flagText().default(false).meta({ description: 'Adds the schema of its parameters.' }),
});

export const contentQuery = z.object({
  variant: z
    .enum(['video'], { error: 'must be video, because nothing else is kept' })
    .default('video')
    .meta({ description: 'Nothing else is kept.' }),
});

export const responseQuery = z.object({
  stream: flagText().default(false).meta({ description: 'Answers with server-sent events, those of the past first.' }),
  starting_after: wholeNumberText({ min: 0, max: 999_999_999, rule: 'the sequence_number of an event' })
    .optional()
    .meta({ description: 'The last event that the client has.' }),
});
