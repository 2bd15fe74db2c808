/** A caller that may reach this machine's loopback address, and leaves nothing open behind. */
import { systemClock } from '@claimcheck/core';
import { parseAllowList } from '../allow-list.ts';
import { type Caller, type CallerOptions, type OutboundCall, openCaller } from '../call.ts';
import { openGuard, type Resolve } from '../guard.ts';
import { OutboundError } from '../outbound-error.ts';

export interface TestCaller extends AsyncDisposable {
  readonly caller: Caller;
  /** Posts to a URL, with a second's time and 1,000 bytes' room for the answer unless the test says otherwise. */
  post(url: string, call?: Partial<OutboundCall>): ReturnType<Caller['call']>;
  /** The error that such a call ends with. */
  failureOf(url: string, call?: Partial<OutboundCall>): Promise<OutboundError>;
}

export interface TestCallerOptions extends Partial<CallerOptions> {
  /** Entries of the allow list; 127.0.0.1 unless told. */
  readonly allowed?: string;
  /** Every name leads to 127.0.0.1 unless told. */
  readonly resolve?: Resolve;
}

export function openTestCaller({
  allowed = '127.0.0.1',
  resolve = async () => ['127.0.0.1'],
  ...options
}: TestCallerOptions = {}): TestCaller {
  const guard = openGuard({ allow: parseAllowList(allowed).allow, resolve });
  const caller = openCaller({ guard, clock: systemClock, ...options });
  const post: TestCaller['post'] = (url, call) =>
    caller.call({ url, method: 'POST', headers: {}, body: '{}', totalMs: 1_000, bodyBytesMax: 1_000, ...call });
  return {
    caller,
    post,
    async failureOf(url, call) {
      const error = await post(url, call).then(
        (answer) => new Error(`the call was answered with ${answer.status}`),
        (thrown: unknown) => thrown,
      );
      if (error instanceof OutboundError) return error;
      throw error;
    },
    [Symbol.asyncDispose]: () => caller.close(),
  };
}
