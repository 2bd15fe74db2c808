/** A free port of the loopback address. */
import { createServer } from 'node:net';
import { errorCode } from './embedded-postgres-errors.ts';

/** `wished` when nobody listens there, else a port that the system picks. Somebody may take it before it is used: be ready to ask again. */
export async function freePort(wished = 0): Promise<number> {
  const probe = createServer();
  try {
    return await new Promise<number>((found, failed) => {
      probe.once('error', failed);
      probe.listen({ host: '127.0.0.1', port: wished }, () => {
        const address = probe.address();
        if (typeof address === 'object' && address) found(address.port);
      });
    });
  } catch (error) {
    if (wished === 0 || errorCode(error) === undefined) throw error;
    return await freePort();
  } finally {
    // Never listened on: closing it then is an answer, not a fault.
    await new Promise((closed) => probe.close(closed));
  }
}
