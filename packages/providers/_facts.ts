/** What vendors tell of a run besides its output: how long it took, and what it used up. Each has names of its own for the same things. */
import { isJsonObject, type JsonObject, type JsonValue, type Output, type Usage } from '@claimcheck/core';

export type Facts = Pick<Output, 'timings' | 'usage'>;

/** Without what is not known, so that an output tells nothing of it. */
export function factsOf(timings: Readonly<Record<string, number>>, usage: Usage = {}): Facts {
  return {
    ...(Object.keys(timings).length > 0 && { timings }),
    ...(Object.keys(usage).length > 0 && { usage }),
  };
}

/** Members that are durations, in seconds; `perSecond` is 1000 where the vendor counts in milliseconds. */
export function timingsIn(
  told: JsonValue | undefined,
  { isTiming = () => true, perSecond = 1 }: { readonly isTiming?: (name: string) => boolean; readonly perSecond?: number } = {},
): Readonly<Record<string, number>> {
  const members = Object.entries(isJsonObject(told) ? told : {}).filter(([name]) => isTiming(name));
  return Object.fromEntries(members.flatMap(([name, value]) => (isAmount(value) ? [[name, value / perSecond]] : [])));
}

const INPUT_TOKENS = ['input_tokens', 'prompt_tokens', 'promptTokenCount', 'token_input_count', 'input_token_count'];
const OUTPUT_TOKENS = ['output_tokens', 'completion_tokens', 'candidatesTokenCount', 'token_output_count', 'output_token_count'];

/** Tokens of a language model: by the names of OpenAI's two interfaces, Anthropic's, Gemini's and Cog's. */
export function tokensIn(told: JsonValue | undefined): Pick<Usage, 'inputTokens' | 'outputTokens'> {
  const counts = isJsonObject(told) ? told : {};
  const [inputTokens, outputTokens] = [INPUT_TOKENS, OUTPUT_TOKENS].map((names) => firstIn(counts, names));
  return { ...(inputTokens !== undefined && { inputTokens }), ...(outputTokens !== undefined && { outputTokens }) };
}

/** Seconds that are charged for; some vendors tell them as text. */
export function secondsIn(told: JsonValue | undefined): Pick<Usage, 'seconds'> {
  const seconds = typeof told === 'string' && /^\d{1,9}(\.\d+)?$/.test(told) ? Number(told) : told;
  return isAmount(seconds) ? { seconds } : {};
}

/** US dollars that the vendor says it charged. */
export function usdIn(told: JsonValue | undefined): Pick<Usage, 'usd'> {
  return isAmount(told) ? { usd: told } : {};
}

/** Of the metrics that Cog takes of a run, which Replicate passes on: what is made is charged by its length, everything else by computing. */
const LENGTHS = ['video_output_duration_seconds', 'audio_output_duration_seconds', 'predict_time'];

/** `predict_time` and the like, with what models add to them. */
export function cogFacts(metrics: JsonValue | undefined): Facts {
  const told = isJsonObject(metrics) ? metrics : {};
  const timings = timingsIn(told, { isTiming: (name) => /(^|_)time(_|$)/.test(name) });
  return factsOf(timings, { ...tokensIn(told), ...secondsIn(firstIn(told, LENGTHS)) });
}

function firstIn(members: JsonObject, names: readonly string[]): number | undefined {
  return names.map((name) => members[name]).find(isAmount);
}

function isAmount(value: JsonValue | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
