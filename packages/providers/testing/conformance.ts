/**
 * What holds for every adapter, whatever its vendor: each test file of one calls this with its simulator and with what its vendor's wire looks
 * like. A case that cannot hold for a vendor is excepted there, with the reason.
 */
import { describe, test } from 'vitest';
import { benchOf } from './bench.ts';
import { CALLBACK_CASES } from './callback-cases.ts';
import { POLLED_CASES } from './polled-cases.ts';
import type { Case, Subject } from './subject.ts';
import { SUBMISSION_CASES } from './submission-cases.ts';

const CASES = { ...SUBMISSION_CASES, ...POLLED_CASES, ...CALLBACK_CASES };

/** Cases that are left out, each with the reason. */
export type Exceptions = Partial<Record<keyof typeof CASES, string>>;

/** Declares the tests: all cases for a run that is started, more for one that is looked at, and for one that is told of by callback. */
export function describeConformance(subject: Subject, exceptions: Exceptions = {}): void {
  const excepted = new Set(Object.keys(exceptions));
  const groups: readonly (readonly [string, Readonly<Record<string, Case>>])[] = [
    ['a submission', SUBMISSION_CASES],
    ['a run that is looked at', subject.polled ? POLLED_CASES : {}],
    ['a callback', subject.callback ? CALLBACK_CASES : {}],
  ];
  describe(`like every adapter: ${subject.title ?? subject.provider.name}`, () => {
    for (const [group, cases] of groups) {
      const declared = Object.entries(cases).filter(([name]) => !excepted.has(name));
      if (declared.length === 0) continue;
      describe(group, () => {
        for (const [name, run] of declared) test(name, () => run(subject, benchOf(subject)));
      });
    }
  });
}
