/** The stream of a prediction (replicate.md, section 8): output and logs as they come, and how it ended. */
import { type Followed, isTerminal, type Job, mediaUrl, PlainText, type ServerSentEvent } from '@claimcheck/core';

/** Every event has an id: without one, the client for Python drops them all. */
export async function* streamEvents({ events, read }: Followed, baseUrl: string): AsyncGenerator<ServerSentEvent> {
  let count = 0;
  const line = (at: Date, event: string, data: unknown): ServerSentEvent => ({ id: `${at.getTime()}:${count++}`, event, data });
  let said = '';
  let isBegunAnew = false;
  for await (const { type, state, at, data } of events) {
    if (type === 'log' && Array.isArray(data?.lines)) yield line(at, 'logs', new PlainText(data.lines.join('\n')));
    if (type === 'partial' && typeof data?.text === 'string') {
      // What was sent cannot be taken back; the end shows whether the new text goes on from there.
      isBegunAnew ||= data.isReset === true && said !== '';
      if (!isBegunAnew) {
        said += data.text;
        yield line(at, 'output', new PlainText(data.text));
      }
    }
    if (!isTerminal(state)) continue;
    const job = await read();
    for (const [event, told] of job ? ending(job, said, baseUrl) : GONE) yield line(at, event, told);
    return;
  }
}

type Told = readonly [event: 'output' | 'error' | 'done', data: unknown];

const GONE: readonly Told[] = [
  ['error', { detail: 'The prediction was removed before its end was told.' }],
  ['done', { reason: 'error' }],
];

function ending(job: Job, said: string, baseUrl: string): readonly Told[] {
  const { state, failure, output } = job;
  if (state === 'CANCELLED') return [['done', { reason: 'canceled' }]];
  if (state !== 'COMPLETED' || !output) return failed(failure?.message ?? 'The job ended without a recorded reason.');
  const files = output.media.map((file): Told => ['output', new PlainText(mediaUrl(file, baseUrl))]);
  const text = output.text ?? (files.length === 0 && output.json !== undefined ? JSON.stringify(output.json) : '');
  if (!text.startsWith(said)) return failed('The output was begun anew after a failure: get the prediction to have all of it.');
  const rest = text.slice(said.length);
  return [...files, ...(rest === '' ? [] : [['output', new PlainText(rest)] as const]), ['done', {}]];
}

function failed(detail: string): readonly Told[] {
  return [
    ['error', { detail }],
    ['done', { reason: 'error' }],
  ];
}
