/** UUIDv7 (RFC 9562 section 5.7): ids that sort by the time they were made, so that indexes grow at one end. */
import { randomBytes } from 'node:crypto';
import type { Clock } from './clock.ts';

const ID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** A new id; two ids of the same millisecond are in no promised order. */
export function newId(clock: Clock): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(clock.now(), 0, 6);
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** True for an id this service could have made; anything else is unknown without asking the database. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text);
}
