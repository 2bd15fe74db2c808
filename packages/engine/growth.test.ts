import { describe, expect, test } from 'vitest';
import { growingLines, growingText } from './growth.ts';

const numbered = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}`);

/** What each look at a run brought. */
function added(looks: readonly (readonly string[])[], before: readonly string[] = []): readonly (readonly string[])[] {
  const lines = growingLines({ lines: before, lineCount: before.length });
  return looks.map((look) => lines.added(look));
}

describe('lines', () => {
  test('that were there at an earlier look are not new', () => {
    expect(added([['a'], ['a', 'b', 'c'], ['a', 'b', 'c'], ['a', 'b', 'c', 'd']])).toEqual([['a'], ['b', 'c'], [], ['d']]);
  });

  test('are all new at the first look, and none where there are none', () => {
    expect(added([[], numbered(1, 500)])).toEqual([[], numbered(1, 500)]);
  });

  test('that repeat are told as often as they were printed', () => {
    expect(
      added([
        ['.', '.'],
        ['.', '.', '.', '.'],
        ['.', '.', '.', '.', 'x', '.'],
      ]),
    ).toEqual([
      ['.', '.'],
      ['.', '.'],
      ['x', '.'],
    ]);
  });

  test.each([
    [1_000, 7],
    [100, 99],
    [30, 20],
    [5, 2],
    [1, 1],
  ])('of which only the newest %i are given are matched by those, %i more each time', (kept, more) => {
    const looks = Array.from({ length: 10 }, (_, look) => numbered(1, kept + look * more).slice(-kept));
    expect(added(looks).flat()).toEqual(kept > more ? numbered(1, kept + 9 * more) : looks.flat());
  });

  test('of which everything known was cut off are all new', () => {
    expect(added([numbered(1, 10), numbered(50, 60)])).toEqual([numbered(1, 10), numbered(50, 60)]);
  });

  test('of an older answer bring nothing, and those of the next are not lost', () => {
    expect(added([numbered(1, 30), numbered(1, 20), numbered(1, 32)])).toEqual([numbered(1, 30), [], ['line 31', 'line 32']]);
    expect(added([numbered(1, 30), numbered(18, 25), numbered(18, 31)])).toEqual([numbered(1, 30), [], ['line 31']]);
  });

  test('that another process has told are known by the last of them', () => {
    expect(added([numbered(1, 52), numbered(1, 53)], numbered(31, 50))).toEqual([['line 51', 'line 52'], ['line 53']]);
    expect(added([numbered(1, 50)], numbered(31, 50))).toEqual([[]]);
    expect(added([['a', 'b']], numbered(31, 50))).toEqual([['a', 'b']]);
  });

  test('that are all the same are known by their number', () => {
    const dots = (count: number) => Array.from({ length: count }, () => '.');
    const lines = growingLines({ lines: dots(30), lineCount: 70 });
    expect(lines.added(dots(75))).toEqual(dots(5));
    expect(lines.added(dots(76))).toEqual(dots(1));
  });
});

describe('a text', () => {
  /** What each look told, as a client would put it together. */
  function told(looks: readonly string[], before = '') {
    const text = growingText(before);
    return looks.map((look) => {
      const growth = text.growth(look);
      if (growth) text.told(look);
      return growth && [growth.isReset ? '=' : '+', growth.text].join('');
    });
  }

  test('that grows is told by what it grew', () => {
    expect(told(['Once', 'Once upon', 'Once upon', 'Once upon a time'])).toEqual(['+Once', '+ upon', undefined, '+ a time']);
  });

  test.each([
    ['changed', ['Once upon', 'Once open'], ['+Once upon', '=Once open']],
    ['shortened', ['Once upon', 'Once'], ['+Once upon', '=Once']],
    ['taken back', ['Once', ''], ['+Once', '=']],
  ])('that was %s is told as a whole', (_what, looks, expected) => {
    expect(told(looks)).toEqual(expected);
  });

  test('of another process goes on where that stopped, and one of another run begins anew', () => {
    expect(told(['Once upon'], 'Once')).toEqual(['+ upon']);
    expect(told(['Twice'], 'Once')).toEqual(['=Twice']);
    expect(told(['Once'], 'Once')).toEqual([undefined]);
  });

  test('of an older answer brings nothing, as long as nothing was told since', () => {
    expect(told(['On', 'Once', 'Once upon'], 'Once')).toEqual([undefined, undefined, '+ upon']);
    expect(told(['Once upon', 'Once'], 'Once')).toEqual(['+ upon', '=Once']);
  });
});
