// Mouse, pen and touch input on the picture.

import { Wheel } from './wheel.js';

const STILL = 4; // maximum movement of a click, in screen pixels
const LONGEST = 400; // maximum points of a stroke

export function attachPointer(canvas, view, hand) {
  let held = false; // whether the space bar is held
  let drag = null;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  const begin = (event) => {
    const [x, y] = place(event);
    const kind = event.button === 1 || (event.button === 0 && held) ? 'move' : { 0: 'stroke', 2: 'window' }[event.button];
    const pixel = view.toPixel(x, y);
    const draws = hand.draws();
    if (drag || !kind || (kind === 'stroke' && !pixel && !draws)) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const other = event.shiftKey || event.altKey;
    drag = { kind, start: [x, y], at: [x, y], far: false, points: [draws ? view.toPlace(x, y) : pixel], pixel, draws, other, about: hand.about() };
    if (kind === 'stroke' && draws) hand.stroke(drag.points, other);
  };

  const go = (event) => {
    const [x, y] = place(event);
    const pixel = view.toPixel(x, y);
    hand.hover(pixel, view.toPlace(x, y));
    if (!drag) return;
    const [dx, dy] = [x - drag.at[0], y - drag.at[1]];
    drag.at = [x, y];
    drag.far ||= Math.hypot(x - drag.start[0], y - drag.start[1]) > STILL;
    if (drag.kind === 'move') hand.move(dx, dy);
    if (drag.kind === 'window') hand.window(dx, dy);
    const point = drag.draws ? view.toPlace(x, y) : pixel;
    if (drag.kind === 'stroke' && point && !same(point, drag.points.at(-1))) {
      drag.points.push(point);
      if (drag.far || drag.draws) hand.stroke(drag.points, drag.other);
    }
  };

  const end = (event) => {
    if (!drag) return;
    const done = drag;
    drag = null;
    hand.stroke(null, false);
    if (event.type === 'pointercancel' || done.kind !== 'stroke' || done.about !== hand.about()) return;
    if (done.draws) hand.draw(done.far ? thinned(done.points) : done.points.slice(0, 1), done.pixel, done.other);
    else if (done.far && done.points.length > 1) hand.scribble(thinned(done.points), done.other);
    else hand.click(done.points[0], done.other);
  };

  const roller = new Wheel();
  const wheel = (event) => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      const step = event.deltaMode ? event.deltaY * 33 : event.deltaY;
      hand.zoom(Math.exp(-step / 400), ...place(event));
      return;
    }
    const slices = roller.slices(event);
    if (slices) hand.scroll(-slices);
  };

  const space = (event) => {
    if (event.code !== 'Space' || isField(event.target)) return;
    held = event.type === 'keydown';
    canvas.classList.toggle('movable', held);
    event.preventDefault();
  };

  canvas.addEventListener('pointerdown', begin);
  canvas.addEventListener('pointermove', go);
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', end);
  canvas.addEventListener('pointerleave', () => { hand.hover(null, null); });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener('wheel', wheel, { passive: false });
  window.addEventListener('keydown', space);
  window.addEventListener('keyup', space);
  window.addEventListener('blur', () => { held = false; });
}

export function isField(element) {
  return element instanceof HTMLElement && Boolean(element.closest('input, select, textarea, button, summary, dialog'));
}

function same(a, b) {
  return a.row === b.row && a.column === b.column;
}

function thinned(points) {
  const step = Math.max(1, Math.ceil(points.length / LONGEST));
  return points.filter((_, n) => n % step === 0 || n === points.length - 1);
}
