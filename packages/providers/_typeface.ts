/**
 * A TrueType font as outlines: how wide a character is, and its shape as an SVG path. Text drawn as paths needs no fontconfig, no installed
 * font and no markup escaping, and looks the same on every machine; drawn as SVG text it would fall back to whatever the machine has.
 * Characters are set side by side in writing order: no kerning, no ligatures, no right-to-left shaping.
 */

export interface Typeface {
  /** All measures are in ems: fractions of the font size. */
  readonly ascent: number;
  /** Below the baseline, positive. */
  readonly descent: number;
  /** The width of a line of text. */
  measure(text: string): number;
  /** SVG path data of a line of text whose baseline starts at (x, y), in pixels. */
  trace(text: string, x: number, y: number, size: number): string;
}

interface Point {
  readonly x: number;
  readonly y: number;
  readonly onCurve: boolean;
}
type Contour = readonly Point[];

interface Glyph {
  readonly advance: number;
  readonly contours: readonly Contour[];
}

/** Glyphs made of glyphs nest no deeper in any real font; the bound keeps a damaged file from recursing for ever. */
const COMPOSITE_DEPTH_MAX = 8;

/** @throws RangeError or Error for bytes that are not a TrueType font of the kind that is bundled. */
export function parseTypeface(bytes: Uint8Array): Typeface {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const table = readTableDirectory(view);
  const head = table('head');
  const hhea = table('hhea');
  const unitsPerEm = view.getUint16(head + 18);
  const glyphIndexOf = readCharacterMap(view, table('cmap'));
  if (view.getInt16(head + 50) !== 1) throw new Error('The font has short glyph offsets, which are not read.');
  const readGlyph = glyphReader(view, table('loca'), table('glyf'));
  const advances = { offset: table('hmtx'), count: view.getUint16(hhea + 34) };
  // A few hundred entries in practice: one per character that was ever drawn.
  const glyphs = new Map<number, Glyph>();

  function glyphOf(character: string): Glyph {
    const index = glyphIndexOf(character.codePointAt(0) ?? 0);
    const known = glyphs.get(index);
    if (known) return known;
    const advance = view.getUint16(advances.offset + 4 * Math.min(index, advances.count - 1)) / unitsPerEm;
    const glyph = { advance, contours: readGlyph(index, 0) };
    glyphs.set(index, glyph);
    return glyph;
  }

  return {
    ascent: view.getInt16(hhea + 4) / unitsPerEm,
    descent: -view.getInt16(hhea + 6) / unitsPerEm,
    measure(text) {
      let width = 0;
      for (const character of text) width += glyphOf(character).advance;
      return width;
    },
    trace(text, x, y, size) {
      const scale = size / unitsPerEm;
      let pen = x;
      let path = '';
      for (const character of text) {
        const { advance, contours } = glyphOf(character);
        for (const contour of contours) {
          path += contourPath(contour.map((point) => ({ x: pen + point.x * scale, y: y - point.y * scale, onCurve: point.onCurve })));
        }
        pen += advance * size;
      }
      return path;
    },
  };
}

function readTableDirectory(view: DataView): (tag: string) => number {
  const offsets = new Map<string, number>();
  for (let entry = 12; entry < 12 + 16 * view.getUint16(4); entry += 16) {
    const tag = String.fromCharCode(...[0, 1, 2, 3].map((byte) => view.getUint8(entry + byte)));
    offsets.set(tag, view.getUint32(entry + 8));
  }
  return (tag) => {
    const offset = offsets.get(tag);
    if (offset === undefined) throw new Error(`The font has no "${tag}" table.`);
    return offset;
  };
}

/** From code point to glyph; 0 is the box that stands for a character the font lacks. */
function readCharacterMap(view: DataView, cmap: number): (codePoint: number) => number {
  for (let record = cmap + 4; record < cmap + 4 + 8 * view.getUint16(cmap + 2); record += 8) {
    const subtable = cmap + view.getUint32(record + 4);
    // The one format that reaches all of Unicode; the bundled font has it, so the older ones are not read.
    if (view.getUint16(subtable) === 12) return (codePoint) => findInGroups(view, subtable, codePoint);
  }
  throw new Error('The font has no character map for all of Unicode.');
}

function findInGroups(view: DataView, subtable: number, codePoint: number): number {
  const count = view.getUint32(subtable + 12);
  const group = firstIndex(count, (index) => view.getUint32(subtable + 16 + 12 * index + 4) >= codePoint);
  if (group === count) return 0;
  const offset = subtable + 16 + 12 * group;
  const start = view.getUint32(offset);
  return codePoint < start ? 0 : view.getUint32(offset + 8) + codePoint - start;
}

/** The first index below `count` for which `holds`, in a sequence that turns true once; `count` when it never does. */
function firstIndex(count: number, holds: (index: number) => boolean): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function glyphReader(view: DataView, loca: number, glyf: number): (index: number, depth: number) => readonly Contour[] {
  const offsetOf = (index: number) => view.getUint32(loca + 4 * index);

  function readComposite(at: number, depth: number): readonly Contour[] {
    const contours: Contour[] = [];
    let flags: number;
    do {
      flags = view.getUint16(at);
      // The bundled font only ever moves its parts by a distance: they are not scaled (0x00c8), nor aligned at a point (0x0002 missing).
      if (flags & 0x00c8 || !(flags & 0x0002)) throw new Error('The font scales or aligns parts of a glyph, which is not read.');
      const index = view.getUint16(at + 2);
      const wide = (flags & 0x0001) !== 0;
      const dx = wide ? view.getInt16(at + 4) : view.getInt8(at + 4);
      const dy = wide ? view.getInt16(at + 6) : view.getInt8(at + 5);
      at += wide ? 8 : 6;
      for (const part of readGlyph(index, depth + 1)) {
        contours.push(part.map(({ x, y, onCurve }) => ({ x: x + dx, y: y + dy, onCurve })));
      }
    } while (flags & 0x0020);
    return contours;
  }

  function readGlyph(index: number, depth: number): readonly Contour[] {
    const start = offsetOf(index);
    // Equal offsets mean a glyph without ink, such as the space.
    if (offsetOf(index + 1) === start || depth > COMPOSITE_DEPTH_MAX) return [];
    const at = glyf + start;
    const contourCount = view.getInt16(at);
    return contourCount < 0 ? readComposite(at + 10, depth) : readSimple(view, at + 10, contourCount);
  }

  return readGlyph;
}

function readSimple(view: DataView, at: number, contourCount: number): readonly Contour[] {
  const ends = Array.from({ length: contourCount }, (_, index) => view.getUint16(at + 2 * index));
  const pointCount = (ends.at(-1) ?? -1) + 1;
  at += 2 * contourCount;
  at += 2 + view.getUint16(at);
  const flags: number[] = [];
  while (flags.length < pointCount) {
    const flag = view.getUint8(at++);
    const repeats = flag & 0x08 ? view.getUint8(at++) : 0;
    for (let copy = 0; copy <= repeats; copy++) flags.push(flag);
  }
  // All x come before all y, each as the distance from the point before: one byte with a sign bit, two bytes, or nothing for "the same".
  const readAxis = (shortBit: number, sameOrPositiveBit: number) => {
    let position = 0;
    return flags.map((flag) => {
      if (flag & shortBit) position += flag & sameOrPositiveBit ? view.getUint8(at++) : -view.getUint8(at++);
      else if (!(flag & sameOrPositiveBit)) {
        position += view.getInt16(at);
        at += 2;
      }
      return position;
    });
  };
  const xs = readAxis(0x02, 0x10);
  const ys = readAxis(0x04, 0x20);
  const points = flags.map((flag, index) => ({ x: xs[index] ?? 0, y: ys[index] ?? 0, onCurve: (flag & 0x01) !== 0 }));
  return ends.map((end, index) => points.slice(index === 0 ? 0 : (ends[index - 1] ?? 0) + 1, end + 1));
}

/** Between two control points in a row lies an implied point on the curve, half way; that is all TrueType leaves out. */
function contourPath(points: Contour): string {
  const [first] = points;
  const last = points.at(-1);
  if (!first || !last) return '';
  const start = first.onCurve ? first : last.onCurve ? last : middleOf(first, last);
  let path = `M${write(start)}`;
  let control: Point | undefined;
  for (const point of [...(first.onCurve ? points.slice(1) : points), start]) {
    if (point.onCurve) {
      path += control ? `Q${write(control)} ${write(point)}` : `L${write(point)}`;
      control = undefined;
    } else {
      if (control) path += `Q${write(control)} ${write(middleOf(control, point))}`;
      control = point;
    }
  }
  return `${path}Z`;
}

function middleOf(a: Point, b: Point): Point {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, onCurve: true };
}

function write({ x, y }: Point): string {
  return `${x.toFixed(2)} ${y.toFixed(2)}`;
}
