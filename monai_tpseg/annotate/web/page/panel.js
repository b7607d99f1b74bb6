// Updates the tools beside the picture, and shows messages.

const byId = (id) => document.getElementById(id);

export function options(select, pairs, value) {
  const key = JSON.stringify(pairs);
  if (select.dataset.key !== key) {
    select.replaceChildren(...pairs.map(([name, text]) => new Option(text, name)));
    select.dataset.key = key;
  }
  select.value = value;
}

export function words(name) {
  return name.replaceAll('_', ' ');
}

export function fillAbout({ opened, status, cases }) {
  const { name, shape, spacing } = opened;
  const size = `${shape[0]} × ${shape[1]}${shape[2] > 1 ? ` × ${shape[2]}` : ''}`;
  const step = spacing ? `${spacing.map((one) => Number(one.toPrecision(3))).join(' × ')} mm` : '';
  button('cases').firstChild.textContent = `Cases ${opened.case + 1}/${cases.length}`;
  byId('about').textContent = [name, words(status.modality), size, step].filter(Boolean).join(' · ');
}

export function fillTools(app) {
  const { opened, status, mode, outline, visible, opacity } = app;
  options(byId('task'), [['', 'none: clicks and exemplars'], ...status.tasks.map((t) => [t, words(t)])], status.task ?? '');
  const misfit = status.task !== null && !status.task_fits;
  byId('task-warning').hidden = !misfit;
  if (misfit) byId('task-warning').textContent = otherModality(words(status.task), opened.modality);
  fillTrust(app);
  byId('use-class').checked = status.use_class;
  byId('use-class').disabled = status.task === null;
  const presets = status.presets.map(({ name }, n) => [String(n), name]);
  const chosen = status.presets.findIndex(({ low, high }) => low === app.window[0] && high === app.window[1]);
  options(byId('preset'), chosen < 0 ? [['', 'by hand'], ...presets] : presets, chosen < 0 ? '' : String(chosen));
  byId('opacity').value = opacity;
  byId('opacity').setAttribute('aria-valuetext', `${opacity} percent`);
  const { tool, diameter } = app;
  ['point', 'box', 'lasso', 'piece', 'ruler', 'cross'].forEach((one) => press(one, tool === one));
  press('brush', tool === 'brush' && mode > 0);
  press('eraser', tool === 'brush' && mode < 0);
  press('add', mode > 0);
  press('remove', mode < 0);
  byId('diameter').value = diameter;
  byId('diameter').setAttribute('aria-valuetext', `${diameter} pixels`);
  press('outline', outline);
  press('done', status.done);
  press('axes', app.axes);
  press('invert', app.inverted);
  press('planes', app.linked);
  enable('planes', app.reformats.length > 0);
  button('planes').title = app.reformats.length ? '' : 'Slices without a common distance, or without a place in the patient, have no other plane.';
  enable('cross', app.linked);
  press('play', app.playing);
  enable('accept-all', status.states.includes('proposed'));
  press('hide', !visible);
  enable('undo', status.can_undo);
  enable('redo', status.can_redo);
  enable('clear', app.state !== 'empty' || app.clicks.length > 0);
  enable('segment', status.use_class || status.exemplars.length > 0);
  const marked = Boolean(app.mask?.area);
  ['exemplar', 'holes', 'smooth', 'piece'].forEach((one) => enable(one, marked));
  enable('up', marked && app.index + 1 < status.states.length);
  enable('down', marked && app.index > 0);
}

// trust estimates of a mask from the class alone, without clicks or strokes
function fillTrust({ state, index, status }) {
  const said = status.trust[index];
  const text = said ? trusted(said) : '';
  const nothing = status.knows_trust ? 'Not known of a mask that was corrected or clicked.' : 'Nothing was fitted for these weights.';
  byId('trust').hidden = state === 'empty';
  byId('trust').textContent = text || `How far this mask can be trusted: ${nothing}`;
}

function trusted({ not_this_task: picture, expected_dice: dice }) {
  const parts = [];
  if (picture && picture.score > picture.limit) parts.push('The picture is unlike those that the task was trained on: see whether the mask shows what you named.');
  if (dice) parts.push(`Expected Dice ${dice.value.toFixed(2)} (${dice.low.toFixed(2)} to ${dice.high.toFixed(2)}).`);
  return parts.join(' ');
}

// the flag other_modality of `tpseg run`
export function otherModality(task, modality) {
  return `The source says ${modality}, and ${task} was trained on another modality: the result will be one to review.`;
}

export function fillSaved(saved) {
  byId('saved').hidden = !saved;
  if (!saved || byId('saved-path').textContent === saved.path) return;
  byId('saved-path').textContent = saved.path;
  byId('saved-kinds').textContent = saved.kinds.join(', ');
}

export function fillExemplars(names, remove) {
  const items = names.map((name, n) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = '×';
    const text = name.replace(/^slice (\d+)$/, (_, index) => `slice ${Number(index) + 1}`);
    button.setAttribute('aria-label', `Remove exemplar ${n + 1}, ${text}`);
    button.addEventListener('click', () => remove(n));
    item.append(text, button);
    return item;
  });
  byId('exemplars').replaceChildren(...items);
}

const UNITS = { mm3: ['ml', 0.001], mm2: ['mm²', 1], px: ['px', 1] };

function sized({ size, unit, diameter, axes }) {
  const [name, factor] = UNITS[unit];
  const brief = (value) => Number(value.toPrecision(3));
  const length = unit === 'px' ? 'px' : 'mm';
  const recist = `RECIST ${axes.sizes.map(brief).join(' × ')} ${length}`;
  return `${brief(size * factor)} ${name}, ${brief(diameter)} ${length} across, ${recist}`;
}

export function fillLesions(lesions, many, { go, name, remove }) {
  const items = lesions.map((lesion) => {
    const item = document.createElement('li');
    const [to, call, off] = [0, 1, 2].map(() => document.createElement('button'));
    const [first, last] = lesion.slices.map((index) => index + 1);
    const on = many ? ` · slice${first === last ? ` ${first}` : `s ${first} to ${last}`}` : '';
    to.textContent = `${lesion.number}. ${lesion.name && `${lesion.name} · `}${sized(lesion)}${on}`;
    to.addEventListener('click', () => go(lesion.place));
    call.textContent = '✎';
    call.title = 'Name';
    call.setAttribute('aria-label', `Name lesion ${lesion.number}`);
    call.addEventListener('click', () => name(lesion));
    off.textContent = '×';
    off.setAttribute('aria-label', `Remove lesion ${lesion.number}`);
    off.addEventListener('click', () => remove(lesion.place));
    [to, call, off].forEach((button) => { button.type = 'button'; });
    item.append(to, ...(lesions.length > 1 ? [tick(lesion)] : []), call, off);
    return item;
  });
  byId('lesions').replaceChildren(...items);
  byId('merge').hidden = lesions.length < 2;
  byId('merge').disabled = true;
}

function tick({ number, place }) {
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.value = JSON.stringify(place);
  box.setAttribute('aria-label', `Lesion ${number}, to be merged`);
  box.addEventListener('change', () => { byId('merge').disabled = ticked().length !== 2; });
  const label = document.createElement('label'); // a label makes the target larger
  label.append(box);
  return label;
}

// positions of the ticked lesions
export function ticked() {
  return [...document.querySelectorAll('#lesions input:checked')].map(({ value }) => JSON.parse(value));
}

function press(action, pressed) {
  button(action).setAttribute('aria-pressed', String(pressed));
}

function enable(action, enabled) {
  button(action).disabled = !enabled;
}

function button(action) {
  return document.querySelector(`[data-action="${action}"]`);
}

export function busy(text) {
  byId('busy').textContent = text;
  document.body.classList.toggle('busy', Boolean(text));
}

const SECONDS = { error: 9, done: 5 };

export function toast(line, kind = 'error') {
  const box = document.createElement('p');
  box.className = kind;
  box.textContent = line;
  box.addEventListener('click', () => box.remove());
  byId('toasts').append(box);
  setTimeout(() => box.remove(), 1000 * SECONDS[kind]);
}
