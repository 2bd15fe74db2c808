/** Looks into WebP files (RFC 9649), as far as tests want to know: whether one is whole, and how large its picture is. */

/** Pixels. @throws Error for bytes that are not one whole WebP file of the lossy or the extended kind. */
export function sizeOfWebp(bytes: Uint8Array): { readonly width: number; readonly height: number } {
  const file = Buffer.from(bytes);
  const text = (start: number, end: number) => file.toString('latin1', start, end);
  if (text(0, 4) !== 'RIFF' || text(8, 12) !== 'WEBP') throw new Error('These bytes are not a WebP file.');
  if (file.readUInt32LE(4) !== file.length - 8) throw new Error('The WebP file is not whole.');
  if (text(12, 16) === 'VP8 ') return { width: file.readUInt16LE(26) & 0x3fff, height: file.readUInt16LE(28) & 0x3fff };
  if (text(12, 16) === 'VP8X') return { width: file.readUIntLE(24, 3) + 1, height: file.readUIntLE(27, 3) + 1 };
  throw new Error(`A WebP file of the kind ${text(12, 16)} is not expected.`);
}
