/**
 * YAML text as a JSON value that remembers where each part stands, so that whatever is found wrong with it later can name a line.
 * Only what JSON can hold is accepted: a model's parameters are a JSON Schema and its defaults are sent to upstreams as JSON.
 */
import type { JsonValue } from '@claimcheck/core';
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';

/** Both count from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface YamlProblem {
  readonly place: Place;
  readonly reason: string;
}

export type YamlText =
  | { readonly kind: 'broken'; readonly problems: readonly YamlProblem[] }
  | {
      readonly kind: 'ready';
      readonly value: JsonValue;
      /** Where the value at `path` stands; for a value that is absent, where its closest ancestor stands. */
      place(path: readonly PropertyKey[]): Place;
    };

export function readYaml(text: string): YamlText {
  const lineCounter = new LineCounter();
  // Known tags (!!set, !!binary) make values that JSON has not; left unresolved, each is a warning with its place.
  const document = parseDocument(text, { lineCounter, prettyErrors: false, stringKeys: true, resolveKnownTags: false });
  const placeAt = (offset: number): Place => {
    const { line, col } = lineCounter.linePos(offset);
    return line === 0 ? { line: 1, column: 1 } : { line, column: col };
  };
  const problems = [
    ...[...document.errors, ...document.warnings].map((error) => ({ place: placeAt(error.pos[0]), reason: `YAML: ${error.message}` })),
    ...valuesJsonLacks(document, placeAt),
  ];
  if (problems.length > 0) return { kind: 'broken', problems };
  return { kind: 'ready', value: document.toJS(), place: (path) => placeAt(offsetOf(document, path)) };
}

function valuesJsonLacks(document: Document.Parsed, placeAt: (offset: number) => Place): YamlProblem[] {
  const problems: YamlProblem[] = [];
  const refuse = (node: Node, reason: string) => problems.push({ place: placeAt(node.range?.[0] ?? 0), reason });
  visit(document, {
    // An alias may point to its own ancestor, or multiply a small file into a huge value. "$defs" and "$ref" do what is needed.
    Alias: (_key, node) => void refuse(node, 'YAML aliases are not supported; in "parameters", use "$defs" and "$ref"'),
    Scalar(key, node) {
      const { value } = node;
      // Many libraries, the schema validator among them, pass over this name in silence.
      if (key === 'key' && value === '__proto__') refuse(node, 'the name "__proto__" is not supported');
      if (typeof value === 'string' && (value.includes('\0') || !value.isWellFormed())) {
        refuse(node, 'the text contains a NUL character or a lone surrogate');
      }
      if (typeof value !== 'number') return;
      if (!Number.isFinite(value)) refuse(node, `${node.source} is not a number that JSON can hold`);
      else if (Number.isInteger(value) && !Number.isSafeInteger(value)) refuse(node, `${node.source} is too large to be kept exactly`);
    },
  });
  return problems;
}

/** A scalar stands where it begins, a list or a map where its key does: its own first entry may be lines below. */
function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0] ?? 0;
  for (const step of path) {
    if (isMap<Node, Node | null>(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && key.value === step);
      if (!pair) break;
      node = pair.value;
      offset = (isScalar(pair.value) ? pair.value : pair.key).range?.[0] ?? offset;
    } else if (isSeq<Node>(node)) {
      const item = node.items[Number(step)];
      if (!item) break;
      node = item;
      offset = item.range?.[0] ?? offset;
    } else break;
  }
  return offset;
}
