// Converts wheel and touchpad events to slices: one notch is one slice, regardless of the number of events.

const TICK = 120; // `wheelDelta` of a whole notch of a mouse, regardless of pixels
const PAUSE = 150; // pause in ms that ends a gesture
const WAY = { 0: 100, 1: 3, 2: 1 }; // pixels, lines or pages per slice, for touchpads and mice that send fractions of a notch

export class Wheel {
  constructor() {
    this.time = -Infinity;
    this.sign = this.way = 0;
    this.notched = false;
  }

  // number of slices, with the sign of deltaY
  slices({ deltaY, deltaMode, wheelDeltaY, timeStamp }) {
    const sign = Math.sign(deltaY);
    if (!sign) return 0;
    const ticks = Math.abs(wheelDeltaY ?? 0) / TICK;
    const whole = ticks > 0 && Number.isInteger(ticks);
    const begun = timeStamp - this.time > PAUSE || sign !== this.sign;
    Object.assign(this, { time: timeStamp, sign }, begun ? { way: 0, notched: whole } : {});
    if (this.notched && whole) return sign * ticks; // touchpad gestures contain whole numbers too
    const gone = () => Math.ceil(this.way - 1e-6); // the first event of a gesture counts at once
    const before = gone();
    this.way += Math.abs(deltaY) / WAY[deltaMode];
    return sign * (gone() - before);
  }
}
