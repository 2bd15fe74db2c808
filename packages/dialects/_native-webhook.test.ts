import { STATES } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { encodeWebhook } from './_native-webhook.ts';
import { aJob, JOB_ID } from './testing/fixtures.ts';

const FIELDS = ['id', 'status', 'output', 'error', 'session_id', 'created_at', 'updated_at'];

describe('the body of a webhook', () => {
  test.each(STATES)('of a %s job has exactly the seven fields of the schema, in order', (state) => {
    const { contentType, body } = encodeWebhook(aJob(state), { statusNumbering: 'documented' });
    expect(contentType).toBe('application/json');
    expect(Object.keys(JSON.parse(body))).toEqual(FIELDS);
  });

  test.each([
    ['documented', 'QUEUED', 2],
    ['documented', 'PROCESSING', 7],
    ['current', 'QUEUED', 2],
    ['current', 'PROCESSING', 7],
    ['documented', 'COMPLETED', 9],
    ['documented', 'FAILED', 10],
    ['documented', 'CANCELLED', 11],
    ['current', 'COMPLETED', 10],
    ['current', 'FAILED', 11],
    ['current', 'CANCELLED', 12],
  ] as const)('counts as %s: %s is %i', (statusNumbering, state, number) => {
    expect(JSON.parse(encodeWebhook(aJob(state), { statusNumbering }).body).status).toBe(number);
  });

  test('of a completed job carries what it produced and no error', () => {
    const job = aJob('COMPLETED', { baseUrl: 'https://other.example' });
    const url = 'https://other.example/files/tok1/a%20b.webp';
    expect(JSON.parse(encodeWebhook(job, { statusNumbering: 'documented' }).body)).toEqual({
      id: JOB_ID,
      status: 9,
      output: {
        output: url,
        images: [{ url, content_type: 'image/webp', file_name: 'a b.webp', file_size: 12345, width: 1024, height: 768 }],
        seed: 7,
      },
      error: '',
      session_id: null,
      created_at: '2026-01-01T10:00:00.000Z',
      updated_at: '2026-01-01T10:00:03.600Z',
    });
  });

  test.each([
    ['FAILED', 'The upstream gave up.'],
    ['CANCELLED', 'The job was cancelled.'],
  ] as const)('of a %s job carries the reason and no output', (state, error) => {
    expect(JSON.parse(encodeWebhook(aJob(state), { statusNumbering: 'documented' }).body)).toMatchObject({ output: null, error });
  });

  test('names the session when one was given', () => {
    const { body } = encodeWebhook(aJob('COMPLETED', { sessionId: 'sess_1' }), { statusNumbering: 'documented' });
    expect(JSON.parse(body).session_id).toBe('sess_1');
  });

  test('is dated by the end of the job, not by a later write', () => {
    const job = aJob('COMPLETED', { updatedAt: new Date('2026-01-02T00:00:00Z') });
    expect(JSON.parse(encodeWebhook(job, { statusNumbering: 'documented' }).body).updated_at).toBe('2026-01-01T10:00:03.600Z');
  });

  test.each(['QUEUED', 'PROCESSING'] as const)('of a %s job carries neither output nor error', (state) => {
    expect(JSON.parse(encodeWebhook(aJob(state), { statusNumbering: 'documented' }).body)).toMatchObject({ output: null, error: '' });
  });
});
