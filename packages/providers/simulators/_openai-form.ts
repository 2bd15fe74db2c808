/** What a submission to an OpenAI-shaped vendor may come as: JSON, or a form whose bracketed names are nested values. */
import type { SimulatedRequest } from './simulator.ts';

export type Fields = Readonly<Record<string, unknown>>;

/** Undefined for a body that is neither. protocols/openai.md, section 6: which of the two a client sends depends on its version. */
export async function fieldsOf({ headers, body }: SimulatedRequest): Promise<Fields | undefined> {
  if (isFields(body)) return body;
  const contentType = headers['content-type'] ?? '';
  if (typeof body !== 'string' || !contentType.startsWith('multipart/form-data')) return undefined;
  const form = await new Response(body, { headers: { 'content-type': contentType } }).formData().catch(() => undefined);
  if (!form) return undefined;
  const fields: Record<string, unknown> = {};
  for (const [name, value] of form) {
    const [, outer, inner] = /^([^[]+)\[([^\]]+)\]$/.exec(name) ?? [];
    if (outer === undefined || inner === undefined) fields[name] = value;
    else fields[outer] = { ...(isFields(fields[outer]) ? fields[outer] : {}), [inner]: value };
  }
  return fields;
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
