/** Fixtures: folders of model files that remove themselves, and a model file that is right unless a test says otherwise. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ModelFolder extends AsyncDisposable {
  readonly path: string;
}

/** A folder with these files; a content of `undefined` makes a folder of that name. */
export async function modelFolder(files: Readonly<Record<string, string | Uint8Array | undefined>>): Promise<ModelFolder> {
  const path = await mkdtemp(join(tmpdir(), 'models-'));
  for (const [name, content] of Object.entries(files)) {
    await (content === undefined ? mkdir(join(path, name)) : writeFile(join(path, name), content));
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

export interface ModelText {
  readonly name?: string;
  /** Further lines at the top level, after line 2. */
  readonly extra?: string;
  /** The value of `parameters`, in one line: JSON is YAML. It stands in line 1, after `parameters: `. */
  readonly parameters?: unknown;
  /** The value of `routes`, in one line as well: the last but one. */
  readonly routes?: unknown;
}

/** The text of a valid model file: `parameters` in line 1, `name` in line 2, then `extra`. */
export function modelText({ name = 'acme', extra = '', parameters = { type: 'object' }, routes }: ModelText = {}): string {
  return `parameters: ${JSON.stringify(parameters)}
name: ${name}
${extra}${extra === '' ? '' : '\n'}title: Acme
produces: image
routes: ${routes === undefined ? '[{ provider: sandbox, model: acme }]' : JSON.stringify(routes)}
retry: { attempts: 3, first_delay_ms: 100, factor: 2, delay_ms_max: 1000 }
`;
}
