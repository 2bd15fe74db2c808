/** Chance that can be repeated: the same seed gives the same numbers. */

export interface Random {
  /** A whole number from `min` to `max`, both included. */
  whole(min: number, max: number): number;
  /** One of the items. @throws RangeError when there is none. */
  pick<Item>(items: readonly Item[]): Item;
}

/** A 32-bit counter with odd steps, its bits stirred by multiplications: far from secret, evenly spread. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let bits = state;
    bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad);
    bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
    return ((bits ^ (bits >>> 15)) >>> 0) / 2 ** 32;
  };
  const whole = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return {
    whole,
    pick(items) {
      const [item] = items.slice(whole(0, items.length - 1));
      if (item === undefined) throw new RangeError('there is nothing to pick from');
      return item;
    },
  };
}
