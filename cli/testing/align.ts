/** Which elements of two sequences belong together: Myers' difference with linear memory for what is alike at both ends. */

/** A stretch that both have, or that only one has. Ends are exclusive. */
export interface Stretch {
  readonly same: boolean;
  readonly a: readonly [from: number, to: number];
  readonly b: readonly [from: number, to: number];
}

/** More differences than this are one: the rest of both is then shown as different. */
const MOST_EDITS = 2000;

/** The stretches of two sequences of keys, in order. */
export function align(a: readonly string[], b: readonly string[]): Stretch[] {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA--;
    endB--;
  }
  const stretches: Stretch[] = [];
  const add = (same: boolean, fromA: number, toA: number, fromB: number, toB: number): void => {
    if (toA > fromA || toB > fromB) stretches.push({ same, a: [fromA, toA], b: [fromB, toB] });
  };
  add(true, 0, start, 0, start);
  let atA = start;
  let atB = start;
  for (const [matchA, matchB] of matches(a, b, start, endA, endB)) {
    if (matchA > atA || matchB > atB) add(false, atA, matchA, atB, matchB);
    const last = stretches.at(-1);
    // A match right behind another belongs to its stretch.
    if (last?.same && last.a[1] === matchA && last.b[1] === matchB) {
      stretches[stretches.length - 1] = { same: true, a: [last.a[0], matchA + 1], b: [last.b[0], matchB + 1] };
    } else add(true, matchA, matchA + 1, matchB, matchB + 1);
    atA = matchA + 1;
    atB = matchB + 1;
  }
  add(false, atA, endA, atB, endB);
  add(true, endA, a.length, endB, b.length);
  return stretches;
}

/** Pairs of equal elements in the middle, ascending; none where there are too many differences. */
function matches(
  a: readonly string[],
  b: readonly string[],
  start: number,
  endA: number,
  endB: number,
): (readonly [number, number])[] {
  const lengthA = endA - start;
  const lengthB = endB - start;
  if (lengthA === 0 || lengthB === 0) return [];
  const most = Math.min(lengthA + lengthB, MOST_EDITS);
  const reach = new Int32Array(2 * most + 3);
  const middle = most + 1;
  const trail: Int32Array[] = [];
  for (let edits = 0; edits <= most; edits++) {
    trail.push(reach.slice(middle - edits - 1, middle + edits + 2));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const below = reach[middle + diagonal - 1] ?? 0;
      const above = reach[middle + diagonal + 1] ?? 0;
      let x = diagonal === -edits || (diagonal !== edits && below < above) ? above : below + 1;
      let y = x - diagonal;
      while (x < lengthA && y < lengthB && a[start + x] === b[start + y]) {
        x++;
        y++;
      }
      reach[middle + diagonal] = x;
      if (x >= lengthA && y >= lengthB) return walkBack(trail, lengthA, lengthB, start);
    }
  }
  return [];
}

/** Follows the furthest-reaching paths back from the end. `trail[d]` holds diagonals -d-1 to d+1 as before round d. */
function walkBack(
  trail: readonly Int32Array[],
  lengthA: number,
  lengthB: number,
  start: number,
): (readonly [number, number])[] {
  const found: (readonly [number, number])[] = [];
  let x = lengthA;
  let y = lengthB;
  for (let edits = trail.length - 1; edits >= 0; edits--) {
    const reach = trail[edits] ?? new Int32Array();
    const at = (diagonal: number): number => reach[diagonal + edits + 1] ?? 0;
    const diagonal = x - y;
    const down = diagonal === -edits || (diagonal !== edits && at(diagonal - 1) < at(diagonal + 1));
    const before = down ? diagonal + 1 : diagonal - 1;
    const fromX = edits === 0 ? 0 : at(before);
    const fromY = edits === 0 ? 0 : fromX - before;
    while (x > fromX && y > fromY) {
      x--;
      y--;
      found.push([start + x, start + y]);
    }
    x = fromX;
    y = fromY;
  }
  return found.reverse();
}
