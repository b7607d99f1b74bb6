// Slices as pictures, kept by their address: in the memory of this page alone, never on disc.

import { picture } from './api.js';

export class Images {
  constructor(limit = 96) {
    this.limit = limit;
    this.kept = new Map(); // address -> promise of an ImageBitmap, the oldest first
  }

  get(url) {
    const found = this.kept.get(url) ?? picture(url);
    this.kept.delete(url);
    this.kept.set(url, found);
    found.catch(() => this.kept.delete(url));
    while (this.kept.size > this.limit) this.drop(this.kept.keys().next().value);
    return found;
  }

  drop(url) {
    this.kept.get(url).then((image) => image.close(), () => undefined);
    this.kept.delete(url);
  }

  clear() {
    [...this.kept.keys()].forEach((url) => this.drop(url));
  }
}
