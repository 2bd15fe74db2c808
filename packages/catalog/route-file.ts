/** A route as a model file writes it, and what everybody else knows of it. */
import { expressionFault, type JsonObject, PRICE_UNITS, parseRate, RATE_RULE, type Route } from '@claimcheck/core';
import { z } from 'zod';

const EXPRESSION_LENGTH_MAX = 10_000;

const expression = z
  .string()
  .max(EXPRESSION_LENGTH_MAX)
  .superRefine((text, context) => {
    const fault = expressionFault(text);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: `is not valid JSONata: ${fault}` });
  });

const rate = z.string({ error: RATE_RULE }).transform((text, context) => {
  const parsed = parseRate(text);
  if (parsed) return parsed;
  context.addIssue({ code: 'custom', message: RATE_RULE });
  return z.NEVER;
});

export const routeSchema = z
  .strictObject({
    provider: z.string().min(1),
    model: z.string().min(1),
    weight: z.number().positive().optional(),
    /** By the name of the member that is sent. Texts are JSONata over the parameters; the others stand for themselves. */
    parameters: z
      .record(
        z.string().min(1),
        // Not a union with `expression`, whose faults the union would sum up as "invalid".
        z.union([z.string(), z.number(), z.boolean(), z.null()], { error: 'must be text (JSONata), a number, true, false or null' }),
      )
      .superRefine((members, context) => {
        for (const [name, value] of Object.entries(members)) {
          if (typeof value !== 'string') continue;
          for (const { message } of expression.safeParse(value).error?.issues ?? []) {
            context.addIssue({ code: 'custom', path: [name], message });
          }
        }
      })
      .optional(),
    drops: z.array(z.string().min(1)).default([]),
    price: z
      .strictObject({
        usd: z.number().min(0),
        per: z.enum(PRICE_UNITS),
        output_usd: z.number().min(0).optional(),
        estimate: expression.optional(),
      })
      .refine(({ per, output_usd }) => output_usd === undefined || per === 'token', {
        path: ['output_usd'],
        error: 'is for prices per token',
      })
      .optional(),
    limits: z.strictObject({ concurrency: z.int().min(1).optional(), rate: rate.optional() }).optional(),
    options: z.record(z.string(), z.json()).optional(),
  })
  .refine(({ drops, parameters }) => drops.length === 0 || parameters !== undefined, {
    path: ['drops'],
    error: 'needs "parameters": without them everything is sent as it is',
  });

export type RouteFile = z.infer<typeof routeSchema>;

/** `options` are what the provider has made of those in the file. */
export function routeFrom({ provider, model, weight, price, limits }: RouteFile, options: JsonObject | undefined): Route {
  return {
    provider,
    model,
    ...(weight !== undefined && { weight }),
    ...(price && { price: { usd: price.usd, per: price.per, ...(price.output_usd !== undefined && { outputUsd: price.output_usd }) } }),
    ...(limits && { limits }),
    ...(options && { options }),
  };
}
