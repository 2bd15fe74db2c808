/** Facts about a job that several of OpenAI's and Lumenfall's objects hold: instants, cost, who ran it, tokens, and its media. */
import {
  fromJsonText,
  InlineFile,
  isJsonObject,
  type Job,
  type JsonObject,
  type Media,
  mediaUrl,
  type Output,
  type ServerSentEvent,
} from '@claimcheck/core';

export function unixSeconds(instant: Date): number {
  return Math.floor(instant.getTime() / 1000);
}

/** Parameters as parsed values: for looking only. */
export function inputOf({ input }: Job): JsonObject {
  const value = fromJsonText(input);
  return isJsonObject(value) ? value : {};
}

export const NO_OUTPUT: Output = { media: [] };

/** US dollars for all attempts together; undefined when nothing is known. */
export function costOf({ attempts = [] }: Job): number | undefined {
  const costs = attempts.flatMap(({ costUsd }) => (costUsd === undefined ? [] : [costUsd]));
  // Sums of decimal fractions end in noise; a price has no more digits than this.
  return costs.length === 0 ? undefined : Number(costs.reduce((sum, cost) => sum + cost, 0).toFixed(10));
}

/** Protocols/lumenfall.md, section 4: which of the providers made it, after what, and for how much. */
export function metadataOf(job: Job) {
  const { attempts = [], model, provider } = job;
  const last = attempts.at(-1);
  const cost = costOf(job);
  return {
    model,
    executed_model: executedModelOf(job),
    provider,
    provider_name: provider,
    ...(cost !== undefined && { cost, cost_currency: 'USD' }),
    ...(last && {
      attempts: attempts.map((attempt) => ({
        provider: attempt.provider,
        ...(attempt.model !== undefined && { model: attempt.model }),
        outcome: attempt.outcome,
        ...(attempt.failure && { error: attempt.failure.message }),
      })),
    }),
  };
}

export function executedModelOf({ attempts = [], model, provider }: Job): string {
  return `${provider}/${attempts.findLast((attempt) => attempt.provider === provider)?.model ?? model}`;
}

/** Undefined where nothing was counted. `detailed` are the members that one endpoint adds. */
export function tokensOf({ usage }: Output) {
  const { inputTokens, outputTokens } = usage ?? {};
  if (inputTokens === undefined && outputTokens === undefined) return undefined;
  return { input: inputTokens ?? 0, output: outputTokens ?? 0, total: (inputTokens ?? 0) + (outputTokens ?? 0) };
}

/** `1024x768` of a medium whose sides are known. */
export function sizeOf(media: Media | undefined): string | undefined {
  return media?.width !== undefined && media.height !== undefined ? `${media.width}x${media.height}` : undefined;
}

/** `png` of `image/png`. */
export function formatOf(media: Media): string {
  return media.contentType.replace(/^[^/]*\//, '').replace(/\+xml$/, '');
}

/** The bytes as base64; undefined for a file that is not ours, whose address is all there is. */
export function bytesOf({ location }: Media): InlineFile | undefined {
  return 'asset' in location ? new InlineFile(location.asset, 'base64') : undefined;
}

/** What a client that reads words gets: text, else data as JSON, else the addresses of files, one per line. */
export function wordsOf({ text, json, media }: Output, baseUrl: string): string {
  if (text !== undefined) return text;
  if (json !== undefined) return JSON.stringify(json);
  return media.map((file) => mediaUrl(file, baseUrl)).join('\n');
}

/** An event as most of the vendor's streams have it: the type stands in the data again. */
export function typedEvent(type: string, data: Readonly<Record<string, unknown>>): ServerSentEvent {
  return { event: type, data: { type, ...data } };
}

/** Protocols/lumenfall.md, section 12. */
export const REQUEST_STATUSES = ['pending', 'processing', 'completed', 'upstream_failure', 'rejected', 'cancelled'] as const;
export type RequestStatus = (typeof REQUEST_STATUSES)[number];
