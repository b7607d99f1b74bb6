// Position of the picture on the screen. Pixel centres are integers; pixels have the aspect ratio of the patient.

const SMALLEST = 0.02;
const LARGEST = 64;

export class View {
  constructor() {
    this.rows = this.columns = 1;
    this.high = this.wide = 1; // size of a pixel, relative to the shorter side
    this.width = this.height = 1; // size of the canvas in CSS pixels
    this.zoom = 1;
    this.x = this.y = 0; // position of the picture's corner
    this.fitted = true;
  }

  open(rows, columns, spacing) {
    const [high, wide] = spacing ?? [1, 1];
    const least = Math.min(high, wide);
    Object.assign(this, { rows, columns, high: high / least, wide: wide / least });
    this.fit();
  }

  resize(width, height) {
    Object.assign(this, { width, height });
    if (this.fitted) this.fit();
  }

  fit() {
    this.zoom = Math.min(this.width / (this.columns * this.wide), this.height / (this.rows * this.high));
    this.x = (this.width - this.columns * this.wide * this.zoom) / 2;
    this.y = (this.height - this.rows * this.high * this.zoom) / 2;
    this.fitted = true;
  }

  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const zoom = Math.min(LARGEST, Math.max(SMALLEST, this.zoom * factor));
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
    this.keep();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.keep();
  }

  // centres a pixel that is not visible
  show(row, column) {
    const [x, y] = this.toScreen(row, column);
    if (x < 0 || y < 0 || x > this.width || y > this.height) this.move(this.width / 2 - x, this.height / 2 - y);
  }

  // keeps part of the picture visible
  keep() {
    const edge = 40;
    this.x = Math.min(this.width - edge, Math.max(edge - this.columns * this.sx, this.x));
    this.y = Math.min(this.height - edge, Math.max(edge - this.rows * this.sy, this.y));
  }

  get sx() { return this.zoom * this.wide; }

  get sy() { return this.zoom * this.high; }

  toScreen(row, column) {
    return [this.x + (column + 0.5) * this.sx, this.y + (row + 0.5) * this.sy];
  }

  // the same without bounds, in fractions of pixels; centres are integers
  toPlace(x, y) {
    const part = (value) => Number(value.toFixed(2));
    return { row: part((y - this.y) / this.sy - 0.5), column: part((x - this.x) / this.sx - 0.5) };
  }

  // the pixel at a position on the canvas, or null outside the picture
  toPixel(x, y) {
    const row = Math.floor((y - this.y) / this.sy);
    const column = Math.floor((x - this.x) / this.sx);
    const inside = row >= 0 && column >= 0 && row < this.rows && column < this.columns;
    return inside ? { row, column } : null;
  }
}
