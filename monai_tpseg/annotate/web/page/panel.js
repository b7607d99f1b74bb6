// The tools beside the picture show what is; messages come and go.

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

export function fillAbout({ opened, status }) {
  const { name, shape, spacing } = opened;
  const size = `${shape[0]} × ${shape[1]}${shape[2] > 1 ? ` × ${shape[2]}` : ''}`;
  const step = spacing ? `${spacing.map((one) => Number(one.toPrecision(3))).join(' × ')} mm` : '';
  byId('about').textContent = [name, words(status.modality), size, step].filter(Boolean).join(' · ');
}

export function fillTools(app) {
  const { opened, status, mode, outline, visible, opacity } = app;
  options(byId('task'), [['', 'none: clicks and exemplars'], ...status.tasks.map((t) => [t, words(t)])], status.task ?? '');
  const misfit = status.task !== null && !status.task_fits;
  byId('task-warning').hidden = !misfit;
  if (misfit) byId('task-warning').textContent = otherModality(words(status.task), opened.modality);
  byId('use-class').checked = status.use_class;
  byId('use-class').disabled = status.task === null;
  const presets = status.presets.map(({ name }, n) => [String(n), name]);
  const chosen = status.presets.findIndex(({ low, high }) => low === app.window[0] && high === app.window[1]);
  options(byId('preset'), chosen < 0 ? [['', 'by hand'], ...presets] : presets, chosen < 0 ? '' : String(chosen));
  byId('opacity').value = opacity;
  byId('opacity').setAttribute('aria-valuetext', `${opacity} percent`);
  const { tool, diameter } = app;
  ['point', 'lasso', 'piece', 'ruler'].forEach((one) => press(one, tool === one));
  press('brush', tool === 'brush' && mode > 0);
  press('eraser', tool === 'brush' && mode < 0);
  press('add', mode > 0);
  press('remove', mode < 0);
  byId('diameter').value = diameter;
  byId('diameter').setAttribute('aria-valuetext', `${diameter} pixels`);
  press('outline', outline);
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

// what `tpseg run` flags as other_modality
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

function sized({ size, unit, diameter }) {
  const [name, factor] = UNITS[unit];
  const across = `${Number(diameter.toPrecision(3))} ${unit === 'px' ? 'px' : 'mm'}`;
  return `${Number((size * factor).toPrecision(3))} ${name}, ${across} across`;
}

export function fillLesions(lesions, many, go, remove) {
  const items = lesions.map((lesion) => {
    const item = document.createElement('li');
    const [to, off] = [document.createElement('button'), document.createElement('button')];
    const [first, last] = lesion.slices.map((index) => index + 1);
    const on = many ? ` · slice${first === last ? ` ${first}` : `s ${first} to ${last}`}` : '';
    to.textContent = `${lesion.number}. ${sized(lesion)}${on}`;
    to.addEventListener('click', () => go(lesion.place));
    off.textContent = '×';
    off.setAttribute('aria-label', `Remove lesion ${lesion.number}`);
    off.addEventListener('click', () => remove(lesion.place));
    [to, off].forEach((button) => { button.type = 'button'; });
    item.append(to, off);
    return item;
  });
  byId('lesions').replaceChildren(...items);
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
