/** The settings every process of the service shares, as environment variables. Apps read them in their `config.ts`. */
import { join, resolve } from 'node:path';
import { parseSchedule, SCHEDULE_PRESETS, SCHEDULE_RULE } from '@claimcheck/core';
import { z } from 'zod';
import type { S3Options } from './assets-s3.ts';
import type { EngineOptions } from './index.ts';
import { parseAllowList } from './outbound/index.ts';
import type { OutputSettings } from './outputs.ts';
import { parseSecretKeys } from './secret-box.ts';
import type { UploadSettings } from './uploads.ts';

const SECONDS_MAX = 10 * 365 * 24 * 3600;
const WEEK_SECONDS = 7 * 24 * 3600;
/** Unless variables say otherwise. */
export const DEFAULT_OUTPUTS: OutputSettings = { store: 'copy', bytesMax: 1024 ** 3 };
export const DEFAULT_UPLOADS: UploadSettings = { bytesMax: 200 * 1024 ** 2, ttlSeconds: 24 * 3600 };
/** As much as a bucket takes in parts of the size that we upload. */
const STORED_BYTES_MAX = 64 * 1024 ** 3;

/** For the operator. */
export const MAKE_SECRET_KEY = 'make one with "openssl rand -base64 32"';

function urlOf(protocols: readonly string[]) {
  return z.string().refine((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol), {
    error: `must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
  });
}

/** A whole number in bounds, from text. */
export function wholeNumber(min: number, max: number) {
  return z
    .string()
    .refine((text) => /^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max, {
      error: `must be a whole number from ${min} to ${max}`,
    })
    .transform(Number);
}

/** What may be reached besides public addresses: private networks by CIDR, single addresses of any kind, and host names, separated by commas. */
const allowList = z.string().transform((text, context) => {
  const { allow, problems } = parseAllowList(text);
  for (const message of problems) context.addIssue({ code: 'custom', message });
  return problems.length > 0 ? z.NEVER : allow;
});

/** A PostgreSQL connection string. */
export const databaseUrl = urlOf(['postgres:', 'postgresql:']);

export const engineSettings = {
  /** Server with state and results; see each app for what happens when it is unset. */
  DATABASE_URL: databaseUrl.optional(),
  /** Redis or compatible store of BullMQ. Unset: BullMQ's Postgres backend in the same database. */
  REDIS_URL: urlOf(['redis:', 'rediss:']).optional(),
  /** Folder of produced files, and of the embedded database where that is used. Relative to the working directory. */
  DATA_DIR: z
    .string()
    .default('.data')
    .transform((folder) => resolve(folder)),
  /** Seconds for which an ended job stays readable; at least 1. */
  RESULT_TTL_SECONDS: wholeNumber(1, SECONDS_MAX).default(3600),
  /** Seconds to wait before each send of a webhook, separated by commas, or the name of a preset. Requests and keys may say otherwise. */
  WEBHOOK_RETRY_SCHEDULE: z
    .string()
    .transform((text, context) => {
      const schedule = parseSchedule(text);
      if (schedule) return schedule;
      context.addIssue({ code: 'custom', message: SCHEDULE_RULE });
      return z.NEVER;
    })
    .default(SCHEDULE_PRESETS.standard),
  /**
   * Seconds for which an ended delivery can be looked at, with every send. The message of what was delivered is kept no longer than its job;
   * what was not can be sent again for as long.
   */
  WEBHOOK_LOG_SECONDS: wholeNumber(1, SECONDS_MAX).default(WEEK_SECONDS),
  /** What webhooks may call besides public addresses. Unset: see each app. */
  WEBHOOK_ALLOW_NETWORKS: allowList.optional(),
  /** Numbers of the terminal states in the webhook body: `documented` 9/10/11 or `current` 10/11/12. */
  WEBHOOK_STATUS_NUMBERING: z.enum(['documented', 'current']).default('documented'),
  /**
   * Encrypts the secrets that sign webhooks: 32 bytes in base64. Several, separated by commas: the first encrypts, all decrypt, so that a
   * new one can be put in front. See each app for what happens when it is unset.
   */
  SECRET_KEY: z
    .string()
    .transform((text, context) => {
      const keys = parseSecretKeys(text);
      if (keys) return keys;
      // The text itself is a secret, however wrong.
      context.addIssue({
        code: 'custom',
        message: `must be the base64 of 32 bytes, or several of them separated by commas; ${MAKE_SECRET_KEY}`,
      });
      return z.NEVER;
    })
    .optional(),
  /** Base of every URL handed out, such as https://queue.example, and where upstreams call back. Unset: the origin of each request, and no callbacks. */
  PUBLIC_URL: z
    .string()
    .refine((text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), {
      error: 'must be a URL that starts with http:// or https://',
    })
    .transform((text) => text.replace(/\/+$/, ''))
    .optional(),
  /** Whether the sandbox serves models: `auto` where no other provider of the model is on, `on` always as the last route, `off` never. */
  SANDBOX: z.enum(['auto', 'on', 'off']).default('auto'),
  /** Media of upstreams: `copy` makes them files of ours, `link` hands the upstreams' links to clients. */
  OUTPUT_STORE: z.enum(['copy', 'link']).default(DEFAULT_OUTPUTS.store),
  /** Largest medium that is copied, in bytes; of a larger one the client gets the link. */
  OUTPUT_BYTES_MAX: wholeNumber(1, STORED_BYTES_MAX).default(DEFAULT_OUTPUTS.bytesMax),
  /** Largest file that clients can upload, in bytes; also of all files in one form together. */
  UPLOAD_BYTES_MAX: wholeNumber(1, STORED_BYTES_MAX).default(DEFAULT_UPLOADS.bytesMax),
  /** Seconds for which an uploaded file can be read, and used in requests; a job that needs it keeps it until its deadline. */
  UPLOAD_TTL_SECONDS: wholeNumber(1, SECONDS_MAX).default(DEFAULT_UPLOADS.ttlSeconds),
  /** Where media of upstreams may be fetched from besides public addresses. Unset: nowhere. */
  UPSTREAM_ALLOW_NETWORKS: allowList.optional(),
  /** Bucket of produced files. Unset: they are in DATA_DIR. */
  S3_BUCKET: z.string().optional(),
  /** Of a service other than AWS, without the bucket, such as https://s3.example.com. */
  S3_ENDPOINT: urlOf(['https:', 'http:']).optional(),
  /** Unset: us-east-1 with an S3_ENDPOINT, where most services do not mind which. */
  S3_REGION: z.string().optional(),
  S3_ACCESS_KEY_ID: z.string().optional(),
  S3_SECRET_ACCESS_KEY: z.string().optional(),
  /** `true`: the bucket is part of the path, `false`: of the host name. Unset: `true` with an S3_ENDPOINT. */
  S3_FORCE_PATH_STYLE: z.enum(['true', 'false']).optional(),
  /** Least severe log lines that are written. */
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
};
const schema = z.object(engineSettings);
export type EngineVariables = z.infer<typeof schema>;

type S3Variables = Pick<EngineVariables, (typeof S3_NAMES)[number]>;
const S3_NAMES = ['S3_BUCKET', 'S3_ENDPOINT', 'S3_REGION', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY', 'S3_FORCE_PATH_STYLE'] as const;

/** Adds what is wrong with the variables of a bucket together; for `superRefine` of a schema that has all of them. */
export function checkS3(variables: S3Variables, context: z.RefinementCtx): void {
  const report = (name: string, message: string) => context.addIssue({ code: 'custom', path: [name], message });
  if (variables.S3_BUCKET === undefined) {
    for (const name of S3_NAMES) if (variables[name] !== undefined) report(name, 'has no effect without S3_BUCKET');
    return;
  }
  if (variables.S3_ACCESS_KEY_ID === undefined) report('S3_ACCESS_KEY_ID', 'is missing, which S3_BUCKET needs');
  if (variables.S3_SECRET_ACCESS_KEY === undefined) report('S3_SECRET_ACCESS_KEY', 'is missing, which S3_BUCKET needs');
  if (variables.S3_REGION === undefined && variables.S3_ENDPOINT === undefined) {
    report('S3_REGION', 'is missing, which S3_BUCKET needs at AWS; for another service set S3_ENDPOINT');
  }
}

/** The bucket; undefined without one. The variables must have passed {@link checkS3}. */
function s3From(variables: S3Variables): S3Options | undefined {
  const { S3_BUCKET: bucket, S3_ENDPOINT: endpoint, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey } = variables;
  if (bucket === undefined || accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return {
    bucket,
    accessKeyId,
    secretAccessKey,
    region: variables.S3_REGION ?? 'us-east-1',
    ...(endpoint !== undefined && { endpoint }),
    isPathStyle: (variables.S3_FORCE_PATH_STYLE ?? String(endpoint !== undefined)) === 'true',
  };
}

/** The engine's options that come from variables. `url` is DATABASE_URL, or that of the embedded server. */
export function engineOptionsFrom(
  variables: EngineVariables,
  url: string,
): Pick<
  EngineOptions,
  'databaseUrl' | 'redisUrl' | 'assetsFolder' | 's3' | 'settings' | 'secretKeys' | 'webhookAllow' | 'upstreamAllow' | 'outputs' | 'uploads'
> {
  const s3 = s3From(variables);
  return {
    databaseUrl: url,
    ...(variables.REDIS_URL !== undefined && { redisUrl: variables.REDIS_URL }),
    assetsFolder: join(variables.DATA_DIR, 'assets'),
    ...(s3 && { s3 }),
    uploads: { bytesMax: variables.UPLOAD_BYTES_MAX, ttlSeconds: variables.UPLOAD_TTL_SECONDS },
    outputs: { store: variables.OUTPUT_STORE, bytesMax: variables.OUTPUT_BYTES_MAX },
    ...(variables.SECRET_KEY !== undefined && { secretKeys: variables.SECRET_KEY }),
    ...(variables.WEBHOOK_ALLOW_NETWORKS !== undefined && { webhookAllow: variables.WEBHOOK_ALLOW_NETWORKS }),
    ...(variables.UPSTREAM_ALLOW_NETWORKS !== undefined && { upstreamAllow: variables.UPSTREAM_ALLOW_NETWORKS }),
    settings: {
      resultTtlSeconds: variables.RESULT_TTL_SECONDS,
      webhookSchedule: variables.WEBHOOK_RETRY_SCHEDULE,
      webhookLogSeconds: variables.WEBHOOK_LOG_SECONDS,
    },
  };
}
