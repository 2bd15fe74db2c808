/** The answer of a simulated language model behind an interface like OpenAI's: it says back what it was told. */
import { type Fields, isFields } from './_openai-form.ts';

export const REFUSAL = 'I cannot help with that.';

/** The same in pieces, word by word, as `data:` lines are written of. */
export function piecesOf({ choices: [choice], usage, ...common }: NonNullable<ReturnType<typeof completionOf>>): readonly string[] {
  const { content, refusal } = choice?.message ?? { content: null, refusal: null };
  const deltas = content === null ? [{ refusal }] : content.split(/(?<=\s)/).map((word) => ({ content: word }));
  const piece = (choices: readonly object[], of: object | null) =>
    JSON.stringify({ ...common, object: 'chat.completion.chunk', choices, usage: of });
  return [
    ...deltas.map((delta) => piece([{ index: 0, delta, finish_reason: null }], null)),
    piece([{ index: 0, delta: {}, finish_reason: 'stop' }], null),
    piece([], usage),
    '[DONE]',
  ];
}

/** Undefined for a request without messages. */
export function completionOf({ model, messages }: Fields, id: string, created: number, isRefused = false) {
  const last: unknown = Array.isArray(messages) ? messages.at(-1) : undefined;
  if (!isFields(last) || typeof last.content !== 'string') return undefined;
  const content = `You said: ${last.content}`;
  const [read, written] = [last.content, content].map((text) => text.split(/\s+/).length);
  const message = { role: 'assistant', content: isRefused ? null : content, refusal: isRefused ? REFUSAL : null };
  return {
    id,
    object: 'chat.completion',
    created,
    model,
    choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
    usage: { prompt_tokens: read, completion_tokens: written, total_tokens: (read ?? 0) + (written ?? 0) },
  };
}
