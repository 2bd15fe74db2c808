/** What routes of a model file ask of their providers: that they exist, and that they understand the `options` given. */
import { isJsonObject, type JsonObject, type JsonValue, type Provider } from '@claimcheck/core';
import { describeIssue, type FileProblem, problemsOfIssues, suggestion } from './file-problem.ts';

/** What the catalog needs to know of a provider. */
export type KnownProvider = Pick<Provider, 'name' | 'routeOptions'>;

export interface CheckedOptions {
  readonly problems: readonly FileProblem[];
  /** By the number of the route: its options as the provider reads them, undefined where it has none. */
  readonly options: readonly (JsonObject | undefined)[];
}

/** Looks at what has the right shape, as the file's schema tells about the rest. Without `providers`, options are taken as they are. */
export function checkRouteOptions(routes: JsonValue | undefined, providers: readonly KnownProvider[] | undefined): CheckedOptions {
  const checked = (Array.isArray(routes) ? routes : []).map((route, index) => checkRoute(route, ['routes', index], providers));
  return { problems: checked.flatMap(({ problems }) => problems), options: checked.map(({ options }) => options) };
}

interface CheckedRoute {
  readonly problems: readonly FileProblem[];
  readonly options?: JsonObject;
}

function checkRoute(route: JsonValue, path: readonly PropertyKey[], providers: readonly KnownProvider[] | undefined): CheckedRoute {
  if (!isJsonObject(route) || typeof route.provider !== 'string') return { problems: [] };
  const { provider: name, options = {} } = route;
  if (!isJsonObject(options)) return { problems: [] };
  if (!providers) return { problems: [], ...(route.options !== undefined && { options }) };
  const provider = providers.find((known) => known.name === name);
  if (!provider) {
    const hint = suggestion(
      name,
      providers.map((known) => known.name),
    );
    return { problems: [{ path: [...path, 'provider'], reason: `${JSON.stringify(name)} is not a provider${hint}` }] };
  }
  const at = [...path, 'options'];
  if (!provider.routeOptions) {
    return { problems: route.options === undefined ? [] : [{ path: at, reason: `are not for routes of ${name}, which has none` }] };
  }
  const parsed = provider.routeOptions.safeParse(options, { error: describeIssue });
  if (!parsed.success) return { problems: problemsOfIssues(parsed.error.issues, at, `is not an option of ${name}`) };
  // Through text, because a schema may make members of `undefined`, which JSON has not.
  const read: JsonValue = JSON.parse(JSON.stringify(parsed.data));
  return { problems: [], ...(isJsonObject(read) && Object.keys(read).length > 0 && { options: read }) };
}
