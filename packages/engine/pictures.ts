/**
 * Looks at pictures and converts them, by sharp, from file to file. Hostile pictures are expected: only kinds that are meant to be pictures
 * reach the library, and none whose pixels would not fit into memory. The library is loaded when it is first needed.
 */
import type { Sharp } from 'sharp';

export interface PictureSize {
  /** Pixels, as the picture is to be shown. */
  readonly width: number;
  readonly height: number;
}

export interface Conversion {
  readonly from: string;
  /** A path where nothing is yet. */
  readonly to: string;
  readonly contentType: string;
  /** 1 to 100; the library's own unless given. Of no meaning for PNG. */
  readonly quality?: number | undefined;
}

/** What pictures may have in all, frames included: 400 MB at four bytes each. Twice what the largest upscalers make. */
export const PIXELS_MAX = 100_000_000;
/** A picture that takes longer to convert is given up. */
const CONVERSION_SECONDS = 120;
const WHITE = '#ffffff';

/** Formats that a client may choose, with the type and the extension of their files. */
const FORMATS: Readonly<Record<string, { readonly contentType: string; readonly extension: string }>> = {
  png: { contentType: 'image/png', extension: 'png' },
  jpg: { contentType: 'image/jpeg', extension: 'jpg' },
  jpeg: { contentType: 'image/jpeg', extension: 'jpg' },
  webp: { contentType: 'image/webp', extension: 'webp' },
  avif: { contentType: 'image/avif', extension: 'avif' },
};

/** Kinds that can be looked at and converted. Drawings are not among them: what they refer to would have to be fetched. */
const READABLE: ReadonlySet<string> = new Set(['image/png', 'image/jpeg', 'image/webp', 'image/avif', 'image/gif', 'image/tiff']);

const ENCODERS: Readonly<Record<string, (picture: Sharp, quality: number | undefined) => Sharp>> = {
  'image/png': (picture) => picture.png(),
  // It has no transparency; what was transparent would become black.
  'image/jpeg': (picture, quality) => picture.flatten({ background: WHITE }).jpeg(optional({ quality })),
  'image/webp': (picture, quality) => picture.webp(optional({ quality })),
  'image/avif': (picture, quality) => picture.avif(optional({ quality })),
};

/** What a client's choice of a format asks for; undefined for none, and for what is no format of pictures. */
export function pictureFormat(format: string | undefined): { readonly contentType: string; readonly extension: string } | undefined {
  return format === undefined ? undefined : FORMATS[format.toLowerCase()];
}

export function isReadablePicture(contentType: string): boolean {
  return READABLE.has(contentType);
}

/** The size of a picture, out of its head. Undefined when it cannot be told, or when it has more pixels than {@link PIXELS_MAX}. */
export async function measurePicture(path: string): Promise<PictureSize | undefined> {
  try {
    const { autoOrient } = await (await open(path)).metadata();
    return { width: autoOrient.width, height: autoOrient.height };
  } catch {
    return undefined;
  }
}

/**
 * Turned upright, in sRGB, without what cameras and programs write beside the picture. Moving pictures go on moving as WebP; of others the
 * first frame is left. @throws what the library says of a picture that is broken, too large or takes too long.
 */
export async function convertPicture({ from, to, contentType, quality }: Conversion): Promise<PictureSize> {
  const encode = ENCODERS[contentType];
  if (!encode) throw new Error(`pictures cannot be converted to ${contentType}`);
  const picture = (await open(from, contentType === 'image/webp')).autoOrient().timeout({ seconds: CONVERSION_SECONDS });
  const { width, height, pageHeight } = await encode(picture, quality).toFile(to);
  return { width, height: pageHeight ?? height };
}

async function open(path: string, animated = false): Promise<Sharp> {
  const { default: sharp } = await import('sharp');
  // No picture is read twice, so what the library keeps would only hold memory, and files that are long removed.
  sharp.cache(false);
  return sharp(path, { limitInputPixels: PIXELS_MAX, sequentialRead: true, animated });
}

function optional(options: { readonly quality: number | undefined }): { quality?: number } {
  return options.quality === undefined ? {} : { quality: Math.min(100, Math.max(1, Math.round(options.quality))) };
}
