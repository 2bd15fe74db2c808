/** Files that come in a request: in a form, or as data URIs in JSON. They are stored while the request is read, before it is known to be good. */
import { fileTokensIn, type Job, type JsonText, type Log, type Upload } from '@claimcheck/core';
import type { IncomingFile, Uploads } from '@claimcheck/engine';

export interface BroughtFiles {
  /** @throws AppError as the engine does; then nothing of the file is left. */
  store(file: IncomingFile): Promise<Upload>;
  /** Makes them the job's, with which they go. Files of the caller that its input names besides are kept until its deadline. */
  giveTo(job: Pick<Job, 'id'>, input: JsonText): Promise<void>;
  /** Removes those that belong to no job. Nothing happens the second time. */
  discard(): Promise<void>;
}

/** A job that names more is one that will hardly be run, and keeps these. */
const NAMED_MAX = 1_000;

export interface BringOptions {
  readonly uploads: Uploads;
  readonly callerId: string;
  readonly log: Log;
}

export function bringFiles({ uploads, callerId, log }: BringOptions): BroughtFiles {
  let brought: Upload[] = [];
  const takeBrought = () => {
    const taken = brought;
    brought = [];
    return taken;
  };
  return {
    async store(file) {
      const upload = await uploads.store(callerId, file);
      brought.push(upload);
      return upload;
    },
    async giveTo({ id }, input) {
      const own = takeBrought().map(({ token }) => token);
      const tokens = [...new Set([...own, ...fileTokensIn(input).slice(0, NAMED_MAX)])];
      if (tokens.length === 0) return;
      // The job is there whatever becomes of this: its files then live as long as other uploads, which is long enough for most.
      await uploads
        .bind({ jobId: id, tokens, brought: own })
        .catch((error: unknown) => log.warn({ error, jobId: id }, 'files not bound to their job'));
    },
    async discard() {
      const ids = takeBrought().map((upload) => upload.id);
      // What stays expires.
      await uploads.remove(callerId, ids).catch((error: unknown) => log.warn({ error }, 'files of a refused request not removed'));
    },
  };
}
