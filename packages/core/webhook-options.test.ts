import { expect, test } from 'vitest';
import { parseSchedule, readWebhookOptions, SCHEDULE_PRESETS } from './webhook-options.ts';

const minutes = (schedule: readonly number[]) => schedule.reduce((sum, seconds) => sum + seconds, 0) / 60;

test('the presets last as long as they say', () => {
  expect(SCHEDULE_PRESETS.standard).toHaveLength(10);
  expect(minutes(SCHEDULE_PRESETS.standard)).toBeCloseTo(75 * 60 + 35, 0);
  expect(minutes(SCHEDULE_PRESETS.fast)).toBeCloseTo(27 * 60 + 35, 0);
  expect(minutes(SCHEDULE_PRESETS.short)).toBeCloseTo(117.6, 0);
});

test.each([
  ['fast', SCHEDULE_PRESETS.fast],
  ['0', [0]],
  ['0, 5,86400', [0, 5, 86_400]],
  [Array.from({ length: 20 }, () => 1).join(','), Array.from({ length: 20 }, () => 1)],
])('%j is a schedule', (text, schedule) => {
  expect(parseSchedule(text)).toEqual(schedule);
});

test.each(['', 'slow', 'toString', '0,', ',5', '-1', '1.5', '86401', '0,x', Array.from({ length: 21 }, () => 1).join(',')])(
  '%j is none',
  (text) => {
    expect(parseSchedule(text)).toBeUndefined();
  },
);

const read = (given: Parameters<typeof readWebhookOptions>[0]) => readWebhookOptions(given, (option) => `/webhook_${option}`);

test.each([
  [{}, {}],
  [{ format: null, schedule: null, events: null }, {}],
  [{ format: 'standard' }, { format: 'standard' }],
  [{ schedule: 'short' }, { schedule: SCHEDULE_PRESETS.short }],
  [{ schedule: '0, 60' }, { schedule: [0, 60] }],
  [{ schedule: [0, 60] }, { schedule: [0, 60] }],
  [{ events: 'progress,started' }, { events: ['started', 'progress'] }],
  [{ events: ['queued', 'queued'] }, { events: ['queued'] }],
  [{ events: [] }, { events: [] }],
  [{ headers: { 'X-Team': 'video', Authorization: 'Bearer abc' } }, { headers: { 'x-team': 'video', authorization: 'Bearer abc' } }],
  [{ headers: {} }, { headers: {} }],
] as const)('%j is read as %j', (given, options) => {
  expect(read(given)).toEqual(options);
});

test.each([
  [{ format: 'xml' }, ['/webhook_format']],
  [{ format: 1 }, ['/webhook_format']],
  [{ schedule: [] }, ['/webhook_schedule']],
  [{ schedule: [0, '5'] }, ['/webhook_schedule']],
  [{ schedule: [0.5] }, ['/webhook_schedule']],
  [{ schedule: [-1] }, ['/webhook_schedule']],
  [{ schedule: 5 }, ['/webhook_schedule']],
  [{ events: 'completed' }, ['/webhook_events']],
  [{ events: [7] }, ['/webhook_events']],
  [{ events: {} }, ['/webhook_events']],
  [{ headers: 'x-team: video' }, ['/webhook_headers']],
  [{ headers: { 'x-count': 7 } }, ['/webhook_headers']],
  [{ headers: { Host: 'internal' } }, ['/webhook_headers']],
  [{ headers: { 'webhook-signature': 'v1,forged' } }, ['/webhook_headers']],
  [{ headers: { 'x-a': 'b\r\nx-c: d' } }, ['/webhook_headers']],
  [{ headers: { 'x-long': 'y'.repeat(4_097) } }, ['/webhook_headers']],
  [{ headers: Object.fromEntries(Array.from({ length: 21 }, (_, index) => [`x-${index}`, ''])) }, ['/webhook_headers']],
  [{ format: '', schedule: 'never', events: '' }, ['/webhook_format', '/webhook_schedule', '/webhook_events']],
] as const)('%j is refused, naming everything that is wrong', (given, pointers) => {
  const problems = pointers.map((pointer) => ({ pointer, message: expect.any(String) }));
  expect(() => read(given)).toThrow(expect.objectContaining({ code: 'invalid_parameters', problems }));
});
