/** Conversations for models that read one prompt: what chat completions and responses are asked in. */
import { isJsonObject, type JsonObject, type JsonValue, toJsonText } from '@claimcheck/core';
import { type Draft, give, type Rule, refuse, refused, renamed } from './_openai-fit.ts';

interface Turn {
  readonly role: string;
  readonly text: string;
}

/** Also for a text alone, and with `instructions` in front. A model that reads messages gets them as messages. */
export const conversation: Rule = (draft, name, value) => {
  const list = typeof value === 'string' ? [{ role: 'user', content: value }] : value;
  draft.members.delete(name);
  const instructions: JsonValue = JSON.parse(draft.members.get('instructions') ?? 'null');
  if (!Array.isArray(list) || list.length === 0) return refuse(draft, name, 'must be a text, or a list of messages with role and content');
  const messages = instructions === null ? list : [{ role: 'system', content: instructions }, ...list];
  if (!Object.hasOwn(draft.properties, 'instructions')) draft.members.delete('instructions');
  if (Object.hasOwn(draft.properties, 'messages')) return give(draft, 'messages', messages);
  const turns = messages.map((message, index) => readTurn(draft, `${name}/${index}`, message));
  if (turns.every((turn) => turn !== undefined)) givePrompt(draft, turns);
};

/** Undefined with a problem in the draft. */
function readTurn(draft: Draft, name: string, message: JsonValue): Turn | undefined {
  if (!isJsonObject(message) || typeof message.role !== 'string') {
    refuse(draft, name, 'must be a message with role and content');
    return undefined;
  }
  const parts = typeof message.content === 'string' ? [message.content] : message.content;
  const texts = (Array.isArray(parts) ? parts : []).map(textIn);
  if (!Array.isArray(parts) || !texts.every((text) => text !== undefined)) {
    refuse(draft, `${name}/content`, `must be text: model ${JSON.stringify(draft.model.name)} reads nothing else`);
    return undefined;
  }
  return { role: message.role, text: texts.join('') };
}

function textIn(part: JsonValue): string | undefined {
  if (typeof part === 'string') return part;
  return isJsonObject(part) && typeof part.text === 'string' ? part.text : undefined;
}

/** Who said what, in the order it was said; a single question stands alone, as models without a conversation expect it. */
function givePrompt(draft: Draft, turns: readonly Turn[]): void {
  const isSystem = ({ role }: Turn) => role === 'system' || role === 'developer';
  const system = turns.filter(isSystem).map(({ text }) => text);
  const said = turns.filter((turn) => !isSystem(turn));
  const [only] = said;
  const dialogue = said.length === 1 && only ? only.text : said.map(({ role, text }) => `${role}: ${text}`).join('\n');
  const target = ['system_prompt', 'system', 'instructions'].find((known) => Object.hasOwn(draft.properties, known));
  const hasSystem = system.length > 0;
  if (hasSystem && target !== undefined) give(draft, target, system.join('\n'));
  const prompt = hasSystem && target === undefined ? [...system, dialogue].join('\n\n') : dialogue;
  // In place of anything else of that name: the conversation is what the client asks.
  draft.members.set('prompt', toJsonText(prompt));
}

const LENGTHS = ['max_tokens', 'max_completion_tokens', 'max_output_tokens', 'max_new_tokens'] as const;
/** The names that the vendor itself has for the longest answer. */
export const LENGTH_RULES: Readonly<Record<string, Rule>> = Object.fromEntries(LENGTHS.map((name) => [name, renamed(...LENGTHS)]));

const isList = (value: JsonValue) => Array.isArray(value) && value.length === 0;
const isZero = (value: JsonValue) => value === 0;

/** What changes the answer, and what only models with a parameter for it can do. */
export const ABILITY_RULES: Readonly<Record<string, Rule>> = {
  tool_choice: refused((value) => value === 'auto' || value === 'none'),
  parallel_tool_calls: refused((value) => typeof value === 'boolean'),
  top_logprobs: refused(isZero),
  reasoning: refused((value) => isJsonObject(value) && Object.values(value).every((member) => member === null)),
  stop: refused(isList),
};

/** True for a description of plain text, which is what there is without one. */
export function isPlainFormat(value: JsonValue): boolean {
  const format: JsonObject = isJsonObject(value) ? value : {};
  return format.type === 'text';
}
