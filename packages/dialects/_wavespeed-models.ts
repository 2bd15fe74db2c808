/** WaveSpeed's catalogue and prices (sections 1 and 7 of the sheet wavespeed.md). */
import { AppError, isJsonObject, type JsonObject, type Model, type ModelListing, type Quote, SANDBOX } from '@claimcheck/core';

/** The price is that of the route which would serve now, and left out where that has none. */
export function modelBody({ model, routes }: ModelListing, baseUrl: string) {
  const price = routes.find(({ isAvailable }) => isAvailable)?.route.price;
  const { properties, required = [], ...schema } = model.parameters;
  const named: JsonObject = isJsonObject(properties) ? properties : {};
  return {
    model_id: model.name,
    name: model.title,
    description: model.title,
    type: typeOf(model, Object.keys(named)),
    ...(price && { base_price: price.usd }),
    api_schema: {
      api_schemas: [
        {
          type: 'model_run',
          method: 'POST',
          server: baseUrl,
          api_path: `/api/v3/${model.name}`,
          request_schema: { ...schema, properties: named, required, 'x-order-properties': Object.keys(named) },
        },
      ],
    },
  };
}

/** What it makes, out of what; as far as the names of its parameters tell. */
function typeOf({ produces }: Model, names: readonly string[]): string {
  const source = ['video', 'image', 'audio'].find((kind) => names.some((name) => name === kind || name.startsWith(`${kind}_url`)));
  return `${source ?? 'text'}-to-${produces}`;
}

/** @throws AppError where nobody knows the price. */
function usdOf({ model, route, usd }: Quote): number {
  const price = usd ?? (route.provider === SANDBOX ? 0 : undefined);
  if (price !== undefined) return price;
  throw new AppError('not_found', `The price of model ${JSON.stringify(model.name)} at ${route.provider} is not known.`);
}

/** There are no discounts here: the price is what the provider charges. */
export function priceBody(quote: Quote) {
  const price = usdOf(quote);
  return { model_id: quote.model.name, price, discounted_price: price, discount_rate: 1, currency: 'USD' };
}

/** The older answer to the same question. */
export function pricingBody(quote: Quote) {
  return { model_id: quote.model.name, unit_price: usdOf(quote), currency: 'USD' };
}
