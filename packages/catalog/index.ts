/** The catalog: which models there are, what parameters they take, and who can run them. The folder `models/` is the registry. */
export {
  type CatalogOptions,
  type CheckedModelFile,
  type CheckedModelFiles,
  checkModelFiles,
  loadCatalog,
} from './catalog.ts';
export { CatalogError, type CatalogProblem, describeProblem } from './catalog-error.ts';
export type { KnownProvider } from './route-options.ts';
