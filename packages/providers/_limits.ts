/**
 * How much of a vendor all workers together may ask for: `<PREFIX>_CONCURRENCY` and `<PREFIX>_RATE`, as the vendor's plan allows. Unset, nothing
 * but the vendor limits us.
 */
import { type Limits, parseRate, RATE_RULE, type Rate } from '@claimcheck/core';
import { z } from 'zod';

/** Runs at once, a whole number from 1 on. */
export function concurrencySetting() {
  return z
    .string()
    .regex(/^[1-9]\d{0,8}$/, 'must be a whole number, 1 or more')
    .transform(Number)
    .optional();
}

/** Runs started per time, such as `3000/min`. */
export function rateSetting() {
  return z
    .string()
    .transform((text, context): Rate => {
      const rate = parseRate(text.trim());
      if (rate) return rate;
      context.addIssue({ code: 'custom', message: RATE_RULE });
      return z.NEVER;
    })
    .optional();
}

/** As {@link Limits} of an upstream; none where neither is set. */
export function limitsOf(concurrency: number | undefined, rate: Rate | undefined): { readonly limits?: Limits } {
  if (concurrency === undefined && rate === undefined) return {};
  return { limits: { ...(concurrency !== undefined && { concurrency }), ...(rate && { rate }) } };
}
