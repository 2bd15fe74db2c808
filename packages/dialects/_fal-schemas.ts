/** Schemas of fal's requests (fal.md, sections 2, 4 and 8): they read what comes, and describe the API. */
import { flagText, wholeNumberText, wordText } from '@claimcheck/core';
import { z } from 'zod';

/** A longer wait would outlast every job. */
const START_TIMEOUT_SECONDS_MAX = 24 * 3600;
/** Those who wait are not counted any further. */
const QUEUE_LENGTH_MAX = 10_000;

export const submissionQuery = z.object({
  fal_webhook: z.string().optional().meta({ description: 'Where the end of the job is told.' }),
  fal_max_queue_length: wholeNumberText({ min: 0, max: QUEUE_LENGTH_MAX, rule: `a whole number from 0 to ${QUEUE_LENGTH_MAX}` })
    .optional()
    .meta({ description: 'Refused when more jobs than these wait already.' }),
});

const LIFECYCLE = 'How long files are kept, which changes nothing here; refused with rules about who may read them (`initial_acl`).';

/** Of whatever makes files or brings them. */
export const lifecycleHeaders = z.object({
  'X-Fal-Object-Lifecycle-Preference': z.string().optional().meta({ description: LIFECYCLE }),
  'X-Fal-Object-Lifecycle': z.string().optional().meta({ description: LIFECYCLE }),
});

const START_TIMEOUT = 'Ends with 504 when the job has not started after so many seconds.';

/** Of two that say the same the newer one stands first, and wins. */
export const submissionHeaders = lifecycleHeaders.extend({
  'X-Fal-Request-Start-Timeout': secondsText().optional().meta({ description: START_TIMEOUT }),
  'X-Fal-Request-Timeout': secondsText()
    .optional()
    .meta({ description: `${START_TIMEOUT} The older name.` }),
  'X-Fal-Queue-Priority': wordText(['normal', 'low']).optional().meta({ description: 'Which jobs of a queue go first.' }),
  'X-Fal-No-Retry': switchText().meta({ description: 'One attempt only.' }),
  'x-app-fal-disable-fallback': switchText().meta({ description: 'At one provider only.' }),
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again; the vendor has no such header.' }),
});

/** `logs` is a number with one of the vendor's clients and a word with the other (section 2). */
export const statusQuery = z.object({ logs: flagText().default(false).meta({ description: 'Also tells what the run has printed.' }) });

/** Of the client for Python, whose bodies are the files themselves. */
export const fileHeaders = lifecycleHeaders.extend({
  'X-Fal-File-Name': z.string().optional().meta({ description: 'What the file is called.' }),
});

export const announcedFile = z.object({
  file_name: z.string({ error: 'must be a text' }),
  content_type: z.string({ error: 'must be a text' }).optional().meta({ description: 'What the bytes themselves say counts for more.' }),
});

/** Of a problem with a value beside the body: the kind of place where it stands, which its pointer does not say. */
export const PLACES: ReadonlyMap<string, 'query' | 'header'> = new Map([
  ...[...Object.keys(submissionQuery.shape), ...Object.keys(statusQuery.shape)].map((name) => [`/${name}`, 'query'] as const),
  ...Object.keys(submissionHeaders.shape).map((name) => [`/${name}`, 'header'] as const),
]);

/** Anything else is no, as with the vendor. */
function switchText() {
  return z
    .string()
    .transform((text) => ['1', 'true', 'yes'].includes(text.toLowerCase()))
    .default(false)
    .meta({ type: 'string', examples: ['1'] });
}

/** One of the vendor's clients sends fractions. */
function secondsText() {
  const error = 'must be a number of seconds above 0';
  return z
    .string({ error })
    .regex(/^\d{1,12}(\.\d{1,12})?$/, { error })
    .transform((text) => Math.min(Math.ceil(Number(text)), START_TIMEOUT_SECONDS_MAX))
    .pipe(z.int({ error }).min(1, { error }));
}
