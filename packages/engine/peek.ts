/** Looks at the beginning of a file that comes as a stream. */
import { HEAD_BYTES } from './media-type.ts';

export interface Peeked extends AsyncDisposable {
  /** As many bytes as tell the type of a file, or all there are. */
  readonly head: Uint8Array;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** The first bytes, and all chunks with these among them. To be disposed of, whether they were read or not. */
export async function peekInto(body: AsyncIterable<Uint8Array>): Promise<Peeked> {
  const source = body[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  for (let bytes = 0; bytes < HEAD_BYTES; ) {
    const { done, value } = await source.next();
    if (done) break;
    first.push(value);
    bytes += value.byteLength;
  }
  async function* chunks(): AsyncIterable<Uint8Array> {
    yield* first;
    yield* { [Symbol.asyncIterator]: () => source };
  }
  return {
    head: Buffer.concat(first).subarray(0, HEAD_BYTES),
    chunks: chunks(),
    [Symbol.asyncDispose]: async () => void (await source.return?.()),
  };
}
