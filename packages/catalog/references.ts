/** Names of parameters that a model file mentions outside of its schema: each must be one that the model declares. */
import { expressionFault, expressionReads, isJsonObject, type JsonObject, type JsonValue } from '@claimcheck/core';
import { type FileProblem, suggestion } from './file-problem.ts';

/**
 * Looks at what has the right shape and leaves the rest to the file's schema, so that one look at a file tells all that is wrong with it.
 * `names` are the declared parameters.
 */
export function referenceProblems(file: JsonObject, names: ReadonlySet<string>): FileProblem[] {
  const mentions = [...Object.values(outputFormatOf(file)), ...listOf(file.routes).flatMap((route, index) => mentionsOf(route, index))];
  return mentions.flatMap(({ path, name, isRead }): FileProblem[] => {
    if (names.has(name)) return [];
    const what = `${isRead ? 'reads ' : ''}${JSON.stringify(name)}${isRead ? ', which' : ''}`;
    return [{ path, reason: `${what} is not a parameter of this model${suggestion(name, names)}` }];
  });
}

interface Mention {
  readonly path: readonly PropertyKey[];
  readonly name: string;
  /** True in an expression. */
  readonly isRead: boolean;
}

function outputFormatOf(file: JsonObject): Mention[] {
  const members = isJsonObject(file.output_format) ? Object.entries(file.output_format) : [];
  return members.flatMap(([key, name]) => (typeof name === 'string' ? [{ path: ['output_format', key], name, isRead: false }] : []));
}

function mentionsOf(route: JsonValue, index: number): Mention[] {
  if (!isJsonObject(route)) return [];
  const path = ['routes', index];
  const dropped = listOf(route.drops).flatMap((name, at) =>
    typeof name === 'string' ? [{ path: [...path, 'drops', at], name, isRead: false }] : [],
  );
  const members = isJsonObject(route.parameters) ? Object.entries(route.parameters) : [];
  const mapped = members.flatMap(([member, text]) => readsOf(text, [...path, 'parameters', member]));
  const estimated = isJsonObject(route.price) ? readsOf(route.price.estimate, [...path, 'price', 'estimate']) : [];
  return [...dropped, ...mapped, ...estimated];
}

function readsOf(text: JsonValue | undefined, path: readonly PropertyKey[]): Mention[] {
  if (typeof text !== 'string' || expressionFault(text) !== undefined) return [];
  return expressionReads(text).names.map((name) => ({ path, name, isRead: true }));
}

function listOf(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? value : [];
}
