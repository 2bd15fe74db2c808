/**
 * A server that speaks as much of S3 as the store of files needs, and as strictly as the real ones: requests are signed (SigV4), bodies have
 * the digest that was signed, parts have their least size, and errors are the XML that clients know.
 */
import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { S3Options } from '../assets-s3.ts';
import { listen } from './index.ts';

export interface S3Server extends AsyncDisposable {
  /** What reaches it. */
  readonly options: S3Options;
  /** Keys of what is stored. */
  readonly objects: readonly string[];
  /** Keys of uploads that were begun and neither completed nor aborted. */
  readonly uploads: readonly string[];
  /** Requests so far, as method and path. */
  readonly requests: readonly string[];
  /** Answers the next request that this is true for with 503, or never. */
  failNext(isMeant: (request: string) => boolean, how?: 'SlowDown' | 'silence'): void;
}

const REGION = 'eu-test-1';
const BUCKET = 'files';
const ACCESS_KEY_ID = 'AKIATEST';
const SECRET = 'the secret of a test';
const PART_BYTES_MIN = 5 * 1024 * 1024;
const SKEW_MS_MAX = 15 * 60_000;

/** A file on disk: one object or one part. */
interface Stored {
  readonly path: string;
  readonly bytes: number;
  readonly etag: string;
}

interface Begun {
  readonly key: string;
  readonly parts: Map<number, Stored>;
}

/** Answered as an error of S3. */
class S3Fault extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
    this.code = code;
  }
}

/** On a free port of the loopback address, with one bucket. What it stores is in a temporary folder. */
export async function startS3Server(): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 'claimcheck-s3-'));
  const objects = new Map<string, Stored>();
  const uploads = new Map<string, Begun>();
  const requests: string[] = [];
  let fault: { readonly isMeant: (request: string) => boolean; readonly how: 'SlowDown' | 'silence' } | undefined;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url: target = '' } = request;
    const name = `${method} ${target}`;
    requests.push(name);
    if (fault?.isMeant(name)) {
      const { how } = fault;
      fault = undefined;
      if (how === 'SlowDown') throw new S3Fault(503, how);
      return;
    }
    const url = new URL(target, 'http://s3');
    const digest = verify(request, url);
    const [, bucket, ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const key = rest.join('/');
    if (bucket !== BUCKET) throw new S3Fault(404, 'NoSuchBucket');
    const upload = url.searchParams.get('uploadId');
    if (method === 'PUT') {
      const stored = await receive(request, digest);
      if (upload === null) objects.set(key, stored);
      else begunAs(upload, key).parts.set(Number(url.searchParams.get('partNumber')), stored);
      response.setHeader('etag', stored.etag).end();
    } else if (method === 'POST' && url.searchParams.has('uploads')) {
      const id = randomUUID();
      uploads.set(id, { key, parts: new Map() });
      response.end(xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`));
    } else if (method === 'POST' && upload !== null) {
      const { path } = await receive(request, digest);
      objects.set(key, await whole(begunAs(upload, key), await readFile(path, 'utf8')));
      uploads.delete(upload);
      response.end(xml(`<CompleteMultipartUploadResult><Key>${key}</Key></CompleteMultipartUploadResult>`));
    } else if (method === 'DELETE') {
      if (upload === null) objects.delete(key);
      else if (!uploads.delete(upload)) throw new S3Fault(404, 'NoSuchUpload');
      response.writeHead(204).end();
    } else if (method === 'GET' && url.searchParams.has('uploads')) {
      const prefix = url.searchParams.get('prefix') ?? '';
      const found = [...uploads].filter(([, begun]) => begun.key.startsWith(prefix));
      const listed = found.map(([id, begun]) => `<Upload><Key>${begun.key}</Key><UploadId>${id}</UploadId></Upload>`);
      response.end(xml(`<ListMultipartUploadsResult>${listed.join('')}</ListMultipartUploadsResult>`));
    } else if (method === 'GET') {
      await send(objects.get(key), request.headers.range, response);
    } else throw new S3Fault(501, 'NotImplemented');
  }

  function begunAs(id: string, key: string): Begun {
    const begun = uploads.get(id);
    if (begun?.key !== key) throw new S3Fault(404, 'NoSuchUpload');
    return begun;
  }

  /** Stores a body that is what its signature says. */
  async function receive(request: IncomingMessage, digest: string): Promise<Stored> {
    const path = join(folder, randomUUID());
    const [sha256, md5] = [createHash('sha256'), createHash('md5')];
    if (request.headers['content-encoding'] !== undefined) throw new S3Fault(501, 'NotImplemented');
    await pipeline(
      request,
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          sha256.update(chunk);
          md5.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(path),
    );
    if (digest !== 'UNSIGNED-PAYLOAD' && sha256.digest('hex') !== digest) throw new S3Fault(400, 'XAmzContentSHA256Mismatch');
    return { path, bytes: (await stat(path)).size, etag: `"${md5.digest('hex')}"` };
  }

  /** The parts that were named, in rising order, each as large as it must be. */
  async function whole({ parts }: Begun, named: string): Promise<Stored> {
    const list = Array.from(named.matchAll(/<Part>(.*?)<\/Part>/gs), ([, part = '']) => ({
      number: Number(/<PartNumber>(\d+)<\/PartNumber>/.exec(part)?.[1]),
      etag: /<ETag>(.*?)<\/ETag>/.exec(part)?.[1]?.replaceAll('&quot;', '"'),
    }));
    const path = join(folder, randomUUID());
    let bytes = 0;
    for (const [index, { number, etag }] of list.entries()) {
      const part = parts.get(number);
      if (!part || part.etag !== etag) throw new S3Fault(400, 'InvalidPart');
      if (number <= (list[index - 1]?.number ?? 0)) throw new S3Fault(400, 'InvalidPartOrder');
      if (index < list.length - 1 && part.bytes < PART_BYTES_MIN) throw new S3Fault(400, 'EntityTooSmall');
      await pipeline(createReadStream(part.path), createWriteStream(path, { flags: 'a' }));
      await rm(part.path);
      bytes += part.bytes;
    }
    if (list.length === 0) throw new S3Fault(400, 'MalformedXML');
    return { path, bytes, etag: `"joined-${list.length}"` };
  }

  const server = await listen((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const { status, code } = error instanceof S3Fault ? error : new S3Fault(500, 'InternalError');
      // The rest of the body is not read, so the connection cannot go on.
      response.writeHead(status, { connection: 'close', 'content-type': 'application/xml' });
      response.end(xml(`<Error><Code>${code}</Code><Message>${error instanceof S3Fault ? code : String(error)}</Message></Error>`));
    });
  });
  return {
    options: {
      bucket: BUCKET,
      region: REGION,
      endpoint: server.url,
      accessKeyId: ACCESS_KEY_ID,
      secretAccessKey: SECRET,
      isPathStyle: true,
    },
    get objects() {
      return [...objects.keys()];
    },
    get uploads() {
      return Array.from(uploads.values(), ({ key }) => key);
    },
    requests,
    failNext(isMeant, how = 'SlowDown') {
      fault = { isMeant, how };
    },
    async [Symbol.asyncDispose]() {
      await server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Verifies the signature of a request (AWS, "Authenticating requests: using the Authorization header"). Returns the digest it signs. */
function verify({ method = '', headers }: IncomingMessage, url: URL): string {
  const header =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/;
  const [, keyId, day = '', region, signedNames = '', signature = ''] = header.exec(headers.authorization ?? '') ?? [];
  if (keyId === undefined) throw new S3Fault(403, 'AccessDenied');
  if (keyId !== ACCESS_KEY_ID) throw new S3Fault(403, 'InvalidAccessKeyId');
  if (region !== REGION) throw new S3Fault(400, 'AuthorizationHeaderMalformed');
  const instant = String(headers['x-amz-date']);
  const at = Date.parse(instant.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (!(Math.abs(Date.now() - at) < SKEW_MS_MAX)) throw new S3Fault(403, 'RequestTimeTooSkewed');
  const names = signedNames.split(';');
  const mustBeSigned = Object.keys(headers).filter((name) => name === 'host' || name.startsWith('x-amz-'));
  if (mustBeSigned.some((name) => !names.includes(name))) throw new S3Fault(403, 'AccessDenied');
  const digest = String(headers['x-amz-content-sha256']);
  const query = Array.from(url.searchParams, ([name, value]) => `${encode(name)}=${encode(value)}`).sort();
  const canonical = [
    method,
    url.pathname,
    query.join('&'),
    ...names.map(
      (name) =>
        `${name}:${String(headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}`,
    ),
    '',
    signedNames,
    digest,
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', instant, `${day}/${region}/s3/aws4_request`, createHash('sha256').update(canonical).digest('hex')];
  const key = [day, region, 's3', 'aws4_request'].reduce<string | Buffer>((secret, part) => hmac(secret, part), `AWS4${SECRET}`);
  if (!timingSafeEqual(hmac(key, toSign.join('\n')), Buffer.from(signature, 'hex'))) throw new S3Fault(403, 'SignatureDoesNotMatch');
  return digest;
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

async function send(stored: Stored | undefined, range: string | undefined, response: ServerResponse): Promise<void> {
  if (!stored) throw new S3Fault(404, 'NoSuchKey');
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
  const start = Number(first ?? 0);
  const end = Math.min(Number(last ?? Number.POSITIVE_INFINITY), stored.bytes - 1);
  if (first !== undefined && start >= stored.bytes) throw new S3Fault(416, 'InvalidRange');
  response.writeHead(first === undefined ? 200 : 206, { 'content-length': end - start + 1, etag: stored.etag });
  if (stored.bytes === 0) response.end();
  // A client that goes away in the middle is no fault.
  else await pipeline(createReadStream(stored.path, { start, end }), response).catch(() => {});
}

function xml(content: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>${content}`;
}
