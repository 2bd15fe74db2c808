/** A real browser without a window, led over the DevTools protocol: pages are opened in it as people open them. */
import { once } from 'node:events';
import { type Program, providePrograms } from '@claimcheck/engine/testing';
import { z } from 'zod';
import { startProgram, temporaryFolder } from './processes.ts';

const CHROMIUM: Program = {
  names: ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'],
  debianPackage: 'chromium-headless-shell',
  advice: 'The tests need a Chromium: install chromium.',
};

export interface Page {
  /** Every address that was asked for, in order. */
  readonly requests: readonly string[];
  /** What the console would show in red: errors, what nobody caught, and what the page's own policy forbade. */
  readonly errors: readonly string[];
  /** The value of an expression in the page, which must be JSON. Promises are awaited. @throws Error for what it throws. */
  evaluate(expression: string): Promise<unknown>;
  /** A picture of the window, as PNG. */
  screenshot(): Promise<Buffer>;
}

export interface Browser extends AsyncDisposable {
  /** Opens an address in a tab of its own. Resolves when the page and what it names were loaded. */
  open(url: string): Promise<Page>;
}

/** @throws Error with a sentence that says what to install. */
export async function startBrowser(): Promise<Browser> {
  const [program = ''] = await providePrograms([CHROMIUM]);
  await using started = new AsyncDisposableStack();
  const folder = started.use(await temporaryFolder());
  const flags = ['--headless', '--remote-debugging-port=0', `--user-data-dir=${folder.path}`, '--window-size=1280,1000', '--disable-gpu'];
  // Containers give no shared memory to speak of, and root gets no sandbox; only pages of our own are opened.
  const quiet = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking', '--no-first-run'];
  const browser = started.use(startProgram(program, [...flags, ...quiet, 'about:blank']));
  const [, address = ''] = await browser.printed(/DevTools listening on (ws:\S+)/);
  const connection = started.use(await connect(address));
  const running = started.move();
  return { open: (url) => open(connection, url), [Symbol.asyncDispose]: () => running.disposeAsync() };
}

const messageSchema = z.looseObject({
  id: z.number().optional(),
  method: z.string().optional(),
  params: z.unknown().optional(),
  result: z.unknown().optional(),
  error: z.looseObject({ message: z.string() }).optional(),
  sessionId: z.string().optional(),
});

interface Connection extends AsyncDisposable {
  send(method: string, params?: object, sessionId?: string): Promise<unknown>;
  /** Hears every event of a tab from now on. */
  hear(sessionId: string, listener: (method: string, params: unknown) => void): void;
}

async function connect(address: string): Promise<Connection> {
  const socket = new WebSocket(address);
  await once(socket, 'open');
  const awaited = new Map<number, PromiseWithResolvers<unknown>>();
  const listeners = new Map<string, (method: string, params: unknown) => void>();
  let lastId = 0;
  socket.addEventListener('message', ({ data }) => {
    const { id, method, params, result, error, sessionId } = messageSchema.parse(JSON.parse(String(data)));
    if (method !== undefined && sessionId !== undefined) listeners.get(sessionId)?.(method, params);
    const answer = id === undefined ? undefined : awaited.get(id);
    if (id !== undefined) awaited.delete(id);
    if (error) answer?.reject(new Error(error.message));
    else answer?.resolve(result);
  });
  socket.addEventListener('close', () => {
    for (const { reject } of awaited.values()) reject(new Error('The browser is gone.'));
  });
  return {
    send(method, params = {}, sessionId) {
      const answer = Promise.withResolvers<unknown>();
      lastId += 1;
      awaited.set(lastId, answer);
      socket.send(JSON.stringify({ id: lastId, method, params, ...(sessionId !== undefined && { sessionId }) }));
      return answer.promise;
    },
    hear: (sessionId, listener) => listeners.set(sessionId, listener),
    // Ending the program would leave its helpers running.
    async [Symbol.asyncDispose]() {
      const closed = once(socket, 'close');
      socket.send(JSON.stringify({ id: 0, method: 'Browser.close' }));
      await closed;
    },
  };
}

const requestSchema = z.looseObject({ request: z.looseObject({ url: z.string() }) });
const logSchema = z.looseObject({ entry: z.looseObject({ level: z.string(), text: z.string(), url: z.string().optional() }) });
const consoleSchema = z.looseObject({ type: z.string(), args: z.array(z.looseObject({ value: z.unknown().optional() })) });
const exceptionSchema = z.looseObject({
  exceptionDetails: z.looseObject({ text: z.string(), exception: z.looseObject({ description: z.string().optional() }).optional() }),
});
const resultSchema = exceptionSchema.partial().extend({ result: z.looseObject({ value: z.unknown().optional() }) });

async function open(connection: Connection, url: string): Promise<Page> {
  const { targetId } = z.object({ targetId: z.string() }).parse(await connection.send('Target.createTarget', { url: 'about:blank' }));
  const attached = await connection.send('Target.attachToTarget', { targetId, flatten: true });
  const { sessionId } = z.object({ sessionId: z.string() }).parse(attached);
  const send = (method: string, params?: object) => connection.send(method, params, sessionId);
  const requests: string[] = [];
  const errors: string[] = [];
  const loaded = Promise.withResolvers<void>();
  const onEvent: Readonly<Record<string, (params: unknown) => void>> = {
    'Page.loadEventFired': () => loaded.resolve(),
    'Network.requestWillBeSent': (params) => requests.push(requestSchema.parse(params).request.url),
    'Log.entryAdded': (params) => {
      const { level, text, url: source = '' } = logSchema.parse(params).entry;
      if (level === 'error') errors.push(`${text} ${source}`.trim());
    },
    'Runtime.consoleAPICalled': (params) => {
      const { type, args } = consoleSchema.parse(params);
      if (type === 'error') errors.push(args.map(({ value }) => String(value)).join(' '));
    },
    'Runtime.exceptionThrown': (params) => errors.push(sentenceOf(exceptionSchema.parse(params).exceptionDetails)),
  };
  connection.hear(sessionId, (method, params) => onEvent[method]?.(params));
  for (const domain of ['Page', 'Network', 'Log', 'Runtime']) await send(`${domain}.enable`);
  await send('Page.navigate', { url });
  await loaded.promise;
  return {
    requests,
    errors,
    async evaluate(expression) {
      const answer = await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
      const { result, exceptionDetails } = resultSchema.parse(answer);
      if (exceptionDetails) throw new Error(sentenceOf(exceptionDetails));
      return result.value;
    },
    async screenshot() {
      const { data } = z.object({ data: z.string() }).parse(await send('Page.captureScreenshot', { format: 'png' }));
      return Buffer.from(data, 'base64');
    },
  };
}

function sentenceOf({ text, exception }: z.infer<typeof exceptionSchema>['exceptionDetails']): string {
  return exception?.description ?? text;
}
