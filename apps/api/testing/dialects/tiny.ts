/** A whole wire format in one file: what a new one takes. It hands in jobs, reads them, and streams them line by line. */
import {
  AppError,
  type Dialect,
  type Followed,
  InlineFile,
  isJsonObject,
  isTerminal,
  type Job,
  membersOf,
  objectFrom,
  on,
  parseExactJson,
} from '@claimcheck/core';

const tiny: Dialect = {
  name: 'tiny',
  paths: ['/tiny'],
  routes: [
    on('submit', {
      method: 'POST',
      path: '/tiny/jobs',
      body: 'json',
      decode: ({ body, header }) => ({ kind: 'submit', ...splitModel(body?.text ?? '{}'), idempotencyKey: header('x-tiny-key') }),
      encode: (job) => ({ status: 201, body: { kind: 'json', value: tinyJob(job) } }),
    }),
    on('stream', {
      method: 'POST',
      path: '/tiny/streams',
      body: 'json',
      decode: ({ body }) => ({ kind: 'stream', submission: { kind: 'submit', ...splitModel(body?.text ?? '{}') } }),
      encode: (followed) => ({ status: 200, body: { kind: 'lines', lines: linesOf(followed), heartbeat: {} } }),
    }),
    on('read', {
      method: 'GET',
      path: '/tiny/jobs/:id',
      body: 'none',
      decode: ({ params: { id = '' } }) => ({ kind: 'read', id }),
      encode: (job) => ({ status: 200, body: { kind: 'json', value: tinyJob(job) } }),
    }),
    on('cancel', {
      method: 'DELETE',
      path: '/tiny/jobs/:id',
      body: 'none',
      decode: ({ params: { id = '' } }) => ({ kind: 'cancel', id }),
      encode: (job) => ({ status: 200, body: { kind: 'json', value: tinyJob(job) } }),
    }),
  ],
  proxy: {
    path: '/tiny/proxy',
    target({ header }) {
      const target = header('x-tiny-target');
      if (target === undefined) throw new AppError('invalid_request', 'The header x-tiny-target is missing.');
      return `/tiny/${target}`;
    },
  },
  encodeError: (error: AppError) => ({ status: error.status, body: { kind: 'json', value: { oops: error.message } } }),
  encodeWebhook: (job) => ({ contentType: 'application/json', body: JSON.stringify(tinyJob(job)) }),
};
export default tiny;

function splitModel(text: string) {
  const body = parseExactJson(text);
  const members = isJsonObject(body.value) ? membersOf(body.text) : new Map();
  const model: unknown = JSON.parse(members.get('model') ?? '""');
  members.delete('model');
  return { model: String(model), parameters: parseExactJson(objectFrom(members)) };
}

function tinyJob({ id, state, output, failure }: Job) {
  const [first] = output?.media ?? [];
  return {
    id,
    done: isTerminal(state),
    oops: failure?.message ?? null,
    file: first && 'asset' in first.location ? new InlineFile(first.location.asset, 'data URI') : null,
  };
}

async function* linesOf({ events, read }: Followed) {
  for await (const { state, jobId } of events) {
    const job = isTerminal(state) ? await read() : undefined;
    yield job ? tinyJob(job) : { id: jobId, done: false };
  }
}
