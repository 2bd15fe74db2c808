/** Which headers users may add to calls to them: all but those that frame a message, belong to its connection, or prove who sent it. */

const DENIED = new Set(['host', 'connection', 'transfer-encoding', 'te', 'upgrade', 'trailer', 'expect', 'keep-alive', 'user-agent']);
const DENIED_BEGINNINGS = ['content-', 'proxy-', 'webhook-'];
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Visible ASCII, spaces, tabs and the upper half of Latin-1: what can be sent. Line breaks would begin a header of their own. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** What is wrong with headers that a user wants to add, to complete "it …"; undefined when nothing is. Values are never repeated. */
export function problemWithHeaders(headers: Readonly<Record<string, string>>): string | undefined {
  for (const [name, value] of Object.entries(headers)) {
    const shown = JSON.stringify(name);
    if (!NAME.test(name)) return `must not have a header named ${shown}`;
    if (isDenied(name)) return `must not set the header ${shown}, which is not for users`;
    if (!VALUE.test(value)) return `must not have line breaks or characters that cannot be sent in the header ${shown}`;
  }
  return undefined;
}

/** Those headers that users may add, in lower case: for sending what was stored, whichever rules held at that time. */
export function allowedHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const allowed = Object.entries(headers).filter(([name, value]) => problemWithHeaders({ [name]: value }) === undefined);
  return Object.fromEntries(allowed.map(([name, value]) => [name.toLowerCase(), value]));
}

function isDenied(name: string): boolean {
  const lower = name.toLowerCase();
  return DENIED.has(lower) || DENIED_BEGINNINGS.some((beginning) => lower.startsWith(beginning));
}
