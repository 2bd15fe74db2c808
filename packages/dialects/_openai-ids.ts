/** Ids of OpenAI's and Lumenfall's objects: that of the job behind a word for the kind. */
import type { WireRequest } from '@claimcheck/core';

/** Kinds of objects, as ids show them. The same job can be asked for as any of them, and by its bare id. */
export const ID_PREFIXES = {
  request: 'req_',
  video: 'video_',
  response: 'resp_',
  message: 'msg_',
  chat: 'chatcmpl-',
  event: 'evt_',
} as const;

/** The job's own id, of the id in the path. */
export function jobIdOf(request: WireRequest): string {
  return withoutPrefix(request.params.id ?? '');
}

/** The id of a job, of whichever of its objects. */
export function withoutPrefix(id: string): string {
  const prefix = Object.values(ID_PREFIXES).find((known) => id.startsWith(known));
  return prefix === undefined ? id : id.slice(prefix.length);
}
