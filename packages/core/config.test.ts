import { expect, test } from 'vitest';
import { z } from 'zod';
import { ConfigError, readConfig } from './config.ts';

const schema = z.object({ PORT: z.coerce.number().int().default(8080), NAME: z.string(), SIZE: z.enum(['s', 'l']) });

test('variables are parsed, and an empty one counts as unset', () => {
  expect(readConfig(schema, { PORT: '', NAME: 'x', SIZE: 'l', OTHER: 'ignored' })).toEqual({ PORT: 8080, NAME: 'x', SIZE: 'l' });
});

test('every problem is reported at once, by its variable', () => {
  const read = () => readConfig(schema, { PORT: 'many', SIZE: 'm' });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(/PORT: .*\n.*NAME: .*\n.*SIZE: /);
});
