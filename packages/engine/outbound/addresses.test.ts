import { describe, expect, test } from 'vitest';
import { type AddressKind, canonicalAddress, classifyAddress, isInside, parseNetwork } from './addresses.ts';

describe('an address', () => {
  test.each<[string, AddressKind]>([
    ['93.184.216.34', 'public'],
    ['2606:4700:4700::1111', 'public'],
    ['10.1.2.3', 'private'],
    ['172.16.0.1', 'private'],
    ['192.168.1.1', 'private'],
    ['100.64.0.1', 'private'],
    ['fd12:3456::1', 'private'],
    ['127.0.0.1', 'forbidden'],
    ['::1', 'forbidden'],
    ['0.0.0.0', 'forbidden'],
    ['::', 'forbidden'],
    ['169.254.1.1', 'forbidden'],
    ['fe80::1', 'forbidden'],
    ['224.0.0.1', 'forbidden'],
    ['ff02::1', 'forbidden'],
    ['240.0.0.1', 'forbidden'],
    ['2002:808:808::', 'forbidden'],
    ['4000::1', 'forbidden'],
  ])('%s is %s', (address, kind) => {
    expect(classifyAddress(address)).toBe(kind);
  });

  test.each(['168.63.129.16', '100.100.100.200', 'fd00:ec2::254', 'FD00:0EC2:0:0:0:0:0:0254', 'fd20:ce::254'])(
    'of metadata, %s, is forbidden although its range is not',
    (address) => {
      expect(classifyAddress(address)).toBe('forbidden');
    },
  );

  test.each<[string, AddressKind]>([
    ['::ffff:8.8.8.8', 'public'],
    ['::ffff:10.0.0.1', 'private'],
    ['::ffff:7f00:1', 'forbidden'],
  ])('mapped into IPv6, %s, is what it is as IPv4: %s', (address, kind) => {
    expect(classifyAddress(address)).toBe(kind);
  });

  test.each(['', 'localhost', '127.1', '8.8', '0x8.8.8.8', '010.8.8.8', '8.8.8.8 ', '8.8.8.8/32', '[2000::1]', '2000::1%eth0', '2000:::1'])(
    'in an unusual notation, "%s", is forbidden',
    (text) => {
      expect(classifyAddress(text)).toBe('forbidden');
    },
  );

  test('has one canonical spelling', () => {
    expect(canonicalAddress('2606:4700:0:0::0:A')).toBe('2606:4700::a');
    expect(canonicalAddress('::FFFF:127.0.0.1')).toBe('127.0.0.1');
    expect(canonicalAddress('127.1')).toBeUndefined();
  });
});

describe('a network', () => {
  test.each([
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.0.0.0/8', '::ffff:10.0.0.1', true],
    ['172.16.0.0/12', '172.31.255.255', true],
    ['172.16.0.0/12', '172.32.0.0', false],
    ['fc00::/7', 'fdff::1', true],
    ['fc00::/7', 'fe00::1', false],
    ['0.0.0.0/0', '203.0.113.1', true],
    ['::/0', '10.0.0.1', false],
    ['0.0.0.0/0', 'fc00::1', false],
    ['::ffff:10.0.0.0/104', '10.2.3.4', true],
    ['::ffff:10.0.0.0/104', '11.2.3.4', false],
  ])('%s and %s: inside is %s', (text, address, expected) => {
    const network = parseNetwork(text);
    expect(network).toBeDefined();
    expect(network && isInside(address, network)).toBe(expected);
  });

  test.each([
    '10.0.0.1/8',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10/8',
    'fc00::/129',
    'fc00::1/7',
    'x/8',
    '/8',
    '::ffff:10.0.0.0/8',
  ])('%s is none', (text) => {
    expect(parseNetwork(text)).toBeUndefined();
  });
});
