/** Draws the sandbox's picture: the prompt over a background whose colours come from the seed. Same picture in, same bytes out. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import sharp, { type Sharp } from 'sharp';
import { parseTypeface, type Typeface } from './_typeface.ts';
import { LINE_HEIGHT, typeset } from './_typeset.ts';

export interface Picture {
  readonly text: string;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly seed: number;
  readonly format: 'png' | 'jpeg' | 'webp' | 'avif' | 'gif';
  /** 1 to 100; PNG and GIF ignore it. */
  readonly quality: number;
}

// libvips would keep its last operations and open files in memory for a repetition that hardly comes here.
sharp.cache(false);
// One thread per picture: what a server gains from many comes from drawing several pictures, not from hurrying one.
sharp.concurrency(1);

export async function drawPicture(picture: Picture): Promise<Uint8Array> {
  const drawing = drawSvg(picture, await loadTypeface());
  return encode(sharp(Buffer.from(drawing)).removeAlpha(), picture).toBuffer();
}

function encode(image: Sharp, { format, quality }: Picture): Sharp {
  switch (format) {
    case 'png':
      return image.png();
    case 'jpeg':
      return image.jpeg({ quality });
    case 'webp':
      return image.webp({ quality });
    case 'avif':
      // The least effort: more takes seconds of a core.
      return image.avif({ quality, effort: 0 });
    case 'gif':
      return image.gif({ effort: 1 });
  }
}

let typeface: Promise<Typeface> | undefined;

/** Reads the font once per process; after a failed read the next picture tries again. */
function loadTypeface(): Promise<Typeface> {
  typeface ??= readFile(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf'))
    .then(parseTypeface)
    .catch((error: unknown) => {
      typeface = undefined;
      throw error;
    });
  return typeface;
}

function drawSvg(picture: Picture, typeface: Typeface): string {
  const { width, height } = picture;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">`,
    drawBackground(picture),
    drawPrompt(picture, typeface),
    drawCaption(picture, typeface),
    '</svg>',
  ].join('');
}

/** A gradient and a few translucent discs. Lightness stays low, so that white text reads on any hue. */
function drawBackground({ width, height, seed }: Picture): string {
  const chance = chanceFrom(seed);
  const hue = 360 * chance();
  const otherHue = hue + 40 + 100 * chance();
  const turn = 360 * chance();
  const discs = Array.from({ length: 7 }, () => {
    const [x, y] = [width * chance(), height * chance()];
    const radius = Math.min(width, height) * (0.08 + 0.3 * chance());
    const color = hsl(hue + 180 * chance(), 70, 60);
    return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${radius.toFixed(1)}" fill="${color}" fill-opacity="0.22"/>`;
  });
  return [
    `<defs><linearGradient id="sky" gradientTransform="rotate(${turn.toFixed(1)} 0.5 0.5)">`,
    `<stop offset="0" stop-color="${hsl(hue, 62, 40)}"/><stop offset="1" stop-color="${hsl(otherHue, 62, 26)}"/>`,
    '</linearGradient></defs>',
    `<rect width="${width}" height="${height}" fill="url(#sky)"/>`,
    ...discs,
  ].join('');
}

/** The text, centred, as large as it fits, on a darker panel. */
function drawPrompt({ text, width, height }: Picture, typeface: Typeface): string {
  const shortSide = Math.min(width, height);
  const padding = shortSide * 0.04;
  // Above and below stays room for the caption, above too because the text is centred.
  const box = { width: width - 4 * padding, height: height - 5 * padding };
  const { lines, size } = typeset(typeface, text, box, Math.max(8, Math.round(shortSide / 42)), Math.max(8, Math.round(shortSide / 9)));
  if (lines.length === 0) return '';
  const widths = lines.map((line) => size * typeface.measure(line));
  const blockWidth = Math.max(...widths);
  const blockHeight = size * LINE_HEIGHT * lines.length;
  const top = (height - blockHeight) / 2;
  const firstBaseline = top + (size * (LINE_HEIGHT + typeface.ascent - typeface.descent)) / 2;
  const path = lines.map((line, index) =>
    typeface.trace(line, (width - (widths[index] ?? 0)) / 2, firstBaseline + index * size * LINE_HEIGHT, size),
  );
  const panel = {
    x: (width - blockWidth) / 2 - padding,
    y: top - padding / 2,
    width: blockWidth + 2 * padding,
    height: blockHeight + padding,
  };
  return [
    `<rect x="${panel.x.toFixed(1)}" y="${panel.y.toFixed(1)}" width="${panel.width.toFixed(1)}" height="${panel.height.toFixed(1)}" `,
    `rx="${padding.toFixed(1)}" fill="#000" fill-opacity="0.42"/>`,
    `<path fill="#fff" d="${path.join('')}"/>`,
  ].join('');
}

function drawCaption({ width, height, seed }: Picture, typeface: Typeface): string {
  const caption = `sandbox · ${width}×${height} · seed ${seed}`;
  const margin = Math.min(width, height) * 0.025;
  const size = Math.min(Math.max(7, Math.min(width, height) * 0.024), (width - 2 * margin) / typeface.measure(caption));
  return `<path fill="#fff" fill-opacity="0.85" d="${typeface.trace(caption, margin, height - margin, size)}"/>`;
}

/** Numbers from 0 up to 1 that depend on the seed only; 32 of them, more than a background asks for. */
function chanceFrom(seed: number): () => number {
  const bytes = createHash('sha512').update(`background ${seed}`).digest();
  let offset = 0;
  return () => {
    const number = bytes.readUInt16BE(offset) / 0x10000;
    offset = (offset + 2) % bytes.length;
    return number;
  };
}

function hsl(hue: number, saturation: number, lightness: number): string {
  return `hsl(${(hue % 360).toFixed(1)}, ${saturation}%, ${lightness}%)`;
}
