/** Sets a text into a box: breaks it into lines at the largest font size that fits, and cuts it with an ellipsis when none does. */
import type { Typeface } from './_typeface.ts';

export interface Box {
  readonly width: number;
  readonly height: number;
}

export interface TypesetText {
  /** Font size in pixels. */
  readonly size: number;
  readonly lines: readonly string[];
}

/** Distance between two baselines, in ems. */
export const LINE_HEIGHT = 1.25;

const ELLIPSIS = '…';
/** Far more than a picture shows at the smallest size; keeps a prompt of megabytes from being measured to its end. */
const CHARACTERS_MAX = 4000;

/** Sizes are whole pixels between the bounds. Empty text gives no lines. */
export function typeset(typeface: Typeface, text: string, box: Box, sizeMin: number, sizeMax: number): TypesetText {
  const paragraphs = readParagraphs(text);
  if (paragraphs.length === 0) return { size: sizeMin, lines: [] };
  const setAt = (size: number) => wrap(typeface, paragraphs, box.width / size);
  const linesMax = (size: number) => Math.max(1, Math.floor(box.height / (size * LINE_HEIGHT)));

  for (let size = sizeMax; size > sizeMin; size = Math.min(size - 1, Math.floor(size * 0.94))) {
    const { lines, brokeWord } = setAt(size);
    // Smaller and whole reads better than larger and broken.
    if (!brokeWord && lines.length <= linesMax(size)) return { size, lines };
  }
  const { lines } = setAt(sizeMin);
  return { size: sizeMin, lines: cut(typeface, lines, linesMax(sizeMin), box.width / sizeMin) };
}

/** The words of each line the author wrote, without what cannot be drawn: controls, joiners, variation selectors. */
function readParagraphs(text: string): readonly (readonly string[])[] {
  // A character is at most two UTF-16 units, so this slice holds all that are kept.
  const characters = Array.from(text.slice(0, 2 * CHARACTERS_MAX + 2).toWellFormed());
  const kept = characters.length > CHARACTERS_MAX ? `${characters.slice(0, CHARACTERS_MAX).join('')}${ELLIPSIS}` : characters.join('');
  const drawable = kept
    .normalize('NFC')
    .replace(/\r\n?|\u2028|\u2029/g, '\n')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    .replace(/[^\P{Cc}\n]/gu, ' ')
    .trim();
  if (drawable === '') return [];
  return drawable.split('\n').map((line) => line.split(/\s+/u).filter((word) => word !== ''));
}

/** Fills lines of `width` ems greedily; a word that is wider than a line by itself is broken. */
function wrap(typeface: Typeface, paragraphs: readonly (readonly string[])[], width: number) {
  const space = typeface.measure(' ');
  const lines: string[] = [];
  let brokeWord = false;
  for (const words of paragraphs) {
    let line = '';
    let lineWidth = 0;
    for (const word of words) {
      const pieces = breakWord(typeface, word, width);
      brokeWord ||= pieces.length > 1;
      for (const piece of pieces) {
        const pieceWidth = typeface.measure(piece);
        if (line !== '' && lineWidth + space + pieceWidth <= width) {
          line += ` ${piece}`;
          lineWidth += space + pieceWidth;
        } else {
          if (line !== '') lines.push(line);
          line = piece;
          lineWidth = pieceWidth;
        }
      }
    }
    lines.push(line);
  }
  return { lines, brokeWord };
}

function breakWord(typeface: Typeface, word: string, width: number): readonly string[] {
  if (typeface.measure(word) <= width) return [word];
  const pieces: string[] = [];
  let piece = '';
  let pieceWidth = 0;
  for (const character of word) {
    const characterWidth = typeface.measure(character);
    if (piece !== '' && pieceWidth + characterWidth > width) {
      pieces.push(piece);
      piece = '';
      pieceWidth = 0;
    }
    piece += character;
    pieceWidth += characterWidth;
  }
  return [...pieces, piece];
}

function cut(typeface: Typeface, lines: readonly string[], linesMax: number, width: number): readonly string[] {
  if (lines.length <= linesMax) return lines;
  const last = Array.from(lines[linesMax - 1] ?? '');
  while (last.length > 0 && typeface.measure(`${last.join('')}${ELLIPSIS}`) > width) last.pop();
  return [...lines.slice(0, linesMax - 1), `${last.join('').trimEnd()}${ELLIPSIS}`];
}
