/** The page at /docs as people see it, in a real browser. */
import { startTestService, type TestService } from '@claimcheck/api/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Browser, type Page, startBrowser } from './testing/browser.ts';

/** A browser that is not there is installed first. */
const START_MS = 300_000;
const POLL = { timeout: 60_000, interval: 50 };

let service: TestService;
let url: string;
let browser: Browser;
let page: Page;
let linked: Page;
const started = new AsyncDisposableStack();
beforeAll(async () => {
  service = started.use(await startTestService({ worker: false }));
  ({ url } = await service.listen());
  browser = started.use(await startBrowser());
  page = await browser.open(`${url}/docs`);
}, START_MS);
afterAll(() => started.disposeAsync());

/** Resolves when the page has drawn what it fetched. */
const isDrawn = ({ evaluate }: Page) =>
  expect.poll(() => evaluate(`document.querySelectorAll('.opblock').length`), POLL).toBeGreaterThan(5);

/** Looks at what is drawn, as it draws only what may be seen; scrolls on, and from the end back to the start. Tells how much it has seen. */
const LOOK = `(() => {
  window.seen ??= { operations: new Set(), parts: new Set() };
  for (const block of document.querySelectorAll('.opblock')) seen.operations.add(block.id);
  for (const part of document.querySelectorAll('.opblock-tag')) seen.parts.add(part.dataset.tag);
  const isAtEnd = scrollY + innerHeight >= document.documentElement.scrollHeight - 1;
  scrollTo(0, isAtEnd ? 0 : scrollY + innerHeight);
  return seen.operations.size;
})()`;

test('shows every operation under its part, with the models that run here', async () => {
  await isDrawn(page);
  const { paths, tags } = JSON.parse(await (await fetch(`${url}/openapi.json`)).text());
  const operations = Object.values<object>(paths).flatMap((item) =>
    Object.entries<{ readonly operationId: string }>({ ...item }).flatMap(([method, { operationId }]) =>
      method === 'x-query' ? [] : [operationId],
    ),
  );
  await expect.poll(() => page.evaluate(LOOK), { timeout: 20_000, interval: 10 }).toBe(operations.length);
  expect(await page.evaluate(`[...seen.parts]`)).toEqual(tags.map(({ name }: { readonly name: string }) => name));
  expect(await page.evaluate(`[...seen.operations]`)).toContain('operations-Models-post-v2-hidream-l1-fast');
}, 120_000);

test('opens a model with its parameters by its address, which may have a slash too many', async () => {
  linked = await browser.open(`${url}/docs/#/Models/post-v2-hidream-l1-fast`);
  const text = () => linked.evaluate(`document.querySelector('#operations-Models-post-v2-hidream-l1-fast')?.innerText ?? ''`);
  await expect.poll(text, POLL).toContain('"prompt"');
  expect(await text()).toContain('Idempotency-Key');
});

test('tries a route with the key that is given to it', async () => {
  await page.evaluate(`scrollTo(0, 0)`);
  const click = (selector: string) =>
    expect
      .poll(
        () =>
          page.evaluate(
            `(document.querySelector(${JSON.stringify(selector)})?.click(), !!document.querySelector(${JSON.stringify(selector)}))`,
          ),
        POLL,
      )
      .toBe(true);
  await click('.btn.authorize');
  const typed = `(() => {
    const input = document.querySelector('.auth-container input');
    if (!input) return false;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, ${JSON.stringify(service.key)});
    input.dispatchEvent(new Event('input', { bubbles: true }));
    input.dispatchEvent(new Event('change', { bubbles: true }));
    return true;
  })()`;
  await expect.poll(() => page.evaluate(typed), POLL).toBe(true);
  await click('.auth-container .btn.authorize');
  await click('.auth-container .btn-done');
  await click('#operations-claimcheck-get-v2-requests .opblock-summary-control');
  await click('#operations-claimcheck-get-v2-requests .try-out__btn');
  await click('#operations-claimcheck-get-v2-requests .btn.execute');
  const answer = `document.querySelector('#operations-claimcheck-get-v2-requests .live-responses-table')?.innerText ?? ''`;
  await expect.poll(() => page.evaluate(answer), POLL).toContain('next_cursor');
});

test('asks no other host for anything, and has nothing to complain of', async () => {
  for (const { requests, errors } of [page, linked]) {
    const elsewhere = requests.filter((address) => !address.startsWith(`${url}/`) && !address.startsWith('data:'));
    expect(elsewhere).toEqual([]);
    expect(requests).toContain(`${url}/openapi.json`);
    expect(errors).toEqual([]);
  }
});

test('runs nothing that does not come from the service', async () => {
  const { errors, evaluate } = linked;
  const insert = `document.head.append(Object.assign(document.createElement('script'), { textContent: 'window.isInlineRun = true' }))`;
  await evaluate(`void ${insert}`);
  await expect.poll(() => errors.join(), POLL).toContain('Content Security Policy');
  expect(await evaluate(`window.isInlineRun ?? false`)).toBe(false);
  await expect(evaluate(`fetch('http://127.0.0.2:9/')`)).rejects.toThrow('Failed to fetch');
  expect(errors.filter((error) => error.includes('connect-src'))).toHaveLength(1);
});

test('sends its files packed to those who can unpack them, once, and no others', async () => {
  const packed = await service.app.request('/docs/swagger-ui-bundle.js', { headers: { 'accept-encoding': 'br, gzip' } });
  const plain = await service.app.request('/docs/swagger-ui-bundle.js', { headers: { 'accept-encoding': 'gzip;q=0' } });
  expect([packed.headers.get('content-encoding'), plain.headers.get('content-encoding')]).toEqual(['gzip', null]);
  const [small, large] = [await packed.arrayBuffer(), await plain.arrayBuffer()];
  expect(small.byteLength).toBeLessThan(large.byteLength / 3);
  const etag = plain.headers.get('etag') ?? '';
  expect((await service.app.request('/docs/swagger-ui-bundle.js', { headers: { 'if-none-match': etag } })).status).toBe(304);
  for (const name of ['index.html', 'swagger-ui-bundle.js.map', 'package.json', '..%2Fpackage.json', '__proto__']) {
    expect((await service.app.request(`/docs/${name}`)).status, name).toBe(404);
  }
});
