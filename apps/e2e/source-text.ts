/**
 * Splits TypeScript into what is code and what is text: strings, templates and comments. A full parser is not needed to see imports and
 * calls, but words in a sentence must not count as either.
 */

export interface SourceText {
  /** The code. Comments are gone, and each string or template is replaced by `'n'`, where n is its index in `texts`. */
  readonly code: string;
  readonly texts: readonly Text[];
}

export interface Text {
  readonly isTemplate: boolean;
  /** As written. In a template, each expression is replaced by a question mark. */
  readonly text: string;
}

/** What may stand before a slash that begins a regular expression; after anything else it divides. */
const BEFORE_REGEX = /(^|[(,=:[!&|?{};+~^%*<>-]|=>|\b(return|typeof|case|of|in|await|yield|new|throw))\s*$/;

export function readSource(source: string): SourceText {
  const texts: Text[] = [];
  const { code } = readCode(source, 0, texts, false);
  return { code, texts };
}

interface Read {
  readonly code: string;
  /** Where reading stopped. */
  readonly end: number;
}

/** Reads until the end, or until the brace that closes a template's expression. */
function readCode(source: string, start: number, texts: Text[], isExpression: boolean): Read {
  let code = '';
  let at = start;
  for (let depth = 0; at < source.length; ) {
    const two = source.slice(at, at + 2);
    const one = two.charAt(0);
    if (two === '//') at = after(source, '\n', at) - 1;
    else if (two === '/*') at = after(source, '*/', at);
    else if (one === "'" || one === '"') {
      const end = closing(source, at);
      code += `'${texts.push({ isTemplate: false, text: source.slice(at + 1, end) }) - 1}'`;
      at = end + 1;
    } else if (one === '`') {
      const template = readTemplate(source, at, texts);
      code += template.code;
      at = template.end;
    } else if (one === '/' && BEFORE_REGEX.test(code)) {
      at = regexEnd(source, at);
      code += '/ /';
    } else {
      if (one === '{') depth++;
      if (one === '}' && depth-- === 0 && isExpression) return { code, end: at };
      code += one;
      at++;
    }
  }
  return { code, end: at };
}

/** Reads a template; the code of its expressions follows it in parentheses. */
function readTemplate(source: string, start: number, texts: Text[]): Read {
  let text = '';
  let code = '';
  let at = start + 1;
  while (at < source.length && source[at] !== '`') {
    if (source[at] === '\\') {
      text += source.slice(at, at + 2);
      at += 2;
    } else if (source.startsWith('${', at)) {
      const expression = readCode(source, at + 2, texts, true);
      code += `(${expression.code})`;
      text += '?';
      at = expression.end + 1;
    } else text += source[at++];
  }
  return { code: `'${texts.push({ isTemplate: true, text }) - 1}'${code}`, end: at + 1 };
}

function after(source: string, mark: string, from: number): number {
  const found = source.indexOf(mark, from + 1);
  return found < 0 ? source.length + 1 : found + mark.length;
}

function closing(source: string, start: number): number {
  let at = start + 1;
  while (at < source.length && source[at] !== source[start]) at += source[at] === '\\' ? 2 : 1;
  return at;
}

function regexEnd(source: string, start: number): number {
  let isClass = false;
  let at = start + 1;
  for (; at < source.length && (isClass || source[at] !== '/'); at++) {
    if (source[at] === '\\') at++;
    else if (source[at] === '[') isClass = true;
    else if (source[at] === ']') isClass = false;
  }
  return at + 1;
}
