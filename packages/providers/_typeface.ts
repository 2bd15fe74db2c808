/**
 * A font as outlines: how wide a character is, and its shape as an SVG path. Text drawn as paths needs no fontconfig, no installed
 * font and no markup escaping, and looks the same on every machine; drawn as SVG text it would fall back to whatever the machine has.
 * Characters are set side by side in writing order: no kerning, no ligatures, no right-to-left shaping (the library cannot shape this font).
 */
import opentype, { type Glyph } from 'opentype.js';

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

/** Decimals of a pixel; finer is not seen. */
const DECIMALS = 2;

/** @throws Error for bytes that are not a font. */
export function parseTypeface(bytes: Uint8Array): Typeface {
  const font = opentype.parse(Uint8Array.from(bytes).buffer);
  // A few hundred entries in practice: one per character that was ever drawn.
  const glyphs = new Map<string, Glyph>();
  const glyphOf = (character: string): Glyph => {
    const glyph = glyphs.get(character) ?? font.charToGlyph(character);
    glyphs.set(character, glyph);
    return glyph;
  };
  const widthOf = (character: string) => (glyphOf(character).advanceWidth ?? 0) / font.unitsPerEm;
  return {
    ascent: font.ascender / font.unitsPerEm,
    descent: -font.descender / font.unitsPerEm,
    measure: (text) => Array.from(text).reduce((width, character) => width + widthOf(character), 0),
    trace(text, x, y, size) {
      let pen = x;
      let path = '';
      for (const character of text) {
        path += glyphOf(character).getPath(pen, y, size).toPathData(DECIMALS);
        pen += widthOf(character) * size;
      }
      return path;
    },
  };
}
