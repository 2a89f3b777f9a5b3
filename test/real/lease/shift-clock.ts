/**
 * Loaded before a part of Virga: at SIGUSR2 its wall clock goes back by an hour, as when a person or a time server sets it.
 * (A time namespace shifts only the clocks that never jump.)
 */
const hourMs = 3_600_000;
const RealDate = Date;
let shiftMs = 0;

class ShiftedDate extends RealDate {
  constructor(...given: readonly unknown[]) {
    super(...((given.length === 0 ? [RealDate.now() - shiftMs] : given) as [number]));
  }

  static override now(): number {
    return RealDate.now() - shiftMs;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;
process.on('SIGUSR2', () => (shiftMs += hourMs));
