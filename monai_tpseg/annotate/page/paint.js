// Draws the slice, its mask, the clicks and the stroke in hand.

const SMOOTH_BELOW = 3; // screen pixels a pixel: above, pixels are shown as they are
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
  if (scene.mask && scene.visible) paintMask(context, view, box, scene);
  if (scene.stroke) paintStroke(context, view, scene.stroke);
  if (scene.visible) scene.clicks.forEach((click) => paintClick(context, view, click));
  if (scene.cursor) paintCursor(context, view, scene.cursor);
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

function paintStroke(context, view, { points, positive }) {
  const path = new Path2D();
  points.forEach(({ row, column }) => path.lineTo(...view.toScreen(row, column)));
  context.lineCap = context.lineJoin = 'round';
  stroke(context, path, '#000a', 5);
  stroke(context, path, positive ? ADDED : REMOVED, 3);
}

// a disc with a plus, a square with a minus: told apart without colours
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
