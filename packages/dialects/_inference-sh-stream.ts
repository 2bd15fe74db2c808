/**
 * What follows a task is told of it (protocols/inference-sh.md, section 6): the whole task at once, then what changes, and the whole task at its
 * end. A stream that ends before that leaves the vendor's client waiting for ever, so a task that is gone ends as cancelled.
 */
import { type Followed, isTerminal, type Job, type JobEvent, type JsonValue, type LogLine, type ServerSentEvent } from '@claimcheck/core';
import { logsOf, percent, statusOf, textOutput, wholeTask } from './_inference-sh-tasks.ts';

/** One line, with the number of the newest event that it tells of. */
interface Told {
  readonly line: object;
  readonly sequence: number;
}

export async function* taskLines(followed: Followed): AsyncGenerator<object> {
  for await (const { line } of told(followed)) yield line;
}

/** The same lines as data of unnamed events; whoever comes back tells by their ids what was seen. */
export async function* taskEvents(followed: Followed): AsyncGenerator<ServerSentEvent> {
  for await (const { line, sequence } of told(followed)) yield { id: String(sequence), data: line };
}

/**
 * Browsers open a stream again when it has ended. One that has seen the end is answered so that it does not; `lastEventId` is what it says it saw.
 */
export function hasSeenEnd({ job }: Followed, lastEventId: string | undefined): boolean {
  return isTerminal(job.state) && lastEventId !== undefined && lastEventId === String(job.sequence);
}

async function* told({ job, events, read }: Followed): AsyncGenerator<Told> {
  const logs: LogLine[] = [];
  let text = '';
  if (!isTerminal(job.state)) yield { line: wholeTask(job), sequence: job.sequence };
  for await (const event of events) {
    const { type, data, sequence, state, at } = event;
    if (isTerminal(state)) break;
    if (type === 'log') logs.push(...linesIn(data?.lines, at));
    // An attempt that starts anew writes its own text, from the beginning.
    if (type === 'partial') text = (data?.isReset ? '' : text) + String(data?.text ?? '');
    // The first line told all of what was before but for what was printed and written.
    if (sequence > job.sequence) yield { line: await lineFor(event, { job, logs, text, read }), sequence };
    else if (sequence === job.sequence && (logs.length > 0 || text !== ''))
      yield { line: partOf(event, job, grown(job, logs, text)), sequence };
  }
  const last = await read();
  if (last && !isTerminal(last.state)) return;
  const ended: Job = last ?? { ...job, state: 'CANCELLED', failure: { code: 'cancelled', message: 'The task was deleted.' } };
  yield { line: wholeTask(ended, logs), sequence: ended.sequence };
}

interface Known {
  readonly job: Job;
  readonly logs: readonly LogLine[];
  readonly text: string;
  readonly read: Followed['read'];
}

/** The whole task when its state has changed, else what has: clients put parts in the place of what they had. */
async function lineFor(event: JobEvent, { job, logs, text, read }: Known): Promise<object> {
  const { type, state, progress } = event;
  const now = type === 'status' ? await read() : undefined;
  // As it was then: the end is told once, when all that comes before it was.
  if (now) return wholeTask({ ...withoutEnd(now), state, progress }, logs);
  if (type === 'log') return partOf(event, job, grown(job, logs, ''));
  return partOf(event, job, type === 'partial' ? grown(job, [], text) : { progress: percent(event) });
}

function withoutEnd({ output: _output, failure: _failure, finishedAt: _finishedAt, ...job }: Job): Job {
  return job;
}

function grown({ id }: Job, logs: readonly LogLine[], text: string) {
  return { ...(logs.length > 0 && { logs: logsOf(id, logs) }), ...(text !== '' && { output: textOutput(text) }) };
}

function partOf({ state, at }: JobEvent, { id }: Job, part: object) {
  return { data: { id, ...statusOf(state), updated_at: at.toISOString(), ...part }, fields: Object.keys(part) };
}

function linesIn(lines: JsonValue | undefined, at: Date): readonly LogLine[] {
  return (Array.isArray(lines) ? lines : []).map((line) => ({ text: String(line), at }));
}
