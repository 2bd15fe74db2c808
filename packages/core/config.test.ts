import { expect, test } from 'vitest';
import { z } from 'zod';
import { ConfigError, readConfig } from './config.ts';
import { StartError } from './errors.ts';

const schema = z.object({ PORT: z.coerce.number().int().default(8080), NAME: z.string(), SIZE: z.enum(['s', 'l']) });

test('variables are parsed, and an empty one counts as unset', () => {
  expect(readConfig(schema, { PORT: '', NAME: 'x', SIZE: 'l', OTHER: 'ignored' })).toEqual({ PORT: 8080, NAME: 'x', SIZE: 'l' });
});

test('every problem is reported at once, by its variable', () => {
  const read = () => readConfig(schema, { PORT: 'many', SIZE: 'm' });
  expect(read).toThrow(ConfigError);
  // The operator's to mend, so it is printed without a stack.
  expect(read).toThrow(StartError);
  expect(read).toThrow(/^These settings are wrong:\n {2}PORT: .+\n {2}NAME: .+\n {2}SIZE: .+$/);
});

test('a required variable that is empty is reported as missing', () => {
  expect(() => readConfig(schema, { NAME: '', SIZE: 's' })).toThrow(/^These settings are wrong:\n {2}NAME: .+$/);
});

test('a combination that is wrong has a name too', () => {
  const never = schema.refine(() => false, 'these do not go together');
  expect(() => readConfig(never, { NAME: 'x', SIZE: 's' })).toThrow('\n  settings: these do not go together');
});
