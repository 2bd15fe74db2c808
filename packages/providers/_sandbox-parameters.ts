/**
 * What a sandbox run shall draw, read from parameters in any vendor's vocabulary. Lenient on purpose: the catalog has checked them against
 * the model already, and a value that means nothing here gets the default instead of an error.
 */
import { createHash } from 'node:crypto';
import { isJsonObject, type JsonObject, type JsonValue } from '@claimcheck/core';
import type { Picture } from './_sandbox-picture.ts';

const SIDE_MIN = 64;
const SIDE_MAX = 2048;
const SIDE_DEFAULT = 1024;
const QUALITY_DEFAULT = 100;
/** The most that any vendor makes in one run. */
const COUNT_MAX = 10;
const SECONDS_MIN = 1;
const SECONDS_MAX = 60;
const SECONDS_DEFAULT = 5;

type Size = Pick<Picture, 'width' | 'height'>;

const NAMED_SIZES: ReadonlyMap<unknown, Size> = new Map([
  ['square_hd', { width: 1024, height: 1024 }],
  ['square', { width: 512, height: 512 }],
  ['portrait_4_3', { width: 768, height: 1024 }],
  ['portrait_16_9', { width: 576, height: 1024 }],
  ['landscape_4_3', { width: 1024, height: 768 }],
  ['landscape_16_9', { width: 1024, height: 576 }],
]);

const FORMATS: ReadonlyMap<string, Picture['format']> = new Map([
  ['png', 'png'],
  ['jpg', 'jpeg'],
  ['jpeg', 'jpeg'],
  ['webp', 'webp'],
  ['avif', 'avif'],
  ['gif', 'gif'],
]);

/** The prompt; of a conversation, what was said last. */
export function readPrompt({ prompt, messages }: JsonObject): string {
  if (typeof prompt === 'string') return prompt;
  const last = Array.isArray(messages) ? messages.at(-1) : undefined;
  const content = isJsonObject(last) ? last.content : undefined;
  if (typeof content === 'string') return content;
  const parts = Array.isArray(content) ? content : [];
  return parts.flatMap((part) => (isJsonObject(part) && typeof part.text === 'string' ? [part.text] : [])).join('\n');
}

/** How many pictures, videos or sounds. */
export function readCount({ num_images: images, num_outputs: outputs, n }: JsonObject): number {
  return clamp(readNumber(images) ?? readNumber(outputs) ?? readNumber(n) ?? 1, 1, COUNT_MAX);
}

/** How long a video or a sound shall be. */
export function readSeconds({ duration, seconds }: JsonObject): number {
  return Math.min(SECONDS_MAX, Math.max(SECONDS_MIN, readNumber(duration) ?? readNumber(seconds) ?? SECONDS_DEFAULT));
}

/** Everything of a picture but its text and its seed. */
export function readPicture(parameters: JsonObject): Omit<Picture, 'text' | 'seed'> {
  const size = readSize(parameters);
  return {
    width: clamp(size.width, SIDE_MIN, SIDE_MAX),
    height: clamp(size.height, SIDE_MIN, SIDE_MAX),
    format: FORMATS.get(String(parameters.output_format).toLowerCase()) ?? 'webp',
    quality: clamp(readQuality(parameters), 1, 100),
  };
}

function readSize(parameters: JsonObject): Size {
  const { resolution, size, image_size: imageSize, aspect_ratio: ratio } = parameters;
  return (
    parseSize(resolution) ??
    parseSize(size) ??
    parseRatio(size) ??
    sidesOf(parameters) ??
    (isJsonObject(imageSize) ? sidesOf(imageSize) : (NAMED_SIZES.get(imageSize) ?? parseSize(imageSize))) ??
    parseRatio(ratio) ?? { width: SIDE_DEFAULT, height: SIDE_DEFAULT }
  );
}

/** OpenAI says `output_compression` and means the same: 100 is the best. */
function readQuality({ output_quality: quality, output_compression: compression }: JsonObject): number {
  return readNumber(quality) ?? readNumber(compression) ?? QUALITY_DEFAULT;
}

/** "1024x768", "1024*768", "1024 × 768 (Landscape)". */
function parseSize(value: JsonValue | undefined): Size | undefined {
  const match = typeof value === 'string' ? /(\d{1,6})\s*[x×*]\s*(\d{1,6})/iu.exec(value) : null;
  return match ? { width: Number(match[1]), height: Number(match[2]) } : undefined;
}

/** "16:9": about a megapixel, in steps of 16 as real models have it. */
function parseRatio(value: JsonValue | undefined): Size | undefined {
  const match = typeof value === 'string' ? /^(\d{1,3}):(\d{1,3})$/u.exec(value) : null;
  const ratio = Number(match?.[1]) / Number(match?.[2]);
  if (!(ratio > 0 && Number.isFinite(ratio))) return undefined;
  const side = (length: number) => 16 * Math.round(length / 16);
  return { width: side(SIDE_DEFAULT * Math.sqrt(ratio)), height: side(SIDE_DEFAULT / Math.sqrt(ratio)) };
}

function sidesOf({ width, height }: JsonObject): Size | undefined {
  const sides = { width: readNumber(width), height: readNumber(height) };
  if (sides.width === undefined && sides.height === undefined) return undefined;
  return { width: sides.width ?? SIDE_DEFAULT, height: sides.height ?? SIDE_DEFAULT };
}

/**
 * Where real models pick a seed by chance, the sandbox derives it from the parameters: in a test, the same request giving the same
 * bytes is worth more than variety. Keys are sorted, because their order means nothing.
 */
export function readSeed(parameters: JsonObject): number {
  const seed = readNumber(parameters.seed);
  if (seed !== undefined && seed !== -1 && Number.isInteger(seed)) return seed;
  const members = Object.entries(parameters)
    .filter(([key]) => key !== 'seed')
    .sort(([a], [b]) => (a < b ? -1 : 1));
  // 31 bits: every vendor's clients take such a seed back.
  return createHash('sha256').update(JSON.stringify(members)).digest().readUInt32BE() >>> 1;
}

function readNumber(value: JsonValue | undefined): number | undefined {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, Math.round(value)));
}
