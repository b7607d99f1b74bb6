// Strip of the states of all slices: empty, edited, proposed, accepted, distinguished by height, shape and colour.

const FORMS = {
  empty: ['', 0.16], // colour of the theme
  edited: ['#56b4e9', 0.55],
  proposed: ['#e69f00', 0.8],
  accepted: ['#00b584', 1],
};

export const STATES = Object.keys(FORMS);

export function paintStrip(canvas, states, index) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  const theme = getComputedStyle(canvas);
  const step = width / states.length;
  const gap = step > 5 ? 1 : 0;
  states.forEach((state, n) => {
    const [colour, part] = FORMS[state];
    const high = Math.max(3, (height - 6) * part);
    const box = [n * step + gap / 2, height - 3 - high, Math.max(step - gap, 0.5), high];
    context.fillStyle = context.strokeStyle = colour || theme.getPropertyValue('--empty');
    if (state === 'proposed' && step > 4) context.strokeRect(box[0] + 1, box[1] + 1, box[2] - 2, box[3] - 2);
    else context.fillRect(...box);
  });
  context.strokeStyle = theme.color;
  context.lineWidth = 2;
  context.strokeRect(index * step + 1, 1, Math.max(step - 2, 2), height - 2);
}

export function fillLegend(list, states) {
  const items = STATES.map((state) => {
    const item = document.createElement('li');
    item.className = state;
    item.textContent = `${states.filter((one) => one === state).length} ${state}`;
    return item;
  });
  list.replaceChildren(...items);
}
