/** Performs the operations on models: which there are, and where they would run. */
import { AppError, type Catalog, type ModelListing } from '@claimcheck/core';
import type { Router } from '@claimcheck/engine';

interface Models {
  readonly catalog: Catalog;
  readonly router: Router;
}

export function listModels({ catalog, router }: Models): readonly ModelListing[] {
  return catalog.list().map((model) => ({ model, routes: router.list(model) }));
}

/** As `provider/name` with the route there alone. @throws AppError `unknown_model` that names the nearest. */
export function readModel({ catalog, router }: Models, name: string): ModelListing {
  const model = catalog.find(name);
  if (model) return { model, routes: router.list(model) };
  const [provider = '', ...rest] = name.split('/');
  const bare = catalog.find(rest.join('/'));
  const routes = bare ? router.list(bare).filter(({ route }) => route.provider === provider) : [];
  if (!bare || routes.length === 0) throw unknownModel(catalog, name);
  return { model: bare, routes };
}

/** Names some models in a sentence; all of them would be a page. */
const NAMED_MAX = 10;

/** `pointer`: where the name stands in a body. */
export function unknownModel(catalog: Catalog, name: string, pointer?: string): AppError {
  const nearest = catalog.nearest(name);
  const known = catalog.list().map((model) => model.name);
  const named = known.slice(0, NAMED_MAX).join(', ');
  const hint =
    nearest.length > 0
      ? `Did you mean ${nearest.join(', ')}?`
      : `Known models: ${named}${known.length > NAMED_MAX ? ` and ${known.length - NAMED_MAX} more` : ''}; GET /v1/models lists them.`;
  const problems = pointer === undefined ? [] : [{ pointer, message: `names no model. ${hint}` }];
  return new AppError('unknown_model', `There is no model ${JSON.stringify(name)}. ${hint}`, { problems });
}
