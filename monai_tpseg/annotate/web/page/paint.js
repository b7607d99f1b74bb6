// Draws the slice, its mask, the clicks and the current stroke.

const SMOOTH_BELOW = 3; // screen pixels per pixel, above which interpolation is off
const ADDED = '#00c08b';
const REMOVED = '#ff8a3d';

export function paint(canvas, view, scene) {
  const ratio = window.devicePixelRatio || 1;
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = '#000';
  context.fillRect(0, 0, view.width, view.height);
  if (!scene.image) return;
  const box = [view.x, view.y, view.columns * view.sx, view.rows * view.sy];
  context.imageSmoothingEnabled = view.zoom * ratio < SMOOTH_BELOW;
  context.drawImage(scene.image, ...box);
  if (scene.inverted) invert(context, box);
  if (scene.mask && scene.visible) paintMask(context, view, box, scene);
  if (scene.cross) paintCross(context, view, scene.cross);
  scene.axes.forEach((lesion) => paintAxes(context, view, lesion, scene));
  scene.strokes.forEach((one) => HAND[one.tool](context, view, one, scene));
  if (scene.corners.length) paintCorners(context, view, scene);
  if (scene.ruler) paintRuler(context, view, { points: scene.ruler }, scene);
  if (scene.brush) paintRing(context, view, scene);
  if (scene.visible) scene.clicks.forEach((click) => paintClick(context, view, click));
  if (scene.cursor && !scene.cross) paintCursor(context, view, scene.cursor);
}

function invert(context, box) {
  context.globalCompositeOperation = 'difference';
  context.fillStyle = '#fff';
  context.fillRect(...box);
  context.globalCompositeOperation = 'source-over';
}

function paintMask(context, view, box, { mask, colour, opacity, outline, proposed }) {
  if (!mask.area) return;
  context.imageSmoothingEnabled = false;
  context.globalAlpha = opacity;
  context.drawImage(mask.picture(colour), ...box);
  context.globalAlpha = 1;
  if (!outline) return;
  const path = new Path2D();
  path.addPath(mask.outline(), new DOMMatrix([view.sx, 0, 0, view.sy, view.x, view.y]));
  context.lineCap = 'butt';
  context.lineJoin = 'round';
  stroke(context, path, '#000a', 3.5);
  if (proposed) context.setLineDash([9, 6]);
  stroke(context, path, colour, 1.6);
  context.setLineDash([]);
}

const HAND = { point: paintLine, box: paintBox, brush: paintBrush, lasso: paintLasso, ruler: paintRuler, piece: () => undefined, cross: () => undefined };

function way(view, points) {
  const path = new Path2D();
  points.forEach(({ row, column }) => path.lineTo(...view.toScreen(row, column)));
  return path;
}

function paintLine(context, view, { points, positive }) {
  const path = way(view, points);
  context.lineCap = context.lineJoin = 'round';
  stroke(context, path, '#000a', 5);
  stroke(context, path, positive ? ADDED : REMOVED, 3);
}

function paintBox(context, view, { points }) {
  const [[x0, y0], [x1, y1]] = [points[0], points.at(-1)].map(({ row, column }) => view.toScreen(row, column));
  const path = new Path2D();
  path.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  stroke(context, path, '#000a', 4);
  stroke(context, path, ADDED, 2);
}

// drawn in its actual width
function paintBrush(context, view, { points, positive }, { diameter }) {
  const path = way(view, points.length > 1 ? points : [points[0], points[0]]);
  context.lineCap = context.lineJoin = 'round';
  context.globalAlpha = 0.5;
  stroke(context, path, positive ? ADDED : REMOVED, Math.max(1, diameter * view.zoom));
  context.globalAlpha = 1;
}

function paintLasso(context, view, { points, positive }) {
  const path = way(view, points);
  const colour = positive ? ADDED : REMOVED;
  if (points.length > 2) {
    context.globalAlpha = 0.2;
    context.fillStyle = colour;
    context.fill(path);
    context.globalAlpha = 1;
  }
  stroke(context, path, '#000a', 4);
  stroke(context, path, colour, 2);
}

function paintCorners(context, view, scene) {
  const { corners, positive } = scene;
  paintLasso(context, view, { points: corners, positive });
  corners.forEach((corner, n) => {
    const [x, y] = view.toScreen(corner.row, corner.column);
    const dot = new Path2D();
    dot.arc(x, y, n ? 3.5 : 6, 0, 2 * Math.PI); // the first corner closes the line
    stroke(context, dot, '#000', 4);
    stroke(context, dot, '#fff', 2);
  });
}

function paintAxes(context, view, { axes }, scene) {
  [axes.long, axes.short].forEach((axis) => {
    const points = axis.map(([row, column]) => ({ row, column }));
    paintRuler(context, view, { points }, scene);
  });
}

function paintRuler(context, view, { points }, { length }) {
  const ends = [points[0], points.at(-1)];
  const path = way(view, ends);
  stroke(context, path, '#000c', 5);
  stroke(context, path, '#ffd75e', 2);
  const [[x0, y0], [x1, y1]] = ends.map(({ row, column }) => view.toScreen(row, column));
  const size = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [nx, ny] = [(-(y1 - y0) / size) * 6, ((x1 - x0) / size) * 6];
  const ticks = new Path2D();
  [[x0, y0], [x1, y1]].forEach(([x, y]) => { ticks.moveTo(x - nx, y - ny); ticks.lineTo(x + nx, y + ny); });
  stroke(context, ticks, '#ffd75e', 2);
  context.font = '600 14px system-ui, sans-serif';
  context.lineJoin = 'round';
  context.lineWidth = 4;
  context.strokeStyle = '#000';
  context.fillStyle = '#ffd75e';
  const text = length(ends);
  context.strokeText(text, x1 + 10, y1 - 8);
  context.fillText(text, x1 + 10, y1 - 8);
}

function paintRing(context, view, { brush, diameter }) {
  const ring = new Path2D();
  ring.arc(...view.toScreen(brush.row, brush.column), Math.max(2, (diameter * view.zoom) / 2), 0, 2 * Math.PI);
  stroke(context, ring, '#000a', 3);
  stroke(context, ring, '#fff', 1.2);
}

// disc with plus, square with minus: distinguishable without colours
function paintClick(context, view, [row, column, polarity]) {
  const [x, y] = view.toScreen(row, column);
  const shape = new Path2D();
  if (polarity > 0) shape.arc(x, y, 6, 0, 2 * Math.PI);
  else shape.rect(x - 5.5, y - 5.5, 11, 11);
  const sign = new Path2D();
  sign.moveTo(x - 3, y);
  sign.lineTo(x + 3, y);
  if (polarity > 0) {
    sign.moveTo(x, y - 3);
    sign.lineTo(x, y + 3);
  }
  context.fillStyle = polarity > 0 ? ADDED : REMOVED;
  context.fill(shape);
  stroke(context, shape, '#fff', 1.5);
  stroke(context, sign, '#000', 1.8);
}

const GAP = 14; // gap at the centre of a cross hair, in screen pixels

// positions of the other two planes: lines across the whole picture
function paintCross(context, view, { row, column }) {
  const [x, y] = view.toScreen(row, column);
  const path = new Path2D();
  [[0, y, x - GAP, y], [x + GAP, y, view.width, y], [x, 0, x, y - GAP], [x, y + GAP, x, view.height]].forEach(([a, b, c, d]) => {
    path.moveTo(a, b);
    path.lineTo(c, d);
  });
  stroke(context, path, '#0008', 3);
  stroke(context, path, '#ffd75e', 1);
}

function paintCursor(context, view, { row, column }) {
  const [x, y] = view.toScreen(row, column);
  const path = new Path2D();
  [[1, 0], [-1, 0], [0, 1], [0, -1]].forEach(([dx, dy]) => {
    path.moveTo(x + 4 * dx, y + 4 * dy);
    path.lineTo(x + 16 * dx, y + 16 * dy);
  });
  stroke(context, path, '#000', 4);
  stroke(context, path, '#fff', 1.5);
}

function stroke(context, path, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
}
