/**
 * What a JSONata expression looks at, told from its text alone: so a misspelt name is found before any input comes, and a value that nobody
 * looks at is known to be lost.
 */
import jsonata from 'jsonata';

export interface ExpressionReads {
  /** Members of the input that it names, in the order of the text, each once. */
  readonly names: readonly string[];
  /**
   * True when it may see every member without naming it: by `$` or `$$` as a whole, a wildcard, `%`, `$eval`, or a function such as `$keys()`
   * that takes the input where it is given no argument.
   */
  readonly everything: boolean;
}

/** Functions that take the input in place of an object they are not given, by the number of arguments with which they do not. */
const ARGUMENTS_WITHOUT_INPUT: ReadonlyMap<unknown, number> = new Map([
  ...['string', 'boolean', 'not', 'keys', 'spread', 'clone'].map((name): [string, number] => [name, 1]),
  ...['lookup', 'each', 'sift'].map((name): [string, number] => [name, 2]),
]);

/** @throws what JSONata throws when `expressionFault` finds something. */
export function expressionReads(text: string): ExpressionReads {
  const positions = new Map<string, number>();
  let everything = false;

  /** `atInput`: names are looked up in the input itself, not in something inside of it. */
  function visit(node: unknown, atInput: boolean): void {
    if (Array.isArray(node)) {
      for (const part of node) visit(part, atInput);
    } else if (isNode(node)) {
      if (node.type === 'path') visitPath(node, atInput);
      else {
        const isInput = visitStep(node, atInput);
        visit([node.predicate, node.stages], isInput);
        if (isInput && node.group === undefined) everything = true;
        visit(node.group, isInput);
      }
    }
  }

  /** Each step looks into what the one before it gave. */
  function visitPath({ steps, group }: Node, atInput: boolean): void {
    let isInput = atInput;
    for (const step of Array.isArray(steps) ? steps.filter(isNode) : []) {
      const gaveInput = visitStep(step, isInput);
      // `list@$item` names its members and stays where it was; sorting changes no member.
      if (step.focus === undefined && step.type !== 'sort') isInput = gaveInput;
      visit([step.predicate, step.stages, step.group], isInput);
    }
    if (isInput && group === undefined) everything = true;
    visit(group, isInput);
  }

  /** What stands in the expression itself, without what filters or groups it. True when it gives the input as it is. */
  function visitStep(node: Node, atInput: boolean): boolean {
    switch (node.type) {
      case 'name':
        if (atInput && typeof node.value === 'string') note(node.value, node.position);
        return false;
      case 'variable':
        return node.value === '$' || (node.value === '' && atInput);
      case 'wildcard':
      case 'descendant':
        everything ||= atInput;
        return false;
      case 'parent':
        everything = true;
        return false;
      case 'apply':
        visit(node.lhs, atInput);
        visitCall(node.rhs, atInput, 1);
        return false;
      case 'function':
        visitCall(node, atInput, 0);
        return false;
      case 'transform':
        visit([node.pattern, node.update, node.delete], false);
        return false;
      case 'regex':
        return false;
      default:
        // Everything else is made of parts that look at what it looks at itself.
        for (const [key, part] of Object.entries(node)) if (!AROUND.has(key)) visit(part, atInput);
        return false;
    }
  }

  /** A call, or the name of a function behind `~>`; `piped` arguments come from the left of that. */
  function visitCall(node: unknown, atInput: boolean, piped: number): void {
    if (!isNode(node)) return;
    const procedure = node.type === 'function' ? node.procedure : node;
    const called = isNode(procedure) && procedure.type === 'variable' ? procedure.value : undefined;
    const given = piped + (Array.isArray(node.arguments) ? node.arguments.length : 0);
    if (called === 'eval' || (atInput && given < (ARGUMENTS_WITHOUT_INPUT.get(called) ?? 0))) everything = true;
    visit(node.type === 'function' ? [node.arguments, procedure] : node, atInput);
  }

  function note(name: string, position: unknown): void {
    if (!positions.has(name)) positions.set(name, typeof position === 'number' ? position : 0);
  }

  visit(jsonata(text).ast(), true);
  const names = [...positions].sort(([, a], [, b]) => a - b).map(([name]) => name);
  return { names, everything };
}

/** A part of an expression as JSONata has parsed it. The library's own type leaves out most of the members. */
type Node = Readonly<Record<string, unknown>>;

/** Looked at by {@link expressionReads} apart, as they apply to what a part gives. */
const AROUND: ReadonlySet<string> = new Set(['predicate', 'stages', 'group']);

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
