/** What tests of adapters need for answers that no simulator gives, and for the errors that come of them. */
import { createServer } from 'node:http';
import { type JsonValue, RetryableError, TerminalError } from '@claimcheck/core';
import { onTestFinished } from 'vitest';

export interface ScriptedAnswer {
  /** 200 unless given. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: JsonValue;
}

/** The address of a server that answers with these in turn, the last one for ever, until the test is over. */
export async function answerInTurn(...answers: readonly [ScriptedAnswer, ...ScriptedAnswer[]]): Promise<string> {
  let number = 0;
  const server = createServer((_request, response) => {
    const { status = 200, headers = {}, body } = answers[Math.min(number++, answers.length - 1)] ?? answers[0];
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('a server that listens on a port has an address');
  return `http://127.0.0.1:${address.port}`;
}

/** What the promise failed with; fails the test when that is no error of a provider. */
export async function providerErrorOf(promise: Promise<unknown> | undefined): Promise<RetryableError | TerminalError> {
  const reason = await Promise.resolve(promise).then(
    () => 'nothing was thrown',
    (thrown: unknown) => thrown,
  );
  if (reason instanceof RetryableError || reason instanceof TerminalError) return reason;
  throw new Error('This is no error of a provider.', { cause: reason });
}
