/**
 * Preloaded into every process of the service: ends it when the controller is gone, however that happened, and shifts its clock where
 * CHAOS_CLOCK_SHIFT_MS says so. The process itself is the product's, unchanged.
 */
process.on('disconnect', () => process.exit(1));
// The channel is only there for its end.
process.channel?.unref();

const shiftMs = Number(process.env.CHAOS_CLOCK_SHIFT_MS ?? 0);
if (shiftMs !== 0) {
  const RealDate = Date;
  class ShiftedDate extends RealDate {
    constructor(...given: [] | [value: number | string | Date]) {
      super(given.length === 0 ? RealDate.now() + shiftMs : given[0]);
    }
    static override now(): number {
      return RealDate.now() + shiftMs;
    }
  }
  // Dates of several numbers, in local time, are used by nobody here.
  globalThis.Date = ShiftedDate as unknown as DateConstructor;
}
