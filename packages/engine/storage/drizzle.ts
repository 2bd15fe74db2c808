/**
 * Drizzle, loaded as CommonJS. For each module of a package that is loaded as ESM, Node 24 reads the package's `package.json` anew; Drizzle has a
 * hundred modules and lists all its files there, in 180 kB: that was 100 MB and half of the time that loading the engine takes.
 */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const core: typeof import('drizzle-orm') = require('drizzle-orm');
const tables: typeof import('drizzle-orm/pg-core') = require('drizzle-orm/pg-core');
const driver: typeof import('drizzle-orm/postgres-js') = require('drizzle-orm/postgres-js');

export const { and, asc, eq, inArray, isNull, sql } = core;
export const {
  bigint,
  boolean,
  customType,
  doublePrecision,
  getTableConfig,
  integer,
  PgTable,
  pgTable,
  primaryKey,
  real,
  smallint,
  text,
  timestamp,
  uuid,
} = tables;
export const { drizzle } = driver;
