import { describe, expect, test } from 'vitest';
import { expressionReads } from './expression-reads.ts';

const EVERYTHING = 'everything';

/** Names in the order of the text, and whether it may see all the others too. */
function readsOf(text: string): readonly string[] {
  const { names, everything } = expressionReads(text);
  return everything ? [...names, EVERYTHING] : names;
}

describe('an expression reads', () => {
  test.each<[string, readonly string[]]>([
    ['prompt', ['prompt']],
    ['`a-b`', ['a-b']],
    ['"x".y', ['x']],
    ['size.width', ['size']],
    ['{"width": width, "height": height}', ['width', 'height']],
    ['{width: 1}', ['width']],
    ['[b, a, b]', ['b', 'a']],
    ['[1..n]', ['n']],
    ['-a & "x" & b', ['a', 'b']],
    ['a ? b : c', ['a', 'b', 'c']],
    ['a ?: b', ['a', 'b']],
    ['a ?? b', ['a', 'b']],
    ['a in b and c > d', ['a', 'b', 'c', 'd']],
    ['($parts := $split(size, "x"); $number($parts[0]))', ['size']],
    ['$exists(seed) ? seed', ['seed']],
    ['$map(list, function($item) { $item.url & suffix })', ['list', 'suffix']],
    ['(function($x) { a })(b)', ['a', 'b']],
    ['$substring(?, a)', ['a']],
    ['text ~> $uppercase', ['text']],
    ['text ~> $substring(at)', ['text', 'at']],
    ['list[url = prompt].size', ['list']],
    ['list[0]', ['list']],
    ['list^(>size)', ['list']],
    ['list{kind: size}', ['list']],
    ['list.(url; size)', ['list']],
    ['list.*', ['list']],
    ['list.**', ['list']],
    ['list.$', ['list']],
    ['list.$string()', ['list']],
    ['$.a', ['a']],
    ['$$.a.b', ['a']],
    ['list.($$.a)', ['list', 'a']],
    ['$ {"x": a}', ['a']],
    ['list#$i.(x & $i)', ['list']],
    ['list@$item.other', ['list', 'other']],
    ['list@$item[$item.id = wanted].other', ['list', 'wanted', 'other']],
    ['(a).b', ['a']],
    ['{"w": width}.w', ['width']],
    ['box ~> |inner|{"x": y}|', ['box']],
    ['$lookup(map, key)', ['map', 'key']],
    ['map ~> $lookup(key)', ['map', 'key']],
    ['$lookup({"a": 1}, key)', ['key']],
    ['$keys(map)', ['map']],
    ['$contains(prompt, /a(b)c/i)', ['prompt']],
    ['"text"', []],
    ['$now()', []],
    ['$x', []],
  ])('%s: %j', (text, expected) => {
    expect(readsOf(text)).toEqual(expected);
  });

  test.each<[string, readonly string[]]>([
    ['$', []],
    ['$$', []],
    ['$[width > 1]', ['width']],
    ['$^(width)', ['width']],
    ['list.($$)', ['list']],
    ['*', []],
    ['**.url', []],
    ['$.*', []],
    ['$keys()', []],
    ['$string()', []],
    ['$lookup("a")', []],
    ['"a" ~> $lookup', []],
    ['$each(function($value, $key) { $key })', []],
    ['$sift(function($value) { $value })', []],
    ['$eval("a")', []],
    ['list.$eval(code)', ['list']],
    ['code ~> $eval', ['code']],
    ['list.(%.other)', ['list']],
    ['$ ~> |a|{"b": c}|', []],
    ['$merge([$, {"a": b}])', ['b']],
    ['list@$item', ['list']],
  ])('%s: everything, besides %j', (text, expected) => {
    expect(readsOf(text)).toEqual([...expected, EVERYTHING]);
  });
});
