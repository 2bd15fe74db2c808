/** A downloader that may reach this machine's loopback address, and leaves nothing open behind. */
import { type Clock, systemClock } from '@claimcheck/core';
import { parseAllowList } from '../allow-list.ts';
import { type Download, type Downloader, type DownloadRequest, openDownloader } from '../download.ts';
import { openGuard, type Resolve } from '../guard.ts';

export interface TestDownloader extends AsyncDisposable {
  /** Downloads within two seconds and 1,000,000 bytes unless the test says otherwise. */
  download(url: string, request?: Partial<DownloadRequest>): Promise<Download>;
  /** Downloads to the end: the whole body. */
  read(url: string, request?: Partial<DownloadRequest>): Promise<Buffer>;
  readonly close: Downloader['close'];
}

export interface TestDownloaderOptions {
  /** Entries of the allow list; 127.0.0.1 unless told. */
  readonly allowed?: string;
  /** Every name leads to 127.0.0.1 unless told. */
  readonly resolve?: Resolve;
  readonly ca?: string;
  readonly clock?: Clock;
}

export function openTestDownloader({
  allowed = '127.0.0.1',
  resolve = async () => ['127.0.0.1'],
  ...options
}: TestDownloaderOptions = {}): TestDownloader {
  const guard = openGuard({ allow: parseAllowList(allowed).allow, resolve });
  const downloader = openDownloader({ guard, clock: systemClock, ...options });
  const download: TestDownloader['download'] = (url, request) =>
    downloader.download({ url, totalMs: 2_000, idleMs: 2_000, bytesMax: 1_000_000, signal: new AbortController().signal, ...request });
  return {
    download,
    read: async (url, request) => wholeOf((await download(url, request)).body),
    close: downloader.close,
    [Symbol.asyncDispose]: downloader.close,
  };
}

export async function wholeOf(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}
