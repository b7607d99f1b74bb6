// All actions with a button or a key: buttons, keys and help are generated from this table.

import { isField } from './pointer.js';

// name: [label, keys, group, short text of the button, if any]; keys with Shift, Ctrl or Alt are written as 'Ctrl+z'
export const ACTIONS = {
  point: ['Point', ['p'], 'Tools'],
  box: ['Box', ['Shift+B'], 'Tools'],
  brush: ['Brush', ['b'], 'Tools'],
  eraser: ['Eraser', ['x'], 'Tools'],
  lasso: ['Lasso', ['q'], 'Tools'],
  piece: ['Remove piece', ['v'], 'Tools'],
  add: ['Add', ['1'], 'Tools'],
  remove: ['Remove', ['2'], 'Tools'],
  thinner: ['Thinner brush', [','], 'Tools'],
  thicker: ['Thicker brush', ['.'], 'Tools'],
  holes: ['Fill holes', ['f'], 'Tools'],
  smooth: ['Smooth', ['j'], 'Tools'],
  undo: ['Undo', ['z', 'Ctrl+z'], 'Tools'],
  redo: ['Redo', ['y', 'Ctrl+y', 'Ctrl+Shift+Z'], 'Tools'],
  segment: ['Segment without a click', ['g'], 'Tools'],
  clear: ['Clear slice', ['c', 'Delete'], 'Tools'],
  next: ['One slice up', ['ArrowUp', 'ArrowRight'], 'Slices'],
  previous: ['One slice down', ['ArrowDown', 'ArrowLeft'], 'Slices'],
  far: ['Ten slices up', ['PageUp'], 'Slices'],
  near: ['Ten slices down', ['PageDown'], 'Slices'],
  first: ['First slice', ['Home'], 'Slices'],
  last: ['Last slice', ['End'], 'Slices'],
  play: ['Play', ['Shift+P'], 'Slices'],
  up: ['Propagate up', ['u'], 'Slices'],
  down: ['Propagate down', ['d'], 'Slices'],
  stop: ['Stop, or let go', ['Escape'], 'Slices'],
  accept: ['Accept slice', ['a'], 'Slices'],
  'accept-all': ['Accept all', ['Shift+A'], 'Slices'],
  exemplar: ['Use slice as exemplar', ['e'], 'Slices'],
  window: ['Reset', ['r'], 'View'],
  larger: ['Zoom in', ['+', '='], 'View'],
  smaller: ['Zoom out', ['-'], 'View'],
  fit: ['Fit', ['0'], 'View'],
  ruler: ['Ruler', ['m'], 'View'],
  axes: ['RECIST axes', ['Shift+M'], 'View'],
  invert: ['Invert', ['i'], 'View'],
  planes: ['Three planes', ['3'], 'View'],
  cross: ['Cross hair', ['4'], 'View'],
  outline: ['Outline', ['o'], 'View'],
  hide: ['Hide mask', ['h'], 'View'],
  fainter: ['Mask fainter', ['['], 'View'],
  stronger: ['Mask stronger', [']'], 'View'],
  cases: ['Cases', ['l'], 'Cases'],
  later: ['Next case', ['n'], 'Cases', '›'],
  earlier: ['Previous case', ['Shift+N'], 'Cases', '‹'],
  done: ['Case is done', ['w'], 'Cases', 'Done'],
  task: ['Choose the task', ['t'], 'Everything else'],
  'use-class': ['Use the class of the task', ['k'], 'Everything else'],
  save: ['Save', ['s', 'Ctrl+s'], 'Everything else'],
  help: ['Help', ['?'], 'Everything else'],
};

const BY_HAND = [
  ['Left click', 'point: the network adds what lies there (after 2: removes)'],
  ['Shift or Alt + click', 'the other of the two, with brush and lasso too'],
  ['Left drag', 'point: a scribble; box: around a lesion; brush, lasso, ruler: draw'],
  ['Clicks with the lasso', 'corners; one on the first, or Enter, closes it'],
  ['Wheel', 'slices'],
  ['Ctrl + wheel', 'zoom'],
  ['Middle drag, Space + drag', 'move the picture'],
  ['Right drag', 'window: across its width, up and down its level'],
  ['Left click or drag in a side plane', 'move the cross hair, and with it the other planes'],
  ['Wheel in a side plane', 'through its pictures'],
  ['Shift + arrow keys', 'move a cross hair, with Ctrl ten pixels'],
  ['Enter, Shift + Enter', 'use the tool there: as a left click, or the other'],
];

const NAMES = { ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→', Escape: 'Esc', Delete: 'Del' };

function shown(key) {
  return key.split(/(?<=.)\+/).map((part) => NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join('+');
}

function pressed(event) {
  const parts = [event.ctrlKey || event.metaKey ? 'Ctrl' : '', event.altKey ? 'Alt' : ''];
  if (event.shiftKey && (event.ctrlKey || event.key.length > 1 || /[a-z]/i.test(event.key))) parts.push('Shift');
  return [...parts.filter(Boolean), event.key].join('+');
}

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function label(button) {
  const [text, [key], , short] = ACTIONS[button.dataset.action];
  button.replaceChildren(element('span', short ?? text), element('kbd', shown(key)));
  if (short) button.title = text;
  button.setAttribute('aria-keyshortcuts', key);
}

function fillHelp(list) {
  const table = (title, pairs) => {
    const rows = pairs.map(([left, right]) => element('tr', '', element('th', left), element('td', right)));
    return element('section', '', element('h3', title), element('table', '', ...rows));
  };
  const groups = [...new Set(Object.values(ACTIONS).map(([, , group]) => group))];
  const keys = (group) => Object.values(ACTIONS).filter((one) => one[2] === group);
  const rows = (group) => keys(group).map(([text, list]) => [list.map(shown).join(', '), text]);
  list.replaceChildren(table('On the picture', BY_HAND), ...groups.map((group) => table(group, rows(group))));
}

export function attachActions(run, crossHair) {
  const keys = new Map(Object.entries(ACTIONS).flatMap(([name, [, list]]) => list.map((key) => [key, name])));
  document.querySelectorAll('[data-action]').forEach((button) => {
    label(button);
    button.addEventListener('click', () => run(button.dataset.action));
  });
  fillHelp(document.getElementById('help-list'));
  window.addEventListener('keydown', (event) => {
    const key = pressed(event);
    const name = keys.get(key) ?? keys.get(key.toLowerCase().replace(/^shift\+(?=.$)/, ''));
    if (document.querySelector('dialog[open]') || (isField(event.target) && !usable(event, key))) return;
    if (crossHair(event)) event.preventDefault();
    else if (name) {
      event.preventDefault();
      run(name);
    }
  });
}

// fields keep the keys they need; letters remain available on buttons, check boxes and sliders
function usable(event, key) {
  const field = event.target.closest('input, select, textarea, button, summary');
  if (key.startsWith('Ctrl+') || key === 'Escape') return true;
  if (field.matches('select, textarea, input[type="number"]')) return false;
  return key.replace(/^Shift\+/, '').length === 1 && key !== ' ';
}
