// The two planes across the slices of a volume at the cross hair.

import { address, Dropped, get, inTurn } from './api.js';
import { Images } from './images.js';
import { Mask } from './masks.js';
import { paint } from './paint.js';
import { toast } from './panel.js';
import { attachPointer } from './pointer.js';
import { View } from './view.js';

const KEPT = 24; // cached pictures per plane
const byId = (id) => document.getElementById(id);
const capital = (word) => word[0].toUpperCase() + word.slice(1);

// position of the cross hair in the volume
const placeOf = ({ point, index }) => [point.row, point.column, index];

// of several quick changes only the last one is requested
class Newest {
  constructor(ask, took) {
    Object.assign(this, { ask, took, key: null, value: null, wanted: null, failed: null, round: 0 });
  }

  get current() { return this.value !== null && this.key === this.wanted; }

  async follow(key) {
    this.wanted = key;
    if (this.asking) return;
    this.asking = true;
    while (this.wanted !== this.key && this.wanted !== this.failed) {
      const [now, round] = [this.wanted, this.round];
      try {
        const value = await this.ask(now);
        if (round === this.round) Object.assign(this, { key: now, value, failed: null });
      } catch (error) {
        if (round === this.round) this.failed = now;
        if (now === this.wanted && !(error instanceof Dropped)) toast(error.message);
      }
      this.took();
    }
    this.asking = false;
  }

  // pending requests belong to a closed case
  forget() {
    Object.assign(this, { key: null, value: null, failed: null, round: this.round + 1 });
  }
}

// adds the section of a plane to the page
function section(number) {
  const made = byId('plane').content.firstElementChild.cloneNode(true);
  made.setAttribute('aria-label', ['Second plane', 'Third plane'][number]);
  made.querySelector('canvas').id = `plane-${number}`;
  made.querySelector('p').id = `plane-${number}-name`;
  byId('planes').append(made);
  return made;
}

class Plane {
  constructor(app, number) {
    Object.assign(this, { app, number, canvas: section(number).querySelector('canvas'), view: new View(), images: new Images(KEPT) });
    this.image = new Newest((url) => this.images.get(url), () => app.draw());
    this.mask = new Newest((url) => inTurn(() => this.read(url)), () => app.draw());
    this.opened = null;
    attachPointer(this.canvas, this.view, this.hand());
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  get about() { return this.app.reformats[this.number]; }

  async read(url) {
    const [rows, columns] = this.about.shape;
    return new Mask(rows, columns, (await get(url)).runs);
  }

  hand() {
    const { app, view } = this;
    const open = (work) => (...given) => {
      if (!app.linked) return;
      work(...given);
      app.draw();
    };
    return {
      about: () => app.opened,
      draws: () => true,
      stroke: open((points) => { if (points) this.cross(points.at(-1)); }),
      draw: () => undefined,
      hover: () => undefined,
      move: open((dx, dy) => view.move(dx, dy)),
      zoom: open((factor, x, y) => view.zoomBy(factor, x, y)),
      window: open((dx, dy) => app.turnWindow(dx, dy)),
      scroll: open((pictures) => app.cross(this.moved(this.about.across, pictures))),
    };
  }

  moved(axis, by) {
    const place = [...placeOf(this.app)];
    place[axis] += by;
    return place;
  }

  // converts a position in this picture to the volume
  cross(at) {
    const { axes, flipped, shape } = this.about;
    const place = [...placeOf(this.app)];
    [at.row, at.column].forEach((value, n) => { place[axes[n]] = flipped[n] ? shape[n] - 1 - value : value; });
    this.app.cross(place);
  }

  // converts the cross hair to a position in this picture
  get place() {
    const { axes, flipped, shape } = this.about;
    const at = placeOf(this.app);
    const [row, column] = axes.map((axis, n) => (flipped[n] ? shape[n] - 1 - at[axis] : at[axis]));
    return { row, column };
  }

  // moves by pixels of this picture with the keyboard
  step(down, across) {
    const { row, column } = this.place;
    this.cross({ row: row + down, column: column + across });
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.max(1, Math.round(box.width * ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * ratio));
    this.view.resize(box.width, box.height);
    this.app.draw();
  }

  open() {
    const { plane, shape, spacing, sides } = this.about;
    this.opened = this.app.opened;
    this.images.clear();
    this.image.forget();
    this.mask.forget();
    this.view.open(...shape, spacing);
    this.canvas.setAttribute('aria-label', `${capital(plane)} plane through the cross hair. Click, drag or Shift + arrow keys to move it.`);
    Object.entries(sides).forEach(([side, letter]) => { this.canvas.parentElement.querySelector(`.${side}`).textContent = letter; });
  }

  show() {
    const { app, about } = this;
    if (this.opened !== app.opened) this.open();
    const index = placeOf(app)[about.across];
    const [low, high] = app.window;
    const asked = { case: app.opened.case, plane: about.plane, index };
    this.image.follow(address('/api/reformat', { ...asked, low, high }));
    this.mask.follow(`${address('/api/reformat-mask', asked)}#${app.edits}`); // what follows # is not sent
    const { current } = this.image;
    if (current) this.canvas.parentElement.dataset.shown = index + 1;
    else delete this.canvas.parentElement.dataset.shown;
    const name = `${capital(about.plane)} ${index + 1} of ${app.opened.shape[about.across]}`;
    if (byId(`plane-${this.number}-name`).textContent !== name) byId(`plane-${this.number}-name`).textContent = name;
    const { colour, outline, visible, inverted } = app;
    const scene = { image: this.image.value, inverted, mask: this.mask.current && current ? this.mask.value : null, visible, colour, outline };
    const none = { axes: [], strokes: [], corners: [], clicks: [] };
    paint(this.canvas, this.view, { ...none, ...scene, opacity: app.opacity / 100, cross: this.place });
  }
}

export class Planes {
  constructor(app) {
    this.app = app;
    this.planes = [0, 1].map((number) => new Plane(app, number));
  }

  show() {
    byId('planes').hidden = !this.app.linked;
    if (this.app.linked) this.planes.forEach((plane) => plane.show());
  }

  // the plane with the focus, if any
  focused() {
    return this.app.linked ? this.planes.find(({ canvas }) => canvas === document.activeElement) : undefined;
  }

  fit() {
    this.planes.forEach(({ view }) => view.fit());
  }
}
