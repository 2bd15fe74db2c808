import { describe, expect, test } from 'vitest';
import { parseAllowList } from './allow-list.ts';

describe('an allow list', () => {
  test('has networks, addresses and names', () => {
    const { allow, problems } = parseAllowList(
      ' 10.0.0.0/8,127.0.0.1, ::1 ,[fd00::1],192.168.1.7/32,fd00::2/128, Receiver.Internal. ,b\u00fccher.example,, ',
    );
    expect(problems).toEqual([]);
    expect(allow.networks).toEqual([{ address: '10.0.0.0', bits: 8 }]);
    expect([...allow.addresses]).toEqual(['127.0.0.1', '::1', 'fd00::1', '192.168.1.7', 'fd00::2']);
    expect([...allow.hosts]).toEqual(['receiver.internal', 'xn--bcher-kva.example']);
  });

  test('may be empty', () => {
    const { allow, problems } = parseAllowList('');
    expect(problems).toEqual([]);
    expect([allow.networks.length, allow.addresses.size, allow.hosts.size]).toEqual([0, 0, 0]);
  });

  test.each([
    ['10.0.0.1/8', 'CIDR'],
    ['10.0.0.0/33', 'CIDR'],
    ['http://receiver', 'URL'],
    ['receiver:9000', 'port'],
    ['[::1]:9000', 'port'],
    ['*.example.com', 'wildcard'],
    ['127.1', 'another spelling of 127.0.0.1'],
    ['2130706433', 'another spelling of 127.0.0.1'],
    ['two words', 'neither'],
    ['user@receiver', 'neither'],
    ['receiver?x', 'neither'],
    ['::1::', 'neither'],
  ])('with %s is refused: %s', (entry, reason) => {
    const { problems } = parseAllowList(`127.0.0.1, ${entry}`);
    expect(problems).toEqual([expect.stringContaining(reason)]);
    expect(problems[0]?.startsWith(JSON.stringify(entry))).toBe(true);
  });

  test('names every wrong entry', () => {
    expect(parseAllowList('10.0.0.1/8,receiver,a:1').problems).toHaveLength(2);
  });

  test.each(['127.0.0.0/8', '169.254.0.0/16', 'fe80::/10', '224.0.0.0/4', '::/64'])('with %s, which opens nothing, is refused', (entry) => {
    expect(parseAllowList(entry).problems).toEqual([expect.stringContaining('one by one')]);
  });

  test.each(['0.0.0.0/0', '::/0', '10.1.0.0/16', 'fd00::/8', '8.8.8.0/24'])('may have %s', (entry) => {
    expect(parseAllowList(entry).problems).toEqual([]);
  });
});
