import { expect, test } from 'vitest';
import { allowedHeaders, problemWithHeaders } from './webhook-headers.ts';

test.each(['authorization', 'X-Custom', 'cookie', 'accept', 'x-webhook-id', 'contents', 'x-content-type', 'tenant'])(
  'users may set %s',
  (name) => {
    expect(problemWithHeaders({ [name]: 'value' })).toBeUndefined();
  },
);

test.each([
  ...[
    'host',
    'Host',
    'connection',
    'content-type',
    'Content-Length',
    'content-encoding',
    'transfer-encoding',
    'te',
    'upgrade',
    'trailer',
    'expect',
  ],
  ...['keep-alive', 'proxy-authorization', 'Proxy-Connection', 'user-agent', 'webhook-id', 'Webhook-Signature', 'webhook-anything'],
])('users may not set %s', (name) => {
  expect(problemWithHeaders({ authorization: 'x', [name]: 'value' })).toContain(JSON.stringify(name));
});

test.each(['', 'a b', 'a:b', 'a\r\nb', 'a\u0000', 'na\u00efve', '(a)'])('%j is no name of a header', (name) => {
  expect(problemWithHeaders({ [name]: 'value' })).toContain('must not have a header named');
});

test.each(['a\r\nx-injected: 1', 'a\nb', 'a\rb', 'a\u0000b', 'a\u007fb', '\u2028', '\u4e2d'])(
  '%j is no value of a header, and is not repeated',
  (value) => {
    const problem = problemWithHeaders({ 'x-custom': value });
    expect(problem).toContain('"x-custom"');
    expect(problem).not.toContain(value);
  },
);

test.each(['', 'Bearer abc', 'a\tb', 'caf\u00e9'])('%j may be a value', (value) => {
  expect(problemWithHeaders({ 'x-custom': value })).toBeUndefined();
});

test('of stored headers only those that are allowed are sent', () => {
  expect(allowedHeaders({ Authorization: 'Bearer a', Host: 'evil', 'webhook-id': 'x', 'x-bad': 'a\r\nb', 'X-Good': 'b' })).toEqual({
    authorization: 'Bearer a',
    'x-good': 'b',
  });
});
