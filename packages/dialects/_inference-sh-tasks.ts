/**
 * Jobs as tasks of inference.sh (protocols/inference-sh.md, sections 4 to 6): short where one was started, whole where one is read. Members that
 * belong to the vendor's accounts and machines are there and empty, because clients are typed with them.
 */
import {
  fromJsonText,
  isJsonObject,
  isTerminal,
  type Job,
  type LogLine,
  type Media,
  mediaUrl,
  type Output,
  STATES,
  type State,
  type Usage,
  type WebhookMessage,
  type WebhookSettings,
} from '@claimcheck/core';
import { sevenFields } from './_native-webhook.ts';

interface Status {
  readonly status: number;
  readonly status_text: string;
}

/** Of a task that was just taken. Never told later: a client that polls looks for a number other than this one (section 6, "Poll"). */
export const RECEIVED = { status: 1, status_text: 'received' } as const satisfies Status;

/** The current numbers, in every state: with the older ones no current client would see an end (section 5). */
export const STATUSES = {
  QUEUED: { status: 2, status_text: 'queued' },
  PROCESSING: { status: 7, status_text: 'running' },
  COMPLETED: { status: 10, status_text: 'completed' },
  FAILED: { status: 11, status_text: 'failed' },
  CANCELLED: { status: 12, status_text: 'cancelled' },
} as const satisfies Record<State, Status>;

/** Section 4: of the five kinds of logs, the one that a run prints. */
export const RUN_LOG = 1;

export function statusOf(state: State): Status {
  return STATUSES[state];
}

/** The state that a number, or a name in any case, stands for; undefined for those that no job is ever in. */
export function stateNamed(status: number | string): State | undefined {
  const named = typeof status === 'string' ? status.toLowerCase() : status;
  if (named === RECEIVED.status || named === RECEIVED.status_text) return 'QUEUED';
  return STATES.find((state) => STATUSES[state].status === named || STATUSES[state].status_text === named);
}

/** The answer to a run that nobody waits for: not ended, even where the work is done already. */
export function receivedTask(job: Job) {
  return { ...taskResult(job), ...RECEIVED, output: null, error: '' };
}

export function taskResult(job: Job) {
  return {
    id: job.id,
    short_id: shortId(job.id),
    ...statusOf(job.state),
    output: outputIn(job),
    error: errorIn(job),
    session_id: job.sessionId ?? null,
    created_at: job.createdAt.toISOString(),
    updated_at: changedAt(job).toISOString(),
  };
}

/** The vendor's ids begin with what is theirs alone; ours end with it, as they begin with the time. */
function shortId(id: string): string {
  return id.slice(-8);
}

/** By the end of the job, not by a later write. */
function changedAt(job: Job): Date {
  return job.finishedAt ?? job.updatedAt;
}

function outputIn(job: Job) {
  return job.state === 'COMPLETED' && job.output ? outputBody(job.output, job.baseUrl) : null;
}

function errorIn({ state, failure }: Job): string {
  if (state === 'FAILED') return failure?.message ?? 'The task ended without a recorded reason.';
  return state === 'CANCELLED' ? (failure?.message ?? '') : '';
}

export function wholeTask(job: Job, logs: readonly LogLine[] = job.logs ?? []) {
  return {
    ...taskResult(job),
    progress: percent(job),
    deleted_at: null,
    user_id: job.callerId,
    team_id: job.callerId,
    visibility: 'private',
    is_featured: false,
    rating: 'unrated',
    app_id: job.model,
    app_version_id: '',
    app_variant: '',
    function: 'run',
    setup: null,
    input: fromJsonText(job.input),
    infra: 'cloud',
    workers: [],
    engine_id: null,
    worker_id: null,
    run_at: null,
    graph_id: null,
    user_public_key: '',
    engine_public_key: '',
    flow_run_id: null,
    sub_flow_run_id: null,
    chat_id: null,
    agent_id: null,
    agent_version_id: null,
    webhook: job.webhookUrl ?? '',
    session_timeout: null,
    events: eventsIn(job),
    logs: logsOf(job.id, logs),
    usage_events: [],
  };
}

/** Most providers never report the last step. */
export function percent({ state, progress }: Pick<Job, 'state' | 'progress'>): number {
  return state === 'COMPLETED' ? 100 : Math.floor(progress * 100);
}

/** All lines together: the vendor has one log of each kind. */
export function logsOf(taskId: string, lines: readonly LogLine[]) {
  const [first] = lines;
  const last = lines.at(-1);
  if (!first || !last) return [];
  return [
    {
      id: `${taskId}-log`,
      created_at: first.at.toISOString(),
      updated_at: last.at.toISOString(),
      task_id: taskId,
      log_type: RUN_LOG,
      content: lines.map(({ text }) => `${text}\n`).join(''),
    },
  ];
}

/** What is known to have happened, with the instants: accepted, started, ended. */
function stepsOf({ state, createdAt, startedAt, finishedAt }: Job): readonly (Status & { readonly at: Date })[] {
  return [
    { ...RECEIVED, at: createdAt },
    ...(startedAt ? [{ ...STATUSES.PROCESSING, at: startedAt }] : []),
    ...(finishedAt && isTerminal(state) ? [{ ...STATUSES[state], at: finishedAt }] : []),
  ];
}

function eventsIn(job: Job) {
  return stepsOf(job).map(({ status, at }) => ({
    id: `${job.id}-${status}`,
    created_at: at.toISOString(),
    event_time: at.toISOString(),
    task_id: job.id,
    status,
  }));
}

export function statusBody(job: Job) {
  return { id: job.id, ...statusOf(job.state), updated_at: changedAt(job).toISOString() };
}

export function logsBody(job: Job) {
  return { task_id: job.id, ...statusOf(job.state), events: eventsIn(job), logs: logsOf(job.id, job.logs ?? []) };
}

/** Spans that have ended only: how long the others take is not known yet. */
export function timingsBody(job: Job) {
  const steps = stepsOf(job);
  const events = steps.map(({ status_text, at }, index) => {
    const next = steps[index + 1];
    return {
      status: status_text,
      timestamp: at.toISOString(),
      ...(next && { ...duration('', at, next.at), next_status: next.status_text }),
    };
  });
  const groups = steps.slice(0, -1).map(({ status_text, at }, index) => ({
    label: status_text === RECEIVED.status_text ? 'queue' : 'run',
    start_at: at.toISOString(),
    end_at: steps[index + 1]?.at.toISOString(),
    ...duration('', at, steps[index + 1]?.at ?? at),
  }));
  return {
    task_id: job.id,
    ...statusOf(job.state),
    ...duration('total_', job.createdAt, steps.at(-1)?.at ?? job.createdAt),
    groups,
    events,
  };
}

function duration<Prefix extends string>(prefix: Prefix, from: Date, to: Date) {
  const milliseconds = Math.max(0, to.getTime() - from.getTime());
  return { [`${prefix}duration`]: `${milliseconds / 1000}s`, [`${prefix}duration_ms`]: milliseconds };
}

/** Files under what they are, in the vendor's form of a file; words where its language models have them. */
function outputBody(output: Output, baseUrl: string) {
  const { media, text, json, seed, usage } = output;
  return {
    ...mediaMembers(media, baseUrl),
    ...(text !== undefined && textOutput(text)),
    ...(json !== undefined && (isJsonObject(json) ? json : { result: json })),
    ...(seed !== undefined && { seed }),
    ...(usage && usageMembers(usage)),
  };
}

/** What has been written of a text, in the place where the whole will be. */
export function textOutput(text: string) {
  return { response: text };
}

function mediaMembers(media: readonly Media[], baseUrl: string) {
  const ofKind = (kind: string) => media.filter(({ contentType }) => contentType.toLowerCase().startsWith(`${kind}/`));
  const images = ofKind('image');
  const [video] = ofKind('video');
  const [audio] = ofKind('audio');
  const others = media.filter((file) => !images.includes(file) && file !== video && file !== audio);
  return {
    ...(images.length > 0 && { images: images.map((file) => mediaFile(file, baseUrl)) }),
    ...(video && { video: mediaFile(video, baseUrl) }),
    ...(audio && { audio: mediaFile(audio, baseUrl) }),
    ...(others.length > 0 && { files: others.map((file) => mediaFile(file, baseUrl)) }),
  };
}

function mediaFile(media: Media, baseUrl: string) {
  const { contentType, fileName, bytes, width, height } = media;
  return {
    uri: mediaUrl(media, baseUrl),
    content_type: contentType,
    filename: fileName,
    ...(bytes !== undefined && { size: bytes }),
    ...(width !== undefined && height !== undefined && { width, height }),
  };
}

/** The vendor's apps say in this member what a run is charged by. */
function usageMembers({ inputTokens, outputTokens, seconds }: Usage) {
  const inputs = inputTokens === undefined ? [] : [{ type: 'text', tokens: inputTokens }];
  const outputs = [
    ...(outputTokens === undefined ? [] : [{ type: 'text', tokens: outputTokens }]),
    ...(seconds === undefined ? [] : [{ type: 'raw', seconds }]),
  ];
  return inputs.length + outputs.length > 0 ? { output_meta: { inputs, outputs } } : {};
}

/** Files that the task has made, as the vendor lists files: each with its task and its role. */
export function taskFiles(job: Job) {
  const at = changedAt(job).toISOString();
  return (job.output?.media ?? []).map((media, index) => ({
    id: `${job.id}-${index}`,
    created_at: at,
    updated_at: at,
    task_id: job.id,
    role: 'output',
    ...mediaFile(media, job.baseUrl),
  }));
}

/** Section 9. */
export function encodeWebhook(job: Job, settings: WebhookSettings): WebhookMessage {
  return sevenFields(job, settings, outputIn(job));
}
