/**
 * A still as a video, without an encoder for videos: a lossy WebP holds a key frame of VP8, and WebM takes such frames as they are.
 * The frame comes once a second, so that a player which starts in the middle has something to show.
 */

export interface Film {
  /** A lossy WebP without animation. */
  readonly webp: Uint8Array;
  /** Its pixels. */
  readonly width: number;
  readonly height: number;
  readonly seconds: number;
}

export function filmStill({ webp, width, height, seconds }: Film): Uint8Array {
  const frame = keyFrameOf(webp);
  const header = element(0x1a45dfa3, element(0x4282, Buffer.from('webm')), element(0x4287, uint(2)), element(0x4285, uint(2)));
  const info = element(
    0x1549a966,
    element(0x2ad7b1, uint(1_000_000)), // Times below are in milliseconds.
    element(0x4489, float(seconds * 1000)),
    element(0x4d80, Buffer.from('sandbox')),
    element(0x5741, Buffer.from('sandbox')),
  );
  const track = element(
    0xae,
    element(0xd7, uint(1)), // its number
    element(0x73c5, uint(1)), // its unique number
    element(0x83, uint(1)), // video
    element(0x9c, uint(0)), // no lacing
    element(0x86, Buffer.from('V_VP8')),
    element(0xe0, element(0xb0, uint(width)), element(0xba, uint(height))),
  );
  const clusters = Array.from({ length: Math.ceil(seconds) }, (_, second) =>
    element(
      0x1f43b675,
      element(0xe7, uint(second * 1000)),
      // Of track 1, at the time of the cluster, a key frame.
      element(0xa3, Buffer.from([0x81, 0, 0, 0x80]), frame),
    ),
  );
  return Buffer.concat([header, element(0x18538067, info, element(0x1654ae6b, track), ...clusters)]);
}

function keyFrameOf(webp: Uint8Array): Uint8Array {
  const bytes = Buffer.from(webp.buffer, webp.byteOffset, webp.byteLength);
  if (bytes.toString('latin1', 8, 16) !== 'WEBPVP8 ') throw new TypeError('Only a lossy WebP without animation can be filmed.');
  return bytes.subarray(20, 20 + bytes.readUInt32LE(16));
}

/** An element of EBML. Its length always takes four bytes. */
function element(id: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(0x10000000 + parts.reduce((sum, part) => sum + part.length, 0));
  return Buffer.concat([Buffer.from(id.toString(16), 'hex'), length, ...parts]);
}

function uint(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function float(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}
