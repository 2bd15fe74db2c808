import { describe, expect, test } from 'vitest';
import { coalesce } from './coalesce.ts';

/** A database that answers when it is told to. */
function aStore() {
  const batches: { readonly calls: readonly number[]; readonly answer: PromiseWithResolvers<readonly string[]> }[] = [];
  const arrived: (() => void)[] = [];
  return {
    batches,
    run(calls: readonly number[]) {
      const answer = Promise.withResolvers<readonly string[]>();
      batches.push({ calls, answer });
      for (const resolve of arrived.splice(0)) resolve();
      return answer.promise;
    },
    /** Resolves when `count` batches have arrived. */
    async batch(count: number) {
      while (batches.length < count) await new Promise<void>((resolve) => arrived.push(resolve));
    },
    answerAll() {
      for (const { calls, answer } of batches) answer.resolve(calls.map((call) => `answer to ${call}`));
    },
  };
}

class RefusedRow extends Error {
  readonly code: string;
  constructor(code: string) {
    super(`refused with ${code}`);
    this.code = code;
  }
}

describe('calls', () => {
  test('of one turn of the event loop travel together, and each gets its own answer', async () => {
    const sizes: number[] = [];
    const call = coalesce(async (calls: readonly number[]) => {
      sizes.push(calls.length);
      return calls.map((each) => each * 2);
    });
    expect(await Promise.all([1, 2, 3].map(call))).toEqual([2, 4, 6]);
    expect(sizes).toEqual([3]);
  });

  test('a thousand at once take five statements of two hundred', async () => {
    const sizes: number[] = [];
    const call = coalesce(async (calls: readonly number[]) => {
      sizes.push(calls.length);
      return calls;
    });
    const calls = Array.from({ length: 1000 }, (_, index) => index);
    expect(await Promise.all(calls.map(call))).toEqual(calls);
    expect(sizes).toEqual([200, 200, 200, 200, 200]);
  });

  test('that arrive while all batches are under way wait and travel in the next one together', async () => {
    const store = aStore();
    const call = coalesce(store.run, { concurrency: 1 });
    const first = call(1);
    await store.batch(1);
    const later = [call(2), call(3)];
    store.answerAll();
    expect(await first).toBe('answer to 1');
    await store.batch(2);
    expect(store.batches.map(({ calls }) => calls)).toEqual([[1], [2, 3]]);
    store.answerAll();
    expect(await Promise.all(later)).toEqual(['answer to 2', 'answer to 3']);
  });

  test('do not wait for an earlier batch as long as another may run', async () => {
    const store = aStore();
    const call = coalesce(store.run, { concurrency: 2 });
    const both = [call(1)];
    await store.batch(1);
    both.push(call(2));
    await store.batch(2);
    store.answerAll();
    expect(await Promise.all(both)).toEqual(['answer to 1', 'answer to 2']);
  });

  test('travel in batches of the given size at most, in order', async () => {
    const batches: number[][] = [];
    const call = coalesce(
      async (calls: readonly number[]) => {
        batches.push([...calls]);
        return calls;
      },
      { batchSizeMax: 2, concurrency: 1 },
    );
    await Promise.all([1, 2, 3, 4, 5].map(call));
    expect(batches).toEqual([[1, 2], [3, 4], [5]]);
  });

  test('with the same key never travel in one batch, and keep their order', async () => {
    const batches: string[][] = [];
    const call = coalesce(
      async (calls: readonly string[]) => {
        batches.push([...calls]);
        return calls;
      },
      { keyOf: (text) => text.slice(0, 1), concurrency: 1 },
    );
    await Promise.all(['a1', 'b1', 'a2', 'a3', 'b2'].map(call));
    expect(batches).toEqual([['a1', 'b1'], ['a2', 'b2'], ['a3']]);
  });
});

describe('an error', () => {
  test.each(['22P02', '23503'])('of one row (%s) fails that row alone', async (code) => {
    const batches: number[] = [];
    const call = coalesce(async (calls: readonly number[]) => {
      batches.push(calls.length);
      if (calls.includes(2)) throw new RefusedRow(code);
      return calls;
    });
    const outcomes = await Promise.allSettled([1, 2, 3].map(call));
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(batches).toEqual([3, 1, 1, 1]);
  });

  test('of the connection fails the whole batch and is not tried again', async () => {
    let runs = 0;
    const call = coalesce(async (_calls: readonly number[]): Promise<number[]> => {
      runs += 1;
      throw new RefusedRow('CONNECTION_LOST');
    });
    const outcomes = await Promise.allSettled([1, 2].map(call));
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(runs).toBe(1);
  });

  test('leaves the next calls alone', async () => {
    let isBroken = true;
    const call = coalesce(
      async (calls: readonly number[]) => {
        if (isBroken) throw new Error('down');
        return calls;
      },
      { concurrency: 1 },
    );
    await expect(call(1)).rejects.toThrow('down');
    isBroken = false;
    expect(await call(2)).toBe(2);
  });

  test('is what a batch with too few answers is', async () => {
    const call = coalesce(async (calls: readonly number[]) => calls.slice(1));
    await expect(Promise.all([1, 2].map(call))).rejects.toThrow('a batch of 2 calls got 1 results');
  });
});
