import { describe, expect, test } from 'vitest';
import { parseAllowList } from './allow-list.ts';
import { type Guard, openGuard } from './guard.ts';
import targets from './targets.json' with { type: 'json' };
import { startDnsServer } from './testing/dns-server.ts';

function guardFor(allowed: string, answers: readonly string[] = []): Guard {
  const { allow, problems } = parseAllowList(allowed);
  expect(problems).toEqual([]);
  return openGuard({ allow, resolve: async () => answers });
}

/** Whether a call to this target would be refused before anything is connected. */
async function isRefused({ url, name, answers }: { url?: string; name?: string; answers?: readonly string[] }): Promise<boolean> {
  const guard = guardFor('', answers);
  if (guard.problemWith(url ?? `https://${name}/hook`) !== undefined) return true;
  if (name === undefined) return false;
  return guard.addressesOf(name).then(
    () => false,
    () => true,
  );
}

describe('the published targets', () => {
  test('are many', () => {
    expect(targets.hostile.length).toBeGreaterThanOrEqual(130);
    expect(targets.good.length).toBeGreaterThanOrEqual(20);
    const texts = [...targets.hostile, ...targets.good].map((target) => JSON.stringify([target.url, target.name]));
    expect(new Set(texts).size).toBe(texts.length);
    expect([...targets.hostile, ...targets.good].every(({ why }) => why.length > 0)).toBe(true);
  });

  test('are all refused when they are hostile', async () => {
    const refused = await Promise.all(targets.hostile.map(isRefused));
    expect(targets.hostile.filter((_target, index) => !refused[index])).toEqual([]);
  });

  test('are all accepted when they are good', async () => {
    const refused = await Promise.all(targets.good.map(isRefused));
    expect(targets.good.filter((_target, index) => refused[index])).toEqual([]);
  });

  test('that name a hostile host are refused for the host alone, without a lookup', async () => {
    let lookups = 0;
    const guard = openGuard({
      resolve: async () => {
        lookups += 1;
        return ['93.184.216.34'];
      },
    });
    // A URL may be hostile for something else: what is written around the host, or a port.
    const urls = targets.hostile.flatMap(({ url }) => (url !== undefined && URL.canParse(url) ? [new URL(url)] : []));
    const hostile = urls.filter(
      ({ protocol, hostname }) => /^https?:$/.test(protocol) && !/example\.com$|^8\.8\.8\.8$|^\.$/.test(hostname),
    );
    expect(hostile.length).toBeGreaterThan(130);
    for (const { hostname } of hostile) {
      await expect(guard.addressesOf(hostname), hostname).rejects.toMatchObject({ code: 'blocked_address', isLiteral: true });
    }
    expect(lookups).toBe(0);
  });
});

describe('what is wrong with a URL', () => {
  test.each([
    [7, 'invalid_url', 'must be a string'],
    [`https://example.com/${'a'.repeat(2_048)}`, 'invalid_url', 'must have 2048 characters at most'],
    ['http://exam\tple.com/', 'invalid_url', 'must not contain spaces or control characters'],
    ['hook', 'invalid_url', 'must be a URL such as https://example.com/hook'],
    ['http://example.com/\ud800', 'invalid_url', 'must be a URL such as https://example.com/hook'],
    ['ftp://example.com/', 'invalid_url', 'must start with http:// or https://'],
    ['https://user@example.com/', 'invalid_url', 'must not contain a user name or password'],
    ['https://2130706433/', 'blocked_address', 'must not lead to a private or reserved address'],
    ['https://app.localhost/', 'blocked_address', 'must not use a local or internal name'],
    ['https://example.com:22/', 'blocked_address', 'must use port 80, 443 or one from 1024 to 65535'],
    ['https://example.com:6379/', 'blocked_address', 'must not use port 6379, which is known for internal services'],
  ])('%j: %s, it %s', (url, code, message) => {
    expect(openGuard().problemWith(url)).toEqual({ code, message });
  });

  test('is nothing when it is good', () => {
    expect(openGuard().problemWith('https://example.com/hook')).toBeUndefined();
  });
});

describe('a network that is allowed', () => {
  test('opens its private addresses, by address and by name', async () => {
    const guard = guardFor('10.0.0.0/8', ['10.1.2.3']);
    expect(guard.problemWith('http://10.1.2.3/')).toBeUndefined();
    expect(await guard.addressesOf('receiver')).toEqual(['10.1.2.3']);
    expect(guard.problemWith('http://192.168.0.1/')).toBeDefined();
  });

  test('does not open loopback, link-local or metadata addresses, however wide it is', () => {
    const guard = guardFor('0.0.0.0/0,::/0');
    expect(guard.problemWith('http://192.168.0.1/')).toBeUndefined();
    expect(guard.problemWith('http://[fd00::1]/')).toBeUndefined();
    for (const host of [
      '127.0.0.1',
      '169.254.169.254',
      '100.100.100.200',
      '0.0.0.0',
      '224.0.0.1',
      '[::1]',
      '[fd00:ec2::254]',
      '[fe80::1]',
    ]) {
      expect(guard.problemWith(`http://${host}/`), host).toBeDefined();
    }
  });

  test('does not open denied ports', () => {
    expect(guardFor('10.0.0.0/8').problemWith('http://10.0.0.1:6379/')).toBeDefined();
  });
});

describe('an address that is allowed', () => {
  test.each(['127.0.0.1', '127.0.0.1/32', '::ffff:127.0.0.1'])('as %s opens exactly this address, in every spelling', (entry) => {
    const guard = guardFor(entry);
    for (const host of ['127.0.0.1', '127.1', '2130706433', '[::ffff:7f00:1]'])
      expect(guard.problemWith(`http://${host}/`), host).toBeUndefined();
    for (const host of ['127.0.0.2', '[::1]', '0.0.0.0', 'localhost']) expect(guard.problemWith(`http://${host}/`), host).toBeDefined();
  });

  test('may be called at any port', () => {
    expect(guardFor('127.0.0.1').problemWith('http://127.0.0.1:6379/')).toBeUndefined();
    expect(guardFor('127.0.0.1').problemWith('http://example.com:6379/')).toBeDefined();
  });

  test('is what a name may lead to', async () => {
    expect(await guardFor('::1', ['127.0.0.1', '::1']).addressesOf('hook.example.com')).toEqual(['::1']);
  });
});

describe('a name that is allowed', () => {
  test('may look internal, lead to private addresses and use any port', async () => {
    const guard = guardFor('Receiver.Internal', ['172.18.0.3']);
    expect(guard.problemWith('http://receiver.internal.:22/')).toBeUndefined();
    expect(await guard.addressesOf('receiver.internal')).toEqual(['172.18.0.3']);
  });

  test('opens private addresses for no other name', async () => {
    const guard = guardFor('receiver', ['172.18.0.3']);
    await expect(guard.addressesOf('other')).rejects.toMatchObject({ code: 'blocked_address', isLiteral: false });
    await expect(guard.addressesOf('a.receiver')).rejects.toMatchObject({ code: 'blocked_address' });
  });

  test.each(['127.0.0.1', '::1', '169.254.169.254', 'fd00:ec2::254'])(
    'does not open %s, which its DNS may answer one day',
    async (address) => {
      await expect(guardFor('receiver', [address]).addressesOf('receiver')).rejects.toMatchObject({ code: 'blocked_address' });
    },
  );

  test('opens loopback when it is localhost, and nothing else then', async () => {
    expect(await guardFor('localhost', ['127.0.0.1', '::1', '169.254.169.254']).addressesOf('localhost')).toEqual(['127.0.0.1', '::1']);
    expect(guardFor('localhost').problemWith('http://127.0.0.1/')).toBeDefined();
  });
});

describe('a lookup', () => {
  test('keeps only addresses that may be called', async () => {
    const answers = ['10.0.0.1', '93.184.216.34', '::1', '2606:4700::1'];
    expect(await guardFor('', answers).addressesOf('mixed.example.com')).toEqual(['93.184.216.34', '2606:4700::1']);
  });

  test('is not made for an address', async () => {
    expect(await guardFor('', ['127.0.0.1']).addressesOf('[2606:4700::1]')).toEqual(['2606:4700::1']);
  });

  test('is shared by those who ask for the same name meanwhile, and made anew afterwards', async () => {
    const asked: string[] = [];
    const answer = Promise.withResolvers<readonly string[]>();
    const guard = openGuard({
      resolve: (name) => {
        asked.push(name);
        return asked.length < 3 ? answer.promise : Promise.resolve(['127.0.0.1']);
      },
    });
    const together = [guard.addressesOf('a.example.com'), guard.addressesOf('a.example.com'), guard.addressesOf('b.example.com')];
    answer.resolve(['93.184.216.34']);
    expect(await Promise.all(together)).toHaveLength(3);
    expect(asked).toEqual(['a.example.com', 'b.example.com']);
    await expect(guard.addressesOf('a.example.com')).rejects.toMatchObject({ code: 'blocked_address' });
  });

  test.each([
    ['NXDOMAIN', 'dns_not_found'],
    ['SERVFAIL', 'dns_error'],
    ['silence', 'dns_error'],
  ] as const)('that ends with %s fails with %s', async (answer, code) => {
    await using dns = await startDnsServer(() => answer);
    await expect(openGuard({ resolve: dns.resolve }).addressesOf('hook.example.com')).rejects.toMatchObject({ code });
  });

  test('without addresses fails with dns_not_found', async () => {
    await expect(guardFor('', []).addressesOf('hook.example.com')).rejects.toMatchObject({ code: 'dns_not_found' });
  });

  test('by the system knows this machine', async () => {
    const { allow } = parseAllowList('localhost');
    const addresses = await openGuard({ allow }).addressesOf('localhost');
    expect(addresses.every((address) => address === '127.0.0.1' || address === '::1')).toBe(true);
  });

  test('that is refused does not tell where the name leads', async () => {
    const error = await guardFor('', ['10.11.12.13'])
      .addressesOf('hook.example.com')
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(JSON.stringify([error, String(error)])).not.toContain('10.11.12.13');
  });
});
