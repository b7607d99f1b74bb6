// Entry point of the page: app, screen, and the actions of buttons, keys and mouse.

import { attachActions } from './actions.js';
import { App } from './app.js';
import { Chooser } from './chooser.js';
import { ticked, toast } from './panel.js';
import { Planes } from './planes.js';
import { attachPointer } from './pointer.js';
import { Screen } from './screen.js';

const byId = (id) => document.getElementById(id);
const screen = new Screen();
const app = new App(() => screen.draw(app));
screen.planes = new Planes(app);
screen.name = askName;
const chooser = new Chooser(app);

const slice = (doing, path) => app.change(doing, path, { index: app.index });
const steps = () => Math.max(1, Math.trunc(Number(byId('steps').value)) || 1);
const brush = (size) => { app.diameter = Math.min(100, Math.max(1, size)); };
const fade = (by) => { app.opacity = Math.min(100, Math.max(0, app.opacity + by)); };

const DOES = {
  point: () => app.take('point'),
  brush: () => app.take('brush', 1),
  eraser: () => app.take('brush', -1),
  box: () => app.take('box', 1),
  lasso: () => app.take('lasso'),
  piece: () => app.take('piece'),
  ruler: () => app.take('ruler'),
  thinner: () => brush(app.diameter - (app.diameter > 20 ? 4 : 1)),
  thicker: () => brush(app.diameter + (app.diameter >= 20 ? 4 : 1)),
  holes: () => app.change('Filling', '/api/tidy', { index: app.index, how: 'fill_holes' }),
  smooth: () => app.change('Smoothing', '/api/tidy', { index: app.index, how: 'smooth' }),
  add: () => { app.mode = 1; },
  remove: () => { app.mode = -1; },
  undo: () => app.status.can_undo && app.back('Undoing', '/api/undo'),
  redo: () => app.status.can_redo && app.back('Redoing', '/api/redo'),
  segment: () => slice('Segmenting', '/api/segment'),
  clear: () => slice('Clearing', '/api/clear'),
  next: () => app.go(app.index + 1),
  previous: () => app.go(app.index - 1),
  far: () => app.go(app.index + 10),
  near: () => app.go(app.index - 10),
  first: () => app.go(0),
  last: () => app.go(app.depth - 1),
  up: () => app.propagate(1, steps(), byId('by').value),
  down: () => app.propagate(-1, steps(), byId('by').value),
  stop: () => Object.assign(app, { stopped: true, playing: false, cursor: null, corners: [], ruler: null }),
  accept: () => slice('Accepting', '/api/accept'),
  exemplar: () => slice('Adding', '/api/exemplar/slice'),
  play: () => { if (app.playing) app.playing = false; else app.play(Math.min(60, Math.max(1, Number(byId('rate').value) || 10))); },
  axes: () => { app.axes = !app.axes; },
  invert: () => { app.inverted = !app.inverted; },
  window: () => app.setWindow([...app.status.window]),
  larger: () => app.view.zoomBy(1.25),
  smaller: () => app.view.zoomBy(0.8),
  fit: () => { app.view.fit(); screen.planes.fit(); },
  planes: () => {
    app.three = !app.three;
    if (!app.three && app.tool === 'cross') app.take('point');
  },
  cross: () => app.take('cross'),
  outline: () => { app.outline = !app.outline; },
  hide: () => { app.visible = !app.visible; },
  fainter: () => fade(-10),
  stronger: () => fade(10),
  task: () => byId('task').focus(),
  'use-class': () => byId('use-class').click(),
  save: () => save(),
  done: () => markDone(),
  later: () => chooser.turn(1),
  earlier: () => chooser.turn(-1),
  'accept-all': () => app.change('Accepting', '/api/accept-all'),
};

function drawWith(points, pixel, other) {
  app.cursor = null;
  if (pixel) crossAt(points.at(-1));
  if (app.tool === 'cross') return;
  if (app.tool === 'brush') app.drawn(points, other);
  else if (app.tool === 'lasso') {
    if (points.length > 2) app.drawn(points, other);
    else app.corner(points[0], other);
  } else if (app.tool === 'box') {
    if (points.length > 1) app.box(points[0], points.at(-1));
  } else if (app.tool === 'ruler') app.ruler = points.length > 1 ? { index: app.index, points: [points[0], points.at(-1)] } : null;
  else if (pixel) app.removePiece(pixel);
}

// the other planes follow the actions on this one
const crossAt = ({ row, column }) => app.cross([row, column, app.index]);

const once = (work) => (...given) => {
  if (!app.opened) return;
  work(...given);
  app.draw();
};

function run(name) {
  if (name === 'help') byId('help').showModal();
  else if (name === 'cases') chooser.ask();
  else if (!document.querySelector(`[data-action="${name}"]:disabled`)) once(DOES[name])();
}

// with the focus on the picture, a cross hair allows clicks by keyboard
function crossHair(event) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  const far = (value) => value * (event.ctrlKey ? 10 : 1);
  const plane = app.opened && screen.planes.focused();
  if (plane && event.shiftKey && step) {
    plane.step(...step.map(far));
    return true;
  }
  if (!app.opened || document.activeElement !== byId('canvas')) return false;
  if (event.key === 'Enter' && app.cursor) {
    const { cursor } = app;
    if (app.tool === 'point') app.click(cursor, event.shiftKey);
    else drawWith([cursor], cursor, event.shiftKey);
    app.cursor = cursor;
    app.draw();
    return true;
  }
  if (event.key === 'Enter' && app.corners.length > 2) {
    app.close(event.shiftKey);
    return true;
  }
  if (!event.shiftKey || !step) return false;
  app.moveCursor(...step.map(far));
  return true;
}

// an empty mask means no lesion, which the user must confirm
function save() {
  if (!app.status.empty) return app.save();
  return askEmpty(() => app.save(true));
}

function markDone() {
  if (app.status.done || !app.status.empty) return app.markDone();
  return askEmpty(() => app.markDone(true));
}

function askEmpty(work) {
  const dialog = byId('empty');
  dialog.returnValue = '';
  dialog.onclose = () => { if (dialog.returnValue === 'save') work(); }; // the event of an earlier closing may be late
  dialog.showModal();
}

function askName({ number, name, place }) {
  const [dialog, field] = [byId('naming'), byId('naming-name')];
  byId('naming-title').textContent = `Name of lesion ${number}`;
  field.value = name;
  dialog.returnValue = '';
  dialog.onclose = () => { if (dialog.returnValue === 'save') app.nameLesion(place, field.value); };
  dialog.showModal();
  field.select();
}

async function copySaved() {
  try {
    await navigator.clipboard.writeText(app.saved.path);
    toast('The path is copied.', 'done');
  } catch {
    getSelection().selectAllChildren(byId('saved-path'));
    toast('The browser does not let this page copy; the path is selected, press Ctrl+C.');
  }
}

async function addPair() {
  const fields = [byId('exemplar-image'), byId('exemplar-label')];
  if (fields.some((field) => !field.files.length)) {
    toast('Choose a picture and its mask first.');
    return;
  }
  const [image, label] = await Promise.all(fields.map((field) => encoded(field.files[0])));
  const added = await app.change('Reading the exemplar', '/api/exemplar', { image, label });
  if (added) fields.forEach((field) => { field.value = ''; });
}

async function openMask() {
  const field = byId('mask-file');
  if (!field.files.length) {
    toast('Choose the file of a mask first.');
    return;
  }
  const { name } = field.files[0];
  const changes = await app.change('Opening the mask', '/api/open-mask', { name, data: await encoded(field.files[0]) });
  if (!changes) return;
  field.value = '';
  const first = changes.find(({ box }) => box);
  if (first && !changes.some(({ box, index }) => box && index === app.index)) app.go(first.index);
}

async function encoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const parts = [];
  for (let at = 0; at < bytes.length; at += 32768) parts.push(String.fromCharCode(...bytes.subarray(at, at + 32768)));
  return btoa(parts.join(''));
}

attachActions(run, crossHair);
attachPointer(byId('canvas'), app.view, {
  about: () => app.opened, // a gesture ends on the case on which it started
  click: once((pixel, other) => { app.cursor = null; crossAt(pixel); app.click(pixel, other); }),
  scribble: once((pixels, other) => { crossAt(pixels.at(-1)); app.scribble(pixels, other); }),
  stroke: once((points, other) => {
    if (app.tool === 'cross' && points) crossAt(points.at(-1));
    else app.stroke = points && { tool: app.tool, points, positive: app.positive(other), index: app.index };
  }),
  draws: () => app.tool !== 'point',
  draw: once((points, pixel, other) => drawWith(points, pixel, other)),
  hover: once((pixel, place) => Object.assign(app, { hovered: pixel, over: place })),
  move: once((dx, dy) => app.view.move(dx, dy)),
  zoom: once((factor, x, y) => app.view.zoomBy(factor, x, y)),
  window: once((dx, dy) => app.turnWindow(dx, dy)),
  scroll: once((slices) => app.go(app.index + slices)),
});

const on = (id, event, work) => byId(id).addEventListener(event, once(({ target }) => work(target)));
on('task', 'change', ({ value }) => app.change('Changing the task', '/api/task', { task: value || null }));
on('use-class', 'change', ({ checked }) => app.change('Changing', '/api/use-class', { use: checked }));
on('preset', 'change', ({ value }) => {
  const preset = value && app.status.presets[Number(value)];
  if (preset) app.setWindow([preset.low, preset.high]);
});
on('diameter', 'input', ({ value }) => brush(Number(value)));
on('opacity', 'input', ({ value }) => { app.opacity = Number(value); });
on('colour', 'change', ({ value }) => { app.colour = value; });
on('slice', 'input', ({ value }) => app.go(Number(value) - 1));
on('merge', 'click', () => app.mergeLesions(ticked()));
on('mask-open', 'click', () => openMask());
on('exemplar-add', 'click', () => addPair());
new ResizeObserver(() => screen.resize(app)).observe(byId('stage'));

byId('saved-copy').addEventListener('click', () => copySaved());
byId('saved-close').addEventListener('click', () => { app.saved = null; app.draw(); });

app.learnCases().then(() => chooser.begin(), (error) => toast(error.message));
