// Renders the state of the app, at most once per frame.

import { paint } from './paint.js';
import { fillAbout, fillExemplars, fillLesions, fillSaved, fillTools } from './panel.js';
import { fillLegend, paintStrip } from './strip.js';

const byId = (id) => document.getElementById(id);
const SIDES = ['up', 'down', 'west', 'east'];
const brief = (value) => Number(value.toPrecision(4));

// live regions are read out when they change, so only changes are written
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

// distance of two points, in the patient if the pixel size is known
export function measured([from, to], spacing) {
  const [high, wide] = spacing ?? [1, 1];
  const length = Math.hypot((to.row - from.row) * high, (to.column - from.column) * wide);
  return `${length.toFixed(1)} ${spacing ? 'mm' : 'px'}`;
}

// value with unit, and position: in the patient, or in mm on a picture with known pixel size
function valued({ values, unit, position }) {
  const value = `${values.map(brief).join(', ')}${unit ? ` ${unit}` : ''}`;
  const letters = position?.length === 3 ? ['R', 'A', 'S'] : ['down', 'right'];
  const sides = { R: 'L', A: 'P', S: 'I' };
  const part = (one, n) => `${one < 0 ? sides[letters[n]] ?? letters[n] : letters[n]} ${Math.abs(one).toFixed(1)}`;
  return [value, position ? `${position.map(part).join(' ')} mm` : ''].filter(Boolean).join(' · ');
}

export class Screen {
  constructor() {
    this.due = false;
    this.exemplars = '';
    this.name = () => undefined; // asks for the name of a lesion
    this.lesions = '';
  }

  draw(app) {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      if (app.opened) this.show(app);
    });
  }

  resize(app) {
    const canvas = byId('canvas');
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    app.view.resize(box.width, box.height);
    this.draw(app);
  }

  show(app) {
    document.body.classList.toggle('open', true);
    document.body.classList.toggle('flat', app.depth === 1);
    const { mask, colour, outline, stroke, cursor, clicks } = app;
    const image = app.image?.number === app.opened.case ? app.image.bitmap : null;
    const visible = app.visible && Boolean(app.current);
    byId('stage').dataset.late = app.late;
    const strokes = [...app.pending, ...(stroke ? [stroke] : [])].filter(({ index }) => index === app.index);
    const ruler = app.ruler?.index === app.index ? app.ruler.points : null;
    const brush = app.tool === 'brush' ? app.over : null;
    const hand = { strokes, ruler: strokes.length && app.tool === 'ruler' ? null : ruler, brush, diameter: app.diameter };
    const length = (points) => measured(points, app.opened.spacing);
    const axes = app.axes ? app.lesions.filter((one) => one.axes.slice === app.index) : [];
    app.learnPixel();
    const scene = { inverted: app.inverted, axes, image, mask, colour, outline, visible, cursor, clicks, corners: app.corners, cross: app.linked ? app.point : null, positive: app.mode > 0, length, ...hand };
    const proposed = app.state === 'proposed';
    paint(byId('canvas'), app.view, { ...scene, proposed, opacity: app.opacity / 100 });
    byId('canvas').dataset.shown = app.current ? app.index + 1 : '';
    fillAbout(app);
    fillTools(app);
    this.planes.show();
    this.corners(app);
    say('measured', ruler ? `Ruler ${length(ruler)}` : '');
    this.exemplarList(app);
    this.lesionList(app);
    fillSaved(app.saved);
    if (app.depth > 1) this.strip(app);
  }

  corners({ index, depth, state, window, view, cursor, hovered, mask, opened, pixel }) {
    const named = depth > 1 || state !== 'empty' ? ` · ${state}` : '';
    say('where', `${depth > 1 ? `Slice ${index + 1} of ${depth}` : 'Picture'}${named}`);
    say('shown', `W ${brief(window[1] - window[0])}   L ${brief((window[0] + window[1]) / 2)}`);
    say('scale', `${Math.round(view.zoom * 100)} %`);
    const at = cursor ?? hovered;
    const marked = mask ? `${mask.area} ${mask.area === 1 ? 'pixel' : 'pixels'} marked` : 'mask not loaded yet';
    say('place', `${at ? `row ${at.row}, column ${at.column} · ` : ''}${marked}`);
    const known = at && pixel?.index === index && pixel.row === at.row && pixel.column === at.column;
    say('value', known ? valued(pixel) : '');
    SIDES.forEach((side) => say(`side-${side}`, opened.sides[side] ?? ''));
  }

  exemplarList(app) {
    const key = JSON.stringify(app.status.exemplars);
    if (key === this.exemplars) return; // keeps a focused button
    this.exemplars = key;
    fillExemplars(app.status.exemplars, (number) => app.change('Removing', '/api/exemplar/remove', { number }));
  }

  lesionList(app) {
    const key = JSON.stringify([app.opened.case, app.lesions]);
    if (key === this.lesions) return;
    this.lesions = key;
    const go = ([index, row, column]) => {
      app.view.show(row, column);
      app.cross([row, column, index]);
    };
    fillLesions(app.lesions, app.depth > 1, { go, name: (lesion) => this.name(lesion), remove: (place) => app.removeLesion(place) });
  }

  strip({ index, depth, state, status }) {
    const slider = byId('slice');
    slider.max = depth;
    slider.value = index + 1;
    slider.setAttribute('aria-valuetext', `slice ${index + 1} of ${depth}, ${state}`);
    paintStrip(byId('strip'), status.states, index);
    fillLegend(byId('legend'), status.states);
  }
}
