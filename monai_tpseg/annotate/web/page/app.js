// State of the page: the open case, its display, and requests to the server.

import { address, Dropped, get, inTurn, Lost, post } from './api.js';
import { Images } from './images.js';
import { Mask } from './masks.js';
import { busy, toast } from './panel.js';
import { View } from './view.js';

const AHEAD = [1, -1, 2, -2]; // offsets of prefetched slices
const KEPT = 2 ** 26; // pixels of cached pictures, four bytes each
const SOON = 300; // idle time before lesions are numbered, in ms
const LATE = 400; // delay before the display is marked as showing another slice, in ms
const LOST = 'The answer was lost on its way; what is shown now is what the viewer has.';
const LOADING = 'The picture of this slice has not loaded yet; click again.';

// State of one case: created when a case is opened, so that nothing of the previous one remains.
const fresh = (opened, status) => ({
  opened,
  status,
  image: null, // picture of a slice: { number, index, bitmap }
  stroke: null, // stroke being drawn: { tool, points, positive, index }
  pending: [], // strokes being processed by the server
  corners: [], // corners of a lasso that is set corner by corner
  ruler: null, // { index, points } with two points
  cursor: null, // cross hair of the keyboard
  point: opened ? { row: opened.shape[0] >> 1, column: opened.shape[1] >> 1 } : null, // position of the other planes
  edits: 0, // number of changes of masks
  hovered: null, // pixel under the pointer
  over: null, // position under the pointer, in fractions of pixels
  mode: 1, // polarity of a click: 1 adds, -1 removes
  visible: true,
  pixel: null, // pixel under the pointer or cross hair: { index, row, column, values, unit, position }
  playing: false,
  late: '', // reason why the display does not show the current slice, after a delay
  saved: null, // path of the saved files
  lesions: [],
  stopped: true, // whether propagation is stopped
  window: status ? [...status.window] : [0, 255],
});

export class App {
  constructor(draw) {
    this.draw = draw;
    this.view = new View();
    this.images = new Images();
    this.masks = new Map(); // slice -> Mask
    this.cases = [];
    this.tasks = [];
    Object.assign(this, fresh(null, null));
    this.index = 0;
    this.opening = false; // whether another case is being opened
    this.tool = 'point'; // 'point', 'box', 'brush', 'lasso', 'piece' or 'ruler'
    this.diameter = 12; // diameter of the brush, in units of the shorter side of a pixel
    this.opacity = 40;
    this.outline = true;
    this.inverted = false;
    this.axes = false; // whether RECIST axes are drawn
    this.three = false; // whether a volume is shown in three planes
    this.colour = '#56b4e9';
    this.working = 0;
  }

  get mask() { return this.masks.get(this.index); }

  get depth() { return this.opened.shape[2]; }

  // whether the display shows the current slice; clicks are ignored until then
  get seen() { return this.image?.number === this.opened.case && this.image.index === this.index; }

  // whether its mask is loaded too; drawing is ignored until then
  get current() { return this.seen && this.mask; }

  get reformats() { return this.opened?.reformats ?? []; }

  // whether the other two planes are visible
  get linked() { return this.three && this.reformats.length > 0; }

  get clicks() { return this.status.clicks[this.index] ?? []; }

  get state() { return this.status.states[this.index]; }

  positive(other) { return (this.mode > 0) !== other; }

  // -- cases

  async learnCases() {
    const { cases, tasks, opened, status } = await get('/api/state');
    Object.assign(this, { cases, tasks });
    if (opened) this.show(opened, status);
  }

  // updates the list of cases: one may have been started, or no longer be done
  async learnStates() {
    try {
      this.cases = (await get('/api/state')).cases;
    } catch (error) {
      toast(error.message);
    }
  }

  async exportDone() {
    const found = await this.work('Exporting', () => post('/api/export-done'));
    if (found) toast(`${found.cases} done: ${found.path}`, 'done');
  }

  // returns the reason of a failure, "" if the case is open; until then the previous case stays open
  async open(number, task) {
    let wrong = '';
    this.opening = true; // no requests for the previous case, which the server may have closed
    this.images.stop();
    await this.work('Opening', () => inTurn(async () => {
      const { cases, opened, status } = await post('/api/open', { case: number, task });
      this.opening = false;
      this.cases = cases;
      this.show(opened, status);
    }), (error) => { wrong = error.message; });
    this.opening = false;
    if (wrong && this.opened) this.fetchImage();
    return wrong;
  }

  show(opened, status) {
    this.images.clear();
    this.images.limit = Math.min(96, Math.max(2 + AHEAD.length, Math.floor(KEPT / (opened.shape[0] * opened.shape[1]))));
    this.masks.clear();
    Object.assign(this, fresh(opened, status));
    this.view.open(opened.shape[0], opened.shape[1], opened.spacing);
    this.learnLesions();
    this.go(Math.floor(this.depth / 2));
  }

  // -- requests

  // requests a change and applies the response; returns the list of changes, null if it was refused
  change(doing, path, body = {}) {
    const { opened } = this;
    return this.work(doing, () => inTurn(async () => {
      if (this.opened !== opened) throw new Error('Another case was opened meanwhile.');
      const { changes, status } = await this.asked(path, { case: opened.case, ...body });
      if (status.revision !== this.status.revision + 1) this.masks.clear(); // another window has made changes
      this.edits += 1;
      const renamed = JSON.stringify(status.names) !== JSON.stringify(this.status.names);
      if (status.modality !== this.status.modality) this.setWindow([...status.window]);
      this.status = status;
      const seen = changes.filter(({ box }) => box);
      if (seen.length) this.visible = true;
      seen.forEach(({ index, box, runs }) => this.masks.get(index)?.patch(box, runs));
      if (!this.mask) await this.fetchMask(this.index);
      if (seen.length || renamed) this.learnLesions();
      this.draw();
      return changes;
    }));
  }

  // after a lost response, the page reloads the state of the server
  async asked(path, body) {
    try {
      return await post(path, body);
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      const { opened, status } = await get('/api/state');
      if (opened?.case !== this.opened.case) throw error;
      this.status = status;
      this.masks.clear();
      this.edits += 1;
      this.learnLesions();
      await this.fetchMask(this.index);
      throw new Lost(LOST);
    }
  }

  async work(doing, task, failed = (error) => toast(error.message)) {
    this.working += 1;
    busy(`${doing} …`);
    try {
      return await task();
    } catch (error) {
      failed(error);
      return null;
    } finally {
      this.working -= 1;
      if (!this.working) busy('');
      this.draw();
    }
  }

  // -- lesions

  // delayed until after the last change: numbering takes longer than a stroke
  learnLesions() {
    clearTimeout(this.counting);
    this.counting = setTimeout(async () => {
      const { opened } = this;
      try {
        const ask = () => (this.opened === opened ? get('/api/lesions', { case: opened.case }) : null);
        const lesions = await inTurn(ask);
        if (lesions && this.opened === opened) this.lesions = lesions;
      } catch (error) {
        toast(error.message);
      }
      this.draw();
    }, SOON);
  }

  mergeLesions([first, second]) {
    return this.change('Merging', '/api/merge-lesions', { first, second });
  }

  nameLesion([index, row, column], name) {
    return this.change('Naming', '/api/name-lesion', { index, row, column, name });
  }

  removeLesion([index, row, column]) {
    return this.change('Removing', '/api/remove-lesion', { index, row, column });
  }

  // -- slices

  url(index) {
    const [low, high] = this.window;
    return address('/api/view', { case: this.opened.case, index, low, high });
  }

  go(index) {
    const to = Math.min(this.depth - 1, Math.max(0, index));
    if (to !== this.index) Object.assign(this, { corners: [], stroke: null });
    this.index = to;
    this.draw();
    return Promise.all([this.fetchImage(), this.fetchMaskInTurn(this.index)]);
  }

  // row, column and slice, clamped to the volume: the position of the other planes
  cross(place) {
    const [row, column, index] = place.map((value, axis) => Math.min(this.opened.shape[axis] - 1, Math.max(0, Math.round(value))));
    this.point = { row, column };
    if (this.cursor) this.cursor = this.point;
    if (index !== this.index) this.go(index);
    this.draw();
  }

  // of several quick changes of slice and window only the last one is requested
  async fetchImage() {
    this.again = true;
    if (this.fetching || this.opening) return;
    this.fetching = true;
    while (this.again && !this.opening) {
      this.again = false;
      const timer = setTimeout(() => this.say('Loading this slice …'), LATE);
      const [number, index] = [this.opened.case, this.index];
      try {
        this.image = { number, index, bitmap: await this.images.get(this.url(index)) };
        this.say('');
      } catch (error) {
        if (!(error instanceof Dropped)) {
          toast(error.message);
          this.say('This slice could not be loaded.');
        }
      }
      clearTimeout(timer);
    }
    this.fetching = false;
    if (this.opening) return;
    const near = AHEAD.map((step) => this.index + step).filter((n) => n >= 0 && n < this.depth);
    near.forEach((n) => this.images.get(this.url(n)).catch(() => undefined));
  }

  say(late) {
    this.late = late;
    this.draw();
  }

  fetchMaskInTurn(index) {
    const { opened } = this;
    const needed = () => this.opened === opened && !this.masks.has(index);
    return inTurn(() => (needed() ? this.fetchMask(index) : null)).catch((error) => toast(error.message));
  }

  async fetchMask(index) {
    const [rows, columns] = this.opened.shape;
    const { runs } = await get('/api/mask', { case: this.opened.case, index });
    this.masks.set(index, new Mask(rows, columns, runs));
    this.draw();
  }

  // plays the slices in a loop, no faster than their pictures arrive
  async play(rate) {
    const { opened } = this;
    this.playing = true;
    while (this.playing && this.opened === opened) {
      const pause = new Promise((done) => { setTimeout(done, 1000 / rate); });
      await Promise.all([this.go((this.index + 1) % this.depth), pause]);
    }
    this.draw();
  }

  // of several quick moves only the last position is requested
  async learnPixel() {
    const place = () => this.seen && (this.cursor ?? this.hovered);
    const known = ({ row, column }) => this.pixel?.index === this.index && this.pixel.row === row && this.pixel.column === column;
    if (this.asking) return;
    this.asking = true;
    for (let at = place(); at && !known(at) && !this.opening; at = place()) {
      const [{ opened, index }, { row, column }] = [this, at];
      try {
        const found = await get('/api/pixel', { case: opened.case, index, row, column });
        if (this.opened === opened) this.pixel = { index, row, column, ...found };
      } catch {
        break; // a missing value is not shown
      }
      this.draw();
    }
    this.asking = false;
  }

  // -- actions of the user

  click(pixel, other) {
    if (!this.seen) return toast(LOADING);
    this.visible = true;
    return this.change('Segmenting', '/api/click', { index: this.index, ...pixel, positive: this.positive(other) });
  }

  scribble(pixels, other) {
    if (!this.seen) return toast(LOADING);
    this.visible = true;
    const points = pixels.map(({ row, column }) => [row, column]);
    return this.change('Segmenting', '/api/scribble', { index: this.index, points, positive: this.positive(other) });
  }

  box(start, end) {
    if (!this.seen) return toast(LOADING);
    this.visible = true;
    const corner = ({ row, column }) => [row, column];
    return this.change('Segmenting', '/api/box', { index: this.index, start: corner(start), end: corner(end) });
  }

  // a stroke is displayed until the server has rasterised it
  async drawn(points, other) {
    if (!this.seen) return toast(LOADING);
    const stroke = { tool: this.tool, points, positive: this.positive(other), index: this.index };
    const body = { index: this.index, points: points.map(({ row, column }) => [row, column]), mark: stroke.positive };
    this.pending.push(stroke);
    this.visible = true;
    if (this.tool === 'brush') await this.change('Drawing', '/api/brush', { ...body, diameter: this.diameter });
    else await this.change('Drawing', '/api/outline', body);
    this.pending = this.pending.filter((one) => one !== stroke);
    return this.draw();
  }

  // a lasso is drawn in one stroke, or set corner by corner and closed on the first corner
  corner(place, other) {
    const near = ({ row, column }) => Math.hypot((row - place.row) * this.view.sy, (column - place.column) * this.view.sx) < 9;
    if (this.corners.length > 2 && near(this.corners[0])) this.close(other);
    else if (!this.corners.some(near)) this.corners.push(place);
  }

  close(other) {
    const { corners } = this;
    this.corners = [];
    if (corners.length > 2) this.drawn(corners, other);
  }

  removePiece(pixel) {
    if (!this.current) return toast(LOADING);
    this.visible = true;
    return this.change('Removing', '/api/remove-piece', { index: this.index, ...pixel });
  }

  take(tool, mode = this.mode) {
    Object.assign(this, { tool, mode, corners: [], stroke: null });
  }

  // slice by slice, so that each result is visible and the user can stop
  propagate(direction, steps, by) {
    if (!this.stopped) return null;
    this.stopped = false;
    return this.work('Propagating', () => this.carry(direction, steps, by)).finally(() => { this.stopped = true; });
  }

  async carry(direction, steps, by) {
    const start = this.index;
    for (let step = 0; step < steps && !this.stopped; step += 1) {
      const index = start + step * direction;
      const to = index + direction;
      if (to < 0 || to >= this.depth) break;
      const body = { index, steps: 1, direction, by };
      const changes = await this.change(`Propagating to slice ${to + 1}`, '/api/propagate', body);
      if (!changes?.length) {
        const state = this.status.states[to];
        const kept = state === 'edited' || state === 'accepted';
        if (changes) toast(kept ? `Stopped: slice ${to + 1} is ${state}.` : `Stopped: nothing on slice ${to + 1}.`, 'done');
        break;
      }
      await this.go(to);
    }
  }

  // undo and redo show the affected slice
  async back(doing, path) {
    const changes = await this.change(doing, path);
    if (changes?.[0]?.box && changes[0].index !== this.index) await this.go(changes[0].index);
  }

  // marks the case as done, which saves it, or as not done
  async markDone(empty = false) {
    const done = !this.status.done;
    const { opened } = this;
    const answer = await this.change(done ? 'Saving' : 'Changing', '/api/done', { done, empty });
    if (!answer || !done || this.opened !== opened) return;
    toast('Marked as done and saved.', 'done');
  }

  save(empty = false) {
    const { opened } = this;
    return this.work('Saving', () => inTurn(async () => {
      const { kinds, folder, path, cases } = await post('/api/save', { case: opened.case, empty });
      this.cases = cases;
      if (this.opened === opened) this.saved = { kinds, path };
      toast(`Saved in ${folder}: ${kinds.join(', ')}`, 'done');
    }));
  }

  // horizontal: width of the window; vertical: its level
  turnWindow(dx, dy) {
    const [low, high] = this.window;
    const range = this.opened.range[1] - this.opened.range[0] || 1;
    const unit = Math.max(high - low, range / 1000) / 300;
    const width = Math.max(range / 1e4, high - low + 2 * dx * unit);
    const level = (low + high) / 2 + dy * unit;
    this.setWindow([level - width / 2, level + width / 2].map((value) => Number(value.toPrecision(6))));
  }

  setWindow(window) {
    if (!(window[0] < window[1])) return;
    this.window = window;
    this.draw();
    this.fetchImage();
  }

  moveCursor(down, across) {
    const [rows, columns] = this.opened.shape;
    const { row, column } = this.cursor ?? this.point;
    const within = (value, end) => Math.min(end - 1, Math.max(0, value));
    this.point = { row: within(row + down, rows), column: within(column + across, columns) };
    this.cursor = this.point;
    this.draw();
  }
}
