import { expect, test } from 'vitest';
import { mediaUrl } from './output.ts';

test('a file of ours has an address below the base, one from elsewhere keeps its own', () => {
  const media = { contentType: 'image/png', fileName: 'a b/c.png' };
  expect(mediaUrl({ ...media, location: { asset: 'token' } }, 'https://queue.example')).toBe(
    'https://queue.example/files/token/a%20b%2Fc.png',
  );
  expect(mediaUrl({ ...media, location: { url: 'https://cdn.example/x' } }, 'https://queue.example')).toBe('https://cdn.example/x');
});
