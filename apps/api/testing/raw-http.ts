/** An HTTP client that sends exactly the bytes it is told to, for requests that no proper client would send. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawConnection extends Disposable {
  readonly socket: Socket;
  /** All that has come back so far. */
  received(): string;
  send(text: string | Uint8Array): void;
  /** Resolves when what came back contains `text`; rejects when the connection ends first. */
  until(text: string): Promise<string>;
  /** All that came back, once the connection has ended, however it did. */
  closed: Promise<string>;
}

/** Connects to the origin of a listening service. */
export async function connectRaw(url: string): Promise<RawConnection> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  // A connection that is reset ends too.
  socket.on('error', () => {});
  const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(text)));
  await once(socket, 'connect');
  return {
    socket,
    closed,
    received: () => text,
    send: (data) => void socket.write(data),
    async until(wanted) {
      while (!text.includes(wanted)) {
        const more = await Promise.race([once(socket, 'data'), closed]);
        if (typeof more === 'string' && !text.includes(wanted)) throw new Error(`The connection ended with: ${text}`);
      }
      return text;
    },
    [Symbol.dispose]: () => socket.destroy(),
  };
}

export interface RawAnswer {
  readonly status: number;
  /** Lower-case names; of a repeated one the last. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Sends one request, which must make the server close the connection, and reads what it answers. */
export async function exchange(url: string, request: string): Promise<RawAnswer> {
  using connection = await connectRaw(url);
  connection.send(Buffer.from(request, 'latin1'));
  return parseAnswer(await connection.closed);
}

export function parseAnswer(text: string): RawAnswer {
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const [line = '', ...fields] = head.split('\r\n');
  const headers = fields.map((field) => [field.split(':', 1)[0]?.toLowerCase() ?? '', field.replace(/^[^:]*:\s*/, '')]);
  return { status: Number(line.split(' ')[1]), headers: Object.fromEntries(headers), body: rest.join('\r\n\r\n') };
}
