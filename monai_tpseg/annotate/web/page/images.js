// Slices as pictures, kept by their address: in the memory of this page alone, never on disc.

import { picture } from './api.js';

export class Images {
  constructor(limit = 96) {
    this.limit = limit;
    this.kept = new Map(); // address -> promise of an ImageBitmap, the oldest first
    this.asking = new AbortController();
  }

  get(url) {
    const found = this.kept.get(url) ?? picture(url, this.asking.signal);
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

  // what is on its way is not waited for
  stop() {
    this.asking.abort();
    this.asking = new AbortController();
  }

  clear() {
    this.stop();
    [...this.kept.keys()].forEach((url) => this.drop(url));
  }
}
