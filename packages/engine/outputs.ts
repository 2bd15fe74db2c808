/**
 * The normal form of what a run has produced: files that upstreams keep for a while only become ours, are what they are said to be, and have
 * the format that the client chose.
 *
 * A run has been paid for when its files are fetched. So what goes wrong costs the client as little as it can:
 *
 * | the upstream's link | what becomes of the job |
 * | --- | --- |
 * | leads to nothing any more, or to something else than a file of its kind | the attempt fails in a way that is tried again |
 * | leads where nothing may be fetched from | the job fails; the log names the variable that would open the address |
 * | cannot be reached, leads to too much, or its file cannot be stored | the result has the link itself; the log warns |
 *
 * A picture that cannot be converted stays as it came.
 */
import { createReadStream } from 'node:fs';
import { type Clock, type Log, type Media, type Output, RetryableError, TerminalError } from '@claimcheck/core';
import type { AssetStore } from './assets.ts';
import { type FetchFailure, makeFetchMedia, WrongContentError } from './fetch-media.ts';
import { judgeType, type MediaType, namedAs } from './media-type.ts';
import { type Download, type Guard, openDownloader } from './outbound/index.ts';
import { peekInto } from './peek.ts';
import { convertPicture, isReadablePicture, measurePicture, pictureFormat } from './pictures.ts';
import { openSpool, writeChunks } from './spool.ts';
import { makeTurns } from './turns.ts';

export interface OutputSettings {
  /** `copy`: files become ours. `link`: clients get the upstream's links. */
  readonly store: 'copy' | 'link';
  /** Largest file that is copied, in bytes. */
  readonly bytesMax: number;
}

export interface KeepRequest {
  readonly jobId: string;
  readonly output: Output;
  /** What pictures are to be: `png`, `jpg`, `jpeg`, `webp` or `avif`. Anything else, and pictures that are it already, changes nothing. */
  readonly format?: string | undefined;
  /** 1 to 100, of a picture that is converted; as the encoder sees fit unless given. */
  readonly quality?: number | undefined;
  readonly signal: AbortSignal;
}

export interface Outputs {
  /**
   * The output in its normal form, media in the same order. Called again for the same output, it makes new files; all go with the job.
   * @throws RetryableError, TerminalError as above; the signal's reason when that aborts. Then nothing is left of what it stored.
   */
  keep(request: KeepRequest): Promise<Output>;
  /** Breaks connections to upstreams. */
  close(): Promise<void>;
}

export interface OutputsDeps {
  readonly assets: AssetStore;
  /** Where media may be fetched from. */
  readonly guard: Guard;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
  /** Of files that are worked on. */
  readonly spoolFolder: string;
  readonly settings: OutputSettings;
}

/** Media of one output at once. */
const AT_ONCE = 4;
/** Pictures in one process: each takes a core and, at worst, much memory. */
const CONVERSIONS = 2;

type Format = NonNullable<ReturnType<typeof pictureFormat>>;

/** What all media of one output have in common. */
interface Keeping {
  readonly jobId: string;
  readonly format: Format | undefined;
  readonly quality: number | undefined;
  readonly signal: AbortSignal;
  /** Tokens of what was stored so far. */
  readonly stored: string[];
}

/** A file on this machine, and what is known of it. */
interface LocalFile extends MediaType {
  readonly path: string;
  readonly fileName: string;
}

export function makeOutputs({ assets, guard, clock, random, log, spoolFolder, settings }: OutputsDeps): Outputs {
  const downloader = openDownloader({ guard, clock });
  const fetchMedia = makeFetchMedia({ downloader, clock, random, bytesMax: settings.bytesMax });
  const spool = openSpool({ folder: spoolFolder, clock });
  const conversions = makeTurns(CONVERSIONS);

  async function keepMedium(medium: Media, keeping: Keeping): Promise<Media> {
    const { location } = medium;
    if ('asset' in location) return finishAsset(medium, location.asset, keeping);
    if (!/^https?:\/\//i.test(location.url)) throw blocked();
    if (settings.store === 'link' && !mayDiffer(medium.contentType, keeping.format)) return medium;
    const fetched = await fetchMedia(location.url, (download) => copy(medium, download, keeping), keeping.signal);
    if (fetched.kind === 'fetched') return fetched.result;
    const { kind, tries, error } = fetched;
    const fields = { jobId: keeping.jobId, host: URL.parse(location.url)?.host, reason: kind, tries, error };
    const thrown = FAILURES[kind]?.(error);
    if (!thrown) {
      log.warn(fields, 'medium not copied, the result has the link of the upstream');
      return medium;
    }
    if (kind === 'blocked')
      log.error(fields, 'an upstream keeps media at an address that may not be called: UPSTREAM_ALLOW_NETWORKS opens it');
    else log.warn(fields, 'medium not copied, the attempt has failed');
    throw thrown;
  }

  /** Makes a file of ours out of what is downloaded. @throws WrongContentError when it is not what was told. */
  async function copy(medium: Media, { headers, body }: Download, keeping: Keeping): Promise<Media> {
    await using peek = await peekInto(body);
    const type = await judgeType(peek.head, [medium.contentType, headers['content-type']]);
    if (!type) throw new WrongContentError(`${medium.contentType} was told`);
    const file = { ...medium, ...typed(medium, type) };
    if (isReadablePicture(type.contentType)) {
      return await spool.withFile(async (path) => {
        await writeChunks(path, peek.chunks);
        return storePicture({ ...file, path }, keeping);
      });
    }
    const { contentType, fileName } = file;
    return await noted(
      assets.storeStream(keeping.jobId, { contentType, fileName, ...sizeOf(file), chunks: peek.chunks }, keeping.signal),
      keeping,
    );
  }

  /** Brings a file that an adapter has stored into its normal form. Where that is not possible, it stays as it is. */
  async function finishAsset(medium: Media, token: string, keeping: Keeping): Promise<Media> {
    const { contentType } = medium;
    const isMeasured = medium.width !== undefined && medium.height !== undefined;
    if (!isReadablePicture(contentType) || (isMeasured && !mayDiffer(contentType, keeping.format))) return medium;
    try {
      await using peek = await peekInto(assets.read(token));
      const type = await judgeType(peek.head, [contentType]);
      if (!type) throw wrong(new WrongContentError(`${contentType} was told`));
      if (!isReadablePicture(type.contentType)) return medium;
      return await spool.withFile(async (path) => {
        await writeChunks(path, peek.chunks);
        const isRight = type.contentType === contentType && !mayDiffer(contentType, keeping.format);
        if (isRight) return { ...medium, ...(await measurePicture(path)) };
        return storePicture({ ...medium, ...typed(medium, type), path }, keeping);
      });
    } catch (error) {
      keeping.signal.throwIfAborted();
      if (error instanceof RetryableError) throw error;
      log.warn({ error, jobId: keeping.jobId }, 'stored file not looked at');
      return medium;
    }
  }

  /** Stores a picture in the format that the client chose, or as it is. */
  async function storePicture(file: LocalFile, keeping: Keeping): Promise<Media> {
    const { format, quality } = keeping;
    if (format && format.contentType !== file.contentType) {
      const converted = await conversions.take(() => convertedPicture(file, format, quality, keeping), keeping.signal);
      if (converted) return converted;
    }
    return storeFile({ ...file, ...(await measurePicture(file.path)) }, keeping);
  }

  /** Undefined for a picture that cannot be converted: the client has paid for what there is. */
  function convertedPicture(file: LocalFile, format: Format, quality: number | undefined, keeping: Keeping): Promise<Media | undefined> {
    return spool.withFile(async (path) => {
      const { contentType, extension } = format;
      const size = await convertPicture({ from: file.path, to: path, contentType, quality }).catch((error: unknown) => {
        log.warn({ error, jobId: keeping.jobId, from: file.contentType, to: contentType }, 'picture not converted');
        return undefined;
      });
      return size && storeFile({ path, contentType, fileName: namedAs(file.fileName, extension), ...size }, keeping);
    });
  }

  function storeFile({ path, contentType, fileName, ...size }: LocalFile & Partial<Size>, keeping: Keeping): Promise<Media> {
    const file = { contentType, fileName, ...sizeOf(size), chunks: createReadStream(path) };
    return noted(assets.storeStream(keeping.jobId, file, keeping.signal), keeping);
  }

  return {
    async keep({ jobId, output, format, quality, signal }) {
      if (output.media.length === 0) return output;
      const failed = new AbortController();
      const all = AbortSignal.any([signal, failed.signal]);
      const keeping: Keeping = { jobId, format: pictureFormat(format), quality, signal: all, stored: [] };
      const turns = makeTurns(AT_ONCE);
      const kept = await Promise.allSettled(
        output.media.map((medium) =>
          turns
            .take(() => keepMedium(medium, keeping), all)
            .catch((error: unknown) => {
              // Without one medium there is no result, so the others need not go on.
              failed.abort(error);
              throw error;
            }),
        ),
      );
      if (!all.aborted) return { ...output, media: kept.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : [])) };
      await assets.remove(keeping.stored).catch((error: unknown) => log.warn({ error, jobId }, 'files of a failed attempt not removed'));
      signal.throwIfAborted();
      throw failed.signal.reason;
    },
    close: downloader.close,
  };
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** What is thrown for a medium that was not fetched; where nothing is, the result keeps the link. */
const FAILURES: Readonly<Record<FetchFailure, ((cause: unknown) => Error) | undefined>> = {
  gone: (cause) => new RetryableError("The provider's file is no longer there.", { cause }),
  wrong,
  blocked,
  too_large: undefined,
  unreachable: undefined,
  unstored: undefined,
};

function wrong(cause: unknown): Error {
  return new RetryableError('The provider sent something else than the file that it had promised.', { cause });
}

function blocked(cause?: unknown): Error {
  return new TerminalError("The provider's file is at an address that this service may not call.", { cause });
}

/** Whether a picture has to be looked at for the sake of the format. */
function mayDiffer(contentType: string, format: Format | undefined): boolean {
  if (!format || contentType === format.contentType || contentType === 'image/svg+xml') return false;
  return contentType.startsWith('image/') || contentType === 'application/octet-stream';
}

/** Type and name of a file whose type is known. */
function typed({ contentType, fileName }: Media, type: MediaType): MediaType & { readonly fileName: string } {
  const isNamed = type.contentType === contentType || type.extension === undefined;
  return { ...type, fileName: isNamed ? fileName : namedAs(fileName, type.extension) };
}

function sizeOf({ width, height }: { readonly width?: number | undefined; readonly height?: number | undefined }): Partial<Size> {
  return width !== undefined && height !== undefined ? { width, height } : {};
}

async function noted(storing: Promise<Media>, { stored }: Keeping): Promise<Media> {
  const media = await storing;
  if ('asset' in media.location) stored.push(media.location.asset);
  return media;
}
