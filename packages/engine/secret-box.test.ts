import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { keyIdIn, keyIdOf, newSecretKey, openSecretBox, parseSecretKeys, SecretBoxError } from './secret-box.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const PLACE = 'secret of row 1';

function keysOf(text: string) {
  const keys = parseSecretKeys(text);
  if (!keys) throw new Error('The text is not one of SECRET_KEY.');
  return keys;
}
const boxOf = (...keys: readonly string[]) => openSecretBox(keysOf(keys.join(',')));

test('what was sealed opens again, and is not to be seen in what is stored', () => {
  const box = boxOf(newSecretKey());
  const sealed = box.seal(SECRET, PLACE);
  expect(box.open(sealed, PLACE)).toBe(SECRET);
  const stored = Buffer.from(sealed.split('.')[2] ?? '', 'base64url');
  for (const text of [sealed, stored.toString('latin1'), stored.toString('hex')]) {
    expect(text).not.toContain(SECRET.slice(6, 14));
    expect(text).not.toContain(Buffer.from(SECRET.slice(6, 14)).toString('hex'));
  }
});

test('the same secret is sealed differently each time', () => {
  const box = boxOf(newSecretKey());
  expect(box.seal(SECRET, PLACE)).not.toBe(box.seal(SECRET, PLACE));
});

test('the first key encrypts and all decrypt, so that a new one can be put in front and the old one left out later', () => {
  const [older, newer] = [newSecretKey(), newSecretKey()];
  const before = boxOf(older).seal(SECRET, PLACE);
  const changing = boxOf(newer, older);
  expect(changing.open(before, PLACE)).toBe(SECRET);
  const after = changing.seal(SECRET, PLACE);
  expect(boxOf(newer).open(after, PLACE)).toBe(SECRET);
  expect(() => boxOf(older).open(after, PLACE)).toThrow(SecretBoxError);
});

test('a missing key is named by its id, and no key is shown', () => {
  const [own, other] = [newSecretKey(), newSecretKey()];
  const sealed = boxOf(own).seal(SECRET, PLACE);
  const id = keysOf(own).map(keyIdOf)[0] ?? '';
  expect(keyIdIn(sealed)).toBe(id);
  expect(() => boxOf(other).open(sealed, PLACE)).toThrow(`encrypted with the key ${id}, which is not in SECRET_KEY`);
  expect(own).not.toContain(id);
});

test('a damaged text, or one from another place, is refused in every part and gives no garbage', () => {
  const box = boxOf(newSecretKey());
  const sealed = box.seal(SECRET, PLACE);
  const [version, id, encoded = ''] = sealed.split('.');
  const bytes = Buffer.from(encoded, 'base64url');
  for (const at of bytes.keys()) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    expect(() => box.open([version, id, damaged.toString('base64url')].join('.'), PLACE)).toThrow('is damaged');
  }
  for (const length of [0, 5, 12, 20, 28]) {
    const cut = bytes.subarray(0, length).toString('base64url');
    expect(() => box.open([version, id, cut].join('.'), PLACE)).toThrow('is damaged');
  }
  expect(() => box.open(sealed, 'secret of row 2')).toThrow('is damaged');
  expect(() => box.open(`2${sealed.slice(1)}`, PLACE)).toThrow('not in a form that this version knows');
  expect(box.open(sealed, PLACE)).toBe(SECRET);
});

test('without a key nothing is sealed, and what was sealed does not open', () => {
  const none = openSecretBox([]);
  expect(() => none.seal(SECRET, PLACE)).toThrow('SECRET_KEY is not set');
  expect(() => none.open(boxOf(newSecretKey()).seal(SECRET, PLACE), PLACE)).toThrow('not in SECRET_KEY');
});

test('keys are 32 bytes of base64, one or several, with spaces around them or not', () => {
  const [first, second] = [newSecretKey(), newSecretKey()];
  expect(keysOf(`${first}, ${second}`).map((key) => key.export().toString('base64'))).toEqual([first, second]);
  expect(keysOf(first.replace('=', ''))[0]?.export().toString('base64')).toBe(first);
});

test.each([
  ['a passphrase', 'correct horse battery staple'],
  ['16 bytes', Buffer.alloc(16).toString('base64')],
  ['33 bytes', Buffer.alloc(33).toString('base64')],
  ['hexadecimal', Buffer.alloc(32).toString('hex')],
  ['a typing error', newSecretKey().replace(/^./, '*')],
  ['an empty entry', `${newSecretKey()},`],
])('%s is no key', (_what, text) => {
  expect(parseSecretKeys(text)).toBeUndefined();
});

test('keys that are printed or logged show nothing', () => {
  const text = newSecretKey();
  const shown = inspect(keysOf(text), { depth: null, showHidden: true }) + JSON.stringify(keysOf(text));
  expect(shown).not.toContain(text.slice(0, 12));
  expect(shown).not.toContain(Buffer.from(text, 'base64').toString('hex').slice(0, 12));
});
