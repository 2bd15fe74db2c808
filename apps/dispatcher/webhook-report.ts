/** One webhook as a block of text for people: what came, whether it is genuine, and how it is answered. */
import { styleText } from 'node:util';
import { isJsonObject, type JsonValue, parseExactJson } from '@claimcheck/core';
import type { WebhookReport } from './webhook-receiver.ts';

export interface ReportStyle {
  readonly isColoured: boolean;
}

/** Ends with an empty line. Nothing in it can steer a terminal, whoever sent the webhook. */
export function formatReport(report: WebhookReport, { isColoured }: ReportStyle): string {
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    isColoured ? styleText(style, text, { validateStream: false }) : text;
  const { value, text } = readBody(report.body);
  const { check, timesSeen } = report;
  const verdict =
    check.kind === 'verified'
      ? paint('green', '✓ verified')
      : check.kind === 'refused'
        ? paint('red', `✗ not verified: ${check.problem}`)
        : paint('yellow', 'not checked: no secret given');
  const rows = [
    ['webhook-id', `${harmless(report.id ?? 'none')}${timesSeen > 1 ? paint('yellow', `  duplicate: seen ${timesSeen} times`) : ''}`],
    ['event', harmless(report.event ?? 'none')],
    ['sequence', harmless(report.sequence ?? 'none')],
    ['signature', verdict],
    ['status', harmless(statusOf(value, report.status))],
    ['answered', answerOf(report.answer)],
  ];
  const lines = rows.map(([name = '', cell]) => `  ${paint('dim', name.padEnd(10))}  ${cell}`);
  const title = `${new Date(report.receivedAtMs).toISOString()}  POST ${harmless(report.path)}`;
  return [paint('bold', title), ...lines, harmless(text), ''].join('\n');
}

/** The number in the native body, where it is one, with its word from the headers. Operators choose how the numbers count. */
function statusOf(value: JsonValue | undefined, word: string | undefined): string {
  const status = isJsonObject(value) ? value.status : undefined;
  const known = [typeof status === 'number' ? String(status) : undefined, word].filter((part) => part !== undefined);
  return known.length > 0 ? known.join(' ') : 'none';
}

function answerOf({ status, retryAfterSeconds, delayMs }: WebhookReport['answer']): string {
  const retryAfter = retryAfterSeconds === undefined ? '' : `, Retry-After: ${retryAfterSeconds}`;
  return `${status}${retryAfter}${delayMs > 0 ? `, after ${delayMs} ms` : ''}`;
}

function readBody(body: Buffer | undefined): { readonly value?: JsonValue; readonly text: string } {
  if (!body) return { text: '(the body was too large to keep)' };
  const text = body.toString();
  try {
    return { value: parseExactJson(text).value, text: indent(text) };
  } catch {
    return { text: text === '' ? '(no body)' : text };
  }
}

/** Tokens of JSON; what is empty stays on one line. */
const TOKEN = /"(?:[^"\\]|\\.)*"|\{\s*\}|\[\s*\]|[{}[\],:]|[^\s{}[\],:"]+|\s+/g;

/** A valid document with two spaces for each level. Its texts and numbers stay as they are, which JSON.stringify would not promise. */
function indent(json: string): string {
  let depth = 0;
  const newLine = () => `\n${'  '.repeat(depth)}`;
  return json.replace(TOKEN, (token) => {
    if (token.trim() === '') return '';
    if (token === ':') return ': ';
    if (token === ',') return token + newLine();
    if (token === '{' || token === '[') {
      depth += 1;
      return token + newLine();
    }
    if (token === '}' || token === ']') {
      depth -= 1;
      return newLine() + token;
    }
    return /^[{[]/.test(token) ? token.replace(/\s/g, '') : token;
  });
}

/** Control characters, which terminals obey, and those that turn the direction of text, as escapes. */
function harmless(text: string): string {
  return text.replace(/[^\P{Cc}\n]|[\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
