/**
 * Turns many concurrent calls into few statements: calls that arrive while earlier batches are under way travel
 * together in the next one. An idle caller waits for nobody; under load the batches grow by themselves.
 */

export interface CoalesceOptions<Call> {
  /** Two calls with the same key never travel in one batch: a statement changes a row only once. */
  readonly keyOf?: (call: Call) => string;
  /** Calls in one batch at most. */
  readonly batchSizeMax?: number;
  /** Batches under way at once; more would only use up connections. */
  readonly concurrency?: number;
}

/**
 * `runBatch` gets the calls in order of arrival and answers with one result per call, in that order. When it throws, every
 * call of a batch of one rejects; a larger batch that the database refused for its data is run again call by call, so that one
 * bad row cannot fail its neighbours.
 */
export function coalesce<Call, Result>(
  runBatch: (calls: readonly Call[]) => Promise<readonly Result[]>,
  { keyOf, batchSizeMax = 200, concurrency = 4 }: CoalesceOptions<Call> = {},
): (call: Call) => Promise<Result> {
  interface Waiting {
    readonly call: Call;
    readonly settle: PromiseWithResolvers<Result>;
  }
  let waiting: Waiting[] = [];
  let running = 0;
  let scheduled = false;

  const runOne = async (batch: readonly Waiting[]): Promise<void> => {
    try {
      const results = await runBatch(batch.map(({ call }) => call));
      if (results.length !== batch.length) throw new Error(`a batch of ${batch.length} calls got ${results.length} results`);
      for (const [index, result] of results.entries()) batch[index]?.settle.resolve(result);
    } catch (error) {
      if (batch.length > 1 && isRefusedData(error)) await Promise.all(batch.map((single) => runOne([single])));
      else for (const { settle } of batch) settle.reject(error);
    }
  };

  const takeBatch = (): Waiting[] => {
    if (!keyOf) return waiting.splice(0, batchSizeMax);
    const keys = new Set<string>();
    const batch: Waiting[] = [];
    const later: Waiting[] = [];
    for (const item of waiting) {
      const key = keyOf(item.call);
      if (batch.length >= batchSizeMax || keys.has(key)) later.push(item);
      else {
        keys.add(key);
        batch.push(item);
      }
    }
    waiting = later;
    return batch;
  };

  const flush = () => {
    scheduled = false;
    while (waiting.length > 0 && running < concurrency) {
      const batch = takeBatch();
      running += 1;
      void runOne(batch).finally(() => {
        running -= 1;
        flush();
      });
    }
  };

  return (call) => {
    const settle = Promise.withResolvers<Result>();
    waiting.push({ call, settle });
    if (!scheduled && running < concurrency) {
      scheduled = true;
      // After the I/O of this turn of the event loop: everything that arrived in it is on board.
      setImmediate(flush);
    }
    return settle.promise;
  };
}

/** SQLSTATE classes 22 (data exception) and 23 (integrity constraint violation): the row is wrong, not the connection. */
function isRefusedData(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^2[23]/.test(code);
}
