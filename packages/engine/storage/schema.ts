/** The tables as Drizzle sees them. `migrations/` is the truth; a test compares the two. */
import {
  bigint,
  boolean,
  customType,
  doublePrecision,
  integer,
  pgTable,
  primaryKey,
  real,
  smallint,
  text,
  timestamp,
  uuid,
} from './drizzle.ts';

const bytea = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => 'bytea' });
/** JSON as its exact text; see `connection.ts`. */
const exactJson = customType<{ data: string; driverData: string }>({ dataType: () => 'json' });
const instant = (name: string) => timestamp(name, { withTimezone: true });

export const callers = pgTable('callers', {
  id: uuid('id').primaryKey(),
  name: text('name').notNull(),
  createdAt: instant('created_at').notNull(),
});

export const apiKeys = pgTable('api_keys', {
  id: uuid('id').primaryKey(),
  callerId: uuid('caller_id').notNull(),
  name: text('name').notNull(),
  hint: text('hint').notNull(),
  hash: bytea('hash').notNull(),
  origin: text('origin', { enum: ['created', 'bootstrap'] }).notNull(),
  createdAt: instant('created_at').notNull(),
  revokedAt: instant('revoked_at'),
  webhookOptions: exactJson('webhook_options'),
});

export const jobs = pgTable('jobs', {
  id: uuid('id').primaryKey(),
  callerId: uuid('caller_id').notNull(),
  dialect: text('dialect').notNull(),
  model: text('model').notNull(),
  provider: text('provider').notNull(),
  input: exactJson('input').notNull(),
  state: text('state').notNull(),
  progress: real('progress').notNull(),
  attempt: integer('attempt').notNull(),
  failedAttempts: integer('failed_attempts').notNull(),
  crashedAttempts: integer('crashed_attempts').notNull(),
  eventCount: integer('event_count').notNull(),
  toldSequence: integer('told_sequence').notNull(),
  priority: smallint('priority').notNull(),
  deadlineAt: instant('deadline_at').notNull(),
  resubmits: integer('resubmits').notNull(),
  isPinned: boolean('is_pinned').notNull(),
  attemptsMax: integer('attempts_max'),
  startBy: instant('start_by'),
  hasOwnDeadline: boolean('has_own_deadline').notNull(),
  output: exactJson('output'),
  failureCode: text('failure_code'),
  failureMessage: text('failure_message'),
  webhookUrl: text('webhook_url'),
  webhookOptions: exactJson('webhook_options'),
  baseUrl: text('base_url').notNull(),
  sessionId: text('session_id'),
  createdAt: instant('created_at').notNull(),
  updatedAt: instant('updated_at').notNull(),
  availableAt: instant('available_at').notNull(),
  rungAt: instant('rung_at').notNull(),
  startedAt: instant('started_at'),
  attemptStartedAt: instant('attempt_started_at'),
  leaseUntil: instant('lease_until'),
  finishedAt: instant('finished_at'),
  expiresAt: instant('expires_at'),
});

export const attempts = pgTable(
  'attempts',
  {
    jobId: uuid('job_id').notNull(),
    number: integer('number').notNull(),
    provider: text('provider').notNull(),
    workerId: text('worker_id').notNull(),
    startedAt: instant('started_at').notNull(),
    handle: exactJson('handle'),
    finishedAt: instant('finished_at'),
    outcome: text('outcome'),
    failureCode: text('failure_code'),
    failureMessage: text('failure_message'),
    model: text('model'),
    costUsd: doublePrecision('cost_usd'),
    callbackToken: text('callback_token'),
  },
  (table) => [primaryKey({ columns: [table.jobId, table.number] })],
);

export const jobEvents = pgTable(
  'job_events',
  {
    jobId: uuid('job_id').notNull(),
    sequence: integer('sequence').notNull(),
    type: text('type', { enum: ['status', 'progress', 'log', 'partial'] }).notNull(),
    state: text('state', { enum: ['QUEUED', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED'] }).notNull(),
    progress: real('progress').notNull(),
    data: exactJson('data'),
    createdAt: instant('created_at').notNull(),
  },
  (table) => [primaryKey({ columns: [table.jobId, table.sequence] })],
);

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    callerId: uuid('caller_id').notNull(),
    keyHash: text('key_hash').notNull(),
    requestHash: text('request_hash').notNull(),
    jobId: uuid('job_id').notNull(),
    queuePosition: integer('queue_position').notNull(),
    createdAt: instant('created_at').notNull(),
    expiresAt: instant('expires_at').notNull(),
  },
  (table) => [primaryKey({ columns: [table.callerId, table.keyHash] })],
);

export const assets = pgTable('assets', {
  token: text('token').primaryKey(),
  jobId: uuid('job_id'),
  uploadId: uuid('upload_id'),
  part: integer('part'),
  contentType: text('content_type').notNull(),
  fileName: text('file_name').notNull(),
  bytes: bigint('bytes', { mode: 'number' }),
  sha256: text('sha256'),
  createdAt: instant('created_at').notNull(),
});

export const uploads = pgTable('uploads', {
  id: uuid('id').primaryKey(),
  callerId: uuid('caller_id').notNull(),
  token: text('token').notNull(),
  fileName: text('file_name').notNull(),
  contentType: text('content_type').notNull(),
  assetToken: text('asset_token'),
  jobId: uuid('job_id'),
  createdAt: instant('created_at').notNull(),
  expiresAt: instant('expires_at').notNull(),
});

export const deliveries = pgTable('deliveries', {
  id: uuid('id').primaryKey(),
  callerId: uuid('caller_id').notNull(),
  jobId: uuid('job_id'),
  url: text('url').notNull(),
  contentType: text('content_type').notNull(),
  body: text('body'),
  event: text('event').notNull(),
  sequence: integer('sequence').notNull(),
  progress: real('progress'),
  headers: exactJson('headers'),
  host: text('host').notNull(),
  endpoint: text('endpoint').notNull(),
  waitsInLine: boolean('waits_in_line').notNull(),
  trigger: text('trigger').notNull(),
  fallsBackTo: text('falls_back_to'),
  failureCode: text('failure_code'),
  dialect: text('dialect'),
  state: text('state', { enum: ['PENDING', 'DELIVERED', 'FAILED', 'HELD'] }).notNull(),
  schedule: integer('schedule').array().notNull(),
  sendCount: integer('send_count').notNull(),
  claim: integer('claim').notNull(),
  claimedAt: instant('claimed_at'),
  nextSendAt: instant('next_send_at').notNull(),
  createdAt: instant('created_at').notNull(),
  finishedAt: instant('finished_at'),
});

export const sends = pgTable(
  'sends',
  {
    deliveryId: uuid('delivery_id').notNull(),
    number: integer('number').notNull(),
    startedAt: instant('started_at').notNull(),
    durationMs: integer('duration_ms').notNull(),
    status: integer('status'),
    errorCode: text('error_code'),
    errorMessage: text('error_message'),
    trigger: text('trigger').notNull(),
    dnsMs: real('dns_ms'),
    connectMs: real('connect_ms'),
    tlsMs: real('tls_ms'),
    firstByteMs: real('first_byte_ms'),
    address: text('address'),
    requestHeaders: exactJson('request_headers'),
    responseHeaders: exactJson('response_headers'),
    responseBody: text('response_body'),
    nextSendAt: instant('next_send_at'),
    nextReason: text('next_reason'),
  },
  (table) => [primaryKey({ columns: [table.deliveryId, table.number] })],
);

export const webhookSecrets = pgTable('webhook_secrets', {
  id: uuid('id').primaryKey(),
  callerId: uuid('caller_id').notNull(),
  number: integer('number').notNull(),
  sealedSecret: text('sealed_secret').notNull(),
  sealedPrivateKey: text('sealed_private_key'),
  publicKey: text('public_key'),
  createdAt: instant('created_at').notNull(),
  signsUntil: instant('signs_until'),
});

export const webhookSettings = pgTable('webhook_settings', {
  callerId: uuid('caller_id').primaryKey(),
  signsV1a: boolean('signs_v1a').notNull(),
  createdAt: instant('created_at').notNull(),
  updatedAt: instant('updated_at').notNull(),
});

export const webhookEndpoints = pgTable(
  'webhook_endpoints',
  {
    callerId: uuid('caller_id').notNull(),
    endpoint: text('endpoint').notNull(),
    url: text('url').notNull(),
    failingSince: instant('failing_since').notNull(),
    failures: integer('failures').notNull(),
    disabledAt: instant('disabled_at'),
    disabledReason: text('disabled_reason', { enum: ['gone', 'asked', 'failing'] }),
    updatedAt: instant('updated_at').notNull(),
  },
  (table) => [primaryKey({ columns: [table.callerId, table.endpoint] })],
);

export const replays = pgTable('replays', {
  id: uuid('id').primaryKey(),
  callerId: uuid('caller_id').notNull(),
  states: text('states').array().notNull(),
  madeSince: instant('made_since').notNull(),
  madeBefore: instant('made_before').notNull(),
  perSecond: integer('per_second').notNull(),
  position: uuid('position').notNull(),
  queued: integer('queued').notNull(),
  nextStepAt: instant('next_step_at').notNull(),
  createdAt: instant('created_at').notNull(),
  finishedAt: instant('finished_at'),
});

export const providerHealth = pgTable('provider_health', {
  provider: text('provider').primaryKey(),
  failures: integer('failures').notNull(),
  outUntil: instant('out_until'),
  outSeconds: integer('out_seconds').notNull(),
  outReason: text('out_reason', { enum: ['failing', 'asked'] }),
  probeUntil: instant('probe_until'),
  updatedAt: instant('updated_at').notNull(),
});

export const routeTimes = pgTable(
  'route_times',
  {
    model: text('model').notNull(),
    provider: text('provider').notNull(),
    seconds: doublePrecision('seconds').notNull(),
    updatedAt: instant('updated_at').notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.provider] })],
);
