/** A catalog of one model: without the built-in ones, which take long to load. */
import { join } from 'node:path';
import type { Catalog, Model } from '@claimcheck/core';
import { catalogOf } from '../catalog.ts';
import { CatalogError } from '../catalog-error.ts';
import { readModelFile } from '../model-file.ts';
import { modelFolder } from './model-folder.ts';

/** @throws CatalogError when something is wrong with the text of the file, which is called `x.yaml`. */
export async function catalogOfText(text: string): Promise<{ readonly catalog: Catalog; readonly model: Model }> {
  await using folder = await modelFolder({ 'x.yaml': text });
  const result = await readModelFile(join(folder.path, 'x.yaml'), undefined);
  if (result.kind === 'broken') throw new CatalogError(result.problems);
  return { catalog: catalogOf([result.modelFile]), model: result.modelFile.model };
}
