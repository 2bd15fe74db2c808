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
]);

export function readPrompt(parameters: JsonObject): string {
  return typeof parameters.prompt === 'string' ? parameters.prompt : '';
}

/** Everything of the picture but its text. */
export function readPicture(parameters: JsonObject): Omit<Picture, 'text'> {
  const size = readSize(parameters);
  return {
    width: clamp(size.width, SIDE_MIN, SIDE_MAX),
    height: clamp(size.height, SIDE_MIN, SIDE_MAX),
    seed: readSeed(parameters),
    format: FORMATS.get(String(parameters.output_format).toLowerCase()) ?? 'webp',
    quality: clamp(readNumber(parameters.output_quality) ?? QUALITY_DEFAULT, 1, 100),
  };
}

function readSize(parameters: JsonObject): Size {
  const { resolution, size, image_size: imageSize, aspect_ratio: ratio } = parameters;
  return (
    parseSize(resolution) ??
    parseSize(size) ??
    sidesOf(parameters) ??
    (isJsonObject(imageSize) ? sidesOf(imageSize) : (NAMED_SIZES.get(imageSize) ?? parseSize(imageSize))) ??
    parseRatio(ratio) ?? { width: SIDE_DEFAULT, height: SIDE_DEFAULT }
  );
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
function readSeed(parameters: JsonObject): number {
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
