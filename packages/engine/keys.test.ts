import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Keys, newKey, openKeys } from './keys.ts';
import { type Database, openDatabase } from './storage/connection.ts';
import { sha256 } from './testing/fixtures.ts';
import { createTestDatabase, type TestDatabase } from './testing/index.ts';

let owned: TestDatabase;
let database: Database;
let keys: Keys & { close(): Promise<void> };

beforeAll(async () => {
  owned = await createTestDatabase();
  database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 2 });
  keys = openKeys(owned.url);
});
afterAll(async () => {
  await Promise.all([keys.close(), database.close()]);
  await owned[Symbol.asyncDispose]();
});

describe('a new key', () => {
  test('says what it is, is 256 random bits, and ends with a checksum', () => {
    const made = Array.from({ length: 100 }, newKey);
    for (const key of made) expect(key).toMatch(/^ck_[A-Za-z0-9_-]{43}[0-9a-z]{6}$/);
    expect(new Set(made).size).toBe(100);
  });

  test('does not exist before the first, and stands for its caller from then on', async () => {
    expect(await keys.exist()).toBe(false);
    const alice = await keys.create({ caller: 'alice', name: 'laptop' });
    expect(await keys.exist()).toBe(true);
    const second = await keys.create({ caller: 'alice', name: 'server' });
    const bob = await keys.create({ caller: 'bob', name: 'laptop' });
    const [one, two, three] = await Promise.all([alice, second, bob].map(({ key }) => keys.verify(key)));
    expect(one).toBeTypeOf('string');
    expect(two).toBe(one);
    expect(three).not.toBe(one);
  });

  test('is kept as a hash only', async () => {
    const { id, key } = await keys.create({ caller: 'carol', name: 'hashed' });
    const [row] = await database.sql<{ whole: string; hash: string; hint: string }[]>`
      select api_keys::text as whole, encode(hash, 'hex') as hash, hint from api_keys where id = ${id}`;
    expect(row?.hash).toBe(sha256(key));
    expect(row?.hint).toBe(key.slice(0, 7));
    expect(row?.whole).not.toContain(key.slice(7, -6));
    const listed = (await keys.list()).find((stored) => stored.id === id);
    expect(listed).toMatchObject({ caller: 'carol', name: 'hashed', hint: key.slice(0, 7), revokedAt: null });
    expect(JSON.stringify(listed)).not.toContain(key);
  });
});

describe('a key that', () => {
  test('has one wrong character is no key, wherever it is', async () => {
    const { key } = await keys.create({ caller: 'dave', name: 'typo' });
    expect(await keys.verify(key)).toBeDefined();
    const changed = Array.from(key, (character, index) => key.slice(0, index) + (character === 'x' ? 'y' : 'x') + key.slice(index + 1));
    expect(await Promise.all(changed.map((text) => keys.verify(text)))).toEqual(changed.map(() => undefined));
  });

  test.each(['', 'ck_', 'not a key', newKey(), `${newKey()} `, 'ключ'])('nobody made (%j) has no caller', async (key) => {
    expect(await keys.verify(key)).toBeUndefined();
  });

  test('is mistyped is told apart without the database', async () => {
    const unplugged = openKeys('postgres://nobody@127.0.0.1:1/nowhere');
    const key = newKey();
    const mistyped = `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`;
    expect(await unplugged.verify(mistyped)).toBeUndefined();
    await expect(unplugged.verify(key)).rejects.toThrow();
    await unplugged.close();
  });

  test('was revoked stops working at once, and can be revoked once', async () => {
    const { id, key } = await keys.create({ caller: 'erin', name: 'revoked' });
    const { key: other } = await keys.create({ caller: 'erin', name: 'kept' });
    expect(await keys.verify(key)).toBeDefined();
    expect(await keys.revoke(id)).toBe(true);
    expect(await keys.verify(key)).toBeUndefined();
    expect(await keys.verify(other)).toBeDefined();
    expect(await keys.revoke(id)).toBe(false);
    expect((await keys.list()).find((stored) => stored.id === id)?.revokedAt).toBeInstanceOf(Date);
  });
});

describe('the bootstrap key', () => {
  const first = 'a first bootstrap key of any text';
  const second = 'a second bootstrap key of any text';

  test('may be any text, and giving it again changes nothing', async () => {
    await keys.bootstrap(first);
    const caller = await keys.verify(first);
    expect(caller).toBeDefined();
    const before = await keys.list();
    await Promise.all([keys.bootstrap(first), keys.bootstrap(first)]);
    expect(await keys.list()).toEqual(before);
    expect(await keys.verify(first)).toBe(caller);
  });

  test('replaces an earlier one, stands for the same caller, and leaves other keys alone', async () => {
    const { key: other } = await keys.create({ caller: 'frank', name: 'other' });
    const caller = await keys.verify(first);
    await keys.bootstrap(second);
    expect(await keys.verify(first)).toBeUndefined();
    expect(await keys.verify(second)).toBe(caller);
    expect(await keys.verify(other)).toBeDefined();
  });

  test('can be changed back', async () => {
    await keys.bootstrap(first);
    expect(await keys.verify(first)).toBeDefined();
    expect(await keys.verify(second)).toBeUndefined();
  });
});
