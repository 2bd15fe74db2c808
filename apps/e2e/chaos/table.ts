/** The verdicts as a table for people. */
import type { Verdict } from './verdict.ts';

const COLUMNS: readonly { readonly title: string; readonly cell: (verdict: Verdict) => string }[] = [
  { title: 'scenario', cell: ({ scenario }) => scenario },
  { title: 'queue', cell: ({ queue }) => queue },
  { title: 'faults', cell: ({ faults }) => String(faults) },
  { title: 'acknowledged', cell: ({ acknowledged }) => String(acknowledged) },
  { title: 'terminal', cell: ({ terminal }) => String(terminal) },
  { title: 'lost', cell: ({ lost }) => String(lost) },
  { title: 'dup. terminal', cell: ({ duplicateTerminals }) => String(duplicateTerminals) },
  {
    title: 'dup. submits (allowed)',
    cell: ({ duplicateSubmits, duplicateSubmitsAllowed }) => `${duplicateSubmits} (${duplicateSubmitsAllowed})`,
  },
  { title: 'webhooks missing', cell: ({ webhooksMissing }) => String(webhooksMissing) },
  { title: 'recovery s p50/max', cell: ({ recoverySeconds }) => describeTimes(recoverySeconds) },
  { title: 'exits unasked', cell: ({ unaskedExits }) => String(unaskedExits) },
  { title: 'verdict', cell: ({ broken }) => (broken.length === 0 ? 'holds' : 'BROKEN') },
];

/** A Markdown table, with its columns aligned. */
export function tableOf(verdicts: readonly Verdict[]): string {
  const lines = [COLUMNS.map(({ title }) => title), ...verdicts.map((verdict) => COLUMNS.map(({ cell }) => cell(verdict)))];
  const widths = COLUMNS.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
  const [head = '', ...body] = lines.map((cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  return [head, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...body].join('\n');
}

function describeTimes(seconds: readonly number[]): string {
  const sorted = seconds.toSorted((a, b) => a - b);
  const median = sorted[Math.floor((sorted.length - 1) / 2)];
  return median === undefined ? '-' : `${median.toFixed(1)} / ${sorted.at(-1)?.toFixed(1)}`;
}
