import { type JsonText, newId, systemClock } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { aSubmission } from './testing/fixtures.ts';
import { createTestEngine, QUEUES } from './testing/test-engine.ts';

describe.each(QUEUES)('on %s, a submission', (queue) => {
  test('is acknowledged after its commit: every other connection sees it', async () => {
    await using test = await createTestEngine({ queue });
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        const job = await test.engine.submit(aSubmission(test.callerId));
        expect(await test.sql`select state from jobs where id = ${job.id}`).toEqual([{ state: 'QUEUED' }]);
      }),
    );
  });

  test('comes back as the job it became, with the exact text of its input', async () => {
    await using test = await createTestEngine({ queue });
    const input = '{"seed":12345678901234567890,"b":1.0,"a":1e2}' as JsonText;
    const submission = aSubmission(test.callerId, { input, webhookUrl: 'https://hooks.example/', sessionId: 's' });
    const job = await test.engine.submit(submission);
    const { timeoutSeconds: _, ...shown } = submission;
    expect(job).toMatchObject({ ...shown, state: 'QUEUED', progress: 0, attempt: 0, queuePosition: 0, isReplay: false });
    expect((await test.engine.read({ id: job.id, callerId: test.callerId }))?.input).toBe(input);
  });

  test('that cannot be stored rejects and rings nothing, while its neighbours are taken in', async () => {
    await using test = await createTestEngine({ queue });
    const provider = 'rings';
    const stranger = newId(systemClock);
    const outcomes = await Promise.allSettled(
      [test.callerId, stranger, test.callerId].map((callerId) => test.engine.submit(aSubmission(callerId, { provider }))),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await test.sql`select count(*)::int as count from jobs`).toEqual([{ count: 2 }]);
    await expect.poll(() => test.doorbells(provider)).toHaveLength(2);
    const jobs = await test.sql`select id from jobs order by id`;
    expect((await test.doorbells(provider)).toSorted()).toEqual(jobs.map(({ id }) => `${id}-0`));
  });

  test('of a thousand at once is stored once, by few statements', async () => {
    await using test = await createTestEngine({ queue });
    const transactions = async () => {
      const [row] = await test.sql<{ count: number }[]>`
        select count(distinct created_at)::int as count from jobs`;
      return row?.count;
    };
    const jobs = await Promise.all(Array.from({ length: 1000 }, () => test.engine.submit(aSubmission(test.callerId))));
    expect(new Set(jobs.map(({ id }) => id)).size).toBe(1000);
    expect(await test.sql`select count(*)::int as count from jobs`).toEqual([{ count: 1000 }]);
    // All rows of a statement bear the instant of its transaction.
    expect(await transactions()).toBeLessThanOrEqual(10);
  });
});
