import { describe, expect, test } from 'vitest';
import { compileExpression, expressionFault } from './expression.ts';

const evaluate = (text: string, input = {}) => compileExpression(text).evaluate(input);

describe('an expression', () => {
  test('gives plain JSON out of its input, a list of one as its member', async () => {
    const input = { body: { images: [{ url: 'a' }, { url: 'b' }], one: [{ url: 'c' }] } };
    expect(await evaluate('body.images.url', input)).toEqual(['a', 'b']);
    expect(await evaluate('body.one.url', input)).toBe('c');
  });

  test('gives nothing where nothing is', async () => {
    expect(await evaluate('body.images.url')).toBeUndefined();
  });

  test('may use patterns, with the places of their matches', async () => {
    expect(await evaluate('$contains(body, /NSFW/i)', { body: 'An nsfw picture' })).toBe(true);
    expect(await evaluate('$match(body, /a(.)/).groups', { body: 'ab ac' })).toEqual(['b', 'c']);
    expect(await evaluate('$replace(body, /a/, "b")', { body: 'aaa' })).toBe('bbb');
  });

  test.each([
    ['that never ends', '($f := function(){ $f() }; $f())'],
    ['that calls itself ever deeper', '($f := function($n){ 1 + $f($n + 1) }; $f(0))'],
    ['that makes a long list', '$count([1..10000000])'],
    ['whose pattern never ends', '$contains(body, /^(a+)+$/)'],
    ['whose pattern repeats much', `$contains(body, /^${'a*'.repeat(12)}$/)`],
    ['whose pattern has many ways', `$contains(body, /^${'(a|a)'.repeat(40)}c/)`],
    ['whose pattern may leave out much', `$contains(body, /^${'(?:a|aa)?'.repeat(40)}$/)`],
    ['whose pattern refers back', `$contains(body, /^${'(a*)'.repeat(9)}\\1\\2\\3\\4\\5$/)`],
    ['that raises an error', '$error("no")'],
    ['that gives a function', 'function($a){ $a }'],
  ])('%s is stopped', async (_what, text) => {
    const body = `${'a'.repeat(60)}b`;
    await expect(evaluate(text, { body })).rejects.toMatchObject({ name: 'ExpressionError', message: expect.stringMatching(/./) });
  });

  test('tells what it raised itself from what went wrong with it', async () => {
    await expect(evaluate('$error("only square pictures")')).rejects.toMatchObject({ message: 'only square pictures', isRaised: true });
    await expect(evaluate('$number("x")')).rejects.toMatchObject({ isRaised: false });
  });

  test.each(['process', 'globalThis', 'require', 'body.constructor', 'body.__proto__', '$lookup(body, "constructor")'])(
    'sees nothing of the process by %s',
    async (text) => {
      expect(await evaluate(text, { body: { a: 1 } })).toBeUndefined();
    },
  );

  test('changes nothing outside of itself', async () => {
    const input = { body: { a: 1 } };
    expect(await evaluate('$ ~> |body|{"a": 2, "__proto__": {"polluted": true}}|', input)).toMatchObject({ body: { a: 2 } });
    expect([input, Object.hasOwn(Object.prototype, 'polluted')]).toEqual([{ body: { a: 1 } }, false]);
  });
});

describe('the text of an expression', () => {
  test('is found faulty with the place', () => {
    expect(expressionFault('body.(')).toMatch(/\(character \d+\)$/);
  });

  test('is fine when it can be compiled', () => {
    expect(expressionFault('body.images.url')).toBeUndefined();
  });
});
