import { type Environment, readConfig } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { checkS3, engineOptionsFrom, engineSettings } from './settings.ts';

const schema = z.object(engineSettings).superRefine(checkS3);
const optionsFrom = (environment: Environment) => engineOptionsFrom(readConfig(schema, environment), 'postgres://localhost/x');

const BUCKET = { S3_BUCKET: 'files', S3_ACCESS_KEY_ID: 'id', S3_SECRET_ACCESS_KEY: 'secret' };

describe('results', () => {
  test('are copied, from public addresses only, into the folder, unless told otherwise', () => {
    const options = optionsFrom({ DATA_DIR: '/data' });
    expect(options).toMatchObject({ assetsFolder: '/data/assets', outputs: { store: 'copy', bytesMax: 1_073_741_824 } });
    expect(options).not.toHaveProperty('s3');
    expect(options).not.toHaveProperty('upstreamAllow');
  });

  test('are linked, limited and fetched from elsewhere when told so', () => {
    const told = { OUTPUT_STORE: 'link', OUTPUT_BYTES_MAX: '5', UPSTREAM_ALLOW_NETWORKS: '127.0.0.1,10.0.0.0/8' };
    const { outputs, upstreamAllow } = optionsFrom(told);
    expect(outputs).toEqual({ store: 'link', bytesMax: 5 });
    expect(upstreamAllow?.addresses).toEqual(new Set(['127.0.0.1']));
    expect(upstreamAllow?.networks).toHaveLength(1);
  });
});

describe('a bucket', () => {
  test.each([
    ['at AWS has its name in that of the host', { S3_REGION: 'eu-west-1' }, { region: 'eu-west-1', isPathStyle: false }],
    [
      'elsewhere has it in the path',
      { S3_ENDPOINT: 'https://s3.example' },
      { region: 'us-east-1', endpoint: 'https://s3.example', isPathStyle: true },
    ],
    ['elsewhere has it where told', { S3_ENDPOINT: 'http://s3.example', S3_FORCE_PATH_STYLE: 'false' }, { isPathStyle: false }],
    ['at AWS has it where told', { S3_REGION: 'eu-west-1', S3_FORCE_PATH_STYLE: 'true' }, { isPathStyle: true }],
  ])('%s', (_what, told, expected) => {
    expect(optionsFrom({ ...BUCKET, ...told }).s3).toMatchObject({
      bucket: 'files',
      accessKeyId: 'id',
      secretAccessKey: 'secret',
      ...expected,
    });
  });

  test.each<[string, Environment, readonly string[]]>([
    [
      'without keys',
      { S3_BUCKET: 'files', S3_ENDPOINT: 'https://s3.example' },
      ['S3_ACCESS_KEY_ID: is missing', 'S3_SECRET_ACCESS_KEY: is missing'],
    ],
    ['without half of them', { ...BUCKET, S3_REGION: 'x', S3_SECRET_ACCESS_KEY: '' }, ['S3_SECRET_ACCESS_KEY: is missing']],
    ['nowhere', BUCKET, ['S3_REGION: is missing, which S3_BUCKET needs at AWS; for another service set S3_ENDPOINT']],
    [
      'that was forgotten',
      { ...BUCKET, S3_BUCKET: '', S3_REGION: 'x' },
      ['S3_REGION: has no effect', 'S3_ACCESS_KEY_ID: has no effect', 'S3_SECRET_ACCESS_KEY: has no effect'],
    ],
    ['at no URL', { ...BUCKET, S3_ENDPOINT: 's3.example' }, ['S3_ENDPOINT: must be a URL that starts with https:// or http://']],
    ['in whatever style', { ...BUCKET, S3_REGION: 'x', S3_FORCE_PATH_STYLE: 'yes' }, ['S3_FORCE_PATH_STYLE: ']],
  ])('%s is refused with everything that is wrong', (_what, environment, problems) => {
    let message = '';
    try {
      optionsFrom(environment);
    } catch (error) {
      message = String(error);
    }
    for (const problem of problems) expect(message).toContain(problem);
    expect(message.split('\n')).toHaveLength(problems.length + 1);
    expect(message).not.toContain('secret');
  });
});
