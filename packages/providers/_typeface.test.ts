import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { parseTypeface } from './_typeface.ts';

const bytes = await readFile(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf'));
const typeface = parseTypeface(bytes);
const contoursOf = (text: string) => typeface.trace(text, 0, 0, 100).split('M').length - 1;

/** The extent of everything drawn, control points included. */
function boundsOf(text: string, size = 100) {
  const numbers = Array.from(typeface.trace(text, 0, 0, size).matchAll(/-?\d+(?:\.\d+)?/g), ([number]) => Number(number));
  const xs = numbers.filter((_, index) => index % 2 === 0);
  const ys = numbers.filter((_, index) => index % 2 === 1);
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

test('widths are the advances of the font, in ems', () => {
  // 1401 and 651 of 2048 units, as the font's own metrics say.
  expect(typeface.measure('A')).toBeCloseTo(1401 / 2048, 6);
  expect(typeface.measure(' ')).toBeCloseTo(651 / 2048, 6);
  expect(typeface.measure('A A')).toBeCloseTo((2 * 1401 + 651) / 2048, 6);
});

test('a letter stands on the baseline, and a descender hangs below it', () => {
  expect(boundsOf('H').bottom).toBe(0);
  expect(boundsOf('H').top).toBeCloseTo(-72.9, 1);
  expect(boundsOf('g').bottom).toBeGreaterThan(15);
  expect(boundsOf('g').bottom / 100).toBeLessThan(typeface.descent + 0.01);
  expect(boundsOf('Å').top / -100).toBeLessThan(typeface.ascent + 0.01);
});

test('holes are contours of their own', () => {
  expect([contoursOf('l'), contoursOf('i'), contoursOf('O'), contoursOf('B'), contoursOf(' ')]).toEqual([1, 2, 2, 3, 0]);
});

test('an accented letter has its accent above the letter', () => {
  expect(contoursOf('é')).toBe(contoursOf('e') + 1);
  expect(boundsOf('é').bottom).toBe(boundsOf('e').bottom);
  expect(boundsOf('é').top).toBeLessThan(boundsOf('e').top - 10);
});

test('characters of all alphabets, symbols and emoji can be drawn', () => {
  for (let codePoint = 0x20; codePoint < 0x20000; codePoint += 13) {
    if (codePoint >= 0xd800 && codePoint <= 0xdfff) continue;
    const path = typeface.trace(String.fromCodePoint(codePoint), 0, 0, 10);
    if (path.includes('NaN')) expect.unreachable(`U+${codePoint.toString(16)} has a point without a place`);
  }
});

test('characters beyond the basic plane are found, and an unknown one is a box', () => {
  const box = typeface.trace('\u{10fffd}', 0, 0, 100);
  expect(box).not.toBe('');
  expect(typeface.trace('🦊', 0, 0, 100)).toBe(box);
  expect(typeface.trace('😀', 0, 0, 100)).not.toBe(box);
  expect(contoursOf('😀')).toBeGreaterThan(3);
});

test('characters follow one another by their widths, at the size asked for', () => {
  expect(boundsOf('HH').right).toBeCloseTo(boundsOf('H').right + 100 * typeface.measure('H'), 1);
  expect(boundsOf('H', 50).right).toBeCloseTo(boundsOf('H').right / 2, 1);
});

test('bytes that are no font are refused', () => {
  expect(() => parseTypeface(new Uint8Array(4))).toThrow();
  expect(() => parseTypeface(new Uint8Array(400))).toThrow('Unsupported OpenType signature');
});
