// Masks of slices, patched in place, with picture and outline for drawing.

export function decode(runs, count) {
  const data = new Uint8Array(count);
  let at = 0;
  runs.forEach((length, n) => {
    if (n % 2) data.fill(1, at, at + length);
    at += length;
  });
  return data;
}

export class Mask {
  constructor(height, width, runs = []) {
    this.height = height;
    this.width = width;
    this.data = decode(runs, height * width);
    this.changed();
  }

  patch([top, left, bottom, right], runs) {
    const width = right - left;
    const data = decode(runs, (bottom - top) * width);
    for (let row = top; row < bottom; row += 1) {
      const start = (row - top) * width;
      this.data.set(data.subarray(start, start + width), row * this.width + left);
    }
    this.changed();
  }

  changed() {
    this.area = 0;
    let [top, left, bottom, right] = [this.height, this.width, 0, 0];
    for (let row = 0, n = 0; row < this.height; row += 1) {
      for (let column = 0; column < this.width; column += 1, n += 1) {
        if (!this.data[n]) continue;
        this.area += 1;
        top = Math.min(top, row);
        bottom = row + 1;
        left = Math.min(left, column);
        right = Math.max(right, column + 1);
      }
    }
    this.box = [top, left, bottom, right]; // bounding box of the lesion, half-open
    this.drawn = null;
    this.path = null;
  }

  picture(colour) {
    if (this.drawn?.colour === colour) return this.drawn.canvas;
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = canvas.getContext('2d');
    const image = context.createImageData(this.width, this.height);
    const words = new Uint32Array(image.data.buffer);
    const value = parseInt(colour.slice(1), 16);
    const word = (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0; // A B G R
    this.data.forEach((one, n) => { words[n] = one ? word : 0; });
    context.putImageData(image, 0, 0);
    this.drawn = { colour, canvas };
    return canvas;
  }

  // closed lines along the edges of pixels, with integer corners
  outline() {
    if (this.path) return this.path;
    this.path = new Path2D();
    const ends = this.edges();
    for (const start of ends.keys()) {
      while (ends.get(start)?.length) this.trace(ends, start);
    }
    return this.path;
  }

  trace(ends, start) {
    const stride = this.width + 1;
    let at = start;
    this.path.moveTo(at % stride, Math.floor(at / stride));
    do {
      at = ends.get(at).pop();
      this.path.lineTo(at % stride, Math.floor(at / stride));
    } while (at !== start);
    this.path.closePath();
  }

  // corner -> end corners of its outgoing edges, with the lesion on the right; corners are numbered
  edges() {
    const ends = new Map();
    const stride = this.width + 1;
    const add = (from, to) => {
      if (ends.has(from)) ends.get(from).push(to);
      else ends.set(from, [to]);
    };
    const [top, left, bottom, right] = this.box;
    for (let row = top; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1) {
        if (!this.at(row, column)) continue;
        const corner = row * stride + column;
        if (!this.at(row - 1, column)) add(corner, corner + 1);
        if (!this.at(row, column + 1)) add(corner + 1, corner + 1 + stride);
        if (!this.at(row + 1, column)) add(corner + 1 + stride, corner + stride);
        if (!this.at(row, column - 1)) add(corner + stride, corner);
      }
    }
    return ends;
  }

  at(row, column) {
    const inside = row >= 0 && column >= 0 && row < this.height && column < this.width;
    return inside ? this.data[row * this.width + column] : 0;
  }
}
