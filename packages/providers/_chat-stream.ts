/**
 * The answer of a language model that comes in pieces, as OpenAI and what speaks like it write them: `data:` lines, each with what was added,
 * and `[DONE]` behind the last. Put together it is the answer that would otherwise have come at once.
 */
import { isJsonObject, type JsonObject } from '@claimcheck/core';

export interface ChatStream {
  /** The next bytes of the answer, wherever they are cut. */
  read(bytes: Uint8Array): void;
  /** The words so far. */
  readonly text: string;
  /** As if it had come at once; undefined when it broke off. */
  answer(): JsonObject | undefined;
}

export function openChatStream(): ChatStream {
  const decoder = new TextDecoder();
  let line = '';
  let members: JsonObject = {};
  let [text, refusal] = ['', ''];
  let reason: JsonObject[string] | undefined;
  let isDone = false;

  function readLine(data: string): void {
    if (data === '[DONE]') isDone = true;
    const piece = jsonIn(data);
    if (!piece) return;
    const { choices, ...rest } = piece;
    // The usage comes with a last piece that has no choice; in the others it is null.
    members = { ...members, ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null)) };
    const [choice] = Array.isArray(choices) ? choices : [];
    if (!isJsonObject(choice)) return;
    const { content, refusal: refused } = isJsonObject(choice.delta) ? choice.delta : {};
    if (typeof content === 'string') text += content;
    if (typeof refused === 'string') refusal += refused;
    if (choice.finish_reason) reason = choice.finish_reason;
  }

  return {
    read(bytes) {
      const [first = '', ...others] = decoder.decode(bytes, { stream: true }).split('\n');
      line += first;
      for (const next of others) {
        if (line.startsWith('data:')) readLine(line.slice('data:'.length).trim());
        line = next;
      }
    },
    get text() {
      return text;
    },
    answer() {
      if (!isDone && reason === undefined && members.error === undefined) return undefined;
      const message = { role: 'assistant', content: text, ...(refusal !== '' && { refusal }) };
      return { ...members, choices: [{ message, ...(reason !== undefined && { finish_reason: reason }) }] };
    },
  };
}

function jsonIn(data: string): JsonObject | undefined {
  try {
    const value = JSON.parse(data);
    return isJsonObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
