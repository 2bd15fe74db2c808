/** Reads a stream whose sender is not trusted with our memory. */

/**
 * Returns everything, or undefined when it is more than `bytesMax`: then the rest is read and dropped, so that the sender lives to see the
 * answer. Whoever calls limits the time. @throws what the stream fails with.
 */
export async function readAtMost(stream: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size <= bytesMax) chunks.push(chunk);
    else chunks.length = 0;
  }
  return size <= bytesMax ? Buffer.concat(chunks) : undefined;
}
