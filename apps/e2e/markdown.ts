/** What the tests of the documentation read out of Markdown: sections, fenced blocks and tables. */

export interface Block {
  /** What stands behind the opening fence, such as `json` or `sh submit`. */
  readonly info: string;
  readonly text: string;
}

/** The text between a heading of the second level and the next one. @throws Error when there is no such heading. */
export function sectionOf(markdown: string, heading: string): string {
  const section = markdown.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`There is no section "${heading}".`);
  return section;
}

export function blocksOf(markdown: string): readonly Block[] {
  return Array.from(markdown.matchAll(/^```(.*)\n([\s\S]*?)\n```$/gm), ([, info = '', text = '']) => ({ info, text }));
}

/** The cells of every table row whose table has this header. */
export function rowsOf(markdown: string, header: readonly string[]): readonly (readonly string[])[] {
  const lines = markdown.split('\n');
  const start = lines.indexOf(`| ${header.join(' | ')} |`);
  if (start < 0) throw new Error(`There is no table with the columns ${header.join(', ')}.`);
  const rest = lines.slice(start + 2);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  return rest.slice(0, end < 0 ? undefined : end).map((line) => line.slice(2, -2).split(' | '));
}

/** The contents of the code spans in a cell. */
export function codeIn(cell: string): readonly string[] {
  return Array.from(cell.matchAll(/`([^`]+)`/g), ([, code = '']) => code);
}
