/** What runs cost, in US dollars: guessed before from the parameters, told afterwards from what came out. */
import { type Expression, ExpressionError, type JsonObject, type Media, type Output, type Price, type Usage } from '@claimcheck/core';

export interface Pricing {
  readonly price: Price;
  /** Gives the units of a run: images, megapixels, seconds or tokens. */
  readonly estimate?: Expression;
}

/** A unit without an estimate, which compares routes by their plain prices. Undefined when the estimate gives no number of 0 or more. */
export async function estimateUsd({ price, estimate }: Pricing, parameters: JsonObject): Promise<number | undefined> {
  const units = estimate ? await estimatedUnits(estimate, parameters) : 1;
  return units === undefined ? undefined : usdFor(price, units);
}

/** Undefined when the output does not tell how much was used up, and no estimate does. */
export async function costUsd({ price, estimate }: Pricing, parameters: JsonObject, output: Output): Promise<number | undefined> {
  if (price.per === 'token') {
    const usd = usdForTokens(price, output.usage ?? {});
    if (usd !== undefined) return usd;
  }
  const units = unitsOf(price, output) ?? (estimate && (await estimatedUnits(estimate, parameters)));
  return units === undefined ? undefined : usdFor(price, units);
}

/** Sums of prices such as 0.1 and 0.2 are no round numbers in binary; nobody charges a tenth of a billionth of a dollar. */
export function roundUsd(usd: number): number {
  return Math.round(usd * 1e10) / 1e10;
}

const TOKENS_PER_PRICE = 1_000_000;
const PIXELS_PER_MEGAPIXEL = 1_000_000;

function usdFor({ usd, per }: Price, units: number): number {
  return roundUsd(per === 'token' ? (units * usd) / TOKENS_PER_PRICE : units * usd);
}

function usdForTokens({ usd, outputUsd = usd }: Price, { inputTokens, outputTokens }: Usage): number | undefined {
  if (inputTokens === undefined && outputTokens === undefined) return undefined;
  return roundUsd(((inputTokens ?? 0) * usd + (outputTokens ?? 0) * outputUsd) / TOKENS_PER_PRICE);
}

/** What was used up, as far as the output tells. */
function unitsOf({ per }: Price, { media, usage }: Output): number | undefined {
  switch (per) {
    case 'run':
      return 1;
    case 'image':
      return media.length;
    case 'megapixel':
      return megapixelsOf(media);
    case 'second':
      return usage?.seconds;
    case 'token':
      return undefined;
  }
}

/** Not rounded, neither per picture nor in all. Undefined unless the size of every medium is known: a part would be told as the whole. */
function megapixelsOf(media: readonly Media[]): number | undefined {
  let pixels = 0;
  for (const { width, height } of media) {
    if (width === undefined || height === undefined) return undefined;
    pixels += width * height;
  }
  return pixels / PIXELS_PER_MEGAPIXEL;
}

/** Money is no reason to refuse a run, let alone to lose one: an estimate that fails is one that is not known. */
async function estimatedUnits(estimate: Expression, parameters: JsonObject): Promise<number | undefined> {
  try {
    const units = await estimate.evaluate(parameters);
    return typeof units === 'number' && units >= 0 ? units : undefined;
  } catch (error) {
    if (error instanceof ExpressionError) return undefined;
    throw error;
  }
}
