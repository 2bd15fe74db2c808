/** A job that never was, so that receivers can be tried with a message such as they will get. */
import { type Clock, isTerminal, type Job, newId, type TestedEvent, toJsonText } from '@claimcheck/core';

/** Where the job is, by what is told of it. */
const MOMENTS = {
  'request.queued': { state: 'QUEUED', progress: 0, sequence: 1 },
  'request.started': { state: 'PROCESSING', progress: 0, sequence: 2 },
  'request.progress': { state: 'PROCESSING', progress: 0.5, sequence: 3 },
  'request.completed': { state: 'COMPLETED', progress: 1, sequence: 3 },
  'request.failed': {
    state: 'FAILED',
    progress: 0.5,
    sequence: 3,
    failure: { code: 'provider_error', message: 'This is a test: the upstream could not finish the request.' },
  },
  'request.cancelled': {
    state: 'CANCELLED',
    progress: 0.5,
    sequence: 3,
    failure: { code: 'cancelled', message: 'This is a test: the request was cancelled by its caller.' },
  },
} as const satisfies Record<TestedEvent, Partial<Job>>;

const TOOK_MS = 1_200;
const PROMPT = 'a cute panda holding a sign';

export interface SampleFields extends Pick<Job, 'callerId' | 'dialect' | 'baseUrl' | 'webhookUrl'> {
  readonly event: TestedEvent;
}

/** A job that has just come to where `event` says. Its id is fresh, and leads nowhere, as does the address of its picture. */
export function sampleJob({ event, ...fields }: SampleFields, clock: Clock): Job {
  const moment = MOMENTS[event];
  const now = new Date(clock.now());
  const createdAt = new Date(clock.now() - TOOK_MS);
  const picture = { contentType: 'image/webp', fileName: 'image.webp', bytes: 58_656, width: 1024, height: 1024 };
  return {
    ...fields,
    id: newId(clock),
    model: 'test',
    provider: 'test',
    isPinned: false,
    input: toJsonText({ prompt: PROMPT, seed: 7 }),
    ...moment,
    ...(moment.state === 'COMPLETED' && { output: { media: [{ location: { asset: 'test' }, ...picture }], seed: 7 } }),
    attempt: moment.state === 'QUEUED' ? 0 : 1,
    priority: 'normal',
    resubmits: 0,
    createdAt,
    updatedAt: now,
    ...(moment.state !== 'QUEUED' && { startedAt: createdAt, attemptStartedAt: createdAt }),
    ...(isTerminal(moment.state) && { finishedAt: now }),
  };
}
