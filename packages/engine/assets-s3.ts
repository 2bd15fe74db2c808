/**
 * Bytes of produced files in an S3-compatible bucket, by the client of AWS. It is loaded when there is a bucket only, as it takes a tenth of a
 * second and 35 MB. Files of more than one part are uploaded part by part here, rather than by the library's own helper, so that a signal ends
 * every request, one part is in memory at a time, and the first error is the one that is told.
 */
import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { StartError } from '@claimcheck/core';
import type { AssetPlace } from './assets.ts';

export interface S3Options {
  readonly bucket: string;
  readonly region: string;
  /** Of another service than AWS. */
  readonly endpoint?: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** True for `endpoint/bucket/key`, false for `bucket.endpoint/key`. */
  readonly isPathStyle: boolean;
}

export interface S3Place extends AssetPlace {
  /** Resolves when the bucket answers as it should. @throws StartError that says which variable to look at. */
  check(): Promise<void>;
}

/** Apart from whatever else may be in the bucket. */
const PREFIX = 'claimcheck/';
/** 10,000 parts are allowed, none but the last below 5 MiB: room for 78 GiB. */
const PART_BYTES = 8 * 1024 * 1024;
/** Requests at once when many files are removed. */
const REMOVALS = 16;
const CONNECT_MS = 5_000;
/** Silence on a connection. */
const SILENCE_MS = 30_000;

export function openS3Place(options: S3Options): S3Place {
  const { bucket } = options;
  let opening: ReturnType<typeof open> | undefined;
  const opened = () => {
    opening ??= open(options);
    return opening;
  };
  const at = (token: string) => ({ Bucket: bucket, Key: `${PREFIX}${token}` });

  async function writeParts(token: string, first: Uint8Array, parts: AsyncIterator<Uint8Array>, signal?: AbortSignal): Promise<void> {
    const { client, s3 } = await opened();
    const abort = { ...(signal && { abortSignal: signal }) };
    const { UploadId } = await client.send(new s3.CreateMultipartUploadCommand(at(token)), abort);
    const upload = { ...at(token), UploadId };
    try {
      const done: { PartNumber: number; ETag: string | undefined }[] = [];
      for (let part: Uint8Array | undefined = first; part; part = await nextOf(parts)) {
        const PartNumber = done.length + 1;
        const { ETag } = await client.send(new s3.UploadPartCommand({ ...upload, PartNumber, Body: part }), abort);
        done.push({ PartNumber, ETag });
      }
      await client.send(new s3.CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts: done } }), abort);
    } catch (error) {
      // If that fails too, the purge finds it.
      await client.send(new s3.AbortMultipartUploadCommand(upload)).catch(() => {});
      throw error;
    }
  }

  return {
    async write(token, chunks, signal) {
      const parts = partsOf(chunks)[Symbol.asyncIterator]();
      try {
        const first = (await nextOf(parts)) ?? new Uint8Array();
        if (first.byteLength >= PART_BYTES) return await writeParts(token, first, parts, signal);
        const { client, s3 } = await opened();
        const put = new s3.PutObjectCommand({ ...at(token), Body: first, ContentLength: first.byteLength });
        await client.send(put, { ...(signal && { abortSignal: signal }) });
      } finally {
        // Whoever gives the chunks learns that no more are taken.
        await parts.return?.();
      }
    },
    async *read(token, range) {
      const { client, s3 } = await opened();
      const stop = new AbortController();
      const Range = range && `bytes=${range.start}-${range.end}`;
      try {
        const get = new s3.GetObjectCommand({ ...at(token), ...(Range && { Range }) });
        const { Body } = await client.send(get, { abortSignal: stop.signal });
        // Whatever its type says of other runtimes, in Node the body is a stream of Node.
        yield* Body as AsyncIterable<Uint8Array>;
      } finally {
        stop.abort();
      }
    },
    async remove(tokens) {
      const { client, s3 } = await opened();
      // One by one, because not every compatible service can remove several at once.
      const left = tokens.values();
      const removeNext = async () => {
        for (const token of left) await client.send(new s3.DeleteObjectCommand(at(token)));
      };
      await Promise.all(Array.from({ length: Math.min(REMOVALS, tokens.length) }, removeNext));
    },
    async removeBegun(tokens) {
      const { client, s3 } = await opened();
      for (const token of tokens) {
        const { Key, Bucket } = at(token);
        const { Uploads = [] } = await client.send(new s3.ListMultipartUploadsCommand({ Bucket, Prefix: Key }));
        for (const { UploadId } of Uploads) await client.send(new s3.AbortMultipartUploadCommand({ Key, Bucket, UploadId }));
      }
    },
    async check() {
      const { client, s3 } = await opened();
      try {
        await client.send(new s3.GetObjectCommand(at('no-such-file')));
      } catch (error) {
        const fault = faultOf(error, options);
        if (fault !== undefined) throw new StartError(fault, { cause: error });
      }
    },
    close() {
      void opening?.then(({ client }) => client.destroy());
    },
  };
}

async function open(options: S3Options) {
  const s3 = await import('@aws-sdk/client-s3');
  return { s3, client: new s3.S3Client(clientConfig(options)) };
}

function clientConfig({ region, endpoint, accessKeyId, secretAccessKey, isPathStyle }: S3Options): S3ClientConfig {
  return {
    region,
    ...(endpoint !== undefined && { endpoint }),
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: isPathStyle,
    // Compatible services do not all know the newer checksums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS },
  };
}

/** What a bucket's answer to a question for a file that it cannot have says against it; undefined when nothing. */
function faultOf(error: unknown, { bucket, endpoint, region }: S3Options): string | undefined {
  const code = error instanceof Error ? error.name : '';
  const place = endpoint ?? `AWS in ${region}`;
  // Without the right to list, AWS tells nobody what is not there.
  if (code === 'NoSuchKey' || code === 'AccessDenied') return undefined;
  if (code === 'NoSuchBucket') return `S3_BUCKET: there is no bucket "${bucket}" at ${place}.`;
  if (code === 'InvalidAccessKeyId') return `S3_ACCESS_KEY_ID is not known at ${place}.`;
  if (code === 'SignatureDoesNotMatch') return `S3_SECRET_ACCESS_KEY does not belong to S3_ACCESS_KEY_ID at ${place}.`;
  const reason = error instanceof Error ? error.message || code : String(error);
  return `The bucket "${bucket}" cannot be used at ${place}; look at S3_ENDPOINT, S3_REGION and S3_FORCE_PATH_STYLE: ${reason}`;
}

async function nextOf(parts: AsyncIterator<Uint8Array>): Promise<Uint8Array | undefined> {
  const { done, value } = await parts.next();
  return done ? undefined : value;
}

/** The chunks, joined and cut to parts of one size, as some services insist on; only the last may be smaller. */
async function* partsOf(chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let kept: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    kept.push(chunk);
    bytes += chunk.byteLength;
    if (bytes < PART_BYTES) continue;
    const joined = Buffer.concat(kept);
    let cut = 0;
    for (; bytes - cut >= PART_BYTES; cut += PART_BYTES) yield joined.subarray(cut, cut + PART_BYTES);
    kept = [joined.subarray(cut)];
    bytes -= cut;
  }
  if (bytes > 0) yield Buffer.concat(kept);
}
