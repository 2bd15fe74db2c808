/** Results that the expressions of a route have read out of an answer, in the normal form. */
import {
  isJsonObject,
  type JsonValue,
  type Media,
  type Output,
  RetryableError,
  type Run,
  TerminalError,
  type Usage,
} from '@claimcheck/core';
import type { CallAnswer } from './_call.ts';
import { factsOf, secondsIn, timingsIn, tokensIn, usdIn } from './_facts.ts';
import { linkedMedia, mimeType, storeBytes, storeInline } from './_media.ts';

export interface HttpResult {
  /** True when the bytes of the answer are the result. */
  readonly isFile: boolean;
  readonly files: JsonValue | undefined;
  readonly text: JsonValue | undefined;
  readonly json: JsonValue | undefined;
  readonly seed: JsonValue | undefined;
  readonly timings: JsonValue | undefined;
  readonly usage: JsonValue | undefined;
}

const FILES_MAX = 100;

/** @throws TerminalError when there is nothing, or a file that is none; RetryableError for a page in the place of a file. */
export async function readHttpOutput(run: Run, answer: CallAnswer, result: HttpResult): Promise<Output> {
  const { isFile, files, text, json, seed } = result;
  const given: readonly JsonValue[] = Array.isArray(files) ? files : files === undefined || files === null ? [] : [files];
  if (given.length > FILES_MAX) throw new TerminalError(`The provider answered with more than ${FILES_MAX} files.`);
  const media: Media[] = [];
  if (isFile) media.push(await storeAnswer(run, answer));
  // One after the other: a list of files would else be decoded all at once.
  for (const file of given) media.push(await readFile(run, file));
  const flags = given.map((file) => (isJsonObject(file) && typeof file.nsfw === 'boolean' ? file.nsfw : undefined));
  const words = typeof text === 'string' ? text : undefined;
  if (media.length === 0 && words === undefined && json === undefined) {
    throw new TerminalError('The provider finished the run without a result.');
  }
  return {
    media,
    ...(words !== undefined && { text: words }),
    ...(json !== undefined && { json }),
    ...(typeof seed === 'number' && { seed }),
    ...(flags.some((flag) => flag !== undefined) && { nsfw: flags.map((flag) => flag ?? false) }),
    ...factsOf(timingsIn(result.timings), usageOf(result.usage)),
  };
}

function usageOf(told: JsonValue | undefined): Usage {
  const usage = isJsonObject(told) ? told : {};
  return { ...tokensIn(usage), ...secondsIn(usage.seconds), ...usdIn(usage.usd) };
}

async function readFile(run: Run, file: JsonValue): Promise<Media> {
  const { url, data, content_type: contentType, file_name: fileName, ...size } = isJsonObject(file) ? file : { url: file };
  const link = linkedMedia(url, { contentType, fileName, bytes: size.bytes, width: size.width, height: size.height });
  if (link) return link;
  const inline = [data, url].find((text) => typeof text === 'string');
  const stored = typeof inline === 'string' ? await storeInline(run, inline) : undefined;
  if (!stored) throw new TerminalError('The provider answered with an output that is no file.');
  const [width, height] = [size.width, size.height];
  return { ...stored, ...(typeof width === 'number' && typeof height === 'number' && { width, height }) };
}

/** A page or a JSON document in the place of a file is a proxy's, or an error. */
async function storeAnswer(run: Run, { bytes, header, startsRun }: CallAnswer): Promise<Media> {
  const told = mimeType(header('content-type'));
  if (bytes.length === 0 || told === 'text/html' || told === 'application/json') {
    throw new RetryableError('The provider answered with something that is no file.', { mayHaveStarted: startsRun });
  }
  return storeBytes(run, bytes, told);
}
