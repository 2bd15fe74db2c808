import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aSubmission } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const DAY_SECONDS = 24 * 3600;

describe('a submission with an idempotency key', () => {
  let owned: TestEngine;
  beforeEach(async () => {
    owned = await createTestEngine();
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  const submit = (keyHash: string, requestHash = 'request', callerId = owned.callerId) =>
    owned.engine.submit(aSubmission(callerId, { idempotency: { keyHash, requestHash } }));
  const countJobs = async () => (await owned.sql<{ count: number }[]>`select count(*)::int as count from jobs`)[0]?.count;

  test('answers as the first time when it comes again', async () => {
    await submit('before it');
    const first = await submit('key');
    const second = await submit('key');
    expect(first.isReplay).toBe(false);
    expect(second).toMatchObject({
      isReplay: true,
      id: first.id,
      state: 'QUEUED',
      queuePosition: first.queuePosition,
      createdAt: first.createdAt,
    });
    expect(await countJobs()).toBe(2);
  });

  test('answers as the first time even when its result has expired, and for a day', async () => {
    const first = await submit('key');
    await owned.engine.purge({ id: first.id, callerId: owned.callerId });
    await owned.setClockAhead(DAY_SECONDS - 60);
    expect((await submit('key')).id).toBe(first.id);
    await owned.setClockAhead(DAY_SECONDS + 60);
    const later = await submit('key');
    expect(later).toMatchObject({ isReplay: false });
    expect(later.id).not.toBe(first.id);
  });

  test('is refused when another request was handed in under it', async () => {
    await submit('key');
    await expect(submit('key', 'another request')).rejects.toMatchObject({ code: 'idempotency_mismatch', status: 422 });
    expect(await countJobs()).toBe(1);
  });

  test('is the same key only for the same caller', async () => {
    const { callerId } = owned;
    await owned.engine.keys.create({ caller: 'somebody else', name: 'test' });
    const [other] = await owned.sql<{ id: string }[]>`select id from callers where id <> ${callerId}`;
    const mine = await submit('key');
    const theirs = await submit('key', 'another request', other?.id);
    expect(theirs).toMatchObject({ isReplay: false });
    expect(theirs.id).not.toBe(mine.id);
  });

  test('makes exactly one job of a thousand that come at once, through two processes', async () => {
    await using sibling = await owned.sibling();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 1000 }, (_, index) =>
        (index % 2 === 0 ? owned : sibling).engine.submit(
          aSubmission(owned.callerId, { idempotency: { keyHash: 'key', requestHash: 'request' } }),
        ),
      ),
    );
    expect(await countJobs()).toBe(1);
    const ids = new Set(outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value.id] : [])));
    expect(ids.size).toBe(1);
    const made = outcomes.filter((outcome) => outcome.status === 'fulfilled' && !outcome.value.isReplay);
    expect(made).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'conflict', status: 409, retryAfterSeconds: 1 });
    }
  });

  test('is told to try again while the same key is being handed in by another process', async () => {
    await owned.sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(hashtextextended(${`${owned.callerId}key`}, 0))`;
      await expect(submit('key')).rejects.toMatchObject({ code: 'conflict' });
    });
    expect(await submit('key')).toMatchObject({ isReplay: false });
  });

  test('leaves no key behind when its job cannot be stored', async () => {
    const broken = aSubmission(owned.callerId, { idempotency: { keyHash: 'key', requestHash: 'request' }, webhookUrl: 'nul \u0000' });
    await expect(owned.engine.submit(broken)).rejects.toThrow();
    expect(await submit('key')).toMatchObject({ isReplay: false });
  });

  test('is forgotten by the sweep when its day is over', async () => {
    await submit('key');
    await owned.setClockAhead(DAY_SECONDS + 1);
    await owned.engine.sweep.once();
    expect(await owned.sql`select * from idempotency_keys`).toEqual([]);
  });
});
