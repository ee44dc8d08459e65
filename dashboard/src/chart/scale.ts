// The unit's axis: from zero on, with some room, and never so short that its marks would all read zero.

/**
 * The span of the axis for values between the least and the greatest, null where none is known.
 * `least` is the shortest span: before the sun is up all values are zero.
 */
export function padded(min: number | null, max: number | null, least: number): [number, number] {
  const [low, known] = [Math.min(0, min ?? 0), Math.max(0, max ?? 0)];
  const high = Math.max(known, low + least);
  const room = (high - low) * 0.06;
  return [low < 0 ? low - room : 0, high > 0 ? high + room : 0];
}
