import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aJob, aSubmission } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine();
});
afterEach(() => owned[Symbol.asyncDispose]());

const referenceTo = (id: string) => ({ id, callerId: owned.callerId });
const aJobIn = (fields: object) => aJob(owned.sql, { callerId: owned.callerId, ...fields });

describe('cancelling', () => {
  test.each(['QUEUED', 'PROCESSING'] as const)('a job that is %s ends it and owes its webhook', async (state) => {
    const id = await aJobIn({ state, webhookUrl: 'https://hooks.example/' });
    const failure = { code: 'cancelled', message: 'The request was cancelled by its caller.' };
    expect(await owned.engine.cancel(referenceTo(id))).toMatchObject({ state: 'CANCELLED', failure });
    const deliveries = await owned.sql<{ body: string; state: string }[]>`select body, state from deliveries where job_id = ${id}`;
    expect(deliveries).toEqual([{ body: JSON.stringify({ id, state: 'CANCELLED' }), state: 'PENDING' }]);
  });

  test.each(['COMPLETED', 'FAILED', 'CANCELLED'] as const)('a job that is %s changes nothing', async (state) => {
    const id = await aJobIn({ state, webhookUrl: 'https://hooks.example/' });
    const before = await owned.engine.read(referenceTo(id));
    expect(await owned.engine.cancel(referenceTo(id))).toEqual(before);
    expect(await owned.sql`select from deliveries where job_id = ${id}`).toEqual([]);
  });

  test('many times at once ends it once', async () => {
    const { id } = await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: 'https://hooks.example/' }));
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => owned.engine.cancel(referenceTo(id))));
    expect(outcomes.map((job) => job?.state)).toEqual(outcomes.map(() => 'CANCELLED'));
    expect(await owned.sql`select from deliveries where job_id = ${id}`).toHaveLength(1);
    expect(await owned.sql`select from job_events where job_id = ${id} and state = 'CANCELLED'`).toHaveLength(1);
  });
});

describe('purging', () => {
  test.each(['QUEUED', 'PROCESSING', 'COMPLETED'] as const)('a job that is %s removes it with all it produced, at once', async (state) => {
    const id = await aJobIn({ state });
    const { location } = await owned.engine.assets.store(id, { bytes: Buffer.from('x'), contentType: 'text/plain', fileName: 'x.txt' });
    const token = 'asset' in location ? location.asset : '';
    const path = join(owned.assetsFolder, token.slice(0, 2), token);
    await access(path);
    expect(await owned.engine.purge(referenceTo(id))).toMatchObject({ id, state: state === 'COMPLETED' ? 'COMPLETED' : 'CANCELLED' });
    expect(await owned.engine.read(referenceTo(id))).toBeUndefined();
    expect(await owned.engine.assets.find(token)).toBeUndefined();
    expect(await owned.sql`select from jobs where id = ${id}`).toEqual([]);
    await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await owned.engine.purge(referenceTo(id))).toBeUndefined();
  });

  test('a job that owes a webhook still delivers it', async () => {
    const id = await aJobIn({ webhookUrl: 'https://hooks.example/' });
    await owned.engine.purge(referenceTo(id));
    expect(await owned.sql`select state from deliveries where job_id = ${id}`).toEqual([{ state: 'PENDING' }]);
  });
});
