/** The catalog: which models there are, what parameters they take, and who can run them. The folder `models/` is the registry. */
export { loadCatalog } from './catalog.ts';
export { CatalogError } from './catalog-error.ts';
export { type ChooseOptions, chooseProvider } from './choose-provider.ts';
