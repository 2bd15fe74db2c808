import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Environment, StartError } from '@claimcheck/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { connectEngine } from './connect.ts';
import { keyIdOf, newSecretKey, parseSecretKeys } from './secret-box.ts';
import { engineSettings } from './settings.ts';
import { startS3Server } from './testing/s3-server.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

let t: TestEngine;
beforeEach(async () => {
  t = await createTestEngine();
});
afterEach(() => t[Symbol.asyncDispose]());

/** Starts as a process does, with these keys and other variables, and returns what an operator had to be told. */
async function start(secretKey: string | undefined, needsSecretKey = true, environment: Environment = {}): Promise<readonly object[]> {
  const faults: object[] = [];
  const ignore = () => {};
  const engine = await connectEngine({
    variables: z
      .object(engineSettings)
      .parse({ ...environment, DATABASE_URL: t.databaseUrl, DATA_DIR: join(tmpdir(), 'unused'), SECRET_KEY: secretKey }),
    log: { debug: ignore, info: ignore, warn: ignore, error: (fields) => faults.push(fields) },
    signal: new AbortController().signal,
    applicationName: 'test',
    needsSecretKey,
    encodeWebhook: () => ({ contentType: 'application/json', body: '{}' }),
  });
  await engine.close();
  return faults;
}

const idOf = (secretKey: string) => (parseSecretKeys(secretKey) ?? []).map(keyIdOf)[0];

test('without a key those start that need none, and the others are told how to make one', async () => {
  expect(await start(undefined, false)).toEqual([]);
  await expect(start(undefined)).rejects.toThrow(StartError);
  await expect(start(undefined)).rejects.toThrow('make one with "openssl rand -base64 32"');
});

test('a start with keys that do not open what is stored names the missing one, and goes on', async () => {
  const [older, newer] = [newSecretKey(), newSecretKey()];
  await using before = await t.sibling({ secretKeys: older });
  await before.engine.webhookSecrets.prefer(t.callerId, { signatures: ['v1', 'v1a'] });
  expect(await start(`${newer},${older}`)).toEqual([]);
  expect(await start(newer)).toEqual([{ keyIds: [idOf(older)] }]);
  // What signs no more needs no key any longer.
  await using after = await t.sibling({ secretKeys: newer });
  await after.engine.webhookSecrets.rotate(t.callerId, { graceSeconds: 0 });
  expect(await start(newer)).toEqual([]);
});

test('a start with a bucket makes sure that it is there and can be used', async () => {
  await using s3 = await startS3Server();
  const { bucket, region, endpoint, accessKeyId, secretAccessKey } = s3.options;
  const variables = {
    S3_BUCKET: bucket,
    S3_REGION: region,
    S3_ENDPOINT: endpoint,
    S3_ACCESS_KEY_ID: accessKeyId,
    S3_SECRET_ACCESS_KEY: secretAccessKey,
  };
  expect(await start(undefined, false, variables)).toEqual([]);
  expect(s3.requests).not.toHaveLength(0);
  const started = start(undefined, false, { ...variables, S3_BUCKET: 'other' });
  await expect(started).rejects.toThrow(StartError);
  await expect(started).rejects.toThrow('S3_BUCKET: there is no bucket "other"');
});
