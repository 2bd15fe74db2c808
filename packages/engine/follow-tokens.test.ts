import { describe, expect, test } from 'vitest';
import { makeFollowTokens } from './follow-tokens.ts';
import { newSecretKey, openSecretBox, parseSecretKeys } from './secret-box.ts';

const JOB = { callerId: '019b7602-7c00-7000-8000-00000000c001', id: '019b7602-7c00-7000-8000-00000000a001' };

function boxOf(keys: string) {
  return openSecretBox(parseSecretKeys(keys) ?? []);
}

describe('a token to follow a job', () => {
  const key = newSecretKey();
  const tokens = makeFollowTokens(boxOf(key));
  const token = tokens.of(JOB) ?? '';

  test('names the job and its caller, to the service alone', () => {
    expect(tokens.read(token)).toEqual(JOB);
    expect(token).not.toContain(JOB.id);
    expect(encodeURIComponent(token)).toBe(token);
  });

  test('stays good while its key decrypts', () => {
    expect(makeFollowTokens(boxOf(`${newSecretKey()},${key}`)).read(token)).toEqual(JOB);
    expect(makeFollowTokens(boxOf(newSecretKey())).read(token)).toBeUndefined();
  });

  test.each([
    ['nothing', ''],
    ['an id', JOB.id],
    ['a changed token', `${token.slice(0, -4)}AAAA`],
    ['a secret from another place', boxOf(key).seal(`${JOB.callerId} ${JOB.id}`, 'another place')],
  ])('is not made of %s', (_what, text) => {
    expect(tokens.read(text)).toBeUndefined();
  });

  test('is not made without a key', () => {
    const none = makeFollowTokens(openSecretBox([]));
    expect(none.of(JOB)).toBeUndefined();
    expect(none.read(token)).toBeUndefined();
  });
});
