import { expect, test } from 'vitest';
import { readModelsOptions, USAGE, UsageError } from './models-options.ts';

/** What is said about arguments that are refused. */
function refusalOf(args: readonly string[]): string {
  try {
    readModelsOptions(args);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('The arguments were taken.');
}

test('files are checked each once, with nothing set', () => {
  expect(readModelsOptions(['models', 'check', 'a.yaml', 'b.yaml', 'a.yaml'])).toEqual({
    verb: 'check',
    files: ['a.yaml', 'b.yaml'],
    set: new Map(),
  });
});

test.each<[string, string]>([
  ['seed=12345678901234567890', '12345678901234567890'],
  ['prompt=a panda', '"a panda"'],
  ['prompt="7"', '"7"'],
  ['prompt=', '""'],
  ['prompt=a=b\nc', '"a=b\\nc"'],
  ['list=[1, "a"]', '[1, "a"]'],
  ['list=[1,', '"[1,"'],
  ['flag=true', 'true'],
])('--set %s is %s', (setting, text) => {
  const { set } = Object(readModelsOptions(['models', 'check', 'a.yaml', '--set', setting]));
  expect([...set.values()]).toEqual([text]);
});

test('of two settings of one name the last counts', () => {
  const { set } = Object(readModelsOptions(['models', 'check', '--set', 'a=1', 'x.yaml', '--set', 'a=2']));
  expect([...set]).toEqual([['a', '2']]);
});

test('--parameters keep their exact text', () => {
  const { parameters } = Object(readModelsOptions(['models', 'check', 'a.yaml', '--parameters', '{"b":1.0,"a":{"c": 1e2}}']));
  expect([...parameters]).toEqual([
    ['b', '1.0'],
    ['a', '{"c": 1e2}'],
  ]);
});

test('models are listed', () => {
  expect(readModelsOptions(['models', 'list'])).toEqual({ verb: 'list' });
});

test.each([[['--help']], [['models', 'check', '-h']], [[]]])('%j asks for help', (args) => {
  expect(readModelsOptions(args)).toBe('help');
});

test('the help names every command and option', () => {
  for (const name of ['check FILE...', 'list ', '--set ', '--parameters ', '--help ']) expect(USAGE).toContain(`  ${name}`);
});

test.each<[string, readonly string[]]>([
  ['The command is missing.', ['models']],
  ['"keys" is not a command.', ['keys', 'list']],
  ['"models chek" is not a command.', ['models', 'chek', 'a.yaml']],
  ['The file is missing.', ['models', 'check']],
  ['--set must be NAME=VALUE, not "prompt".', ['models', 'check', 'a.yaml', '--set', 'prompt']],
  ['--set must be NAME=VALUE, not "=1".', ['models', 'check', 'a.yaml', '--set', '=1']],
  ['--parameters must be a JSON object, not [1].', ['models', 'check', 'a.yaml', '--parameters', '[1]']],
  ['--parameters must be a JSON object, not {a:1}.', ['models', 'check', 'a.yaml', '--parameters', '{a:1}']],
  ['"models list" takes no file; MODELS_DIR names a folder of them.', ['models', 'list', 'a.yaml']],
  ['Parameters are for "models check".', ['models', 'list', '--set', 'a=1']],
  ["Unknown option '--colour'", ['models', 'check', 'a.yaml', '--colour']],
])('refuses with the usage: %s', (sentence, args) => {
  const message = refusalOf(args);
  expect(message.startsWith(sentence)).toBe(true);
  expect(message.endsWith(USAGE)).toBe(true);
});
